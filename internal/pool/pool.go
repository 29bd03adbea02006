// Package pool is the worker manager: it owns which container serves which
// function. What to do is decided by package placement from the state behind one
// lock; this package carries the plans out, outside of it.
//
//	          Acquire
//	             │ placement.Decide
//	             ├─ Reuse ───────────────────────────────────► container_reuse
//	             ├─ Refuse ──────────────────────────────────► throttled
//	             ▼
//	wait in the key's line ◄──────── Release hands a container on
//	             │
//	             ├─ NewContainer ── a runtime on an instance of the account: one
//	             │                  that waits there, or booted there ─► new_container
//	             ├─ TakeWarm ────── a warm instance ─────────► warm_pool
//	             ├─ StartOnDemand ─ the first to be booted ──► on_demand
//	             └─ Queue ───────── until there is room
//	             ▼
//	load the code, hand to the first in line
//
// An instance is of one account for life, holds containers of that account up
// to its memory, and is destroyed when the last of them goes (P01-E7).
package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/hostinfo"
	"lambent/internal/placement"
)

// Options are what a Pool needs.
type Options struct {
	Host         *host.Host
	Runtimes     []hostinfo.Installed   // what can be booted, the newest of a family first
	Strict       bool                   // refuse a function whose very runtime is not installed, instead of the nearest
	Targets      map[lambent.Family]int // how many warm instances to keep ready, of the newest runtime, with AWS's default /tmp
	MaxInstances int                    // on this host, warm ones included
	MaxQueue     int                    // callers that may wait for a container, all functions together
	InstanceMB   int                    // what the containers of an instance may be allotted in all
	Spares       int                    // runtimes kept waiting on an instance beside those in use
	IdleTimeout  time.Duration          // a container unused for this long is stopped
	Turn         time.Duration          // on a full machine, how long a caller waits before callers of other functions make way, who came later, and an idle instance is left alone; 0: for as long as it takes, and not at all
	IdleMost     time.Duration          // the same for code that is used much; IdleTimeout where it is less
	InitTimeout  time.Duration          // AWS: 10 s
	BootTimeout  time.Duration          // of an instance and its runtime, before any code of users is involved
	MaxBoots     int                    // instances and runtimes that may be booting at once
	ProbeEvery   time.Duration          // how often warm instances are asked whether they are well; 0: never
	ProbeTimeout time.Duration          // how long they may take to answer
	Concurrency  Concurrency            // bounds simultaneous executions; nil: nothing does
	Log          *slog.Logger
}

// Pool is the worker manager of one host. Make it with New, start it with Run.
// Safe for use by several goroutines.
type Pool struct {
	opts   Options
	host   *host.Host
	shares bool // an instance may hold several containers
	log    *slog.Logger
	work   sync.WaitGroup     // everything that Run's end waits for
	ctx    context.Context    // of all work; ended by Close
	stop   context.CancelFunc // ends ctx
	wake   chan struct{}      // the keeper has something to do

	mu sync.Mutex
	// +checklocks:mu
	lines map[lambent.MatchKey]*line
	// +checklocks:mu
	dedications map[lambent.MatchKey]*dedication
	// +checklocks:mu
	usage usage
	// +checklocks:mu
	containers placement.Containers
	// +checklocks:mu
	workers map[lambent.ContainerID]*worker // of containers
	// +checklocks:mu
	supplies map[placement.Configuration]*supply
	// +checklocks:mu
	manySupplies int // so many are looked through for those of images that are gone
	// +checklocks:mu
	warm map[placement.Configuration][]placement.Warm
	// +checklocks:mu
	places map[lambent.InstanceID]*place // all that are not gone, the warm ones too
	// +checklocks:mu
	times map[placement.Configuration]*placement.Times
	// +checklocks:mu
	renewed map[string]time.Time // when roles were last made or removed
	// +checklocks:mu
	probed time.Time // when the warm instances were
	// +checklocks:mu
	yieldSince time.Time // since when refilling gives way to starts; zero: it does not
	// +checklocks:mu
	yieldUntil time.Time
	// +checklocks:mu
	instances int // booting, warm, active and being destroyed
	// +checklocks:mu
	destroying int
	// +checklocks:mu
	leaving int // abandoned places, until they are being destroyed
	// +checklocks:mu
	nextTurn time.Time // makeWay does not look before
	// +checklocks:mu
	booting int
	// +checklocks:mu
	starts int // containers being brought up, for whomever
	// +checklocks:mu
	called time.Time // when a caller last got a container
	// +checklocks:mu
	queued int // callers for whom nothing is starting
	// +checklocks:mu
	busy int // leases out
	// +checklocks:mu
	draining bool
	// +checklocks:mu
	idleChanged chan struct{} // closed when busy falls to 0
}

