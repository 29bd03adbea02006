package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/placement"
	"lambent/internal/runtimeapi"
)

// start is one container on its way to a line.
type start struct {
	line   *line
	kind   lambent.StartKind
	reason string
	began  time.Time
	took   func(*placement.Times) *time.Duration // where its time is remembered
	stood  chan<- error                          // is told how it ended; nil where it is for a caller
}

// carryOut begins what a plan wants for a line in which a caller waits.
//
// +checklocks:p.mu
func (p *Pool) carryOut(plan placement.Plan, l *line) { p.begin(plan, l, nil) }

// begin is carryOut, or, where stood is given, for nobody who waits.
//
// +checklocks:p.mu
func (p *Pool) begin(plan placement.Plan, l *line, stood chan<- error) {
	st := &start{line: l, kind: plan.Kind(), reason: plan.Reason(), began: time.Now(), stood: stood}
	var pl *place
	var c *host.Container
	var wait *claim
	switch plan.Action {
	case placement.NewContainer:
		pl = p.places[plan.Instance]
		p.containers.Reserve(plan.Instance, l.key)
		if plan.Container != "" {
			c = p.take(pl, plan.Container)
			p.yield(st.began, yieldLoad)
			st.took = func(t *placement.Times) *time.Duration { return &t.Spare }
		} else {
			wait = p.claimInside(l, pl)
			st.took = func(t *placement.Times) *time.Duration { return &t.Container }
		}
	case placement.TakeWarm:
		pl = p.takeWarm(l.supply.config)
		c = p.give(pl, l)
		p.yield(st.began, yieldLoad)
		st.took = func(t *placement.Times) *time.Duration { return &t.Warm }
		p.poke() // refill
	case placement.StartOnDemand:
		wait = p.claim(l)
		st.took = func(t *placement.Times) *time.Duration { return &t.Instance }
	case placement.Queue:
		if plan.Evict != "" {
			p.close(p.places[plan.Evict])
		}
		return
	default:
		return
	}
	p.change(l, func() {
		l.starting++
		if stood != nil {
			l.standing++
		}
	})
	p.starts++
	p.work.Go(func() {
		if wait != nil {
			got, err := p.await(wait)
			if err != nil {
				p.startFailed(st, err)
				return
			}
			pl, c = got.place, got.container
		}
		p.bringUp(st, pl, c)
	})
	p.bootPending()
}

// give assigns a place to a line's account, reserves its room there, and takes
// the runtime that has waited longest.
//
// +checklocks:p.mu
func (p *Pool) give(pl *place, l *line) *host.Container {
	p.assign(pl, l)
	p.containers.Reserve(pl.inst.ID(), l.key)
	return p.take(pl, pl.waiting[0].container.ID())
}

// serveQueued decides anew for callers whom nothing is starting for, those who
// have waited longest first.
//
// +checklocks:p.mu
func (p *Pool) serveQueued() {
	for _, l := range p.queue() {
		for p.queued > 0 && l.unserved() > 0 && !p.draining {
			plan := p.decide(l, p.queued-1, time.Now())
			if plan.Action == placement.Reuse { // it became idle while nobody was told
				break
			}
			p.carryOut(plan, l)
			if plan.Action == placement.Queue || plan.Action == placement.Refuse {
				break // no room for this line; another may have some on its account's instances
			}
		}
	}
}

// claim has an instance booted, of which the first to be ready is the claim's.
//
// +checklocks:p.mu
func (p *Pool) claim(l *line) *claim {
	c := &claim{line: l, awaited: len(l.waiters) > 0, got: make(chan booted, 1)}
	l.supply.claims = append(l.supply.claims, c)
	return c
}

// claimInside has a runtime booted in a place, of which the first to be ready is
// the claim's. Its room is reserved.
//
// +checklocks:p.mu
func (p *Pool) claimInside(l *line, pl *place) *claim {
	c := &claim{line: l, awaited: len(l.waiters) > 0, inside: pl, got: make(chan booted, 1)}
	pl.claims = append(pl.claims, c)
	return c
}

