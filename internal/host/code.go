package host

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"lambent"
	"lambent/internal/bundle"
)

// codeCache keeps deployment packages unpacked on this host, one read-only
// folder a package, named for the package's hash. A folder is complete or
// absent: it is filled aside and renamed. Containers hold a reference while the
// folder is attached to them; a folder is removed only when nobody does.
//
// Nobody waits until a folder is on the disk. So after a power loss there may be
// one with empty files, which nothing would ever put right: a function would fail
// until its code is changed. Therefore folders are synced behind, and marked then
// (syncMark); one that is found without its mark is unpacked anew.
type codeCache struct {
	dir   string
	fetch FetchCode

	work    chan struct{} // there is something in fresh
	stop    chan struct{} // closed by close
	workers sync.WaitGroup

	mu sync.Mutex
	// +checklocks:mu
	entries map[lambent.CodeHash]*codeEntry
	// +checklocks:mu
	fresh map[string]uint64 // folders without their mark, by path: which filling they are of
	// +checklocks:mu
	fillings uint64
}

// syncMark ends the name of an empty file beside each folder that is on the disk.
const syncMark = ".synced"

// codeEntry is one package; ready is closed once err and the folder are final.
type codeEntry struct {
	ready  chan struct{}
	err    error
	refs   int
	doomed bool // remove when refs falls to 0
}

func newCodeCache(dir string, fetch FetchCode) *codeCache {
	return &codeCache{dir: dir, fetch: fetch, work: make(chan struct{}, 1), stop: make(chan struct{}), entries: map[lambent.CodeHash]*codeEntry{}, fresh: map[string]uint64{}}
}

// open prepares the folder: what a crash left half-filled, or perhaps not on the
// disk, goes; whole packages stay, so that a restart downloads nothing. It begins
// to sync, until close.
func (cc *codeCache) open() error {
	if err := os.MkdirAll(cc.dir, 0o700); err != nil {
		return fmt.Errorf("open code cache: %w", err)
	}
	names, err := os.ReadDir(cc.dir)
	if err != nil {
		return fmt.Errorf("open code cache: %w", err)
	}
	there := map[string]bool{}
	for _, n := range names {
		there[n.Name()] = true
	}
	for name := range there {
		sum, isMark := strings.CutSuffix(name, syncMark)
		if _, err := hex.DecodeString(sum); err == nil && len(sum) == 64 && (isMark && there[sum] || !isMark && there[name+syncMark]) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(cc.dir, name)); err != nil {
			return fmt.Errorf("open code cache: remove a half-filled folder: %w", err)
		}
	}
	cc.workers.Go(cc.syncFolders)
	return nil
}

// close ends the syncing: what has no mark is unpacked anew after the next start.
func (cc *codeCache) close() {
	close(cc.stop)
	cc.workers.Wait()
}

// path is the folder of a package.
func (cc *codeCache) path(hash lambent.CodeHash) (string, error) {
	sum, err := base64.StdEncoding.DecodeString(string(hash))
	if err != nil || len(sum) != 32 {
		return "", fmt.Errorf("code hash %q is not the base64 of a SHA-256", hash)
	}
	return filepath.Join(cc.dir, hex.EncodeToString(sum)), nil
}

// hold returns the package's folder, fetching and unpacking it at most once
// however many callers want it, and keeps it until release is called. cached
// tells whether it was there already.
func (cc *codeCache) hold(ctx context.Context, hash lambent.CodeHash) (dir string, cached bool, release func(), err error) {
	dir, err = cc.path(hash)
	if err != nil {
		return "", false, nil, err
	}
	cc.mu.Lock()
	e, ok := cc.entries[hash]
	if !ok {
		e = &codeEntry{ready: make(chan struct{})}
		cc.entries[hash] = e
	}
	e.refs++
	e.doomed = false
	cc.mu.Unlock()
	release = sync.OnceFunc(func() { cc.release(hash, e, dir) })

	cached = ok
	if !ok {
		cached, e.err = cc.fill(context.WithoutCancel(ctx), hash, dir)
		if e.err != nil {
			cc.mu.Lock()
			delete(cc.entries, hash) // the next caller tries again
			cc.mu.Unlock()
		}
		close(e.ready)
	}
	select {
	case <-e.ready:
	case <-ctx.Done():
		release()
		return "", false, nil, fmt.Errorf("prepare code %s: %w", hash, context.Cause(ctx))
	}
	if e.err != nil {
		release()
		return "", false, nil, e.err
	}
	return dir, cached, release, nil
}

func (cc *codeCache) fill(ctx context.Context, hash lambent.CodeHash, dir string) (cached bool, err error) {
	if _, err := os.Stat(dir); err == nil {
		return true, nil
	}
	body, size, err := cc.fetch(ctx, hash)
	switch {
	case lambent.KindOf(err) == lambent.KindNotFound:
		// To whoever calls the function that is not "not found": the function is there.
		return false, &lambent.Error{Op: "fetch code", Resource: string(hash), Kind: lambent.KindUnavailable, Err: err,
			Message: "The code of this function, or of a layer it has, is missing on this server. Upload it again."}
	case err != nil:
		return false, fmt.Errorf("fetch code %s: %w", hash, err)
	}
	defer body.Close()
	pkg := make([]byte, size)
	if _, err := io.ReadFull(body, pkg); err != nil {
		return false, fmt.Errorf("fetch code %s: %w", hash, err)
	}
	if _, err := bundle.Unpack(ctx, pkg, dir, lambent.MaxUnzipped); err != nil {
		return false, fmt.Errorf("unpack code %s: %w", hash, err)
	}
	cc.mu.Lock()
	cc.fillings++
	cc.fresh[dir] = cc.fillings
	cc.mu.Unlock()
	select {
	case cc.work <- struct{}{}:
	default: // it is known that there is something
	}
	return false, nil
}

func (cc *codeCache) release(hash lambent.CodeHash, e *codeEntry, dir string) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	e.refs--
	if e.refs == 0 && e.doomed && cc.entries[hash] == e {
		delete(cc.entries, hash)
		_ = cc.remove(dir) // what cannot be removed now goes with the next start's prune
	}
}

// remove removes a folder, its mark first: so what is left after a crash is none.
//
// +checklocks:cc.mu
func (cc *codeCache) remove(dir string) error {
	delete(cc.fresh, dir)
	if err := os.Remove(dir + syncMark); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// drop removes a package no function has any more, now or when its last
// container is gone.
func (cc *codeCache) drop(hash lambent.CodeHash) error {
	dir, err := cc.path(hash)
	if err != nil {
		return err
	}
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e, ok := cc.entries[hash]; ok {
		if e.refs > 0 {
			e.doomed = true
			return nil
		}
		delete(cc.entries, hash)
	}
	if err := cc.remove(dir); err != nil {
		return fmt.Errorf("drop code %s: %w", hash, err)
	}
	return nil
}

// prune removes every package that keep does not want.
func (cc *codeCache) prune(keep func(lambent.CodeHash) bool) error {
	names, err := os.ReadDir(cc.dir)
	if err != nil {
		return fmt.Errorf("prune code cache: %w", err)
	}
	for _, n := range names {
		sum, err := hex.DecodeString(n.Name())
		if err != nil {
			continue
		}
		if hash := lambent.CodeHash(base64.StdEncoding.EncodeToString(sum)); !keep(hash) {
			if err := cc.drop(hash); err != nil {
				return err
			}
		}
	}
	return nil
}
