// Package host is one machine that runs instances: it boots runtimes in
// sandboxes, gives them code out of its cache, hands them events and collects
// what they write. It decides nothing about which container serves whom; that is
// package pool's.
package host

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lambent"
	"lambent/internal/functionlog"
	"lambent/internal/runtimeapi/control"
	"lambent/internal/sandbox"
	"lambent/runtimes"
)

// FetchCode opens a deployment package and tells its size in bytes.
type FetchCode func(ctx context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error)

// Options are what a Host needs.
type Options struct {
	Driver sandbox.Driver
	Dir    string // of the host's own files: the code cache and the bootstraps
	Fetch  FetchCode
	Region string
	// Images holds the images of functions; nil where there are none.
	Images Images
	// InstanceCPUs is what an instance may use at most; 0: all there are.
	InstanceCPUs float64
	Logs         LogSink
	// Credentials makes those that a function gets of its role, for one container;
	// false where it gets none. Nil: no function gets any.
	Credentials func(*lambent.Function) (Credentials, bool)
	Observe     func(Transition) // of every change of state; must not block; may be nil
	Log         *slog.Logger
	Now         func() time.Time // time.Now where nil
}

// Images keeps the file systems of images. Errors are those a function's code has.
type Images interface {
	// Hold gives an account that of an image named by its digest until release is
	// called; cached is whether it was on this host already. The empty account is for
	// what runs nothing of the image yet.
	Hold(ctx context.Context, account lambent.AccountID, ref string) (root ImageRoot, cached bool, release func(), err error)
}

// ImageRoot is the file system of an image, and how it wants to be started.
type ImageRoot struct {
	Dir                 string
	Env                 []string
	EntryPoint, Command []string
	WorkingDir          string
	UID, GID            uint32 // 0: functions run as ever
}

// LogSink takes the log lines of functions. It must not block.
type LogSink interface {
	Append(account lambent.AccountID, function lambent.FunctionName, entry functionlog.Entry)
}

// Transition is one change of state, for metrics, traces and the admin API.
type Transition struct {
	Instance  lambent.InstanceID
	Container lambent.ContainerID // empty: the instance itself changed
	From, To  string
}

// Host is one machine. Make it with New, then Open; Close waits for everything.
type Host struct {
	opts       Options
	log        *slog.Logger
	now        func() time.Time
	code       *codeCache
	layers     *layerCache
	runtimeDir string
	watch      *watch
	poller     *control.Poller // of the runtimes' control sockets; from Open on
	watchers   sync.WaitGroup  // of the watch, one a process, one an instance

	mu sync.Mutex
	// +checklocks:mu
	instances map[lambent.InstanceID]*Instance
}

// New makes a host; nothing happens until Open.
func New(opts Options) *Host {
	now := opts.Now
	if now == nil {
		now = time.Now
	}
	code := newCodeCache(filepath.Join(opts.Dir, "code"), opts.Fetch)
	return &Host{opts: opts, log: opts.Log, now: now, code: code, layers: newLayerCache(filepath.Join(opts.Dir, "layers"), code),
		runtimeDir: filepath.Join(opts.Dir, "runtime"), instances: map[lambent.InstanceID]*Instance{},
		watch: newWatch(now)}
}

// Open removes what an earlier process left behind and writes the bootstraps.
func (h *Host) Open(ctx context.Context) error {
	removed, err := h.opts.Driver.Sweep(ctx)
	if err != nil {
		return fmt.Errorf("open host: remove what an earlier server left behind: %w", err)
	}
	if removed > 0 {
		h.log.Warn("removed instances that an earlier server left behind", "instances", removed)
	}
	if err := h.code.open(); err != nil {
		return err
	}
	if err := h.layers.open(); err != nil {
		return err
	}
	if err := os.RemoveAll(h.runtimeDir); err != nil {
		return fmt.Errorf("open host: %w", err)
	}
	if err := os.MkdirAll(h.runtimeDir, 0o755); err != nil {
		return fmt.Errorf("open host: %w", err)
	}
	for _, b := range runtimes.Bootstraps() {
		if err := os.WriteFile(filepath.Join(h.runtimeDir, b.File), b.Source(), 0o644); err != nil {
			return fmt.Errorf("open host: write a bootstrap: %w", err)
		}
	}
	if h.poller, err = control.NewPoller(); err != nil {
		return fmt.Errorf("open host: %w", err)
	}
	h.watchers.Go(h.watch.run)
	return nil
}