// bootPending begins boots for claims, and for spares when no claim waits, as
// many as may run at once: all at once would take the machine from those that
// run, and each other past their limit. What a line needs no more, because
// containers became free meanwhile, is not begun.
//
// +checklocks:p.mu
func (p *Pool) bootPending() {
	for _, pl := range p.places {
		for len(pl.claims) > 0 && p.booting < p.opts.MaxBoots {
			k := slices.IndexFunc(pl.claims, func(c *claim) bool { return pl.claimed(c.line.supply.config) > pl.boots[c.line.supply.config] })
			if k < 0 {
				break
			}
			c := pl.claims[k]
			if p.dropUnneeded(c) {
				pl.removeClaim(k)
				p.containers.Vacate(pl.inst.ID(), c.line.key)
				p.closeEmpty(pl)
				continue
			}
			p.bootInside(pl, c.line.supply)
		}
	}
	for _, s := range p.supplies {
		for len(s.claims) > s.booting && p.booting < p.opts.MaxBoots && p.instances < p.opts.MaxInstances {
			if last := len(s.claims) - 1; p.dropUnneeded(s.claims[last]) {
				s.claims = s.claims[:last]
				continue
			}
			p.boot(s)
		}
	}
	if p.pending() > 0 || time.Now().Before(p.yieldUntil) {
		return
	}
	for _, assigned := range []bool{true, false} { // an account that has calls needs its spare sooner
		for _, pl := range p.places {
			for pl.assigned == assigned && p.booting < p.sideBoots() && p.lacks(pl) {
				p.bootInside(pl, pl.supply)
			}
		}
	}
}

// dropUnneeded drops a claim that its line needs no more.
//
// +checklocks:p.mu
func (p *Pool) dropUnneeded(c *claim) bool {
	if c.line.starting <= c.line.needs() {
		return false
	}
	p.change(c.line, func() { c.line.starting-- })
	c.dropped = true
	c.got <- booted{}
	return true
}

// pending is how many claims on instances no boot was begun for.
//
// +checklocks:p.mu
func (p *Pool) pending() (n int) {
	for _, s := range p.supplies {
		n += max(0, len(s.claims)-s.booting)
	}
	return n
}

// full reports whether no instance may be booted, even once those that are being
// destroyed are gone.
//
// +checklocks:p.mu
func (p *Pool) full() bool {
	return p.instances-p.destroying+p.pending() >= p.opts.MaxInstances
}

// await waits for a claim. A boot that failed is tried again, with an instance
// of its own: nothing of the function's has happened yet.
func (p *Pool) await(c *claim) (booted, error) {
	for try := 1; ; try++ {
		got, err := p.awaitBoot(c)
		if err != errNoInstance || try == maxTries {
			return got, err
		}
		p.mu.Lock()
		if c.inside != nil {
			p.containers.Vacate(c.inside.inst.ID(), c.line.key)
			p.closeEmpty(c.inside)
		}
		if p.draining {
			p.mu.Unlock()
			return booted{}, err
		}
		if p.full() { // somebody else has taken the room; the caller queues
			p.change(c.line, func() { c.line.starting-- })
			p.mu.Unlock()
			return booted{}, errUnneeded
		}
		c = p.claim(c.line)
		p.bootPending()
		p.mu.Unlock()
	}
}

// closeEmpty ends an assigned place nothing is on and nobody waits for.
//
// +checklocks:p.mu
func (p *Pool) closeEmpty(pl *place) {
	if pl.assigned && !pl.closed && p.placed(pl) == 0 && len(pl.claims) == 0 {
		p.close(pl)
	}
}