// line is the callers of one match key that wait, and what is done for them.
type line struct {
	key      lambent.MatchKey
	fn       *lambent.Function
	supply   *supply
	waiters  []*waiter // first come, first served
	starting int       // containers being brought up for this line
	workers  int       // containers that are not gone
	standing int       // of starting: not for a caller, see Stand
	patient  int       // of waiters: those who wait for a container in use, see bePatient
	stands   int       // calls of Stand that are not done
	retired  bool      // no longer the function's current key: nothing of it is kept
	use      use
	// dedication is what the line's containers are kept for; nil: for its callers.
	dedication *dedication
}

// unserved is how many of the line's callers nothing is starting for, and who do
// not wait for what is in use either.
func (l *line) unserved() int { return max(0, len(l.waiters)-l.starting-l.patient) }

// supply is the instances of one configuration that are on their way.
type supply struct {
	config   placement.Configuration
	runtime  hostinfo.Installed
	claims   []*claim
	booting  int
	failures int // boots failed in a row
	retryAt  time.Time
}

// worker is a container with its function.
type worker struct {
	container *host.Container
	line      *line
	place     *place
	since     time.Time // its code was loaded
	gone      bool      // being destroyed
	// until is when the credentials end that its function was given; zero: never.
	until time.Time
	// renewAt is when another is to be started in place of a dedicated one; zero:
	// never.
	renewAt time.Time
}

// stale reports whether a container is of no use for another call: the
// credentials of its function might end within it.
func (w *worker) stale(now time.Time) bool {
	return !w.until.IsZero() && now.Add(w.line.fn.Timeout()).After(w.until)
}

// waiter is a caller in a line. grant takes exactly one value unless the waiter
// leaves the line before.
type waiter struct {
	grant chan grant
	since time.Time
}

type grant struct {
	lease *Lease
	err   error
}

// claim is a start that waits for a runtime to be booted, with an instance or,
// where inside is set, in that one. A claim that its line needs no more is
// dropped before it gets anything: it then counts as a start no longer.
type claim struct {
	line    *line
	awaited bool // a call waits for it
	inside  *place
	dropped bool
	got     chan booted
}

// booted is what a claim gets: nothing when the boot failed. The place is the
// line's account's, and room is reserved on it.
type booted struct {
	place     *place
	container *host.Container
}

// Lease is a container handed to one caller for one execution. End it with
// Release or Discard, once.
type Lease struct {
	Container *host.Container
	Function  *lambent.Function // what it runs: what was asked for, or what stands in for it
	Kind      lambent.StartKind
	Reason    string
	Loaded    host.Loaded // of the start; zero when reused

	pool   *Pool
	w      *worker
	began  time.Time // when its caller got it
	charge charge
}

