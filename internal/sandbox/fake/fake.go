// Package fake is a scripted sandbox driver for the tests of everything above
// the sandbox contract: no processes, no isolation, no privileges. What runs in
// its containers are Go functions.
//
// The contract of package sandbox holds for it exactly as for a real driver,
// and it passes the same suite; beyond that
//
//   - Options and Fault script it: slow starts, calls that fail, instances that
//     die in the middle of a call;
//   - Kill, OutOfMemory, SetUsage and SetContainerMemory do from outside what a machine may do;
//   - Alive and Calls tell what is left and what was asked for.
//
// It is strict where a real driver can only hope: an instance id that was used
// before, a relative path, a call on something that was destroyed, a second
// Sweep or a Close with instances alive are errors.
//
// # Time
//
// Every delay is a timer and every wait a channel, so that the fake works in a
// testing/synctest bubble. A program that blocks on one of its Files does not:
// let it wait for its context there.
package fake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/internal/sandbox"
)

// Options script a driver. The zero value is a driver that starts at once,
// never fails and has no programs.
type Options struct {
	// Programs are the executables of every container by Command.Path.
	Programs map[string]Program
	// Capabilities are what Driver.Capabilities answers. The zero value becomes
	// DefaultCapabilities. With MemoryLimits, Guest.UseMemory is held to
	// Limits.MemoryMB.
	Capabilities sandbox.Capabilities
	// StartDelay is how long every Start takes.
	StartDelay time.Duration
	// Leftovers is what Sweep claims to have removed.
	Leftovers int
	// Faults are in force from the first call on; see Driver.Script.
	Faults []Fault
	// Before, when set, runs in every call to the driver and what it made, after
	// the call is recorded and before it has an effect. It may block, to hold a
	// call where a test wants it, until ctx ends; an error fails the call. The
	// context of a call that has none is context.Background. In a Destroy it can
	// only hold the release up: what is left is released nevertheless.
	Before func(ctx context.Context, c Call) error
}

// DefaultCapabilities are those of a driver whose options name none.
func DefaultCapabilities() sandbox.Capabilities {
	return sandbox.Capabilities{Isolation: "none (fake)", MemoryLimits: true, CPULimits: true, ContainerMemory: true}
}

// Program stands for an executable. Its result is the exit status, unless
// Guest.Raise said that a signal ends it. ctx ends when the process is killed;
// a program that does not return then holds up the Destroy of its container,
// as a process in an uninterruptible sleep would.
type Program func(ctx context.Context, g *Guest) int

// Why an instance died, as Cause wraps it.
var (
	ErrKilled      = errors.New("killed from outside (signal 9)")
	ErrOutOfMemory = errors.New("killed for using more memory than its limit")
)

// Driver is the scripted driver. All methods may be called from several
// goroutines at once.
type Driver struct {
	opts  Options
	alive counters
	work  sync.WaitGroup // releases in progress; Close waits for them

	mu sync.Mutex
	// +checklocks:mu
	instances map[lambent.InstanceID]*instance // started and not yet released
	// +checklocks:mu
	used map[lambent.InstanceID]bool // every id there ever was
	// +checklocks:mu
	faults []*scripted
	// +checklocks:mu
	calls []Call
	// +checklocks:mu
	swept bool
	// +checklocks:mu
	closed bool
}

// New makes a driver.
func New(opts Options) *Driver {
	if opts.Capabilities.Isolation == "" {
		opts.Capabilities = DefaultCapabilities()
	}
	d := &Driver{opts: opts, instances: map[lambent.InstanceID]*instance{}, used: map[lambent.InstanceID]bool{}}
	d.Script(opts.Faults...)
	return d
}

var _ sandbox.Driver = (*Driver)(nil)

// Capabilities implements sandbox.Driver.
func (d *Driver) Capabilities() sandbox.Capabilities {
	c := d.opts.Capabilities
	c.Weaker = slices.Clone(c.Weaker)
	return c
}

// Sweep implements sandbox.Driver; it answers Options.Leftovers.
func (d *Driver) Sweep(ctx context.Context) (int, error) {
	if err := d.enter(ctx, Call{Op: OpSweep}, nil); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.swept || len(d.used) > 0 {
		return 0, &lambent.Error{Op: string(OpSweep), Kind: lambent.KindInternal,
			Err: errors.New("it is called once, before the first Start")}
	}
	d.swept = true
	return d.opts.Leftovers, nil
}

// Start implements sandbox.Driver.
func (d *Driver) Start(ctx context.Context, spec sandbox.InstanceSpec) (sandbox.Instance, error) {
	call := Call{Op: OpStart, Instance: spec.ID, Limits: spec.Limits}
	if err := d.claim(spec.ID); err != nil {
		return nil, err
	}
	// Nothing exists yet that could die: a scripted death fails the start.
	if err := d.enter(ctx, call, func(error) {}); err != nil {
		return nil, err
	}
	i := newInstance(d, spec)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, call.failed(lambent.KindUnavailable, errors.New("the driver is closed"))
	}
	d.instances[spec.ID] = i
	d.alive.instances.Add(1)
	return i, nil
}