// Close waits for everything that belongs to the host; all instances must have
// been destroyed before.
func (h *Host) Close() error {
	h.mu.Lock()
	left := len(h.instances)
	h.mu.Unlock()
	if left > 0 {
		return fmt.Errorf("close host: %d instances are still there", left)
	}
	h.watch.close()
	h.watchers.Wait()
	h.code.close()
	if h.poller == nil { // Open failed
		return nil
	}
	return h.poller.Close()
}

// Start boots an instance that is nobody's, with room for containers of
// capacityMB in all.
func (h *Host) Start(ctx context.Context, capacityMB int) (*Instance, error) {
	i := &Instance{host: h, capacityMB: capacityMB, id: lambent.InstanceID(newID("i-")), containers: map[lambent.ContainerID]*Container{},
		allotted: map[lambent.ContainerID]int{}, held: map[lambent.ContainerID]float64{}}
	box, err := h.opts.Driver.Start(ctx, sandbox.InstanceSpec{ID: i.id, Limits: sandbox.Limits{MemoryMB: capacityMB}})
	if err != nil {
		return nil, fmt.Errorf("start an instance: %w", err)
	}
	i.box = box
	i.mu.Lock()
	i.changeState(lambent.InstanceWarm)
	i.mu.Unlock()
	h.mu.Lock()
	h.instances[i.id] = i
	h.mu.Unlock()
	h.watchers.Go(func() { // ends with the instance
		<-box.Done()
		if cause := box.Cause(); cause != nil {
			h.log.Warn("an instance died", "instance", i.id, "cause", cause)
			i.lost()
		}
	})
	return i, nil
}

// Prepare puts a function's code and layers into the caches, so that its first
// call need not.
func (h *Host) Prepare(ctx context.Context, fn *lambent.Function) error {
	p, err := h.hold(ctx, fn)
	if err != nil {
		return err
	}
	p.release()
	return nil
}

// placed is where a function's code and layers are on this host, until release.
type placed struct {
	image  *ImageRoot // nil where the function is none
	code   string
	cached bool   // the code was here already
	layers string // empty for none
	drop   []func()
}

func (p *placed) release() {
	for _, drop := range p.drop {
		drop()
	}
}

// hold gets what a function is made of.
func (h *Host) hold(ctx context.Context, fn *lambent.Function) (*placed, error) {
	if fn.PackageType == lambent.PackageImage {
		root, cached, drop, err := h.holdImage(ctx, fn.Account, fn.ImageRef)
		if err != nil {
			return nil, err
		}
		return &placed{image: &root, cached: cached, drop: []func(){drop}}, nil
	}
	code, cached, drop, err := h.code.hold(ctx, fn.Code)
	if err != nil {
		return nil, err
	}
	p := &placed{code: code, cached: cached, drop: []func(){drop}}
	layers, drop, err := h.layers.hold(ctx, fn.Layers)
	if err != nil {
		p.release()
		return nil, err
	}
	p.layers, p.drop = layers, append(p.drop, drop)
	return p, nil
}

// PruneCode removes the cached packages that keep does not want.
func (h *Host) PruneCode(keep func(lambent.CodeHash) bool) error { return h.code.prune(keep) }

// DropCode removes a package that no function and no layer has any more.
func (h *Host) DropCode(hash lambent.CodeHash) error {
	h.layers.drop(hash)
	return h.code.drop(hash)
}

// SharesInstances tells whether an instance may hold several containers: what
// each of them uses can be told apart.
func (h *Host) SharesInstances() bool { return h.opts.Driver.Capabilities().ContainerMemory }

// Instances lists the instances that are not gone, in no order.
func (h *Host) Instances() []*Instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.instances))
}

// Snapshots copies the state of every instance, ordered by id.
func (h *Host) Snapshots() []Snapshot {
	all := h.Instances()
	slices.SortFunc(all, func(a, b *Instance) int { return cmp.Compare(a.id, b.id) })
	out := make([]Snapshot, 0, len(all))
	for _, i := range all {
		out = append(out, i.Snapshot())
	}
	return out
}

func (h *Host) forget(i *Instance) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.instances, i.id)
}

func (h *Host) observe(t Transition) {
	if h.opts.Observe != nil {
		h.opts.Observe(t)
	}
}

// newID makes an identity that is never used again: 68 random bits behind the
// prefix, in the shape of EC2's ids.
func newID(prefix string) string {
	var b [9]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return prefix + hex.EncodeToString(b[:])[:17]
}