// New makes a pool; nothing happens until Run.
func New(opts Options) *Pool {
	ctx, stop := context.WithCancel(context.Background())
	return &Pool{opts: opts, host: opts.Host, shares: opts.Host.SharesInstances(), log: opts.Log, ctx: ctx, stop: stop, wake: make(chan struct{}, 1),
		lines: map[lambent.MatchKey]*line{}, dedications: map[lambent.MatchKey]*dedication{},
		usage:   usage{functions: map[functionName]int{}, unreserved: map[lambent.AccountID]int{}},
		workers: map[lambent.ContainerID]*worker{}, supplies: map[placement.Configuration]*supply{},
		warm: map[placement.Configuration][]placement.Warm{}, places: map[lambent.InstanceID]*place{}, times: map[placement.Configuration]*placement.Times{}, renewed: map[string]time.Time{}}
}

// Acquire gets a container for fn: an idle one, else the first to become idle or
// to finish starting. While there is none that is ready, those of the first of
// standIns that has some take its place, if it CanStandIn; see Stand. A start that
// failed by the function's fault is a *StartError, told to one caller; no capacity,
// or no concurrency left, is of kind KindThrottled, and one that this machine can
// never serve of KindInvalid; see ErrNoRoom. The wait ends early with ctx.
func (p *Pool) Acquire(ctx context.Context, fn *lambent.Function, standIns ...*lambent.Function) (*Lease, error) {
	if fn.MemoryMB > p.opts.InstanceMB { // P01-E3
		return nil, &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindInvalid, Message: TooLarge(fn.MemoryMB, p.opts.InstanceMB), Err: ErrNoRoom}
	}
	now := time.Now()
	q := p.quotasOf(fn)
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return nil, shuttingDown(fn)
	}
	q = p.used(q, fn)
	request := placement.Request{Function: q.function, Account: q.account}
	asked := fn
	fn = p.standIn(asked, standIns)
	l, err := p.lineOf(fn)
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	plan := p.plan(l, p.queued, now, request)
	for plan.Action == placement.Reuse && p.workers[plan.Container].stale(now) {
		p.containers.Busy(plan.Container)
		p.discard(p.workers[plan.Container])
		fn = p.standIn(asked, standIns)
		if l, err = p.lineOf(fn); err != nil { // the last of a line takes it along
			p.mu.Unlock()
			return nil, err
		}
		plan = p.plan(l, p.queued, now, request)
	}
	switch plan.Action {
	case placement.Reuse:
		w := p.workers[plan.Container]
		p.containers.Busy(plan.Container)
		p.leaseBegan(w.line, now)
		ch := p.letIn(fn, q, plan)
		p.forgetLine(l) // of which nothing was, where the container is a dedicated one
		p.mu.Unlock()
		return leaseFor(asked, fn, &Lease{Container: w.container, Kind: plan.Kind(), Reason: plan.Reason(), pool: p, w: w, began: now, charge: ch}), nil
	case placement.Refuse:
		p.forgetLine(l)
		p.mu.Unlock()
		if plan.NoRoom() {
			return nil, throttled(fn, plan.Throttle, noRoom(plan.Reason()))
		}
		return nil, throttled(fn, plan.Throttle, errors.New(plan.Reason()))
	}
	ch := p.letIn(fn, q, plan)
	wt := &waiter{grant: make(chan grant, 1), since: now}
	patient := p.waitsFirst(l, plan)
	p.change(l, func() { l.waiters = append(l.waiters, wt) })
	if patient {
		p.bePatient(l)
	} else {
		p.carryOut(plan, l)
	}
	p.awaitRest()
	p.mu.Unlock()

	select {
	case g := <-wt.grant:
		if g.err != nil {
			p.mu.Lock()
			p.letOut(ch)
			p.mu.Unlock()
			return nil, g.err
		}
		g.lease.charge = ch
		return leaseFor(asked, fn, g.lease), nil
	case <-ctx.Done():
		p.mu.Lock()
		left := p.removeWaiter(l, wt)
		if left {
			p.letOut(ch)
		}
		p.mu.Unlock()
		if !left { // it was granted at the same moment
			if g := <-wt.grant; g.err == nil {
				g.lease.charge = ch
				g.lease.Release()
			} else {
				p.mu.Lock()
				p.letOut(ch)
				p.mu.Unlock()
			}
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return nil, &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindThrottled,
				Reason: string(placement.ThrottleCapacity), Message: "Rate Exceeded.", Err: ErrLeft}
		}
		return nil, throttled(fn, placement.ThrottleCapacity, noRoom("no container became free in time"))
	}
}