// awaitBoot waits for the boot a claim gets.
func (p *Pool) awaitBoot(c *claim) (booted, error) {
	select {
	case got := <-c.got:
		switch {
		case c.dropped:
			return booted{}, errUnneeded
		case got.place == nil:
			return booted{}, errNoInstance
		}
		return got, nil
	case <-p.ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if c.dropped {
			return booted{}, errUnneeded
		}
		// So that nobody drops it, or hands it anything, from here on. What it was
		// handed at the same moment is destroyed with all the rest.
		mine := func(other *claim) bool { return other == c }
		c.line.supply.claims = slices.DeleteFunc(c.line.supply.claims, mine)
		if c.inside != nil {
			c.inside.claims = slices.DeleteFunc(c.inside.claims, mine)
		}
		return booted{}, p.ctx.Err()
	}
}

// maxTries is how many instances are tried for one start when they die before
// the code has a part in it.
const maxTries = 3

// bringUp turns a runtime that waits into a container of the line and offers it.
// Where the platform failed, not the function, another instance is tried.
func (p *Pool) bringUp(st *start, pl *place, c *host.Container) {
	ctx, limit := p.ctx, p.opts.InitTimeout
	if st.line.key.Dedicated {
		ctx, limit = p.dedicatedStart(st.line), max(limit, provisionedInit, st.line.fn.Timeout())
	}
	for try := 1; ; try++ {
		loaded, err := p.load(ctx, st.line, c, limit)
		if err != nil && ctx.Err() != nil && p.ctx.Err() == nil {
			p.startUnwanted(st, pl, c)
			return
		}
		if err == nil {
			p.started(st, pl, c, loaded, try == 1)
			return
		}
		c.MaxMemoryUsed() // remember it: the start may be reported
		fault := isFunctionsFault(err)
		_, noCode := errors.AsType[*host.CodeError](err)
		again := (!fault || wasKilled(err)) && !noCode && try < maxTries
		if timeout, ok := errors.AsType[*host.TimeoutError](err); ok && timeout.Phase == "init" && limit == p.opts.InitTimeout && try == 1 && p.awaited(st) {
			// AWS: an init phase over its limit is run once more within the first
			// invocation, under the function's own timeout. Where there is none, that is
			// left to the first.
			limit, again = st.line.fn.Timeout(), true
		}
		got, how, dropped := p.replace(st.line, pl, c, again)
		if got.place == nil {
			if dropped != nil {
				err = dropped
			} else if fault {
				err = &StartError{Err: err, Function: st.line.fn, Container: c, Kind: st.kind, Reason: st.reason, Took: loaded.Init}
			}
			p.startFailed(st, err)
			return
		}
		p.log.Warn("a container failed while it was given its function; trying another", "function", st.line.fn.Name, "container", c.ID(), "error", err)
		st.reason = "container " + string(c.ID()) + " failed while it was given its function; " + how
		if st.kind != lambent.StartOnDemand {
			st.kind = lambent.StartWarm
		}
		pl, c = got.place, got.container
	}
}

// awaited tells whether a start is for a caller.
func (p *Pool) awaited(st *start) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return st.stood == nil || len(st.line.waiters) > 0
}

// replace ends a container that failed and, if again, gets another on another
// instance; nothing when there is none to be had.
func (p *Pool) replace(l *line, pl *place, failed *host.Container, again bool) (got booted, how string, err error) {
	p.mu.Lock()
	p.stopContainer(pl, failed, &l.key)
	switch {
	case !again || p.draining:
		p.mu.Unlock()
		return booted{}, "", nil
	case len(p.warm[l.supply.config]) > 0:
		defer p.mu.Unlock()
		pl := p.takeWarm(l.supply.config)
		p.poke()
		return booted{place: pl, container: p.give(pl, l)}, "took a warm instance", nil
	case p.full():
		p.mu.Unlock()
		return booted{}, "", nil
	}
	claim := p.claim(l)
	p.bootPending()
	p.mu.Unlock()
	switch got, err = p.await(claim); err {
	case nil:
		return got, "booted an instance", nil
	case errUnneeded:
		return booted{}, "", err
	}
	return booted{}, "", nil // what failed first is what is told
}

