package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/internal/sandbox"
)

// Instance is one sandbox in its life, from warm and nobody's to gone. It is
// made by Host.Start and safe for use by several goroutines.
type Instance struct {
	host *Host
	id   lambent.InstanceID
	box  sandbox.Instance

	capacityMB int // what its containers may be allotted in all

	running atomic.Int32 // invocations, inits and boots
	begun   atomic.Int64 // of them, ever
	bounded atomic.Bool  // a beginning or an end may have to change the bound on the CPU

	mu sync.Mutex
	// +checklocks:mu
	state lambent.InstanceState
	// +checklocks:mu
	doomed bool // Destroy was called: no container may come any more
	// +checklocks:mu
	account lambent.AccountID
	// +checklocks:mu
	containers map[lambent.ContainerID]*Container
	// +checklocks:mu
	allotted map[lambent.ContainerID]int // MB, of those that have their function
	// +checklocks:mu
	held map[lambent.ContainerID]float64 // CPUs, of those held to their share
	// +checklocks:mu
	seen int64 // begun, when it was last looked at
	// +checklocks:mu
	quietSince time.Time // when it was first looked at with nothing begun since
	// +checklocks:mu
	quiet bool // nothing has run for quietAfter
	// +checklocks:mu
	memory memoryReading
	// +checklocks:mu
	cpu cpuReading
}

// cpuReading is what CPU time an instance had used when it was last looked at.
type cpuReading struct {
	at    time.Time
	spent time.Duration
	err   error
}

// memoryReading is what the containers of an instance used when they were last
// looked at.
type memoryReading struct {
	at      time.Time // when it began
	bytes   map[lambent.ContainerID]int64
	total   int64         // bytes all of it used then; less, where it used less since
	pending chan struct{} // closed when the reading under way has ended; nil where none is
}

// ID is the instance's identity.
func (i *Instance) ID() lambent.InstanceID { return i.id }

// Done is closed when the instance's sandbox has died or was destroyed.
func (i *Instance) Done() <-chan struct{} { return i.box.Done() }

// Snapshot is what the admin API shows of an instance.
type Snapshot struct {
	ID         lambent.InstanceID
	State      lambent.InstanceState
	Account    lambent.AccountID // empty while warm
	MemoryMB   int               // what its containers may be allotted in all
	FreeMB     int               // of it
	PID        int               // of its sandbox, on this machine
	Containers []ContainerSnapshot
}

// Snapshot copies the instance's state and that of its containers.
func (i *Instance) Snapshot() Snapshot {
	i.mu.Lock()
	s := Snapshot{ID: i.id, State: i.state, Account: i.account, MemoryMB: i.capacityMB, FreeMB: i.capacityMB - i.allottedMB(), PID: i.box.PID()}
	containers := make([]*Container, 0, len(i.containers))
	for _, c := range i.containers {
		containers = append(containers, c)
	}
	i.mu.Unlock()
	for _, c := range containers {
		s.Containers = append(s.Containers, c.Snapshot())
	}
	return s
}

// Assign gives a warm instance to an account, for the rest of its life; again,
// to the same account, is harmless. It fails in any other state: an instance is
// never handed from one account to another (P01-E7).
func (i *Instance) Assign(account lambent.AccountID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state == lambent.InstanceActive && i.account == account {
		return nil
	}
	if err := i.requireState("assign", lambent.InstanceWarm); err != nil {
		return err
	}
	if i.doomed { // and still warm: it goes from there
		return fmt.Errorf("assign instance %s: it is being destroyed", i.id)
	}
	i.account = account
	i.changeState(lambent.InstanceActive)
	return nil
}

// Destroy drains and releases the instance with all its containers. It waits
// until nothing is left; calling it again is harmless.
func (i *Instance) Destroy(ctx context.Context) error {
	i.mu.Lock()
	switch i.state {
	case lambent.InstanceGone:
		i.mu.Unlock()
		return nil
	case lambent.InstanceActive:
		i.changeState(lambent.InstanceDraining)
	}
	i.doomed = true
	containers := make([]*Container, 0, len(i.containers))
	for _, c := range i.containers {
		containers = append(containers, c)
	}
	i.mu.Unlock()

	err := i.box.Destroy(ctx)
	for _, c := range containers {
		err = errors.Join(err, c.close(ctx))
	}

	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state != lambent.InstanceGone {
		i.changeState(lambent.InstanceGone)
		i.host.forget(i)
	}
	if err != nil {
		return fmt.Errorf("destroy instance %s: %w", i.id, err)
	}
	return nil
}

// lost marks an instance whose sandbox died on its own. Destroy must still be
// called to release what is left.
func (i *Instance) lost() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.state.CanBecome(lambent.InstanceLost) {
		i.changeState(lambent.InstanceLost)
	}
}

// changeState is the only writer of state after construction.
//
// +checklocks:i.mu
func (i *Instance) changeState(to lambent.InstanceState) {
	if !i.state.CanBecome(to) {
		panic(fmt.Sprintf("instance %s cannot go from %s to %s", i.id, i.state, to))
	}
	from := i.state
	i.state = to
	i.host.observe(Transition{Instance: i.id, From: from.String(), To: to.String()})
}