// claim checks that an id is new, and remembers it.
func (d *Driver) claim(id lambent.InstanceID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	call := Call{Op: OpStart, Instance: id}
	switch {
	case id == "":
		return call.failed(lambent.KindInvalid, errors.New("its id is empty"))
	case d.closed:
		return call.failed(lambent.KindUnavailable, errors.New("the driver is closed"))
	case d.used[id]:
		return call.failed(lambent.KindExists, errors.New("the id was used before: an instance's id is never used again"))
	}
	d.used[id] = true
	return nil
}

// forget takes a released instance out of the driver.
func (d *Driver) forget(i *instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.instances, i.id)
	d.alive.instances.Add(-1)
}

// Close implements sandbox.Driver. It is an error to call it before all
// instances are destroyed; their ids are in it.
func (d *Driver) Close() error {
	if err := d.enter(context.Background(), Call{Op: OpClose}, nil); err != nil {
		return err
	}
	d.mu.Lock()
	d.closed = true
	var left []lambent.InstanceID
	for id, i := range d.instances {
		if !i.isReleasing() {
			left = append(left, id)
		}
	}
	d.mu.Unlock()
	if len(left) > 0 {
		slices.Sort(left)
		return &lambent.Error{Op: string(OpClose), Kind: lambent.KindInternal,
			Err: fmt.Errorf("%d instances were not destroyed before: %v", len(left), left)}
	}
	d.work.Wait()
	return nil
}

// Alive counts what exists; the zero value is nothing.
type Alive struct {
	Instances   int // started, not released: dead ones count until Destroy has ended
	Containers  int
	Processes   int // programs that have not returned
	Attachments int // by Attach and by ContainerSpec.Mounts
}

type counters struct{ instances, containers, processes, attachments atomic.Int64 }

// Alive counts what exists now.
func (d *Driver) Alive() Alive {
	a := &d.alive
	return Alive{Instances: int(a.instances.Load()), Containers: int(a.containers.Load()),
		Processes: int(a.processes.Load()), Attachments: int(a.attachments.Load())}
}

// Instances lists the instances that were started and not yet released, sorted.
func (d *Driver) Instances() []lambent.InstanceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.instances))
}

// Kill makes an instance die on its own, now. Cause wraps the given cause,
// ErrKilled where it is nil. Killing a dead one changes nothing; one that was
// released, or never was, is an error.
func (d *Driver) Kill(id lambent.InstanceID, cause error) error {
	i, err := d.find("kill instance", id)
	if err != nil {
		return err
	}
	if cause == nil {
		cause = ErrKilled
	}
	i.die(cause)
	return nil
}

// OutOfMemory makes an instance die as one that went over its memory limit:
// Usage counts an OOM kill, Cause wraps ErrOutOfMemory.
func (d *Driver) OutOfMemory(id lambent.InstanceID) error {
	i, err := d.find("kill instance", id)
	if err != nil {
		return err
	}
	i.outOfMemory()
	return nil
}

// SetUsage sets what Usage answers. What Guest.UseMemory took comes on top.
func (d *Driver) SetUsage(id lambent.InstanceID, u sandbox.Usage) error {
	i, err := d.find("set the usage of instance", id)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.usage = u
	return nil
}

// SetContainerMemory sets what ContainerMemory answers for a container. What
// Guest.UseMemory took comes on top.
func (d *Driver) SetContainerMemory(id lambent.InstanceID, container lambent.ContainerID, bytes int64) error {
	const op = "set the memory of container"
	i, err := d.find(op, id)
	if err != nil {
		return err
	}
	i.mu.Lock()
	c := i.containers[container]
	i.mu.Unlock()
	if c == nil {
		return &lambent.Error{Op: op, Resource: string(container), Kind: lambent.KindNotFound,
			Err: fmt.Errorf("there is none of this id in instance %s", id)}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.memory = bytes
	return nil
}

// Limits lists the limits an instance was given, the first by Start; the last
// hold.
func (d *Driver) Limits(id lambent.InstanceID) ([]sandbox.Limits, error) {
	i, err := d.find("read the limits of instance", id)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.limits), nil
}

func (d *Driver) find(op string, id lambent.InstanceID) (*instance, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.instances[id]; i != nil {
		return i, nil
	}
	var known []string
	for _, k := range slices.Sorted(maps.Keys(d.instances)) {
		known = append(known, string(k))
	}
	return nil, &lambent.Error{Op: op, Resource: string(id), Kind: lambent.KindNotFound,
		Err: fmt.Errorf("there is none of this id; alive are: %s", cmp.Or(strings.Join(known, ", "), "none"))}
}
