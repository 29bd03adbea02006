package lambent

import "fmt"

// This file holds the three state machines of the platform. Each is an enum,
// a diagram and an edge table. Whoever owns an object of the kind moves it
// through two doors of its own, changeState and requireState, both of which ask
// these tables.

// InstanceState is where an instance is in its life.
//
//	Creating ──► Warm ──► Active ──► Draining ──► Gone
//	    │          │         │           │          ▲
//	    │          └─────────┼───────────┼──────────┤  (a warm one nobody needs)
//	    └──────────┴─────────┴───────────┴──► Lost ─┘  (died on its own)
type InstanceState uint8

// The states of an instance.
const (
	InstanceCreating InstanceState = iota // its sandbox is being started
	InstanceWarm                          // booted, waiting, of no account
	InstanceActive                        // of exactly one account
	InstanceDraining                      // takes no new containers
	InstanceGone                          // released: nothing of it is left
	InstanceLost                          // its sandbox died; what is left is being removed
)

var instanceEdges = [...][]InstanceState{
	InstanceCreating: {InstanceWarm, InstanceActive, InstanceGone, InstanceLost},
	InstanceWarm:     {InstanceActive, InstanceGone, InstanceLost},
	InstanceActive:   {InstanceDraining, InstanceLost},
	InstanceDraining: {InstanceGone, InstanceLost},
	InstanceGone:     {},
	InstanceLost:     {InstanceGone},
}

// CanBecome reports whether the edge s → to exists.
func (s InstanceState) CanBecome(to InstanceState) bool { return hasEdge(instanceEdges[:], s, to) }

func (s InstanceState) String() string {
	return stateName(s, "creating", "warm", "active", "draining", "gone", "lost")
}

// ContainerState is where a container is in its life.
//
//	Starting ──► Idle ◄──► Busy
//	    │        │ ▲ │       │
//	    │        ▼ │ │       │
//	    │      Frozen│       │
//	    └────────┴───┴───────┴──► Stopped
type ContainerState uint8

// The states of a container.
const (
	ContainerStarting ContainerState = iota // its runtime boots, or loads the code
	ContainerIdle                           // initialised, waiting for an event
	ContainerBusy                           // runs an execution
	ContainerFrozen                         // paused while idle
	ContainerStopped                        // its processes are gone
)

var containerEdges = [...][]ContainerState{
	ContainerStarting: {ContainerIdle, ContainerBusy, ContainerStopped},
	ContainerIdle:     {ContainerBusy, ContainerFrozen, ContainerStopped},
	ContainerBusy:     {ContainerIdle, ContainerStopped},
	ContainerFrozen:   {ContainerIdle, ContainerStopped},
	ContainerStopped:  {},
}

// CanBecome reports whether the edge s → to exists.
func (s ContainerState) CanBecome(to ContainerState) bool { return hasEdge(containerEdges[:], s, to) }

func (s ContainerState) String() string {
	return stateName(s, "starting", "idle", "busy", "frozen", "stopped")
}

// InvocationState is where an invocation is in its life. A settled one carries
// an Outcome.
//
//	Accepted ──► Queued ──► Running ──► Settled ──► Delivered
//	    │          ▲ │         │           ▲
//	    │          │ └─────────┼───────────┤   (gave up waiting)
//	    │          └───────────┘           │   (lost its container: tried again)
//	    └──────────► Running               │
//	    └──────────────────────────────────┘   (refused)
type InvocationState uint8

// The states of an invocation.
const (
	InvocationAccepted  InvocationState = iota // authenticated, its function found
	InvocationQueued                           // waits for a container
	InvocationRunning                          // its event was handed to a runtime
	InvocationSettled                          // has its Outcome
	InvocationDelivered                        // the caller, queue or store has the outcome
)

var invocationEdges = [...][]InvocationState{
	InvocationAccepted:  {InvocationQueued, InvocationRunning, InvocationSettled},
	InvocationQueued:    {InvocationRunning, InvocationSettled},
	InvocationRunning:   {InvocationSettled, InvocationQueued},
	InvocationSettled:   {InvocationDelivered},
	InvocationDelivered: {},
}

// CanBecome reports whether the edge s → to exists.
func (s InvocationState) CanBecome(to InvocationState) bool {
	return hasEdge(invocationEdges[:], s, to)
}

func (s InvocationState) String() string {
	return stateName(s, "accepted", "queued", "running", "settled", "delivered")
}

// Outcome is how an invocation was settled.
type Outcome uint8

// The outcomes of an invocation.
const (
	OutcomeSuccess       Outcome = iota // the function answered
	OutcomeFunctionError                // the function failed: thrown, exited, out of memory
	OutcomeThrottled                    // no capacity, or a limit
	OutcomeTimedOut                     // over the function's timeout
	OutcomeLost                         // the platform lost it; never silently
	OutcomeAbandoned                    // its caller left before a container was there; nothing ran
)

func (o Outcome) String() string {
	return stateName(o, "success", "function_error", "throttled", "timed_out", "lost", "abandoned")
}

func hasEdge[S ~uint8](edges [][]S, from, to S) bool {
	if int(from) >= len(edges) {
		return false
	}
	for _, s := range edges[from] {
		if s == to {
			return true
		}
	}
	return false
}

func stateName[S ~uint8](s S, names ...string) string {
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}
