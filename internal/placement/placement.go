// Package placement decides where an execution runs. It decides only: every
// function here is pure, takes the time as an argument and has no effect outside
// what it is given; package pool carries the decisions out.
//
// # The ladder
//
// Decide goes down the rungs of the allocation order (systems, §2.1) and takes
// the first that holds:
//
//	quota       the function's concurrency is in use up                    → Refuse
//	dedicated   a container kept ready for the version is idle             → Reuse
//	quota       the account's concurrency is in use up                     → Refuse
//	reuse       an idle container of this very match key                   → Reuse
//	expected    a container is starting for which no caller waits yet      → Queue
//	own         an instance of the account has room, and a runtime waits   → NewContainer
//	warm        a warm instance of the configuration                       → TakeWarm
//	            nothing is ready, something must be booted: what was
//	            measured to take less of the next two
//	own         an instance of the account has room                        → NewContainer
//	on demand   the machine may run one more instance                      → StartOnDemand
//	queue       the queue is not full                                      → Queue
//	            nothing                                                    → Refuse
//
// Each plan says in one sentence why it was this rung; Plan.Reason renders it
// only when asked.
//
// # Upkeep
//
// Refill says how many instances to boot for the warming pools, Expire which
// containers have been idle for too long.
package placement

import (
	"fmt"
	"strings"
	"time"

	"lambent"
)

// Configuration is what makes warm instances alike: the key of a warming pool.
// The memory of a function is no part of it, as an instance's limit is set when
// it is assigned.
type Configuration struct {
	Family      lambent.Family
	Version     string // of the language, as found on the machine; an image's digest; empty for provided
	EphemeralMB int    // size of /tmp, fixed when a container is made
}

// String is for reasons and logs: "nodejs 22.1.0", and the size of /tmp where
// it is not the smallest.
func (c Configuration) String() string {
	version := c.Version
	if c.Family == lambent.FamilyImage {
		version = version[:min(len(version), shortDigest)]
	}
	s := strings.TrimSpace(string(c.Family) + " " + version)
	if c.EphemeralMB > lambent.MinEphemeralMB {
		s += fmt.Sprintf(" (/tmp of %d MB)", c.EphemeralMB)
	}
	return s
}

// shortDigest is how much of an image's digest is shown, in characters.
const shortDigest = 12

// Warm is an instance with a runtime that waits for code, of no account.
type Warm struct {
	Instance  lambent.InstanceID
	Container lambent.ContainerID // the one in which the runtime waits
}

// Snapshot is what a decision is made from. It is a view, not a copy: whoever
// decides keeps everything behind it still meanwhile.
type Snapshot struct {
	// Containers are all that hold a function, idle and busy. nil is none.
	Containers *Containers
	// Warm are the warm instances by configuration, the longest waiting first.
	// Instances that died are not among them.
	Warm map[Configuration][]Warm
	// Instances counts all that take room on the machine: booting, warm, active
	// and being destroyed. MaxInstances bounds it.
	Instances, MaxInstances int
	// Destroying counts those of Instances that are being destroyed: room that
	// comes free by itself.
	Destroying int
	// Queued counts the callers, of all functions, for whom nothing is starting.
	// MaxQueue bounds it.
	Queued, MaxQueue int
	// Times are what starts of the request's configuration took lately.
	Times Times
	// Grace is for how long an instance that is idle is left to an account that has
	// no more of them than who asks: a caller who comes back at once finds it.
	Grace time.Duration
}

// Times are how long a start took lately from the decision until its container
// was ready, by what it began with; zero where none was measured.
type Times struct {
	Spare     time.Duration // a waiting runtime of the account's instance
	Warm      time.Duration // a warm instance
	Container time.Duration // a runtime booted on the account's instance
	Instance  time.Duration // an instance booted
}

// Quota is a bound on simultaneous executions. The zero value bounds nothing.
type Quota struct {
	InUse, Max int
	Bounded    bool
}

func (q Quota) used() bool { return q.Bounded && q.InUse >= q.Max }