// requireState refuses an action in any state but the given ones.
//
// +checklocks:i.mu
func (i *Instance) requireState(action string, states ...lambent.InstanceState) error {
	for _, s := range states {
		if i.state == s {
			return nil
		}
	}
	return fmt.Errorf("%s instance %s: it is %s, not %v", action, i.id, i.state, states)
}

// State is where the instance is in its life.
func (i *Instance) State() lambent.InstanceState {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

// +checklocks:i.mu
func (i *Instance) allottedMB() (sum int) {
	for _, mb := range i.allotted {
		sum += mb
	}
	return sum
}

// allot gives a container its share of the instance. The sum of all shares never
// exceeds the instance (P02-T6).
func (i *Instance) allot(c lambent.ContainerID, mb int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if free := i.capacityMB - i.allottedMB(); mb > free {
		return fmt.Errorf("instance %s has %d MB of %d left, not %d", i.id, free, i.capacityMB, mb)
	}
	i.allotted[c] = mb
	return i.rebound()
}

// leave takes back everything a container had.
func (i *Instance) leave(c lambent.ContainerID) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.containers, c)
	delete(i.allotted, c)
	delete(i.held, c)
	if i.state != lambent.InstanceActive || len(i.containers) == 0 {
		return
	}
	i.tell(i.rebound())
}

// hold bounds the CPU of a container that has run for long to its share; free
// lifts the bound when its execution has ended.
func (i *Instance) hold(c lambent.ContainerID, share float64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.held[c] = share
	return i.rebound()
}

func (i *Instance) free(c lambent.ContainerID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.held, c)
	return i.rebound()
}

// begin is called when an execution, an init or a boot begins, end when it ends:
// both may change what CPU the instance has.
func (i *Instance) begin() {
	i.begun.Add(1)
	i.running.Add(1)
	i.recount()
}

func (i *Instance) end() {
	i.running.Add(-1)
	i.recount()
}

// attend gives an instance its CPU for something short that is done in it other
// than an execution, until done is called; the watch takes the CPU back.
func (i *Instance) attend() (done func()) {
	i.begin()
	i.host.watch.called()
	return i.end
}

