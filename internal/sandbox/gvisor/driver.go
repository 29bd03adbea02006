package gvisor

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/specutils"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/internal/sandbox"
)

// releaseTimeout bounds a cleanup. Killing and unmounting take milliseconds;
// what is not done by then is stuck in the kernel.
const releaseTimeout = 30 * time.Second

// Driver starts instances as gVisor sandboxes. See sandbox.Driver.
type Driver struct {
	opts Options
	log  *slog.Logger

	lock  *os.File
	tree  *cgroup.Tree
	caps  sandbox.Capabilities
	swept int

	work       sync.WaitGroup // starts and cleanups under way
	collecting atomic.Bool

	mu sync.Mutex
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	instances map[lambent.InstanceID]*instance
}

var _ sandbox.Driver = (*Driver)(nil)

// New makes a driver; nothing is touched before Open.
func New(opts Options) (*Driver, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Driver{opts: opts, log: opts.Log, instances: map[lambent.InstanceID]*instance{}}, nil
}

// Open takes the folder for this process, removes what an earlier one left
// there, and makes the root file system that containers have in common. It
// fails with a *lambent.Error of KindUnavailable where this machine cannot run
// gVisor, or another process has the folder.
func (d *Driver) Open(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return d.unavailable("gVisor needs root, or a user namespace of its own, to make namespaces, mounts and cgroups: start lambent as root (sudo)", nil)
	}
	init, err := openProgram("lambent-init", d.opts.Init)
	if err != nil {
		return err
	}
	defer init.Close()
	if err := os.MkdirAll(d.opts.Dir, 0o700); err != nil {
		return d.unavailable("its folder cannot be made", err)
	}
	if err := d.takeLock(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release(context.WithoutCancel(ctx)))
		}
	}()
	if d.tree, err = cgroup.Open(cgroup.Options{Mode: d.opts.Cgroups, Name: treeName(d.opts.Dir)}); err != nil {
		return err
	}
	if d.swept, err = d.sweep(ctx); err != nil {
		return err
	}
	log.SetTarget(quietTarget())
	if err := d.makeFolders(init); err != nil {
		return d.unavailable("what sandboxes see cannot be mounted, for which it takes Linux 5.12 or newer and the right to mount", err)
	}
	if err := d.placeSandbox(); err != nil {
		return err
	}
	d.caps = d.capabilities()
	return nil
}

func (d *Driver) unavailable(message string, err error) error {
	return &lambent.Error{Op: "open gVisor in", Resource: d.opts.Dir, Kind: lambent.KindUnavailable, Message: message, Err: err}
}

// lockPatience is how long another one's lock is waited for.
const lockPatience = 2 * time.Second

// takeLock keeps other servers out of the folder.
func (d *Driver) takeLock() error {
	f, err := os.OpenFile(filepath.Join(d.opts.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return d.unavailable("its lock cannot be opened", err)
	}
	// A server that was killed while it started a process leaves the lock to that
	// one for a moment, until it executes its program.
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return d.unavailable("another process uses this folder: stop it, or choose another data folder", nil)
		}
		return d.unavailable("its lock cannot be taken", err)
	}
	d.lock = f
	return nil
}

// treeName names the cgroups of the server that uses dir: the same one after a
// restart, another one for each folder.
func treeName(dir string) string {
	h := fnv.New64a()
	h.Write([]byte(dir))
	return fmt.Sprintf("%016x", h.Sum64())
}

// makeFolders mounts run and fills it.
func (d *Driver) makeFolders(init fs.File) error {
	dir := d.opts.Dir
	for _, p := range []string{runDir(dir), scratchDir(dir)} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return fmt.Errorf("make folders: %w", err)
		}
	}
	// lambent-sandbox lies there: on large pages a process of 34 MB begins with 800
	// page faults in place of 1,000, and gVisor's kernel finds its code sooner. Not
	// every kernel has them.
	err := mountTmpfs(runDir(dir), "mode=0700,huge=within_size")
	if errors.Is(err, unix.EINVAL) {
		err = mountTmpfs(runDir(dir), "mode=0700")
	}
	if err != nil {
		return err
	}
	for _, p := range []string{baseDir(dir), emptyDir(dir), instancesDir(dir)} {
		if err := os.Mkdir(p, 0o755); err != nil {
			return fmt.Errorf("make folders: %w", err)
		}
	}
	if err := os.Mkdir(stateDir(dir), 0o700); err != nil {
		return fmt.Errorf("make folders: %w", err)
	}
	if err := os.Chmod(emptyDir(dir), 0o777|os.ModeSticky); err != nil { // becomes /tmp
		return fmt.Errorf("make folders: %w", err)
	}
	return buildBase(baseDir(dir), "/", init, d.opts.ReadOnly)
}

// placeSandbox has gVisor started from lambent-sandbox. A file of a tmpfs stays in
// memory, which every start needs it in.
func (d *Driver) placeSandbox() error {
	path := d.opts.Sandbox
	if path == "" {
		program, err := openProgram("lambent-sandbox", "")
		if err != nil {
			return err
		}
		defer program.Close()
		path = sandboxPath(d.opts.Dir)
		if err := placeProgram(program, path); err != nil {
			return d.unavailable("lambent-sandbox, of which sandboxes consist, cannot be put there", err)
		}
	}
	if specutils.ExePath != path {
		specutils.ExePath = path // gVisor's own place for it; read when a process is started
	}
	return nil
}

