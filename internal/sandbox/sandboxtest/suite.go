// Package sandboxtest is the suite that every sandbox driver passes: the
// contract of package sandbox as tests.
//
// A driver's own test calls Run. The suite makes a new driver for each of its
// subtests, so that each can see that nothing is left at its end. It needs no
// more of the host than the driver does.
package sandboxtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
)

// Options tell the suite what it cannot know of a driver. The zero value is for
// drivers of real processes.
type Options struct {
	// Command gives a command that behaves as told; nil is ShellCommand.
	Command func(b Behaviour, args ...string) sandbox.Command
	// Kill kills an instance from outside, behind the driver's back. It need not
	// wait. nil sends SIGKILL to Instance.PID.
	Kill func(t *testing.T, d sandbox.Driver, i sandbox.Instance)
	// Left tells what is left (processes, mounts, control groups, files) when all
	// instances are destroyed and before the driver is closed; empty is nothing,
	// nil is not asked.
	Left func(t *testing.T, d sandbox.Driver) string
}

// patience bounds every single wait. It is not a measure: a sound driver needs
// a small part of it on a busy machine.
const patience = time.Minute

// Run runs the suite. newDriver makes a driver that is open, with a folder of
// its own in which there is nothing yet; the suite closes it.
func Run(t *testing.T, newDriver func(t *testing.T) sandbox.Driver, opts Options) {
	if opts.Command == nil {
		opts.Command = ShellCommand
	}
	if opts.Kill == nil {
		opts.Kill = killProcess
	}
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			r := &rig{T: t, driver: newDriver(t), opts: opts}
			defer r.finish() // also after t.Fatal, and before attached folders are removed
			if n, err := r.driver.Sweep(r.bounded()); n != 0 || err != nil {
				t.Fatalf("Sweep of an empty folder: removed %d, error %v", n, err)
			}
			c.run(r)
		})
	}
}

// killProcess is the default of Options.Kill.
func killProcess(t *testing.T, _ sandbox.Driver, i sandbox.Instance) {
	t.Helper()
	pid := i.PID()
	if pid <= 1 {
		t.Fatalf("instance %s has no process to kill (PID %d): give sandboxtest.Options.Kill", i.ID(), pid)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill instance %s: %v", i.ID(), err)
	}
}

// scenario is one subtest.
type scenario struct {
	name string
	run  func(r *rig)
}

// rig is what a subtest works with: a driver, and all it started.
type rig struct {
	*testing.T
	driver sandbox.Driver
	opts   Options
	late   bool // something is taken back that nobody waits for

	mu sync.Mutex
	// +checklocks:mu
	instances []sandbox.Instance
	// +checklocks:mu
	ids int
}

// bounded is a context for one wait.
func (r *rig) bounded() context.Context {
	ctx, cancel := context.WithTimeoutCause(r.Context(), patience, fmt.Errorf("the suite's patience of %s is over", patience))
	r.Cleanup(cancel)
	return ctx
}

// finish destroys what was started and sees that nothing is left.
func (r *rig) finish() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.mu.Lock()
	instances := r.instances
	r.mu.Unlock()
	destroyed := true
	for _, i := range instances {
		if err := i.Destroy(ctx); err != nil {
			r.Errorf("destroy instance %s at the end: %v", i.ID(), err)
			destroyed = false
		}
	}
	if r.opts.Left != nil {
		left := r.opts.Left(r.T, r.driver)
		for r.late && left != "" && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			left = r.opts.Left(r.T, r.driver)
		}
		if left != "" {
			r.Errorf("left behind: %s", left)
		}
	}
	if !destroyed {
		return // Close may be called only when all instances are
	}
	if err := r.driver.Close(); err != nil {
		r.Errorf("close the driver: %v", err)
	}
}

// newID makes ids that no other test of this process has.
func (r *rig) newID(prefix string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids++
	return fmt.Sprintf("%s-suite%d", prefix, r.ids)
}

