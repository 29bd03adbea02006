package gvisor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/pkg/sentry/seccheck"
	"gvisor.dev/gvisor/pkg/urpc"
	"gvisor.dev/gvisor/runsc/boot"

	"lambent"
	"lambent/internal/cgroup"
	"lambent/internal/sandbox/gvisor/handover"
)

// memoryTimeout bounds the wait for a sandbox to say what its containers use,
// whatever the caller's context allows. It takes a fraction of a millisecond, and
// cpuPatience more where its CPU bound keeps it from answering.
const memoryTimeout = 2 * time.Second

// meter asks a sandbox's ledger. Its connection is made when the sandbox is, and
// stays: nothing that runs there later can keep it from being made. There is
// one question at a time, and it is asked to its end, whoever has waited: a
// sandbox that is stuck holds one goroutine, until it is killed.
type meter struct {
	conn *urpc.Client
	turn chan struct{} // holds one: taken by the question under way
}

// openMeter creates the ledger in a sandbox that has not started yet.
func openMeter(socket string) (*meter, error) {
	conn, err := client.ConnectTo(socket)
	if err != nil {
		return nil, fmt.Errorf("connect to sandbox: %w", err)
	}
	args := boot.CreateTraceSessionArgs{Config: handover.LedgerSession()}
	if err := conn.Call(boot.ContMgrCreateTraceSession, &args, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("create ledger in sandbox: %w", err), conn.Close())
	}
	return &meter{conn: conn, turn: make(chan struct{}, 1)}, nil
}

// close ends the meter of a sandbox that is dead, when nobody asks any more.
func (m *meter) close() error { return m.conn.Close() }

// ask gives the memory of all containers with a running process, the instance's
// own root among them.
func (m *meter) ask() (map[string]int64, error) {
	var sessions []seccheck.SessionConfig
	if err := m.conn.Call(boot.ContMgrListTraceSessions, nil, &sessions); err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	if len(sessions) != 1 || len(sessions[0].Sinks) != 1 {
		return nil, errors.New("the sandbox has no ledger")
	}
	return handover.ParseLedger(sessions[0].Sinks[0].Name)
}

// errMute is a sandbox that does not answer.
var errMute = errors.New("the sandbox does not answer")

// cpuPatience is how long a sandbox may take to answer before its CPU bound is
// lifted. The bound holds gVisor's kernel with the code inside: with forty
// processes that compute on a tenth of a CPU it would not come to its turn in
// seconds. Without a bound it answers in a millisecond, and code wins no more
// than that.
const cpuPatience = 100 * time.Millisecond

// cpuBound is an instance's bound of CPU time, which can be lifted for a moment.
type cpuBound struct {
	mu sync.Mutex
	// +checklocks:mu
	cpus float64 // 0: none
	// +checklocks:mu
	lifted bool
}

// set changes the bound; while it is lifted, from its return on.
func (b *cpuBound) set(g *cgroup.Group, cpus float64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cpus = cpus
	if b.lifted {
		return nil
	}
	return g.SetCPU(cpus)
}

// lift lifts the bound, or puts it back.
func (b *cpuBound) lift(g *cgroup.Group, lifted bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lifted = lifted
	if lifted {
		return g.SetCPU(0)
	}
	return g.SetCPU(b.cpus)
}

// readMemory asks until there is an answer or the bound is reached.
func (i *instance) readMemory(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, memoryTimeout, errMute)
	defer cancel()
	for {
		memory, err := i.readMemoryOnce(ctx)
		if !errors.Is(err, handover.ErrEarly) {
			return memory, err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(err, context.Cause(ctx))
		}
	}
}

// readMemoryOnce asks one question, and waits for the answer until ctx ends.
func (i *instance) readMemoryOnce(ctx context.Context) (map[string]int64, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case i.meter.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := i.enter(); err != nil { // destroying waits for the question
		<-i.meter.turn
		return nil, err
	}
	type answer struct {
		memory map[string]int64
		err    error
	}
	got := make(chan answer, 1)
	go func() {
		defer i.work.Done()
		memory, err := i.meter.ask()
		<-i.meter.turn
		got <- answer{memory, err}
	}()
	patience := time.NewTimer(cpuPatience)
	defer patience.Stop()
	for {
		select {
		case a := <-got:
			return a.memory, a.err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-patience.C: // once, at most
			if err := i.cpu.lift(i.group, true); err != nil {
				return nil, err
			}
			defer func() {
				if err := i.cpu.lift(i.group, false); err != nil { // gone with the instance
					i.driver.log.Debug("bound the instance's CPU time again", "instance", i.id, "err", err)
				}
			}()
		}
	}
}

// ContainerMemory implements sandbox.Instance.
func (i *instance) ContainerMemory(ctx context.Context) (map[lambent.ContainerID]int64, error) {
	fail := func(err error) error {
		return &lambent.Error{Op: "read memory of containers of instance", Resource: string(i.id), Kind: lambent.KindUnavailable, Err: err}
	}
	before := i.runningContainers()
	memory, err := i.readMemory(ctx)
	if err != nil {
		return nil, fail(err)
	}
	after := i.runningContainers()
	told := make(map[lambent.ContainerID]int64, len(after))
	for id, g := range after {
		n, ok := memory[string(id)]
		switch {
		case ok:
			told[id] = n
		case before[id] == g: // it ran all the while
			return nil, fail(fmt.Errorf("the sandbox does not tell of container %s", id))
		}
	}
	return told, nil
}

// runningContainers are those that were started and are not being destroyed.
func (i *instance) runningContainers() map[lambent.ContainerID]*guest {
	i.mu.Lock()
	defer i.mu.Unlock()
	running := make(map[lambent.ContainerID]*guest, len(i.containers))
	for id, g := range i.containers {
		if g.isRunning() {
			running[id] = g
		}
	}
	return running
}

// isRunning reports whether the container was started and is not being
// destroyed.
func (g *guest) isRunning() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.started && !g.doomed
}