// errUnneeded is a claim that was dropped: there is nobody to be told.
var errUnneeded = errors.New("no longer needed")

// errUnwanted is a container that came up when nobody wanted it any more.
var errUnwanted = errors.New("it is not wanted any more")

// errNoInstance is a boot that failed.
var errNoInstance = errors.New("no instance could be booted; the server's log says why")

// StartError is a start that failed by the function's own fault: Err is one of
// those host.Container.Load tells of.
type StartError struct {
	Err       error
	Function  *lambent.Function // what was started
	Container *host.Container   // stopped or being stopped; its log can still be written
	Kind      lambent.StartKind
	Reason    string
	Took      time.Duration // of the init phase
}

// Error tells which container failed and why.
func (e *StartError) Error() string {
	return fmt.Sprintf("start container %s: %v", e.Container.ID(), e.Err)
}

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.Err }

// load assigns the instance to the function's account and loads the code.
func (p *Pool) load(ctx context.Context, l *line, c *host.Container, limit time.Duration) (host.Loaded, error) {
	if err := c.Instance().Assign(l.fn.Account); err != nil {
		return host.Loaded{}, err
	}
	as := host.OnDemand
	if l.key.Dedicated {
		as = host.Provisioned
	}
	return c.Load(ctx, l.fn, limit, as)
}

// isFunctionsFault tells the function's own failures, which another instance
// would only repeat, from the platform's.
func isFunctionsFault(err error) bool {
	var (
		initErr *runtimeapi.InitError
		exit    *host.ExitError
		timeout *host.TimeoutError
		broke   *runtimeapi.ProtocolError
	)
	return errors.As(err, &initErr) || errors.As(err, &exit) || errors.As(err, &timeout) || errors.As(err, &broke)
}

// wasKilled tells a runtime that somebody else ended, not for its memory: from
// inside it looks the same as one that ended itself so, and another try tells
// them apart.
func wasKilled(err error) bool {
	exit, ok := errors.AsType[*host.ExitError](err)
	return ok && !exit.OutOfMemory && exit.Signal == syscall.SIGKILL
}