func (r *rig) spec() sandbox.InstanceSpec {
	return sandbox.InstanceSpec{ID: lambent.InstanceID(r.newID("i")), Limits: sandbox.Limits{MemoryMB: 512}}
}

// keep remembers an instance for the end.
func (r *rig) keep(i sandbox.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instances = append(r.instances, i)
}

// tryStart boots an instance. What begins with try may be called from several
// goroutines, unlike what calls Fatal.
func (r *rig) tryStart() (sandbox.Instance, error) {
	i, err := r.driver.Start(r.bounded(), r.spec())
	if err != nil {
		return nil, err
	}
	r.keep(i)
	return i, nil
}

func (r *rig) start() sandbox.Instance {
	r.Helper()
	i, err := r.tryStart()
	if err != nil {
		r.Fatalf("start an instance: %v", err)
	}
	return i
}

func (r *rig) tryContain(i sandbox.Instance, mounts ...sandbox.Mount) (sandbox.Container, error) {
	return i.NewContainer(r.bounded(), sandbox.ContainerSpec{ID: lambent.ContainerID(r.newID("c")), EphemeralMB: 16, Mounts: mounts})
}

func (r *rig) contain(i sandbox.Instance, mounts ...sandbox.Mount) sandbox.Container {
	r.Helper()
	c, err := r.tryContain(i, mounts...)
	if err != nil {
		r.Fatalf("make a container: %v", err)
	}
	return c
}

func (r *rig) exec(c sandbox.Container, cmd sandbox.Command) sandbox.Process {
	r.Helper()
	p, err := c.Exec(r.bounded(), cmd)
	if err != nil {
		r.Fatalf("start a process: %v", err)
	}
	return p
}

func (r *rig) wantExit(p sandbox.Process, want sandbox.Exit) {
	r.Helper()
	if exit, err := p.Wait(r.bounded()); err != nil || exit != want {
		r.Errorf("process %d: exit %+v, error %v; want %+v", p.PID(), exit, err, want)
	}
}

// killed is the exit of what its container or instance took along.
func killed() sandbox.Exit { return sandbox.Exit{Signal: int(syscall.SIGKILL)} }

// wantDone waits for an instance to be over.
func (r *rig) wantDone(i sandbox.Instance) {
	r.Helper()
	select {
	case <-i.Done():
	case <-r.bounded().Done():
		r.Fatalf("instance %s is not over after %s", i.ID(), patience)
	}
}

// wantAlive fails when an instance is over.
func (r *rig) wantAlive(i sandbox.Instance) {
	r.Helper()
	select {
	case <-i.Done():
		r.Errorf("instance %s is over: %v", i.ID(), i.Cause())
	default:
	}
	if cause := i.Cause(); cause != nil {
		r.Errorf("a living instance has a cause: %v", cause)
	}
}

// wantRefused checks that nothing more can be done with what is over.
func (r *rig) wantRefused(i sandbox.Instance, c sandbox.Container) {
	r.Helper()
	if _, err := r.tryContain(i); err == nil {
		r.Errorf("instance %s is over and took a new container", i.ID())
	}
	r.wantContainerRefuses(c)
}

func (r *rig) wantContainerRefuses(c sandbox.Container) {
	r.Helper()
	if _, err := c.Exec(r.bounded(), r.opts.Command(Sleep)); err == nil {
		r.Errorf("container %s is over and started a process", c.ID())
	}
	if err := c.Attach(sandbox.LayerDir, r.folder(nil)); err == nil {
		r.Errorf("container %s is over and had a folder attached", c.ID())
	}
}

// folder makes a folder on the host that everybody may write to, so that only
// the way it is attached protects it. Each file holds one line.
func (r *rig) folder(files map[string]string) string {
	r.Helper()
	dir := r.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		r.Fatal(err)
	}
	for name, line := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(line+"\n"), 0o666); err != nil {
			r.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil {
			r.Fatal(err)
		}
	}
	return dir
}

// lines splits what a process wrote.
func lines(out []byte) []string { return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") }
