package gvisor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/container"
	gsandbox "gvisor.dev/gvisor/runsc/sandbox"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/internal/sandbox"
)

// allowanceMB is what gVisor takes of the instance's memory bound beside the
// code. Measured (heaps of kernel, stubs and gofers, and the host kernel's memory
// for them): 9 MiB for an empty instance and 6 MiB for each container with a
// waiting Node, 50 MiB for eight of them; 35 MiB more after one of them has walked
// all 135,000 files of a /usr. Page cache is reclaimed when it gets tight.
const allowanceMB = 96

// instance is one gVisor sandbox. Its life:
//
//	booting ─ boot ─► running ─ dies or is killed ─► dead ─ release ─► gone
//
// booted is closed at the end of booting however it went, dead when the
// sandbox's process has ended and is reaped, gone when all is released.
type instance struct {
	driver *Driver
	id     lambent.InstanceID
	dir    string // of this instance, below run

	// Set by boot, constant afterwards.
	booted   chan struct{}
	group    *cgroup.Group
	root     *container.Container
	box      *gsandbox.Sandbox // its methods used here may be called at once
	meter    *meter            // asks the sandbox for its containers' memory
	cpu      cpuBound
	pid      int
	pidfd    *os.File // of the sandbox's process
	lifeline *os.File // its end is the sandbox's end
	starving *os.File // readable when the group is out of memory; nil where the kernel kills all by itself

	dead chan struct{}
	gone chan struct{}

	work sync.WaitGroup // containers being made, waits for processes

	mu sync.Mutex
	// +checklocks:mu
	doomed bool // somebody destroys it: no new work
	// +checklocks:mu
	starved bool // killed by starve
	// +checklocks:mu
	cause error
	// +checklocks:mu
	releaseErr error
	// +checklocks:mu
	containers map[lambent.ContainerID]*guest
}

var _ sandbox.Instance = (*instance)(nil)

func newInstance(d *Driver, spec sandbox.InstanceSpec) *instance {
	return &instance{
		driver: d, id: spec.ID, dir: filepath.Join(instancesDir(d.opts.Dir), string(spec.ID)),
		booted: make(chan struct{}), dead: make(chan struct{}), gone: make(chan struct{}),
		containers: map[lambent.ContainerID]*guest{},
	}
}

// boot makes the sandbox and starts the watch over it. What it has made when it
// fails, release removes.
func (i *instance) boot(limits sandbox.Limits) error {
	defer close(i.booted)
	opts := &i.driver.opts
	if err := os.Mkdir(i.dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	var err error
	if i.group, err = i.driver.tree.New(string(i.id)); err != nil {
		return err
	}
	if err := i.SetLimits(limits); err != nil {
		return err
	}
	root := filepath.Join(i.dir, "root")
	if err := cloneRoot(opts.Dir, root); err != nil {
		return err
	}
	conf, err := newConfig(opts, i.dir, 0)
	if err != nil {
		return err
	}
	spec := rootSpec(root)
	bundle := filepath.Join(i.dir, "bundle")
	if err := writeBundle(bundle, spec, i.group.ProcsFiles(), int64(limits.MemoryMB)<<20); err != nil {
		return err
	}
	inside, ours, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make lifeline: %w", err)
	}
	defer inside.Close()
	i.lifeline = ours
	if err := closeOnExec(); err != nil {
		return err
	}
	i.root, err = container.New(conf, container.Args{
		ID: string(i.id), Spec: spec, BundleDir: bundle, PassFiles: map[int]*os.File{3: inside},
	})
	if err != nil {
		return failedStart("make sandbox", err, i.dir)
	}
	i.box, i.pid = i.root.Sandbox, i.root.Sandbox.Getpid()
	if i.pidfd, err = openPidfd(i.pid); err != nil {
		return err
	}
	i.driver.work.Add(1)
	go i.watch()
	if i.starving, err = i.group.WatchOOM(); err != nil {
		return err
	}
	if i.starving != nil {
		i.driver.work.Add(1)
		go i.starve()
	}
	if i.meter, err = openMeter(i.box.GetControlSocketPath()); err != nil {
		return failedStart("make sandbox", err, i.dir)
	}
	if err := i.root.Start(conf); err != nil {
		return failedStart("start sandbox", err, i.dir)
	}
	return nil
}

