package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"sync"

	"lambent"
	"lambent/internal/sandbox"
)

// container implements sandbox.Container.
type container struct {
	i       *instance
	id      lambent.ContainerID
	tmpMB   int
	tmp     tmpfs
	nothing chan struct{}  // closed when Destroy has left nothing
	work    sync.WaitGroup // programs; the release waits for them

	mu sync.Mutex
	// +checklocks:mu
	state condition
	// +checklocks:mu
	targets map[string]string // what is shown where: target → source
	// +checklocks:mu
	processes map[int]*process // programs that have not returned
	// +checklocks:mu
	lastPID int
	// +checklocks:mu
	releasing bool
	// +checklocks:mu
	memory int64 // as set from outside
}

// firstPID is that of the process every container has: as in a real one, the
// first started from outside is number 2.
const firstPID = 1

func newContainer(i *instance, spec sandbox.ContainerSpec) (*container, error) {
	call := Call{Op: OpNewContainer, Instance: i.id, Container: spec.ID}
	if spec.ID == "" {
		return nil, call.failed(lambent.KindInvalid, errors.New("its id is empty"))
	}
	c := &container{i: i, id: spec.ID, tmpMB: spec.EphemeralMB, nothing: make(chan struct{}), state: running,
		targets: map[string]string{}, processes: map[int]*process{}, lastPID: firstPID}
	c.tmp.limit = int64(spec.EphemeralMB) << 20
	if spec.Root != "" {
		if err := checkFolder(spec.Root); err != nil {
			return nil, call.failed(lambent.KindInvalid, fmt.Errorf("root: %w", err))
		}
	}
	for _, m := range spec.Mounts {
		inside := slices.ContainsFunc([]string{"/var", "/opt", "/mnt"}, func(dir string) bool {
			rel, ok := below(dir, m.Target)
			return ok && (rel != "." || m.Target == sandbox.LayerDir)
		})
		switch {
		case !inside || path.Clean(m.Target) != m.Target:
			return nil, call.failed(lambent.KindInvalid, fmt.Errorf("mount target %q is not a clean path below /var, /opt or /mnt", m.Target))
		case c.targets[m.Target] != "":
			return nil, call.failed(lambent.KindExists, fmt.Errorf("mount target %s is given twice", m.Target))
		}
		if err := checkFolder(m.Source); err != nil {
			return nil, call.failed(lambent.KindInvalid, fmt.Errorf("mount %s: %w", m.Target, err))
		}
		c.targets[m.Target] = m.Source
	}
	return c, nil
}

// checkFolder makes sure that a source is an absolute path of a folder.
func checkFolder(source string) error {
	if !path.IsAbs(source) {
		return fmt.Errorf("source %q is not an absolute path", source)
	}
	info, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("source %s is not a folder", source)
	}
	return nil
}

// ID implements sandbox.Container.
func (c *container) ID() lambent.ContainerID { return c.id }

// require refuses a call on a container that does not run.
//
// +checklocks:c.mu
func (c *container) require(call Call) error {
	if c.state == running {
		return nil
	}
	return call.failed(lambent.KindUnavailable, fmt.Errorf("container %s: it, or its instance %s, is %s", c.id, c.i.id, c.state))
}

// Attach implements sandbox.Container.
func (c *container) Attach(target, source string) error {
	call := Call{Op: OpAttach, Instance: c.i.id, Container: c.id, Target: target, Source: source}
	if err := c.i.d.enter(context.Background(), call, c.i.die); err != nil {
		return err
	}
	if target != sandbox.TaskDir && target != sandbox.LayerDir {
		return call.failed(lambent.KindInvalid, fmt.Errorf("the target is neither %s nor %s", sandbox.TaskDir, sandbox.LayerDir))
	}
	if err := checkFolder(source); err != nil {
		return call.failed(lambent.KindInvalid, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.require(call); err != nil {
		return err
	}
	if other := c.targets[target]; other != "" {
		return call.failed(lambent.KindExists, fmt.Errorf("%s is attached there already: a target is attached to once", other))
	}
	c.targets[target] = source
	c.i.d.alive.attachments.Add(1)
	return nil
}

// Exec implements sandbox.Container.
func (c *container) Exec(ctx context.Context, cmd sandbox.Command) (sandbox.Process, error) {
	call := Call{Op: OpExec, Instance: c.i.id, Container: c.id, Path: cmd.Path}
	if err := c.i.d.enter(ctx, call, c.i.die); err != nil {
		return nil, err
	}
	program, ok := c.i.d.opts.Programs[cmd.Path]
	switch {
	case !path.IsAbs(cmd.Path):
		return nil, call.failed(lambent.KindInvalid, errors.New("the path is not absolute"))
	case len(cmd.Args) == 0:
		return nil, call.failed(lambent.KindInvalid, errors.New("there is no Args[0]"))
	case !ok:
		known := slices.Sorted(maps.Keys(c.i.d.opts.Programs))
		return nil, call.failed(lambent.KindNotFound, fmt.Errorf("no such program; Options.Programs has %v: %w", known, os.ErrNotExist))
	}
	files, err := dupFiles(cmd.Files)
	if err != nil {
		return nil, call.failed(lambent.KindInternal, err)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.require(call); err != nil {
		closeFiles(files)
		return nil, err
	}
	c.lastPID++
	p := newProcess(c, c.lastPID, cmd, files)
	c.processes[p.pid] = p
	c.i.d.alive.processes.Add(1)
	c.work.Go(func() { p.run(program) })
	return p, nil
}

// usesMemory is what the container uses, in bytes; not ok where it is over.
func (c *container) usesMemory() (bytes int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bytes = c.memory
	for _, p := range c.processes {
		bytes += p.memory.Load()
	}
	return bytes, c.state == running
}

// kill ends all processes and takes no more. It does not wait for programs to
// return; release does.
func (c *container) kill(to condition) {
	c.mu.Lock()
	if c.state == running || to == released {
		c.state = to
	}
	processes := slices.Collect(maps.Values(c.processes))
	c.mu.Unlock()
	for _, p := range processes {
		p.kill()
	}
}

// release begins to wait, in a goroutine of the driver's, until nothing is left
// of a killed container; hold, where given, runs before. A second call changes
// nothing.
func (c *container) release(hold func()) {
	c.mu.Lock()
	first := !c.releasing
	c.releasing = true
	attached := int64(len(c.targets)) // final: Attach refuses what does not run
	c.mu.Unlock()
	if !first {
		return
	}
	c.i.d.work.Go(func() {
		if hold != nil {
			hold()
		}
		c.work.Wait()
		c.i.d.alive.attachments.Add(-attached)
		c.i.forget(c)
		close(c.nothing)
	})
}

// Destroy implements sandbox.Container.
func (c *container) Destroy(ctx context.Context) error {
	call := Call{Op: OpDestroyContainer, Instance: c.i.id, Container: c.id}
	p := c.i.d.record(call)
	c.kill(released)
	if p.death != nil {
		c.i.die(p.death)
	}
	c.release(func() {
		_ = c.i.d.delay(context.WithoutCancel(ctx), call, plan{delay: p.delay}) // a hook only holds a release up
	})
	return c.i.d.await(ctx, call, c.nothing, p)
}

// ended takes a process whose program has returned out of the container.
func (c *container) ended(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.processes, p.pid)
	c.i.d.alive.processes.Add(-1)
}