func (i *Instance) recount() {
	if !i.bounded.Load() {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.quiet = false
	i.tell(i.rebound())
}

// look leaves an instance on which nothing has run for a while next to no CPU:
// what a function leaves behind in its container does not run on at the
// machine's expense (AWS freezes an environment between invocations). It tells
// whether there is something to look at again.
func (i *Instance) look(now time.Time) (busy bool) {
	if i.running.Load() > 0 {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	begun := i.begun.Load()
	switch {
	case i.state != lambent.InstanceActive:
		return false
	case i.quiet:
		return false
	case begun != i.seen:
		i.seen, i.quietSince = begun, now
		return true
	case now.Sub(i.quietSince) < quietAfter:
		return true
	}
	i.quiet = true
	i.tell(i.rebound())
	return false
}

const (
	// quietAfter is how long nothing must have run before an instance is left
	// quietCPUs only: calls that follow each other never meet that bound, and one
	// that does pays some microseconds for lifting it.
	quietAfter = 100 * time.Millisecond
	quietCPUs  = 0.02
)

// rebound sets the walls around the sandbox, which knows of no containers. A
// function alone in it is walled in at its own memory; where several runtimes
// share it, the wall is the instance's memory, and each is looked at from inside.
// The CPU is bounded to the shares of those held while all that run are held,
// and to next to nothing while nothing runs.
//
// +checklocks:i.mu
func (i *Instance) rebound() error {
	limits := sandbox.Limits{MemoryMB: i.capacityMB}
	if len(i.containers) == 1 && len(i.allotted) == 1 {
		limits.MemoryMB = i.allottedMB()
	}
	// Said before running is read: whoever begins from here on comes to change
	// what is decided here.
	i.bounded.Store(true)
	switch running := int(i.running.Load()); {
	case running == 0 && i.quiet:
		limits.CPUs = quietCPUs
	case len(i.held) == 0:
		i.bounded.Store(false)
	case running <= len(i.held):
		for _, share := range i.held {
			limits.CPUs += share
		}
	}
	if most := i.host.opts.InstanceCPUs; most > 0 && most < float64(goruntime.NumCPU()) && (limits.CPUs == 0 || limits.CPUs > most) {
		limits.CPUs = most
	}
	return i.box.SetLimits(limits)
}

// tell logs a failed rebound, unless there is nothing left to bound.
func (i *Instance) tell(err error) {
	select {
	case <-i.box.Done():
	default:
		if err != nil {
			i.host.log.Warn("cannot bound an instance anew", "instance", i.id, "error", err)
		}
	}
}

// memoryOf is what a container uses, in bytes: as of a moment ago, or as it was
// last read while a new reading is on its way, which is waited for up to
// patience. ok is false where nothing is known.
func (i *Instance) memoryOf(c lambent.ContainerID, now time.Time, patience time.Duration) (bytes int64, ok bool) {
	i.mu.Lock()
	if len(i.containers) == 1 { // all that is used is its
		i.mu.Unlock()
		usage, err := i.box.Usage()
		return usage.MemoryBytes, err == nil
	}
	i.ask(now)
	pending := i.memory.pending
	i.mu.Unlock()
	if pending != nil && patience > 0 {
		select {
		case <-pending:
		case <-time.After(patience):
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	bytes, ok = i.memory.bytes[c]
	return bytes, ok
}

// spent is what CPU time the instance has used since it was made, as of this look
// of the watch, and how many executions run in it. ok is false where the machine
// does not tell.
func (i *Instance) spent(now time.Time) (used time.Duration, running int, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.cpu.at.Equal(now) { // its containers are looked at with one clock reading
		usage, err := i.box.Usage()
		i.cpu = cpuReading{at: now, spent: usage.CPUTime, err: err}
	}
	return i.cpu.spent, int(i.running.Load()), i.cpu.err == nil && i.cpu.spent > 0
}

// peek is what a container was last seen to use, in bytes, if that was not before
// since. It never waits, but has a new reading made where the container may by now
// use more than that: where all of them together, which costs less to read, use
// more than they did, or more than this one may, limitMB.
func (i *Instance) peek(c lambent.ContainerID, since, now time.Time, limitMB int) (bytes int64, ok bool) {
	usage, err := i.box.Usage()
	if err != nil {
		return 0, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.containers) == 1 { // all that is used is its
		return usage.MemoryBytes, true
	}
	bytes, ok = i.memory.bytes[c]
	if i.outgrown(usage) || usage.MemoryBytes > int64(limitMB)<<20 || !ok {
		i.ask(now)
	}
	return bytes, ok && !i.memory.at.Before(since)
}

// grown tells whether all containers together use more than when each was last
// looked at.
func (i *Instance) grown() bool {
	usage, err := i.box.Usage()
	if err != nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.outgrown(usage)
}

// outgrown is grown, for a usage just read. It remembers the least use since the
// last reading: what comes back after it was given back may be another's.
//
// +checklocks:i.mu
func (i *Instance) outgrown(usage sandbox.Usage) bool {
	i.memory.total = min(i.memory.total, usage.MemoryBytes)
	return usage.MemoryBytes-i.memory.total >= memoryStep
}

// ask starts a reading, if the last is not fresh and none is under way.
//
// +checklocks:i.mu
func (i *Instance) ask(now time.Time) {
	if m := &i.memory; m.pending == nil && now.Sub(m.at) >= memoryFresh && i.state == lambent.InstanceActive {
		m.pending = make(chan struct{})
		i.host.watchers.Go(i.readMemory)
	}
}

// readMemory asks the sandbox what each container uses.
func (i *Instance) readMemory() {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	began := i.host.now()
	usage, err := i.box.Usage()
	var bytes map[lambent.ContainerID]int64
	if err == nil {
		bytes, err = i.box.ContainerMemory(ctx)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	close(i.memory.pending)
	i.memory.pending, i.memory.at = nil, began
	if err == nil {
		i.memory.bytes, i.memory.total = bytes, usage.MemoryBytes
	} else if i.state == lambent.InstanceActive {
		i.host.log.Warn("cannot read what the containers of an instance use; the instance's own bound still holds", "instance", i.id, "error", err)
	}
}

const (
	// memoryFresh is how old a reading of all containers may be.
	memoryFresh = 20 * time.Millisecond
	// memoryStep is how much more memory in use (bytes) is worth a new reading: the
	// unit REPORT lines have.
	memoryStep = 1 << 20
	// answerTime is how long a sandbox may take to answer.
	answerTime = 2 * time.Second
)

// Probe asks every runtime that waits in the instance whether it is still there.
// An instance in which one is not is good for nothing (P01: sick ones are
// replaced).
func (i *Instance) Probe(ctx context.Context) error {
	i.mu.Lock()
	containers := slices.Collect(maps.Values(i.containers))
	i.mu.Unlock()
	for _, c := range containers {
		if err := c.Probe(ctx); err != nil {
			return fmt.Errorf("probe instance %s: %w", i.id, err)
		}
	}
	return nil
}

// Probe asks the runtime whether it is still there, if it waits for its code. It
// gets the CPU to answer, also where its siblings' functions are idle.
func (c *Container) Probe(ctx context.Context) error {
	defer c.inst.attend()()
	return c.session.Ping(ctx)
}

// Overfull names the containers that use more memory than their functions have:
// what grows while nothing runs is seen by nobody else.
func (i *Instance) Overfull(ctx context.Context) ([]lambent.ContainerID, error) {
	if !i.host.SharesInstances() {
		return nil, nil // the wall around the sandbox sees to that
	}
	bytes, err := i.box.ContainerMemory(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the memory of instance %s: %w", i.id, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	var over []lambent.ContainerID
	for id, mb := range i.allotted {
		if bytes[id] > int64(mb)<<20 {
			over = append(over, id)
		}
	}
	return over, nil
}
