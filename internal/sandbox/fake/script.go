package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"lambent"
	"lambent/internal/sandbox"
)

// Op names a method of the contract.
type Op string

// The operations that are recorded and can be scripted.
const (
	OpSweep            Op = "sweep"
	OpStart            Op = "start instance"
	OpNewContainer     Op = "new container"
	OpAttach           Op = "attach"
	OpExec             Op = "exec"
	OpSetLimits        Op = "set limits"
	OpUsage            Op = "usage"
	OpContainerMemory  Op = "container memory"
	OpDestroyContainer Op = "destroy container"
	OpDestroy          Op = "destroy instance"
	OpClose            Op = "close driver"
)

// Call is one call to the driver, or to what it made. Fields its operation has
// no use for are zero.
type Call struct {
	Op        Op
	Instance  lambent.InstanceID
	Container lambent.ContainerID
	Target    string         // of OpAttach
	Source    string         // of OpAttach
	Path      string         // of OpExec
	Limits    sandbox.Limits // of OpStart and OpSetLimits
}

// String renders the call on one line: "attach i-1 c-1 /var/task".
func (c Call) String() string {
	parts := []string{string(c.Op)}
	for _, s := range []string{string(c.Instance), string(c.Container), c.Target, c.Path} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, " ")
}

// failed is the error of the call.
func (c Call) failed(kind lambent.Kind, err error) error {
	thing := string(c.Container)
	if thing == "" {
		thing = string(c.Instance)
	}
	for _, s := range []string{c.Target, c.Path} {
		if s != "" {
			thing += " " + s
		}
	}
	return &lambent.Error{Op: string(c.Op), Resource: thing, Kind: kind, Err: err}
}

// Fault is something that goes wrong, or slowly, in one call or in all of an
// operation.
type Fault struct {
	Op       Op
	Instance lambent.InstanceID // only in calls on this one; empty: on any
	Nth      int                // only in the Nth matching call after it was scripted, from 1; 0: in every one
	Delay    time.Duration      // the call takes this long, or until its context ends
	Err      error              // the call fails with it. A Destroy releases everything nevertheless
	Death    error              // the instance dies of it in the call, which fails
}

// scripted is a fault with the calls it was asked about.
type scripted struct {
	Fault
	seen int
}

// Script adds faults, in force from the next call on. Where several match a
// call, their delays add up and the first that fails it counts.
func (d *Driver) Script(faults ...Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range faults {
		d.faults = append(d.faults, &scripted{Fault: f})
	}
}

// Heal removes all faults.
func (d *Driver) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

// Calls lists all calls so far, in the order they came in, failed ones too.
func (d *Driver) Calls() []Call {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// Count is how many calls of an operation there were.
func (d *Driver) Count(op Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, c := range d.calls {
		if c.Op == op {
			n++
		}
	}
	return n
}

// plan is what the script says about one call.
type plan struct {
	delay time.Duration
	err   error
	death error
}

// record notes a call and asks the script about it.
func (d *Driver) record(c Call) plan {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, c)
	var p plan
	if c.Op == OpStart {
		p.delay = d.opts.StartDelay
	}
	for _, f := range d.faults {
		if f.Op != c.Op || f.Instance != "" && f.Instance != c.Instance {
			continue
		}
		f.seen++
		if f.Nth != 0 && f.Nth != f.seen {
			continue
		}
		p.delay += f.Delay
		if p.err == nil && p.death == nil {
			p.err, p.death = f.Err, f.Death
		}
	}
	return p
}

// enter records a call and lets the script have its way with it, before the call
// has any effect. die makes the call's instance die; nil where there is none.
func (d *Driver) enter(ctx context.Context, c Call, die func(cause error)) error {
	p := d.record(c)
	if err := d.delay(ctx, c, p); err != nil {
		return err
	}
	switch {
	case p.death != nil && die != nil:
		die(p.death)
		return c.failed(lambent.KindUnavailable, fmt.Errorf("the instance died: %w", p.death))
	case p.err != nil:
		return c.failed(lambent.KindOf(p.err), p.err)
	}
	return nil
}

// delay runs the hook and waits as long as the plan says.
func (d *Driver) delay(ctx context.Context, c Call, p plan) error {
	if d.opts.Before != nil {
		if err := d.opts.Before(ctx, c); err != nil {
			return c.failed(lambent.KindOf(err), err)
		}
	}
	if p.delay > 0 {
		timer := time.NewTimer(p.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		if cause := context.Cause(ctx); cause != err {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return c.failed(lambent.KindUnavailable, fmt.Errorf("given up: %w", err))
	}
	return nil
}