// failedStart says more of a failed start than gVisor does.
func failedStart(what string, err error, dir string) error {
	if words := lastWords(dir); words != "" {
		return fmt.Errorf("%s: %w; its processes say: %s", what, err, words)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// closeOnExec keeps what this process has open from what it starts next.
// gVisor's connections to sandboxes are not close-on-exec, and those that wait
// for a process stay open for long. What comes in between this and the start,
// the started process closes itself: see closeInherited.
func closeOnExec() error {
	err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // before Linux 5.11
		return fmt.Errorf("make open files close-on-exec: %w", err)
	}
	return nil
}

// cloneRoot gives a container its own view of the common root, whose later
// mounts its gofer sees.
func cloneRoot(dir, root string) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return fmt.Errorf("make root: %w", err)
	}
	return mountClone(baseDir(dir), root, unix.MS_SHARED)
}

// watch waits for the sandbox's end, reaps it, and tells.
func (i *instance) watch() {
	defer i.driver.work.Done()
	waitErr := waitPidfd(i.pidfd)
	// Whatever may still hold the dead sandbox's control socket open must not be
	// asked: it would not answer. Without its name nobody reaches it.
	_ = os.Remove(i.box.GetControlSocketPath()) // gone already, or never a file: just as well
	// Wait asks the sandbox, which cannot be reached any more, and then reaps:
	// under the lock that keeps Destroy from doing the same.
	status, err := i.box.Wait(string(i.id))
	i.mu.Lock()
	if !i.doomed {
		i.cause = i.why(status, errors.Join(waitErr, err))
	}
	i.mu.Unlock()
	close(i.dead)
}

// starve kills the whole sandbox when it is out of memory. Left to itself the
// kernel would pick one process after the other: a stub, and code of some
// container dies with it, whoever took the memory; or a gofer, and a container
// cannot open files any more.
func (i *instance) starve() {
	defer i.driver.work.Done()
	for {
		if _, err := i.starving.Read(make([]byte, 8)); err != nil {
			return // closed by release
		}
		if i.killStarved() {
			return
		}
	}
}

// killStarved kills the sandbox if it is its own memory that is short, and not
// that of a group above; it reports whether there is nothing to watch any more.
func (i *instance) killStarved() bool {
	i.mu.Lock()
	defer i.mu.Unlock() // keeps release from closing pidfd
	if i.doomed {
		return true // it was the group's removal
	}
	starved, err := i.group.Starved()
	if err == nil && !starved {
		return false
	}
	i.starved = true
	if err := errors.Join(err, killPidfd(i.pidfd)); err != nil {
		i.driver.log.Warn("kill instance that is out of memory", "instance", i.id, "err", err)
	}
	return true
}

// why makes the cause of an end that nobody asked for.
// +checklocks:i.mu
func (i *instance) why(status unix.WaitStatus, err error) error {
	e := &lambent.Error{Op: "run instance", Resource: string(i.id), Kind: lambent.KindUnavailable, Reason: "Exited"}
	kills, killsErr := i.group.OOMKills()
	switch {
	case i.starved || kills > 0:
		e.Reason, e.Message = "OutOfMemory", "the instance ran out of memory and was killed"
	case err != nil:
		e.Message, e.Err = "the sandbox ended, for an unknown reason", err
	case status.Signaled():
		e.Reason, e.Message = "Killed", fmt.Sprintf("the sandbox was killed by signal %d (%v)", status.Signal(), status.Signal())
	default:
		e.Message = fmt.Sprintf("the sandbox exited with status %d", status.ExitStatus())
	}
	if words := lastWords(i.dir); words != "" {
		e.Message += "; its last words: " + words
	}
	if killsErr != nil {
		e.Err = errors.Join(e.Err, killsErr)
	}
	return e
}

// ID implements sandbox.Instance.
func (i *instance) ID() lambent.InstanceID { return i.id }

// PID implements sandbox.Instance: the process that is the sandbox's kernel.
func (i *instance) PID() int { return i.pid }

// Done implements sandbox.Instance.
func (i *instance) Done() <-chan struct{} { return i.dead }

// Cause implements sandbox.Instance.
func (i *instance) Cause() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cause
}

// SetLimits implements sandbox.Instance.
func (i *instance) SetLimits(l sandbox.Limits) error {
	if err := checkLimits(l); err != nil {
		return &lambent.Error{Op: "bound instance", Resource: string(i.id), Kind: lambent.KindInvalid, Err: err}
	}
	var memory int64
	if l.MemoryMB > 0 {
		memory = int64(l.MemoryMB+allowanceMB) << 20
	}
	processes := l.Processes
	if processes == 0 {
		processes = DefaultProcesses
	}
	if err := errors.Join(i.group.SetMemory(memory), i.cpu.set(i.group, l.CPUs), i.group.SetPids(processes)); err != nil {
		return &lambent.Error{Op: "bound instance", Resource: string(i.id), Kind: lambent.KindUnavailable, Err: err}
	}
	return nil
}

