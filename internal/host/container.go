package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"lambent"
	"lambent/internal/hostinfo"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/sandbox"
)

// Container holds one runtime process: first booted and waiting, nobody's; then,
// after Load, one function version, one execution at a time. It is made by
// Instance.Boot. Its user (package pool) sees to it that Load is called once and
// that Invoke is not called twice at once; the state machine refuses otherwise.
type Container struct {
	host     *Host
	inst     *Instance
	id       lambent.ContainerID
	runtime  hostinfo.Installed
	banner   string // what the runtime says it is
	box      sandbox.Container
	dropRoot func() // gives back the image it is made of; nil for none
	session  *runtimeapi.Session
	logs     *logPipe
	exited   chan struct{}
	exit     sandbox.Exit // valid once exited is closed
	closing  sync.Once
	closed   chan struct{} // closed when everything is released
	closeErr error

	mu sync.Mutex
	// +checklocks:mu
	state lambent.ContainerState
	// +checklocks:mu
	fn *lambent.Function
	// +checklocks:mu
	credentialsEnd time.Time // zero: never
	// +checklocks:mu
	served *os.File // the connection to what serves credentials; nil: nothing does
	// +checklocks:mu
	release func() // of the code; nil once done
	// +checklocks:mu
	idleSince time.Time
	// +checklocks:mu
	started time.Time // the running invocation
	// +checklocks:mu
	deadline time.Time // of it
	// +checklocks:mu
	timedOut bool
	// +checklocks:mu
	starved bool // it was ended for memory
	// +checklocks:mu
	bounded bool // the CPU bound is in force
	// +checklocks:mu
	spentFrom time.Duration // of CPU, by the instance, when the running invocation was first seen to last
	// +checklocks:mu
	spentOf time.Time // started of the invocation that spentFrom is of
	// +checklocks:mu
	log logState
}

// ContainerSnapshot is what the admin API shows of a container.
type ContainerSnapshot struct {
	ID        lambent.ContainerID
	Instance  lambent.InstanceID
	State     lambent.ContainerState
	Runtime   hostinfo.Installed
	Account   lambent.AccountID // empty while nobody's
	Function  lambent.FunctionName
	Version   lambent.Version
	MemoryMB  int
	IdleSince time.Time // zero unless idle
}

// ID is the container's identity.
func (c *Container) ID() lambent.ContainerID { return c.id }

// Instance is the instance the container is in.
func (c *Container) Instance() *Instance { return c.inst }

// Done is closed when the container can serve no more: its runtime closed the
// connection or ended, or its instance died.
func (c *Container) Done() <-chan struct{} { return c.session.Done() }

// Snapshot copies the container's state.
func (c *Container) Snapshot() ContainerSnapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ContainerSnapshot{ID: c.id, Instance: c.inst.id, State: c.state, Runtime: c.runtime}
	if c.fn != nil {
		s.Account, s.Function, s.Version, s.MemoryMB = c.fn.Account, c.fn.Name, c.fn.Version, c.fn.MemoryMB
	}
	if c.state == lambent.ContainerIdle {
		s.IdleSince = c.idleSince
	}
	return s
}

// Loaded tells how a container took in its code.
type Loaded struct {
	CodeCached bool          // the package was on this host already
	Init       time.Duration // from the code's being visible until the runtime asked for its first event
}