func (d *Driver) capabilities() sandbox.Capabilities {
	c := sandbox.Capabilities{
		Isolation:       "gVisor (systrap)",
		MemoryLimits:    d.tree.Has(cgroup.Memory),
		CPULimits:       d.tree.Has(cgroup.CPU),
		ContainerMemory: true, // gVisor's own kernel counts it, whatever the host has
		Weaker:          d.tree.Weaker(),
	}
	if !stdioDetached() {
		c.Weaker = append(c.Weaker, "gVisor's processes hold this program's standard input and output open; have main call gvisor.DetachStdio")
	}
	return c
}

// Capabilities tells what is enforced here. Valid after Open.
func (d *Driver) Capabilities() sandbox.Capabilities { return d.caps }

// Sweep says how many instances of an earlier process Open has removed: their
// mounts had to go before the folder could be used.
func (d *Driver) Sweep(context.Context) (int, error) { return d.swept, nil }

// idShape is what gVisor takes as an id, made narrower so that an id is a plain
// file name.
var idShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

func validID(id string) bool { return len(id) <= longestID && idShape.MatchString(id) }

// Start boots an instance. When ctx ends first, Start returns and what was
// begun is taken back behind it.
func (d *Driver) Start(ctx context.Context, spec sandbox.InstanceSpec) (sandbox.Instance, error) {
	fail := func(kind lambent.Kind, err error) error {
		return &lambent.Error{Op: "start instance", Resource: string(spec.ID), Kind: kind, Err: err}
	}
	if !validID(string(spec.ID)) {
		return nil, fail(lambent.KindInvalid, fmt.Errorf("id is not 1 to %d letters, digits, '_' or '-'", longestID))
	}
	if err := checkLimits(spec.Limits); err != nil {
		return nil, fail(lambent.KindInvalid, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(lambent.KindUnavailable, context.Cause(ctx))
	}
	i := newInstance(d, spec)
	if err := d.admit(i); err != nil {
		return nil, fail(lambent.KindUnavailable, err)
	}
	err := d.await(ctx, func() error { return i.boot(spec.Limits) }, i.Destroy)
	if err != nil {
		return nil, fail(lambent.KindUnavailable, err)
	}
	return i, nil
}

// admit enters an instance before it has anything to release.
func (d *Driver) admit(i *instance) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errors.New("the driver is closed")
	}
	if d.lock == nil {
		return errors.New("the driver is not open")
	}
	if d.instances[i.id] != nil {
		return errors.New("an instance of this id is there already")
	}
	d.instances[i.id] = i
	d.work.Add(1) // until await has taken over
	return nil
}

// collect has Go's collector close what gVisor left open of a start that failed:
// on some of its ways out it drops files instead of closing them. On a server
// with nothing to do they would stay for minutes. One collection stands for all
// that are asked for while it runs.
func (d *Driver) collect() {
	if !d.collecting.CompareAndSwap(false, true) {
		return
	}
	d.work.Go(func() {
		d.collecting.Store(false)
		runtime.GC()
	})
}

// await runs do on its own goroutine, which d.work counts already, and waits
// for it until ctx ends. Where do fails or nobody waits for it any more, undo
// follows.
func (d *Driver) await(ctx context.Context, do func() error, undo func(context.Context) error) error {
	result := make(chan error)
	go func() {
		defer d.work.Done()
		err := do()
		if err == nil {
			select {
			case result <- nil:
				return
			case <-ctx.Done():
			}
		}
		if err != nil {
			defer d.collect()
		}
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		undone := undo(clean)
		select {
		case result <- errors.Join(err, undone):
		case <-ctx.Done(): // why it failed, if it did, interests nobody any more
			if undone != nil {
				d.log.Warn("take back what nobody waited for", "err", errors.Join(err, undone))
			}
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// forget is the end of an instance's life.
func (d *Driver) forget(id lambent.InstanceID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.instances, id)
}

// Close destroys instances that are still there, waits for everything under
// way, and gives back the folder. It is idempotent.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	var left []*instance
	for _, i := range d.instances {
		left = append(left, i)
	}
	d.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	var errs []error
	for _, i := range left {
		<-i.booted
		errs = append(errs, i.Destroy(ctx))
	}
	d.work.Wait()
	errs = append(errs, d.release(ctx))
	return errors.Join(errs...)
}

// release gives back what Open took.
func (d *Driver) release(ctx context.Context) error {
	if d.lock == nil {
		return nil
	}
	_, err := d.sweep(ctx)
	if d.tree != nil {
		err = errors.Join(err, d.tree.Close())
	}
	return errors.Join(err, d.lock.Close()) // and with it the lock
}

// checkLimits refuses what no machine has.
func checkLimits(l sandbox.Limits) error {
	if l.MemoryMB < 0 || l.CPUs < 0 || l.Processes < 0 {
		return fmt.Errorf("a limit is negative: %+v", l)
	}
	return nil
}