// Request asks for a container for one execution.
type Request struct {
	Key           lambent.MatchKey // its Account and Size are the request's
	Configuration Configuration    // what serves its runtime
	// Starting counts the containers being brought up for Key, and Waiting the
	// callers who wait for one of Key, this one not counted.
	Starting, Waiting int
	// Fresh asks for a container that is not there yet, whatever is idle or on its
	// way; Within for one on an instance that holds containers kept ready, or none.
	Fresh, Within bool
	// Beside, of Stand, is the code whose containers the new one is wanted beside.
	Beside   lambent.CodeHash
	Function Quota // the function's reserved concurrency
	Account  Quota // what the account's functions without one share
}

// Action is what a plan wants done.
type Action uint8

// The actions, best first.
const (
	Reuse         Action = iota + 1 // run in Plan.Container, which is idle
	NewContainer                    // load the code into Plan.Container, a waiting runtime of Plan.Instance; boot one there where it is empty
	TakeWarm                        // assign Plan.Instance, load the code into its waiting runtime
	StartOnDemand                   // boot an instance, then as TakeWarm
	Queue                           // wait for a container of the key; stop Plan.Evict, if any, to make room
	Refuse                          // answer with Plan.Throttle
)

// String names the action for logs and tests.
func (a Action) String() string {
	names := [...]string{"undecided", "reuse", "new container", "take warm", "start on demand", "queue", "refuse"}
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Throttle is why a caller is refused, in the words of AWS's ThrottleReason.
type Throttle string

// The reasons to refuse that placement knows.
const (
	ThrottleFunction Throttle = "ReservedFunctionConcurrentInvocationLimitExceeded"
	ThrottleCapacity Throttle = "ConcurrentInvocationLimitExceeded"
)

// Plan is a decision. Fields its action has no use for are zero.
type Plan struct {
	Action    Action
	Instance  lambent.InstanceID  // of Reuse, NewContainer and TakeWarm
	Container lambent.ContainerID // of Reuse, NewContainer and TakeWarm
	Throttle  Throttle            // of Refuse
	// Evict is the instance to destroy to make room, of Queue: one whose containers
	// are all idle, or a warm one of another configuration.
	Evict lambent.InstanceID

	why why
}

// Decide finds where a request runs. It changes nothing.
func Decide(s Snapshot, req Request, now time.Time) Plan {
	if req.Function.used() {
		return Plan{Action: Refuse, Throttle: ThrottleFunction, why: why{because: functionQuota, max: req.Function.Max}}
	}
	if c, ok := s.Containers.newestDedicated(req.Key); ok && !req.Fresh {
		return Plan{Action: Reuse, Instance: c.instance, Container: c.id, why: why{because: dedicatedAtHand, age: max(0, now.Sub(c.lastUsed))}}
	}
	if req.Account.used() {
		return Plan{Action: Refuse, Throttle: ThrottleCapacity, why: why{because: accountQuota, max: req.Account.Max}}
	}
	if c, ok := s.Containers.newestIdle(req.Key); ok && !req.Fresh {
		return Plan{Action: Reuse, Instance: c.instance, Container: c.id, why: why{because: idleAtHand, age: max(0, now.Sub(c.lastUsed))}}
	}
	if req.Starting > req.Waiting && !req.Fresh {
		return Plan{Action: Queue, why: why{because: startExpected, count: req.Starting}}
	}
	own, waiting, cached := s.Containers.bestRoom(req)
	warm := s.Warm[req.Configuration]
	w := why{configuration: req.Configuration, count: s.Instances, max: s.MaxInstances, times: s.Times}
	if own != nil {
		w.instance, w.cached = own.instance, cached
	}
	switch {
	case waiting != "":
		w.because = spareAtHand
		return Plan{Action: NewContainer, Instance: own.instance, Container: waiting, why: w}
	case req.Within && own == nil:
		w.because = noneWithin
		return Plan{Action: Refuse, Throttle: ThrottleCapacity, why: w}
	case req.Within:
		w.because = roomAtHand
		return Plan{Action: NewContainer, Instance: own.instance, why: w}
	case len(warm) > 0:
		w.because, w.own = warmAtHand, own != nil
		w.instance, w.count = warm[0].Instance, len(warm)-1
		return Plan{Action: TakeWarm, Instance: warm[0].Instance, Container: warm[0].Container, why: w}
	case own != nil && (s.Instances >= s.MaxInstances || s.Times.Instance == 0 || s.Times.Container <= s.Times.Instance):
		w.because = roomAtHand
		return Plan{Action: NewContainer, Instance: own.instance, why: w}
	case s.Instances < s.MaxInstances:
		w.because, w.own = nothingReady, own != nil
		return Plan{Action: StartOnDemand, why: w}
	case s.Queued >= s.MaxQueue:
		w.because, w.queue = queueFull, s.MaxQueue
		return Plan{Action: Refuse, Throttle: ThrottleCapacity, why: w}
	}
	w.because = machineFull
	p := Plan{Action: Queue, why: w}
	if s.Destroying <= s.Queued { // else room comes free for this caller without an eviction
		p.evict(s, req.Key.Account, now)
	}
	return p
}

// Stand finds where a container goes for which no caller waits: beside those of
// other code, on their instance, where that has room, even if a runtime has to be
// booted there. Otherwise as Decide, but for nobody's sake is anything ended, and
// nobody is kept waiting: Refuse says that there is no room. It changes nothing.
func Stand(s Snapshot, req Request) Plan {
	own, waiting, cached := s.Containers.bestRoom(req)
	warm := s.Warm[req.Configuration]
	w := why{configuration: req.Configuration, count: s.Instances, max: s.MaxInstances, times: s.Times}
	if own != nil {
		w.instance, w.cached = own.instance, cached
	}
	beside := own != nil && own.codes[req.Beside] > 0
	switch {
	case waiting != "":
		w.because = spareAtHand
		return Plan{Action: NewContainer, Instance: own.instance, Container: waiting, why: w}
	case beside:
		w.because = roomAtHand
		return Plan{Action: NewContainer, Instance: own.instance, why: w}
	case len(warm) > 0:
		w.because, w.own = warmAtHand, own != nil
		w.instance, w.count = warm[0].Instance, len(warm)-1
		return Plan{Action: TakeWarm, Instance: warm[0].Instance, Container: warm[0].Container, why: w}
	case own != nil:
		w.because = roomAtHand
		return Plan{Action: NewContainer, Instance: own.instance, why: w}
	case s.Instances < s.MaxInstances:
		w.because = nothingReady
		return Plan{Action: StartOnDemand, why: w}
	}
	w.because = noRoom
	return Plan{Action: Refuse, Throttle: ThrottleCapacity, why: w}
}

// evict finds what to destroy for a caller who else would wait for an execution
// to end: the assigned instance on which nothing has run for longest, else a
// warm instance, from the configuration with the most of them.
func (p *Plan) evict(s Snapshot, account lambent.AccountID, now time.Time) {
	if r := s.Containers.longestIdle(account, now.Add(-s.Grace)); r != nil {
		p.Evict = r.instance
		p.why.because, p.why.instance, p.why.age = evictIdle, r.instance, max(0, now.Sub(r.since))
		return
	}
	var most Configuration
	for c, warm := range s.Warm {
		if n := len(warm) - len(s.Warm[most]); n > 0 || n == 0 && less(c, most) {
			most = c
		}
	}
	if warm := s.Warm[most]; len(warm) > 0 {
		p.Evict = warm[0].Instance
		p.why.because, p.why.instance, p.why.other = evictWarm, warm[0].Instance, most
	}
}

// less makes the choice among equals not depend on a map's order.
func less(a, b Configuration) bool {
	if a.Family != b.Family {
		return a.Family < b.Family
	}
	if a.Version != b.Version {
		return a.Version < b.Version
	}
	return a.EphemeralMB < b.EphemeralMB
}