// Load gives a waiting container its function for life: bounds its instance to
// the function's size, shows it the code, lets the runtime initialise within
// initLimit. Whatever error it returns, the container can only be stopped. What
// the function itself did wrong is a *runtimeapi.InitError, *ExitError or
// *TimeoutError; anything else is the platform's, and a *CodeError would be the
// same in any other container.
func (c *Container) Load(ctx context.Context, fn *lambent.Function, initLimit time.Duration, as Initialization) (Loaded, error) {
	files, err := c.host.hold(ctx, fn)
	if err != nil {
		return Loaded{}, fmt.Errorf("load %s into container %s: %w", fn.Name, c.id, &CodeError{Err: err})
	}
	c.mu.Lock()
	if err := c.requireState("load", lambent.ContainerStarting); err != nil || c.fn != nil {
		c.mu.Unlock()
		files.release()
		return Loaded{}, errors.Join(err, fmt.Errorf("load %s into container %s: it was given its function before", fn.Name, c.id))
	}
	c.fn, c.release = fn, files.release
	c.started = c.host.now()
	stream := c.log.start(fn, c.started)
	c.mu.Unlock()
	c.inst.begin()
	defer c.inst.end()
	c.host.watch.called()

	if err := c.inst.allot(c.id, fn.MemoryMB); err != nil {
		return Loaded{}, fmt.Errorf("load %s into container %s: %w", fn.Name, c.id, err)
	}
	if files.layers != "" {
		if err := c.box.Attach(sandbox.LayerDir, files.layers); err != nil {
			return Loaded{}, fmt.Errorf("load the layers of %s into container %s: %w", fn.Name, c.id, err)
		}
	}
	if files.image == nil {
		if err := c.box.Attach(sandbox.TaskDir, files.code); err != nil {
			return Loaded{}, fmt.Errorf("load %s into container %s: %w", fn.Name, c.id, err)
		}
	} else if digestOf(c.runtime.Image) != digestOf(fn.ImageRef) {
		return Loaded{}, fmt.Errorf("load %s into container %s: it is of the image %s, not %s", fn.Name, c.id, c.runtime.Image, fn.ImageRef)
	}
	select {
	case <-c.session.Done(): // before anything of the function's had a part in it
		return Loaded{}, fmt.Errorf("load %s into container %s: its runtime ended while it waited: %w", fn.Name, c.id, c.session.Err())
	default:
	}
	c.Log(c.initLine(fn.Runtime))
	began := c.host.now()
	ctx, cancel := context.WithTimeoutCause(ctx, initLimit, errInitLimit)
	defer cancel()
	credentials := c.host.credentials(fn)
	if credentials != nil {
		c.mu.Lock()
		c.credentialsEnd = credentials.Expires
		c.mu.Unlock()
	}
	assignment := c.host.assignment(fn, c.runtime, files.image, stream, credentials, as)
	// What never ends need not be asked for again, and a call would wait 20 ms for who
	// could be asked.
	if credentials != nil && assignment.Credentials == nil && !credentials.Expires.IsZero() {
		if err := c.serveCredentials(ctx, credentials, assignment.Env); err != nil {
			return Loaded{}, fmt.Errorf("load %s into container %s: %w", fn.Name, c.id, err)
		}
	}
	err = c.session.Assign(ctx, &assignment)
	c.logs.drain()
	took := c.host.now().Sub(began)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if ctx.Err() != nil && context.Cause(ctx) == errInitLimit {
			return Loaded{Init: took}, &TimeoutError{Phase: "init", Limit: initLimit}
		}
		if errors.Is(err, runtimeapi.ErrNotTaken) { // nothing of the function's has happened
			// Not wrapped: it must not be taken for an exit of the function.
			return Loaded{}, fmt.Errorf("load %s into container %s: %s", fn.Name, c.id, err)
		}
		return Loaded{Init: took}, c.failure(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.requireState("load", lambent.ContainerStarting); err != nil { // stopped with its instance, meanwhile
		return Loaded{}, err
	}
	c.changeState(lambent.ContainerIdle)
	c.idleSince = c.host.now()
	return Loaded{CodeCached: files.cached, Init: took}, nil
}

// Event is one event to hand to a container.
type Event struct {
	RequestID     lambent.RequestID
	Payload       []byte
	InvokedARN    string
	ClientContext string
	TraceID       string
	TenantID      string
	Timeout       time.Duration
	Stream        runtimeapi.Stream // takes a streamed answer; nil: it is collected
}

// Answer is what a runtime said, or how it failed to.
type Answer struct {
	Payload   []byte // the answer, or the error JSON the runtime gave
	ErrorType string // empty: it succeeded
	Streamed  bool   // the event's Stream has the answer
	StartedAt time.Time
	Duration  time.Duration
}

// Invoke hands an event to an idle container and waits for its answer, for
// Timeout at most. A function's own failure that leaves the runtime sound is an
// Answer with an ErrorType. Any error means that the container is unusable and
// must be stopped: *TimeoutError, *ExitError, or what else went wrong.
func (c *Container) Invoke(ev *Event) (Answer, error) {
	start := c.host.now()
	c.mu.Lock()
	if err := c.requireState("invoke", lambent.ContainerIdle); err != nil {
		c.mu.Unlock()
		return Answer{}, err
	}
	c.changeState(lambent.ContainerBusy)
	c.started, c.deadline = start, start.Add(ev.Timeout)
	c.mu.Unlock()
	c.inst.begin()
	c.host.watch.called()

	msg := &runtimeapi.Event{Stream: ev.Stream, Event: frame.Event{
		RequestID:      string(ev.RequestID),
		DeadlineMillis: start.Add(ev.Timeout).UnixMilli(),
		InvokedARN:     ev.InvokedARN,
		TraceID:        ev.TraceID,
		ClientContext:  ev.ClientContext,
		TenantID:       ev.TenantID,
		Payload:        ev.Payload,
	}}
	// The watch ends the wait by closing the session: no context is needed.
	answer, err := c.session.Invoke(context.Background(), msg)
	end := c.host.now()
	c.logs.drain()
	c.inst.end()

	c.mu.Lock()
	defer c.mu.Unlock()
	a := Answer{Payload: answer.Payload, ErrorType: answer.ErrorType, Streamed: answer.Streamed, StartedAt: msg.HandedAt, Duration: end.Sub(start)}
	if err != nil {
		return a, c.failure(err)
	}
	if c.state == lambent.ContainerStopped { // it answered, and was stopped with its instance
		return a, nil
	}
	c.lift()
	c.changeState(lambent.ContainerIdle)
	c.idleSince = end
	return a, nil
}

// look holds a running invocation, or init, to its limits, of time, CPU and
// memory, and tells whether there is one.
func (c *Container) look(now time.Time) (busy bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == lambent.ContainerBusy:
	case c.state == lambent.ContainerStarting && c.fn != nil: // its init has a time of its own, in Load
	default:
		return false
	}
	select {
	case <-c.session.Done(): // it has failed, and is being stopped: there is nothing left to hold
		return false
	default:
	}
	busy = true
	if c.state == lambent.ContainerBusy && !now.Before(c.deadline) {
		c.timedOut = true
		c.session.Close() // wakes Invoke; whoever called it stops the container
		return busy
	}
	if c.state == lambent.ContainerBusy && !c.bounded && now.Sub(c.started) >= watchEvery && c.computes(now) {
		c.bound()
	}
	if now.Sub(c.started) < fullSpeed {
		return busy
	}
	if now.Sub(c.log.looked) >= memoryWatch {
		c.log.looked = now
		if memory, ok := c.inst.peek(c.id, c.started, now, c.fn.MemoryMB); ok && !c.sampled(memory) {
			c.starved = true
			c.session.Close()
		}
	}
	return busy
}