// ErrLeft is why Acquire ends when its context is cancelled. To a door it is of
// kind KindThrottled like a wait that was too long, but it tells nothing of the
// machine.
var ErrLeft = errors.New("its caller left while it waited for a container")

// lineOf finds or makes the line of a function.
//
// +checklocks:p.mu
func (p *Pool) lineOf(fn *lambent.Function) (*line, error) {
	key := fn.Key()
	if l := p.lines[key]; l != nil {
		return l, nil
	}
	rt, err := p.runtimeOf(fn)
	if err != nil {
		return nil, err
	}
	l := &line{key: key, fn: fn, supply: p.supplyOf(rt, fn.EphemeralMB)}
	p.lines[key] = l
	return l, nil
}

// decide asks placement what to do for one more caller of a line, with so many
// others queued.
//
// +checklocks:p.mu
func (p *Pool) decide(l *line, queued int, now time.Time) placement.Plan {
	return p.plan(l, queued, now, placement.Request{})
}

// plan is decide for a request that asks for more than decide does.
//
// +checklocks:p.mu
func (p *Pool) plan(l *line, queued int, now time.Time, r placement.Request) placement.Plan {
	r.Key, r.Configuration, r.Starting, r.Waiting = l.key, l.supply.config, l.starting, len(l.waiters)
	return placement.Decide(p.snapshot(l, queued), r, now)
}

// snapshot is what placement decides from.
//
// +checklocks:p.mu
func (p *Pool) snapshot(l *line, queued int) placement.Snapshot {
	return placement.Snapshot{
		Containers: &p.containers, Warm: p.warm,
		Instances: p.instances + p.pending(), MaxInstances: p.opts.MaxInstances, Destroying: p.destroying,
		Queued: queued, MaxQueue: p.opts.MaxQueue, Times: *p.timesOf(l.supply.config), Grace: p.opts.Turn,
	}
}

// change alters a line's callers or starts and keeps the count of those that
// nothing is starting for.
//
// +checklocks:p.mu
func (p *Pool) change(l *line, alter func()) {
	before := l.unserved()
	alter()
	p.queued += l.unserved() - before
	p.forgetLine(l)
}

// TooLarge says that a function asks for more memory than an instance has.
func TooLarge(askedMB, instanceMB int) string {
	return fmt.Sprintf("MemorySize %d MB is more than an instance of this server has: %d MB (setting instance.memory)", askedMB, instanceMB)
}

// timesOf finds or makes what starts of a configuration took.
//
// +checklocks:p.mu
func (p *Pool) timesOf(config placement.Configuration) *placement.Times {
	t := p.times[config]
	if t == nil {
		t = &placement.Times{}
		p.times[config] = t
	}
	return t
}

// Release gives the container back for the next execution.
func (l *Lease) Release() {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letOut(l.charge)
	p.leaseEnded(l.w.line, time.Since(l.began))
	if l.w.gone {
		return
	}
	select {
	case <-l.Container.Done(): // it ended after its last answer; its watcher found it busy
		p.discard(l.w)
		p.serveQueued()
		return
	default:
	}
	now := time.Now()
	if l.w.stale(now) {
		p.discard(l.w)
		p.serveQueued()
		return
	}
	if d := l.w.line.dedication; d != nil && d.dispensable(l.w, time.Now()) ||
		l.w.line.retired && len(l.w.line.waiters) == 0 || l.w.place.closed || l.w.place.abandoned || p.draining {
		p.discard(l.w)
		return
	}
	if p.makeWay(l.w, now) {
		return
	}
	p.offer(l.w, lambent.StartReuse, "a container of this version became free while the call waited", host.Loaded{})
}

