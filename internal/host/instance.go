package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"lambent"
	"lambent/internal/sandbox"
)

// Instance is one sandbox in its life, from warm and nobody's to gone. It is
// made by Host.Start and safe for use by several goroutines.
type Instance struct {
	host *Host
	id   lambent.InstanceID
	box  sandbox.Instance

	mu sync.Mutex
	// +checklocks:mu
	state lambent.InstanceState
	// +checklocks:mu
	account lambent.AccountID
	// +checklocks:mu
	memoryMB int
	// +checklocks:mu
	containers map[lambent.ContainerID]*Container
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
	MemoryMB   int               // its bound
	PID        int               // of its sandbox, on this machine
	Containers []ContainerSnapshot
}

// Snapshot copies the instance's state and that of its containers.
func (i *Instance) Snapshot() Snapshot {
	i.mu.Lock()
	s := Snapshot{ID: i.id, State: i.state, Account: i.account, MemoryMB: i.memoryMB, PID: i.box.PID()}
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

// Assign gives a warm instance to an account, for the rest of its life. It fails
// when the instance is not warm: an instance is never handed from one account to
// another (P01-E7).
func (i *Instance) Assign(account lambent.AccountID) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.requireState("assign", lambent.InstanceWarm); err != nil {
		return err
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

// resize bounds the instance's memory to that of its function.
func (i *Instance) resize(memoryMB int) error {
	if err := i.box.SetLimits(sandbox.Limits{MemoryMB: memoryMB}); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.memoryMB = memoryMB
	return nil
}