// computes tells whether the running invocation has used up the CPU time that it
// has at full speed, going by what the instance has spent for each that runs in
// it. One that has only waited, for the network or for its turn on a busy
// machine, has not: to hold it back would make a crowd of short calls slower and
// slower.
//
// +checklocks:c.mu
func (c *Container) computes(now time.Time) bool {
	spent, running, ok := c.inst.spent(now)
	if !ok {
		return now.Sub(c.started) >= fullSpeed
	}
	if !c.spentOf.Equal(c.started) {
		c.spentFrom, c.spentOf = spent, c.started
		return false
	}
	// Before the first look it may have computed without a pause.
	return spent-c.spentFrom >= (fullSpeed-watchEvery)*time.Duration(max(1, running))
}

// bound holds the container to the function's share of the CPU.
//
// +checklocks:c.mu
func (c *Container) bound() {
	if err := c.inst.hold(c.id, c.fn.Key().Size.CPUShare()); err != nil {
		c.host.log.Warn("cannot bound the CPU of a running function", "container", c.id, "error", err)
		return
	}
	c.bounded = true
}

// lift lets the next invocation start at full speed.
//
// +checklocks:c.mu
func (c *Container) lift() {
	if !c.bounded {
		return
	}
	if err := c.inst.free(c.id); err != nil {
		c.host.log.Warn("cannot lift the CPU bound of an idle function", "container", c.id, "error", err)
		return
	}
	c.bounded = false
}

// Stop ends the container and everything in it, and waits until nothing of it is
// left. Calling it again is harmless.
func (c *Container) Stop(ctx context.Context) error {
	defer c.inst.attend()()
	err := c.box.Destroy(ctx)
	return errors.Join(err, c.close(ctx))
}

// close releases what the host holds for the container, once its processes are
// gone.
func (c *Container) close(ctx context.Context) error {
	c.closing.Do(func() {
		defer close(c.closed)
		c.session.Close()
		select {
		case <-c.exited:
		case <-ctx.Done():
		}
		c.closeErr = c.logs.close()
		c.mu.Lock()
		if c.state != lambent.ContainerStopped {
			c.changeState(lambent.ContainerStopped)
		}
		release, served := c.release, c.served
		c.release, c.served = nil, nil
		c.mu.Unlock()
		if served != nil {
			_ = served.Close() // nothing was to be written
		}
		if release != nil {
			release()
		}
		if c.dropRoot != nil {
			c.dropRoot()
		}
		c.host.watch.remove(c)
		c.inst.leave(c.id)
	})
	<-c.closed
	return c.closeErr
}

