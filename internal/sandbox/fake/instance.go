package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"lambent"
	"lambent/internal/sandbox"
)

// condition is where an instance or a container is in its life:
//
//	running ──► dead ──► released
//	   └────────────────────▲
type condition string

const (
	running  condition = "running"
	dead     condition = "dead"
	released condition = "destroyed"
)

// instance implements sandbox.Instance.
type instance struct {
	d       *Driver
	id      lambent.InstanceID
	done    chan struct{} // closed on death or Destroy
	nothing chan struct{} // closed when Destroy has left nothing

	mu sync.Mutex
	// +checklocks:mu
	state condition
	// +checklocks:mu
	cause error
	// +checklocks:mu
	limits []sandbox.Limits // all there were; the last hold
	// +checklocks:mu
	usage sandbox.Usage // as set from outside
	// +checklocks:mu
	memory int64 // taken by Guest.UseMemory
	// +checklocks:mu
	containers map[lambent.ContainerID]*container // not yet released
	// +checklocks:mu
	used map[lambent.ContainerID]bool
}

func newInstance(d *Driver, spec sandbox.InstanceSpec) *instance {
	return &instance{d: d, id: spec.ID, done: make(chan struct{}), nothing: make(chan struct{}), state: running,
		limits: []sandbox.Limits{spec.Limits}, containers: map[lambent.ContainerID]*container{}, used: map[lambent.ContainerID]bool{}}
}

// ID implements sandbox.Instance.
func (i *instance) ID() lambent.InstanceID { return i.id }

// PID implements sandbox.Instance: a fake has no process.
func (i *instance) PID() int { return 0 }

// Done implements sandbox.Instance.
func (i *instance) Done() <-chan struct{} { return i.done }

// Cause implements sandbox.Instance. The cause of a death stays after Destroy,
// for those who look late.
func (i *instance) Cause() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.cause
}

// require refuses a call on an instance that does not run.
//
// +checklocks:i.mu
func (i *instance) require(call Call) error {
	switch i.state {
	case dead:
		return call.failed(lambent.KindUnavailable, fmt.Errorf("instance %s has died: %w", i.id, i.cause))
	case released:
		return call.failed(lambent.KindUnavailable, fmt.Errorf("instance %s was destroyed", i.id))
	}
	return nil
}

// isRunning tells an early error before a call has begun.
func (i *instance) isRunning(call Call) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.require(call)
}

func (i *instance) isReleasing() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state == released
}

// NewContainer implements sandbox.Instance.
func (i *instance) NewContainer(ctx context.Context, spec sandbox.ContainerSpec) (sandbox.Container, error) {
	call := Call{Op: OpNewContainer, Instance: i.id, Container: spec.ID}
	if err := i.isRunning(call); err != nil {
		return nil, err
	}
	if err := i.d.enter(ctx, call, i.die); err != nil {
		return nil, err
	}
	c, err := newContainer(i, spec)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.require(call); err != nil {
		return nil, err
	}
	if i.used[spec.ID] {
		return nil, call.failed(lambent.KindExists, errors.New("the id was used before: a container's id is never used again"))
	}
	i.used[spec.ID] = true
	i.containers[spec.ID] = c
	i.d.alive.containers.Add(1)
	i.d.alive.attachments.Add(int64(len(spec.Mounts)))
	return c, nil
}

// SetLimits implements sandbox.Instance.
func (i *instance) SetLimits(l sandbox.Limits) error {
	call := Call{Op: OpSetLimits, Instance: i.id, Limits: l}
	if err := i.d.enter(context.Background(), call, i.die); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.require(call); err != nil {
		return err
	}
	i.limits = append(i.limits, l)
	return nil
}