// Usage implements sandbox.Instance. gVisor keeps all memory of applications in
// one memory file, which the kernel counts as shared memory; its own heaps are
// anonymous memory and not counted here.
func (i *instance) Usage() (sandbox.Usage, error) {
	u, err := i.group.Usage()
	if err != nil {
		return sandbox.Usage{}, &lambent.Error{Op: "read use of instance", Resource: string(i.id), Kind: lambent.KindUnavailable, Err: err}
	}
	usage := sandbox.Usage{MemoryBytes: u.Shmem, CPUTime: u.CPUTime, OOMKills: u.OOMKills}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.starved { // killed by us, before the kernel had to
		usage.OOMKills = max(usage.OOMKills, 1)
	}
	return usage, nil
}

// enter counts a piece of work that Destroy has to wait for; it fails once the
// instance is being destroyed or dead.
func (i *instance) enter() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.doomed {
		return errors.New("the instance is being destroyed")
	}
	select {
	case <-i.dead:
		return fmt.Errorf("the instance is dead: %w", i.cause)
	default:
	}
	i.work.Add(1)
	return nil
}

// Destroy implements sandbox.Instance.
func (i *instance) Destroy(ctx context.Context) error {
	i.mu.Lock()
	first := !i.doomed
	i.doomed = true
	i.mu.Unlock()
	if first {
		i.driver.work.Add(1)
		go func() {
			defer i.driver.work.Done()
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
			defer cancel()
			err := i.release(clean)
			i.mu.Lock()
			i.releaseErr = err
			i.mu.Unlock()
			close(i.gone)
		}()
	}
	select {
	case <-i.gone:
		i.mu.Lock()
		defer i.mu.Unlock()
		return i.releaseErr
	case <-ctx.Done():
		return &lambent.Error{Op: "destroy instance", Resource: string(i.id), Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
	}
}

// release kills the sandbox and removes all that boot and NewContainer made. It
// goes on past failures, and returns them all.
func (i *instance) release(ctx context.Context) error {
	i.mu.Lock()
	i.doomed = true
	i.mu.Unlock()
	var errs []error
	if i.pidfd != nil {
		if err := killPidfd(i.pidfd); err != nil {
			errs = append(errs, err)
		}
		select {
		case <-i.dead:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("wait for sandbox to end: %w", context.Cause(ctx)))
		}
		errs = append(errs, i.pidfd.Close())
	}
	i.work.Wait() // all of it fails soon, now that the sandbox is gone
	i.mu.Lock()
	guests := make([]*guest, 0, len(i.containers))
	for _, g := range i.containers {
		guests = append(guests, g)
	}
	i.mu.Unlock()
	for _, g := range guests {
		errs = append(errs, g.Destroy(ctx))
	}
	if i.root != nil {
		errs = append(errs, destroyContainer(i.root), i.removeStrayLocks())
	}
	if i.starving != nil {
		errs = append(errs, i.starving.Close())
	}
	if i.meter != nil {
		errs = append(errs, i.meter.close())
	}
	if i.group != nil {
		errs = append(errs, i.group.Kill(ctx), i.group.Remove(ctx))
	}
	if i.lifeline != nil {
		errs = append(errs, i.lifeline.Close())
	}
	errs = append(errs, detach(filepath.Join(i.dir, "root")), removeTree(i.dir))
	i.driver.forget(i.id)
	if err := errors.Join(errs...); err != nil {
		return &lambent.Error{Op: "release instance", Resource: string(i.id), Kind: lambent.KindInternal, Err: err}
	}
	return nil
}

// destroyContainer is gVisor's Destroy, made sure that the gofer, our child, is
// ended and reaped even where gVisor gave up before that.
func destroyContainer(c *container.Container) error {
	gofer := c.GoferPid.Load()
	err := c.Destroy()
	if err == nil || gofer == 0 || c.GoferPid.Load() == 0 {
		return err
	}
	if kerr := unix.Kill(gofer, unix.SIGKILL); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
		return errors.Join(err, fmt.Errorf("kill gofer: %w", kerr))
	}
	if _, werr := unix.Wait4(gofer, nil, 0, nil); werr != nil && !errors.Is(werr, unix.ECHILD) {
		return errors.Join(err, fmt.Errorf("reap gofer: %w", werr))
	}
	return err
}