// changeState is the only writer of state after construction.
//
// +checklocks:c.mu
func (c *Container) changeState(to lambent.ContainerState) {
	if !c.state.CanBecome(to) {
		panic(fmt.Sprintf("container %s cannot go from %s to %s", c.id, c.state, to))
	}
	from := c.state
	c.state = to
	c.host.observe(Transition{Instance: c.inst.id, Container: c.id, From: from.String(), To: to.String()})
}

// requireState refuses an action in any state but the given ones.
//
// +checklocks:c.mu
func (c *Container) requireState(action string, states ...lambent.ContainerState) error {
	for _, s := range states {
		if c.state == s {
			return nil
		}
	}
	return fmt.Errorf("%s container %s: it is %s, not %v", action, c.id, c.state, states)
}

// Boot is what to boot.
type Boot struct {
	Runtime     hostinfo.Installed
	EphemeralMB int // of its /tmp

	// Awaited says that a call waits for it. What the runtime would do beforehand to
	// take its code in sooner, a third of a Node's boot, it then leaves out.
	Awaited bool
}

// Boot makes a container in the instance with an installed runtime booted and
// waiting for its code.
func (i *Instance) Boot(ctx context.Context, b Boot) (_ *Container, err error) {
	h, rt := i.host, b.Runtime
	defer i.attend()()
	c := &Container{host: h, inst: i, id: lambent.ContainerID(newID("c-")), runtime: rt,
		exited: make(chan struct{}), closed: make(chan struct{})}

	var undo []func()
	defer func() {
		if err != nil {
			for k := len(undo) - 1; k >= 0; k-- {
				undo[k]()
			}
		}
	}()
	cleanup := context.WithoutCancel(ctx)

	spec := sandbox.ContainerSpec{ID: c.id, EphemeralMB: b.EphemeralMB}
	if rt.Image == "" {
		spec.Mounts = []sandbox.Mount{{Source: h.runtimeDir, Target: sandbox.RuntimeDir}}
	} else {
		root, _, drop, err := h.holdImage(ctx, "", rt.Image) // whoever gets it is asked when the function is loaded
		if err != nil {
			return nil, fmt.Errorf("boot %s on instance %s: %w", rt, i.id, err)
		}
		spec.Root, c.dropRoot = root.Dir, drop
		undo = append(undo, drop)
	}
	c.box, err = i.box.NewContainer(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("boot %s on instance %s: %w", rt, i.id, err)
	}
	undo = append(undo, func() { c.box.Destroy(cleanup) })
	if c.logs, err = newLogPipe(c.takeLine); err != nil {
		return nil, err
	}
	undo = append(undo, func() { c.logs.close() })
	conn, guest, err := h.poller.Pair()
	if err != nil {
		return nil, err
	}
	c.session = runtimeapi.NewSession(c.id, conn)
	c.session.Open()
	undo = append(undo, func() { c.session.Close() })

	cmd := bootCommand(b)
	cmd.Files = []*os.File{nil, c.logs.write, c.logs.write, guest}
	proc, err := c.box.Exec(ctx, cmd)
	guest.Close()
	c.logs.write.Close()
	if err != nil {
		return nil, fmt.Errorf("boot %s on instance %s: %w", rt, i.id, err)
	}
	h.watch.add(c)
	undo = append(undo, func() { h.watch.remove(c) })
	h.watchers.Go(func() { // ends with the process, which ends with the container
		exit, err := proc.Wait(context.Background())
		if err != nil {
			h.log.Debug("how a runtime ended is not known", "container", c.id, "error", err)
		}
		c.exit = exit
		close(c.exited)
		c.session.Exited()
	})
	if c.banner, err = c.session.Booted(ctx); err != nil {
		return nil, fmt.Errorf("boot %s on instance %s: it did not come up: %w%s", rt, i.id, err, c.lastWords())
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.doomed { // nobody would release what Destroy did not see
		return nil, fmt.Errorf("boot %s on instance %s: it was destroyed meanwhile", rt, i.id)
	}
	i.containers[c.id] = c
	return c, nil
}