// Discard stops the container: it is of no more use.
func (l *Lease) Discard() {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.letOut(l.charge)
	p.leaseEnded(l.w.line, time.Since(l.began))
	p.discard(l.w)
}

// +checklocks:p.mu
func (p *Pool) leaseBegan(l *line, now time.Time) {
	p.busy++
	p.called = now
	l.use.began(now)
}

// +checklocks:p.mu
func (p *Pool) leaseEnded(l *line, held time.Duration) {
	p.busy--
	l.use.ended(time.Now(), held)
	if p.busy == 0 && p.idleChanged != nil {
		close(p.idleChanged)
		p.idleChanged = nil
	}
}

// offer hands a container that is ready to the first in line, or keeps it idle.
//
// +checklocks:p.mu
func (p *Pool) offer(w *worker, kind lambent.StartKind, reason string, loaded host.Loaded) {
	l := w.line
	if waiting := p.beside(l); waiting != nil {
		l, kind, reason = waiting, lambent.StartDedicated, "a container of the version's provisioned concurrency became free while the call waited"
	}
	if len(l.waiters) > 0 {
		now := time.Now()
		p.leaseBegan(w.line, now)
		p.grant(l, grant{lease: &Lease{Container: w.container, Kind: kind, Reason: reason, Loaded: loaded, pool: p, w: w, began: now}})
		return
	}
	p.containers.Idle(w.container.ID(), time.Now())
	if _, idle := p.containers.Len(); idle == 1 {
		p.poke() // the keeper may sleep without a next expiry
	}
	if p.queued > 0 && p.containers.Resting() {
		p.serveQueued() // others may have it stopped to make room
		p.awaitRest()
	}
}

// grant tells the first caller of a line.
//
// +checklocks:p.mu
func (p *Pool) grant(l *line, g grant) {
	wt := l.waiters[0]
	p.change(l, func() { l.waiters = l.waiters[1:] })
	wt.grant <- g
}

// +checklocks:p.mu
func (p *Pool) removeWaiter(l *line, wt *waiter) bool {
	for k, other := range l.waiters {
		if other == wt {
			p.change(l, func() { l.waiters = append(l.waiters[:k:k], l.waiters[k+1:]...) })
			return true
		}
	}
	return false
}

// forgetLine drops a line nothing is left of.
//
// +checklocks:p.mu
func (p *Pool) forgetLine(l *line) {
	if l.dedication == nil && l.workers == 0 && l.starting == 0 && len(l.waiters) == 0 && l.stands == 0 && p.lines[l.key] == l {
		delete(p.lines, l.key)
	}
}

// discard takes a container out of everything and ends it.
//
// +checklocks:p.mu
func (p *Pool) discard(w *worker) {
	if w.gone {
		return
	}
	p.forget(w)
	p.stopContainer(w.place, w.container, &w.line.key)
}

// forget takes a container out of everything.
//
// +checklocks:p.mu
func (p *Pool) forget(w *worker) {
	w.gone = true
	p.containers.Remove(w.container.ID())
	delete(p.workers, w.container.ID())
	w.line.workers--
	if w.line.dedication != nil {
		p.poke() // another is to be started
	}
	p.forgetLine(w.line)
}

// destroy releases the instance of a closed place in the background; its room is
// free only when nothing is left of it.
//
// +checklocks:p.mu
func (p *Pool) destroy(pl *place) {
	p.destroying++
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), destroyTimeout)
		defer cancel()
		if err := pl.inst.Destroy(ctx); err != nil {
			p.log.Error("an instance could not be released whole", "instance", pl.inst.ID(), "error", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.places, pl.inst.ID())
		p.destroying--
		p.instances--
		p.bootPending() // those for whom a boot is due come before those for whom nothing is
		p.serveQueued()
		p.poke()
	})
}

// destroyTimeout bounds the release of one instance.
const destroyTimeout = 30 * time.Second

// poke wakes the keeper.
func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
