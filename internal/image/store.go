// Package image makes root file systems of container images: it finds images in
// registries and in layouts on the disk, unpacks each of their layers once, and
// merges them into trees that containers are shown read-only.
//
// # On the disk
//
//	layers/DIFFID/fs          one layer, as its tar has it, named by the hash of that
//	layers/DIFFID/layer.json  what it removes of those below it
//	layers/DIFFID/of/ACCOUNT  an account that was given the layer, see below
//	roots/DIGEST/fs           an image's tree, of hard links into its layers
//	roots/DIGEST/image.json   how it is started, and which layers it is of
//
// Each is complete or absent: it is made aside, flushed and renamed. Images that have a
// layer in common share its files, on the disk and in the page cache. All of it
// can be pulled again and is kept over restarts.
//
// # Hostile images
//
// Whoever may create a function chooses the image. Nothing is written through a
// link, outside of a layer's own folder, or beyond the bounds on bytes, entries
// and layers; devices, pipes and sockets are left out, set-user-id bits dropped;
// every byte is held against the digests that the image's own digest vouches
// for. The server asks only the registries, and reads only the folders, that its
// operator named.
//
// Whoever knows what a layer's hash is does not have the layer. An account shares
// what is unpacked of one only after the layer's content came once, whole, from
// where the account's own image is; the content is then not unpacked again, but
// read and held against its hash. Nor does anybody wait for, or fail with, what
// another account has pulled from where it likes.
package image

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"lambent"
)

// Options are what a Store needs.
type Options struct {
	Dir string // of its own
	// Registries are the hosts, with their ports where they have one, that images
	// may come from; "*" is any.
	Registries []string
	// Layouts are the folders in or below which OCI image layouts may be.
	Layouts []string
	// Credentials is a file in the form of Docker's config.json, with what the
	// registries want to know; empty: nothing is told to any.
	Credentials string
	// MaxBytes bounds what an image is unpacked; 0: 10 GiB, as at AWS.
	MaxBytes int64
	Log      *slog.Logger
}

// maxBytes and the others bound an image (developer guide, "Lambda quotas", for
// the first; Docker's own bound for layers is 127).
const (
	maxBytes   = 10 << 30
	maxEntries = 1_000_000
	maxLayers  = 200
)

// maxPulls is how many images are pulled and unpacked at once, and maxOwnPulls
// how many of one account's; others wait. A registry may take an hour for each.
const (
	maxPulls    = 4
	maxOwnPulls = 2
)