func (p *Pool) started(st *start, pl *place, c *host.Container, loaded host.Loaded, asPlanned bool) {
	l := st.line
	w := &worker{container: c, line: l, place: pl, since: time.Now(), until: c.CredentialsEnd()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starts--
	if !st.began.After(p.renewed[l.fn.Role]) { // its credentials may be older
		w.until = time.Unix(0, 0)
	}
	if asPlanned {
		remember(st.took(p.timesOf(l.supply.config)), time.Since(st.began))
	}
	p.workers[c.ID()] = w
	p.containers.Add(l.key, pl.inst.ID(), c.ID())
	l.workers++
	p.change(l, func() { l.starting-- })
	if d := l.dedication; d != nil {
		w.renewAt = renewal(time.Now(), w.until, l.fn.Timeout())
		d.failures, d.failure = 0, ""
	}
	p.watch(w)
	if pl.closed || (l.retired || pl.abandoned || p.draining) && len(l.waiters) == 0 {
		st.ended(errUnwanted)
		p.discard(w)
		p.serveQueued() // who waited for it, where its instance has gone meanwhile
		return
	}
	st.ended(nil)
	p.offer(w, st.kind, st.reason, loaded)
	p.yield(time.Now(), yieldCall)
	p.poke() // its place may lack a spare now
}

// remember lets a time count for a quarter of what was measured before.
func remember(t *time.Duration, took time.Duration) {
	if *t == 0 {
		*t = took
		return
	}
	*t += (took - *t) / 4
}

// ended tells who had a container stand ready of how that ended. The caller holds
// the pool's lock.
func (st *start) ended(err error) {
	if st.stood != nil {
		st.line.standing--
		st.stood <- err // has room
	}
}

// startFailed tells one caller, and no other, that a start failed; nobody where
// other starts are under way for all who wait.
func (p *Pool) startFailed(st *start, err error) {
	l := st.line
	p.mu.Lock()
	defer p.mu.Unlock()
	defer st.ended(err)
	p.starts--
	if err == errUnneeded {
		if l.dedication != nil {
			p.poke()
		}
		p.serveQueued()
		return
	}
	p.change(l, func() { l.starting-- })
	if l.dedication != nil {
		p.dedicatedFailed(l.dedication, err)
	}
	if l.unserved() > 0 {
		p.grant(l, grant{err: err})
	}
	p.serveQueued()
}

// watch discards a container that dies while nobody uses it. A busy one is its
// lease holder's to discard.
//
// +checklocks:p.mu
func (p *Pool) watch(w *worker) {
	p.work.Go(func() {
		<-w.container.Done() // also ends when the container is stopped
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.containers.Busy(w.container.ID()) { // it was idle, and is nobody's from here on
			p.log.Info("an idle container ended by itself", "container", w.container.ID(), "function", w.line.key.Function)
			p.discard(w)
		}
	})
}

// boot starts one instance. Whoever claimed first gets it, else it waits warm.
//
// +checklocks:p.mu
func (p *Pool) boot(s *supply) {
	awaited := s.booting < len(s.claims) && s.claims[s.booting].awaited
	s.booting++
	p.booting++
	p.instances++
	p.work.Go(func() {
		pl, c, err := p.bootInstance(s, awaited)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.poke()
		s.booting--
		p.booting--
		defer p.bootPending()
		if err != nil {
			p.bootFailed(s, pl, err)
			return
		}
		p.bootDone(s, pl, c)
	})
}

// bootDone hands an instance that has booted to whoever claimed first, else it
// waits warm. Once the pool was stopped it is ended: who claimed it may not have
// noticed yet, and drain may have been through the places before this one was
// among them.
//
// +checklocks:p.mu
func (p *Pool) bootDone(s *supply, pl *place, c *host.Container) {
	s.failures = 0
	p.places[pl.inst.ID()] = pl
	p.keepWaiting(pl, c, s.config)
	switch {
	case p.ctx.Err() != nil:
		p.close(pl)
	case len(s.claims) > 0:
		cl := s.claims[0]
		s.claims = s.claims[1:]
		cl.got <- booted{place: pl, container: p.give(pl, cl.line)}
	case p.draining:
		p.close(pl)
	default:
		p.warm[s.config] = append(p.warm[s.config], placement.Warm{Instance: pl.inst.ID(), Container: c.ID()})
		p.serveQueued() // a queued caller may take it
	}
}

// bootFailed gives the failure to the first claim and lets the pool of this
// configuration rest for a while, longer each time.
//
// +checklocks:p.mu
func (p *Pool) bootFailed(s *supply, pl *place, err error) {
	if pl != nil {
		pl.closed = true
		p.destroy(pl)
	} else {
		p.instances--
	}
	if p.ctx.Err() == nil {
		p.log.Error("an instance could not be booted", "configuration", s.config, "error", err)
	}
	s.failures++
	s.retryAt = time.Now().Add(min(time.Second<<min(s.failures-1, 5), 30*time.Second))
	if len(s.claims) > 0 {
		cl := s.claims[0]
		s.claims = s.claims[1:]
		cl.got <- booted{}
	}
}

// bootInstance boots an instance with a runtime that waits in it. A place that
// is returned with an error is still to be destroyed.
func (p *Pool) bootInstance(s *supply, awaited bool) (*place, *host.Container, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.BootTimeout)
	defer cancel()
	inst, err := p.host.Start(ctx, p.opts.InstanceMB)
	if err != nil {
		return nil, nil, err
	}
	c, err := inst.Boot(ctx, host.Boot{Runtime: s.runtime, EphemeralMB: s.config.EphemeralMB, Awaited: awaited})
	return &place{inst: inst, supply: s, boots: map[placement.Configuration]int{}}, c, err
}