// Usage implements sandbox.Instance. A dead instance's can be read until it is
// destroyed.
func (i *instance) Usage() (sandbox.Usage, error) {
	call := Call{Op: OpUsage, Instance: i.id}
	if err := i.d.enter(context.Background(), call, i.die); err != nil {
		return sandbox.Usage{}, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state == released {
		return sandbox.Usage{}, i.require(call)
	}
	u := i.usage
	u.MemoryBytes += i.memory
	return u, nil
}

// ContainerMemory implements sandbox.Instance.
func (i *instance) ContainerMemory(ctx context.Context) (map[lambent.ContainerID]int64, error) {
	call := Call{Op: OpContainerMemory, Instance: i.id}
	if err := i.isRunning(call); err != nil {
		return nil, err
	}
	if err := i.d.enter(ctx, call, i.die); err != nil {
		return nil, err
	}
	if !i.d.opts.Capabilities.ContainerMemory {
		return nil, call.failed(lambent.KindUnavailable, errors.New("this driver does not have the capability ContainerMemory"))
	}
	i.mu.Lock()
	if err := i.require(call); err != nil {
		i.mu.Unlock()
		return nil, err
	}
	containers := maps.Clone(i.containers)
	i.mu.Unlock()
	told := make(map[lambent.ContainerID]int64, len(containers))
	for id, c := range containers {
		if bytes, ok := c.usesMemory(); ok {
			told[id] = bytes
		}
	}
	return told, nil
}

// useMemory takes bytes, or gives them back where negative. Over the limit the
// instance dies.
func (i *instance) useMemory(bytes int64) {
	i.mu.Lock()
	i.memory += bytes
	limit := int64(i.limits[len(i.limits)-1].MemoryMB) << 20
	over := i.d.opts.Capabilities.MemoryLimits && limit > 0 && bytes > 0 && i.memory+i.usage.MemoryBytes > limit
	i.mu.Unlock()
	if over {
		i.outOfMemory()
	}
}

func (i *instance) outOfMemory() {
	i.mu.Lock()
	if i.state == running {
		i.usage.OOMKills++
	}
	i.mu.Unlock()
	i.die(ErrOutOfMemory)
}

// die ends the instance as if on its own.
func (i *instance) die(cause error) {
	i.mu.Lock()
	if i.state != running {
		i.mu.Unlock()
		return
	}
	i.state, i.cause = dead, fmt.Errorf("instance %s: %w", i.id, cause)
	containers := slices.Collect(maps.Values(i.containers))
	i.mu.Unlock()
	for _, c := range containers {
		c.kill(dead)
	}
	close(i.done)
}

// Destroy implements sandbox.Instance.
func (i *instance) Destroy(ctx context.Context) error {
	call := Call{Op: OpDestroy, Instance: i.id}
	p := i.d.record(call)
	i.mu.Lock()
	from := i.state
	i.state = released
	containers := slices.Collect(maps.Values(i.containers))
	i.mu.Unlock()

	if from != released {
		for _, c := range containers {
			c.kill(released)
		}
		if from == running {
			close(i.done)
		}
		i.d.work.Go(func() {
			background := context.WithoutCancel(ctx)
			_ = i.d.delay(background, call, plan{delay: p.delay}) // a hook only holds a release up
			for _, c := range containers {
				c.release(nil)
				<-c.nothing
			}
			i.d.forget(i)
			close(i.nothing)
		})
	}
	return i.d.await(ctx, call, i.nothing, p)
}

// await waits for a release to end and says what the script wants said of it.
func (d *Driver) await(ctx context.Context, call Call, nothing <-chan struct{}, p plan) error {
	select {
	case <-nothing:
	default:
		select {
		case <-nothing:
		case <-ctx.Done():
			return call.failed(lambent.KindUnavailable, fmt.Errorf("it goes on, but was not waited for: %w", ctx.Err()))
		}
	}
	if err := errors.Join(p.err, p.death); err != nil {
		return call.failed(lambent.KindOf(err), err)
	}
	return nil
}

// forget takes a released container out of the instance.
func (i *instance) forget(c *container) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.containers, c.id)
	i.d.alive.containers.Add(-1)
}