// Root is an image's file system and how it wants to be started.
type Root struct {
	Dir        string   `json:"-"` // absolute; not to be written to
	Env        []string `json:"env,omitempty"`
	EntryPoint []string `json:"entry_point,omitempty"`
	Command    []string `json:"command,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	UID        uint32   `json:"uid,omitempty"` // 0: the image names no user but root
	GID        uint32   `json:"gid,omitempty"`

	Layers []string `json:"layers"` // diff ids in hexadecimal
}

// Store keeps images. Make it with New, then Open. Safe for concurrent use.
type Store struct {
	opts    Options
	sources sources
	layers  flights
	pulling chan struct{} // bounds how many images are pulled at once
	ctx     context.Context
	stop    context.CancelFunc
	running sync.WaitGroup // images that are being made

	mu sync.Mutex
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	roots map[string]*entry // by digest in hexadecimal
	// +checklocks:mu
	making map[request]*making
	// +checklocks:mu
	turns map[lambent.AccountID]*turns
}

// entry is one image, of all accounts. Its fields are guarded by the store's mu.
type entry struct {
	root   *Root                      // nil: it is not known to be there
	given  map[lambent.AccountID]bool // who was given all of its layers
	refs   int                        // of holders, and of those that make it
	doomed bool
}

// request is an account that wants an image from somewhere: what one was told of
// it is true of no other's.
type request struct {
	account lambent.AccountID
	ref     string
}

// making is an image on its way to an account. What is below done is final once
// that is closed, layers is guarded by the store's mu.
type making struct {
	layers []v1.Hash // that it needs
	done   chan struct{}
	root   Root
	cached bool // nothing had to be fetched
	err    error
}

// New makes a store; nothing happens until Open.
func New(o Options) (*Store, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = maxBytes
	}
	src, err := newSources(o)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Store{opts: o, sources: src, pulling: make(chan struct{}, maxPulls), ctx: ctx, stop: stop, roots: map[string]*entry{}, making: map[request]*making{}, turns: map[lambent.AccountID]*turns{}}, nil
}

// Open makes the store's folders, and removes what a crash left half made.
func (s *Store) Open() error {
	for _, dir := range []string{s.layerDir(""), s.rootDir("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("open image store: %w", err)
		}
		names, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("open image store: %w", err)
		}
		for _, n := range names {
			if strings.HasPrefix(n.Name(), unfinished) {
				if err := removeTree(filepath.Join(dir, n.Name())); err != nil {
					return fmt.Errorf("open image store: remove what is half made: %w", err)
				}
			}
		}
	}
	return nil
}

// Close ends what is being pulled, and waits for that.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
	s.sources.close()
	return nil
}

func (s *Store) layerDir(diffID string) string { return filepath.Join(s.opts.Dir, "layers", diffID) }
func (s *Store) rootDir(digest string) string  { return filepath.Join(s.opts.Dir, "roots", digest) }

// Resolved is an image as it is now under the name it was asked by.
type Resolved struct {
	Ref    string           // names it by its digest, for Hold
	Digest lambent.CodeHash // of its manifest
}

// Resolve finds the image that a caller names, for an architecture in AWS's
// words. Errors are *lambent.Error, with AWS's text for what callers do wrong.
func (s *Store) Resolve(ctx context.Context, uri, architecture string) (Resolved, error) {
	src, err := s.sources.of(uri)
	if err != nil {
		return Resolved{}, err
	}
	img, err := src.find(ctx, goArch(architecture))
	if err != nil {
		return Resolved{}, refusal("resolve image", uri, err)
	}
	digest, err := img.Digest()
	if err == nil {
		err = check(img, digest)
	}
	if err != nil {
		return Resolved{}, refusal("resolve image", uri, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return Resolved{}, refusal("resolve image", uri, err)
	}
	if config.OS != "" && config.OS != "linux" {
		return Resolved{}, refusal("resolve image", uri, fmt.Errorf("%w: an image for %s", errUnsupported, config.OS))
	}
	if config.Architecture != "" && config.Architecture != goArch(architecture) {
		return Resolved{}, &lambent.Error{Op: "resolve image", Resource: uri, Kind: lambent.KindInvalid,
			Message: fmt.Sprintf("Source image %s is for the architecture %s, and the function for %s.", uri, config.Architecture, architecture)}
	}
	return Resolved{Ref: src.pinned(digest), Digest: codeHash(digest)}, nil
}

// goArch is the architecture in the words of images, which are Go's.
func goArch(architecture string) string {
	if architecture == "x86_64" {
		return "amd64"
	}
	return architecture
}

// Hold gives the file system of a resolved image to an account, pulling what it
// has not been given of it yet, and keeps it until release is called. It is
// unpacked at most once however many want it. What was begun goes on without
// whoever asked for it. The empty account is the platform, which runs nothing of
// it: to it, what is there is given.
func (s *Store) Hold(ctx context.Context, account lambent.AccountID, ref string) (root Root, cached bool, release func(), err error) {
	digest, err := digestOf(ref)
	if err != nil {
		return Root{}, false, nil, &lambent.Error{Op: "prepare image", Resource: ref, Kind: lambent.KindInternal, Err: err}
	}
	e, m, mine := s.join(account, ref, digest)
	if e == nil {
		return Root{}, false, nil, &lambent.Error{Op: "prepare image", Resource: ref, Kind: lambent.KindUnavailable, Err: errors.New("the server ends")}
	}
	release = sync.OnceFunc(func() { s.release(digest.Hex, e) })
	select {
	case <-m.done:
	case <-ctx.Done():
		release()
		return Root{}, false, nil, fmt.Errorf("prepare image %s: %w", ref, context.Cause(ctx))
	}
	if m.err != nil {
		release()
		return Root{}, false, nil, m.err
	}
	return m.root, m.cached || !mine, release, nil
}

// join takes a reference to an image, and has it made for an account it was not
// given to yet: mine tells whether. A nil entry: the store is closed.
func (s *Store) join(account lambent.AccountID, ref string, digest v1.Hash) (e *entry, m *making, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, false
	}
	if e = s.roots[digest.Hex]; e == nil {
		e = &entry{given: map[lambent.AccountID]bool{}}
		s.roots[digest.Hex] = e
	}
	e.refs++
	e.doomed = false
	if e.root != nil && (account == "" || e.given[account]) {
		m = &making{done: make(chan struct{}), root: *e.root, cached: true}
		close(m.done)
		return e, m, false
	}
	r := request{account, ref}
	if m = s.making[r]; m != nil {
		return e, m, false
	}
	m = &making{done: make(chan struct{})}
	s.making[r] = m
	e.refs++
	s.running.Go(func() { s.make(e, m, r, digest) })
	return e, m, true
}

// make makes an image ready for an account, or not, and gives back the reference
// it has.
func (s *Store) make(e *entry, m *making, r request, digest v1.Hash) {
	defer s.release(digest.Hex, e)
	root, cached, err := s.fill(s.ctx, m, r, digest)
	if err != nil {
		err = refusal("prepare image", r.ref, err)
	}
	m.root, m.cached, m.err = root, cached, err
	s.mu.Lock()
	delete(s.making, r) // after an error, the next caller tries again
	if err == nil {
		e.root = &root
		e.given[r.account] = true
	}
	s.mu.Unlock()
	close(m.done)
}

func (s *Store) release(digest string, e *entry) {
	if gone := s.drop(digest, e); gone != "" {
		s.tell(removeTree(gone))
	}
}

// drop gives a reference back, and tells what is to be removed now.
func (s *Store) drop(digest string, e *entry) (gone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.refs--; e.refs > 0 || !e.doomed && e.root != nil || s.roots[digest] != e {
		return ""
	}
	delete(s.roots, digest)
	if !e.doomed {
		return ""
	}
	gone, err := discard(s.rootDir(digest))
	s.tell(err)
	return gone
}

func (s *Store) tell(err error) {
	if err != nil {
		s.opts.Log.Warn("what is left of an image nobody needs could not be removed", "error", err)
	}
}

// digestOf is the digest at the end of a resolved name.
func digestOf(ref string) (v1.Hash, error) {
	_, digest, ok := strings.Cut(ref, "@")
	if !ok {
		return v1.Hash{}, fmt.Errorf("%s names no digest", ref)
	}
	h, err := v1.NewHash(digest)
	if err == nil && h.Algorithm != "sha256" {
		err = fmt.Errorf("%s: only sha256 is taken", ref)
	}
	return h, err
}

// fill reads an image that is there, if the account was given it, or pulls,
// unpacks and merges it.
func (s *Store) fill(ctx context.Context, m *making, r request, digest v1.Hash) (root Root, cached bool, err error) {
	dir := s.rootDir(digest.Hex)
	root, err = readRoot(dir)
	there := err == nil
	switch {
	case there && s.given(r.account, root.Layers):
		return root, true, nil
	case there:
	case unreadable(err):
		gone, err := discard(dir)
		if err := errors.Join(err, removeTree(gone)); err != nil {
			return Root{}, false, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return Root{}, false, err
	}
	src, err := s.sources.of(r.ref)
	if err != nil {
		return Root{}, false, err
	}
	letGo, err := s.turn(ctx, r.account)
	if err != nil {
		return Root{}, false, err
	}
	defer letGo()
	ctx, done := context.WithTimeoutCause(ctx, pullLimit, errSlow)
	defer done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	config, img, err := manifestOf(ctx, cancel, src, digest)
	if err != nil {
		return Root{}, false, errors.Join(context.Cause(ctx), err)
	}
	s.need(m, config.RootFS.DiffIDs)
	layers, err := s.pull(ctx, cancel, pull{account: r.account, source: src, image: img, ids: config.RootFS.DiffIDs})
	if err != nil {
		return Root{}, false, errors.Join(context.Cause(ctx), err)
	}
	if there {
		return root, false, nil
	}
	root = Root{Env: config.Config.Env, EntryPoint: config.Config.Entrypoint, Command: config.Config.Cmd, WorkingDir: config.Config.WorkingDir}
	for _, l := range layers {
		root.Layers = append(root.Layers, l.id)
	}
	root, err = s.merge(dir, root, layers, config.Config.User)
	return root, false, err
}

// manifestOf reads what is small of an image, for which it has as long as an
// answer may.
func manifestOf(ctx context.Context, cancel context.CancelCauseFunc, src source, digest v1.Hash) (*v1.ConfigFile, v1.Image, error) {
	quiet := time.AfterFunc(slowManifest, func() { cancel(errStalled) })
	defer quiet.Stop()
	img, err := src.get(ctx, digest)
	if err != nil {
		return nil, nil, err
	}
	if err := check(img, digest); err != nil {
		return nil, nil, err
	}
	config, err := img.ConfigFile()
	return config, img, err
}

// turns bound how many images an account has pulled at once. wanted, which the
// store's mu guards, is by how many it is kept.
type turns struct {
	taken  chan struct{}
	wanted int
}

// turn waits until an account may pull an image, until letGo is called.
func (s *Store) turn(ctx context.Context, account lambent.AccountID) (letGo func(), err error) {
	s.mu.Lock()
	own := s.turns[account]
	if own == nil {
		own = &turns{taken: make(chan struct{}, maxOwnPulls)}
		s.turns[account] = own
	}
	own.wanted++
	s.mu.Unlock()
	leave := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if own.wanted--; own.wanted == 0 {
			delete(s.turns, account)
		}
	}
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
	select {
	case s.pulling <- struct{}{}:
	case <-ctx.Done():
		<-own.taken
		leave()
		return nil, context.Cause(ctx)
	}
	return func() { <-s.pulling; <-own.taken; leave() }, nil
}

// need keeps layers until the image that is made of them is there to do that.
func (s *Store) need(m *making, ids []v1.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.layers = ids
}

// check holds the manifest and the configuration against the image's digest, and
// refuses what is no image to run.
func check(img v1.Image, digest v1.Hash) error {
	raw, err := img.RawManifest()
	if err != nil {
		return err
	}
	if err := matches(raw, digest); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if !manifest.Config.MediaType.IsConfig() {
		return fmt.Errorf("%w: configuration of type %s", errUnsupported, manifest.Config.MediaType)
	}
	if err := small(img); err != nil {
		return err
	}
	if raw, err = img.RawConfigFile(); err != nil {
		return err
	}
	if err := matches(raw, manifest.Config.Digest); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if len(manifest.Layers) > maxLayers || len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("%w: %d layers, %d diff ids; at most %d", errUnsupported, len(manifest.Layers), len(config.RootFS.DiffIDs), maxLayers)
	}
	for _, l := range manifest.Layers {
		if l.Size < 0 {
			return fmt.Errorf("%w: a layer of %d bytes", errUnsupported, l.Size)
		}
		if len(l.URLs) > 0 { // of anybody's choice
			return fmt.Errorf("%w: a layer that is elsewhere", errUnsupported)
		}
		switch l.MediaType {
		case types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer, types.DockerLayer, types.DockerUncompressedLayer:
		default:
			return fmt.Errorf("%w: layer of type %s", errUnsupported, l.MediaType)
		}
	}
	for _, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" || len(id.Hex) != 64 {
			return fmt.Errorf("%w: diff id %s", errUnsupported, id)
		}
		if _, err := hex.DecodeString(id.Hex); err != nil {
			return fmt.Errorf("%w: diff id %s", errUnsupported, id)
		}
	}
	return nil
}

// The names of things on the disk; unfinished begins what is not whole, or not needed.
const (
	rootFile   = "image.json"
	layerFile  = "layer.json"
	treeDir    = "fs"
	givenDir   = "of"
	unfinished = ".part-"
)

// readRoot reads an image that was made whole.
func readRoot(dir string) (Root, error) {
	text, err := os.ReadFile(filepath.Join(dir, rootFile))
	if err != nil {
		return Root{}, err
	}
	var root Root
	if err := json.Unmarshal(text, &root); err != nil {
		return Root{}, fmt.Errorf("read image %s: %w", dir, err)
	}
	root.Dir = filepath.Join(dir, treeDir)
	return root, nil
}
