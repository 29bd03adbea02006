package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"lambent/internal/bundle"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"lambent"
)

// layerCache makes of the layers of a function one folder to attach. Functions
// with the same layers in the same order share it. It is made of hard links to
// the unpacked layers in the code cache, so it costs folders, not files, and
// what is in it stays when the code cache drops a layer. It is made anew after a
// restart: that costs some 20 µs a file.
type layerCache struct {
	dir  string
	code *codeCache

	mu sync.Mutex
	// +checklocks:mu
	sets map[string]*layerSet // by setKey
	// +checklocks:mu
	made int // sets ever, which names their folders
	// +checklocks:mu
	idle []*layerSet // those nobody holds, longest unused first
}

// layerSet is some layers in their order; ready is closed once err and the
// folder are final. refs and doomed are guarded by the cache's mu.
type layerSet struct {
	key   string
	dir   string
	parts []lambent.CodeHash
	ready chan struct{}
	err   error

	refs   int
	doomed bool // remove when refs falls to 0
}

// maxIdleSets is how many sets nobody holds are kept for the next start of a
// function that has them.
const maxIdleSets = 256

func newLayerCache(dir string, code *codeCache) *layerCache {
	return &layerCache{dir: dir, code: code, sets: map[string]*layerSet{}}
}

// open empties the folder: what an earlier server made is made anew.
func (lc *layerCache) open() error {
	if err := os.RemoveAll(lc.dir); err != nil {
		return fmt.Errorf("open layer cache: %w", err)
	}
	if err := os.MkdirAll(lc.dir, 0o700); err != nil {
		return fmt.Errorf("open layer cache: %w", err)
	}
	return nil
}

// hold returns the folder that holds all the layers, later ones over earlier
// ones, and keeps it until release is called. It is empty for no layers.
func (lc *layerCache) hold(ctx context.Context, layers []lambent.Layer) (dir string, release func(), err error) {
	switch len(layers) {
	case 0:
		return "", func() {}, nil
	case 1: // as it was unpacked
		dir, _, release, err = lc.code.hold(ctx, layers[0].Code)
		return dir, release, err
	}
	parts := make([]lambent.CodeHash, len(layers))
	var key strings.Builder
	for k, l := range layers {
		parts[k] = l.Code
		key.WriteString(string(l.Code))
		key.WriteByte(' ')
	}
	s, mine := lc.join(key.String(), parts)
	release = sync.OnceFunc(func() { lc.release(s) })
	if mine {
		s.err = lc.fill(context.WithoutCancel(ctx), s)
		if s.err != nil {
			lc.mu.Lock()
			delete(lc.sets, s.key) // the next caller tries again
			lc.mu.Unlock()
		}
		close(s.ready)
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
		release()
		return "", nil, fmt.Errorf("prepare layers: %w", context.Cause(ctx))
	}
	if s.err != nil {
		release()
		return "", nil, s.err
	}
	return s.dir, release, nil
}

// join takes a reference to a set; mine is whether the caller has to fill it.
func (lc *layerCache) join(key string, parts []lambent.CodeHash) (s *layerSet, mine bool) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	s, ok := lc.sets[key]
	if !ok {
		lc.made++
		s = &layerSet{key: key, dir: filepath.Join(lc.dir, fmt.Sprint(lc.made)), parts: parts, ready: make(chan struct{})}
		lc.sets[key] = s
	}
	s.refs++
	s.doomed = false
	lc.idle = slices.DeleteFunc(lc.idle, func(o *layerSet) bool { return o == s })
	return s, !ok
}

// fill merges the layers aside and moves the folder into place.
func (lc *layerCache) fill(ctx context.Context, s *layerSet) (err error) {
	temp := s.dir + ".part"
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("merge layers: %w", err), os.RemoveAll(temp))
		}
	}()
	if err := os.Mkdir(temp, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil { // umask
		return err
	}
	for _, hash := range s.parts {
		source, _, release, err := lc.code.hold(ctx, hash)
		if err != nil {
			return err
		}
		err = overlay(source, temp)
		release()
		if err != nil {
			return err
		}
	}
	return os.Rename(temp, s.dir)
}

// overlay puts the tree of a layer over those before it, by hard links.
func overlay(source, target string) error {
	return bundle.Overlay(source, target, func(from, to string, d fs.DirEntry, there bool) error {
		switch d.Type() {
		case fs.ModeDir:
			if there {
				return nil
			}
			return os.Chmod(to, 0o755) // umask
		case fs.ModeSymlink:
			link, err := os.Readlink(from)
			if err != nil {
				return err
			}
			return os.Symlink(link, to)
		}
		return os.Link(from, to)
	})
}

func (lc *layerCache) release(s *layerSet) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	s.refs--
	if s.refs > 0 || lc.sets[s.key] != s {
		return
	}
	if s.doomed {
		lc.remove(s)
		return
	}
	lc.idle = append(lc.idle, s)
	if len(lc.idle) > maxIdleSets {
		oldest := lc.idle[0]
		lc.idle = lc.idle[1:]
		lc.remove(oldest)
	}
}

// remove forgets a set nobody holds. What cannot be removed now goes with the
// next start.
//
// +checklocks:lc.mu
func (lc *layerCache) remove(s *layerSet) {
	delete(lc.sets, s.key)
	_ = os.RemoveAll(s.dir)
}

// drop removes the sets that a package is part of, now or when their last
// container is gone.
func (lc *layerCache) drop(hash lambent.CodeHash) {
	lc.mu.Lock()
	defer lc.mu.Unlock()
	for _, s := range lc.sets {
		if !slices.Contains(s.parts, hash) {
			continue
		}
		if s.refs > 0 {
			s.doomed = true
			continue
		}
		lc.idle = slices.DeleteFunc(lc.idle, func(o *layerSet) bool { return o == s })
		lc.remove(s)
	}
}
