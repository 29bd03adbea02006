package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/placement"
	"lambent/internal/runtimeapi"
)

// carryOut begins what a plan wants for a line in which a caller waits.
//
// +checklocks:p.mu
func (p *Pool) carryOut(plan placement.Plan, l *line) {
	switch plan.Action {
	case placement.TakeWarm:
		c := p.takeWarm(l.supply.config)
		p.change(l, func() { l.starting++ })
		p.poke() // refill
		p.work.Go(func() { p.bringUp(l, c, plan.Kind(), plan.Reason()) })
	case placement.StartOnDemand:
		claim := p.claim(l)
		p.change(l, func() { l.starting++ })
		p.work.Go(func() {
			c, err := p.await(claim)
			if err != nil {
				p.startFailed(l, err)
				return
			}
			p.bringUp(l, c, plan.Kind(), plan.Reason())
		})
	case placement.Queue:
		switch {
		case plan.Evict.Container != "":
			p.discard(p.workers[plan.Evict.Container])
		case plan.Evict.Instance != "":
			p.evictWarm(plan.Evict.Instance)
		}
	}
}

// serveQueued decides anew for callers whom nothing is starting for.
//
// +checklocks:p.mu
func (p *Pool) serveQueued() {
	for _, l := range p.lines {
		for p.queued > 0 && l.unserved() > 0 && !p.draining {
			plan := p.decide(l, p.queued-1, time.Now())
			p.carryOut(plan, l)
			if plan.Action == placement.Queue || plan.Action == placement.Refuse {
				return // no room for anybody: the next end of an instance comes here again
			}
		}
	}
}

// takeWarm takes the instance of a configuration that has waited longest.
//
// +checklocks:p.mu
func (p *Pool) takeWarm(config placement.Configuration) *host.Container {
	warm := p.warm[config]
	c := p.booted[warm[0].Container]
	p.removeWarm(config, c.ID())
	return c
}

// removeWarm takes a warm instance out, false when it is none.
//
// +checklocks:p.mu
func (p *Pool) removeWarm(config placement.Configuration, id lambent.ContainerID) bool {
	if p.booted[id] == nil {
		return false
	}
	delete(p.booted, id)
	p.warm[config] = slices.DeleteFunc(p.warm[config], func(w placement.Warm) bool { return w.Container == id })
	return true
}

// +checklocks:p.mu
func (p *Pool) evictWarm(id lambent.InstanceID) {
	for config, warm := range p.warm {
		for _, w := range warm {
			if w.Instance == id {
				c := p.booted[w.Container]
				p.removeWarm(config, w.Container)
				p.destroy(c.Instance())
				return
			}
		}
	}
}

// claim has an instance booted, of which the first to be ready is the claim's.
//
// +checklocks:p.mu
func (p *Pool) claim(l *line) *claim {
	c := &claim{line: l, got: make(chan *host.Container, 1)}
	l.supply.claims = append(l.supply.claims, c)
	p.bootPending()
	return c
}

// bootPending begins boots for claims, as many as may run at once: all at once
// would take the machine from those that run, and each other past their limit.
// What a line needs no more, because containers became free meanwhile, is not
// begun.
//
// +checklocks:p.mu
func (p *Pool) bootPending() {
	for _, s := range p.supplies {
		for len(s.claims) > s.booting && p.booting < p.opts.MaxBoots {
			last := s.claims[len(s.claims)-1]
			if last.line.starting > len(last.line.waiters) {
				s.claims = s.claims[:len(s.claims)-1]
				p.change(last.line, func() { last.line.starting-- })
				last.dropped = true
				last.got <- nil
				continue
			}
			p.boot(s)
		}
	}
}

// pending is how many claims no boot was begun for.
//
// +checklocks:p.mu
func (p *Pool) pending() (n int) {
	for _, s := range p.supplies {
		n += max(0, len(s.claims)-s.booting)
	}
	return n
}

// await waits for a claim. A boot that failed is tried again: nothing of the
// function's has happened yet.
func (p *Pool) await(c *claim) (*host.Container, error) {
	for try := 1; ; try++ {
		got, err := p.awaitBoot(c)
		if err != errNoInstance || try == maxTries {
			return got, err
		}
		p.mu.Lock()
		if p.draining {
			p.mu.Unlock()
			return nil, err
		}
		c = p.claim(c.line)
		p.mu.Unlock()
	}
}

// awaitBoot waits for the boot a claim gets.
func (p *Pool) awaitBoot(c *claim) (*host.Container, error) {
	select {
	case got := <-c.got:
		switch {
		case c.dropped:
			return nil, errUnneeded
		case got == nil:
			return nil, errNoInstance
		}
		return got, nil
	case <-p.ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		if c.dropped {
			return nil, errUnneeded
		}
		s := c.line.supply // so that nobody drops it, or hands it an instance, from here on
		s.claims = slices.DeleteFunc(s.claims, func(other *claim) bool { return other == c })
		select {
		case got := <-c.got: // at the same moment
			if got != nil {
				p.destroy(got.Instance())
			}
		default:
		}
		return nil, p.ctx.Err()
	}
}

// maxTries is how many instances are tried for one start when they die before
// the code has a part in it.
const maxTries = 3

// bringUp turns a booted instance into a container of the line and offers it. An
// instance that dies meanwhile is replaced, as long as it was not the function
// that ended it.
func (p *Pool) bringUp(l *line, c *host.Container, kind lambent.StartKind, reason string) {
	limit := p.opts.InitTimeout
	for try := 1; ; try++ {
		loaded, err := p.load(l.fn, c, limit)
		if err == nil {
			p.started(l, c, kind, reason, loaded)
			return
		}
		c.MaxMemoryUsed() // remember it: the start may be reported
		fault := isFunctionsFault(err)
		again := !fault && try < maxTries
		if timeout, ok := errors.AsType[*host.TimeoutError](err); ok && timeout.Phase == "init" && limit == p.opts.InitTimeout && try == 1 {
			// AWS: an init phase over its limit is run once more within the first
			// invocation, under the function's own timeout.
			limit, again = l.fn.Timeout(), true
		}
		next, how, dropped := p.replace(l, c, again)
		if next == nil {
			if dropped != nil {
				err = dropped
			} else if fault {
				err = &StartError{Err: err, Container: c, Kind: kind, Reason: reason, Took: loaded.Init}
			}
			p.startFailed(l, err)
			return
		}
		p.log.Warn("an instance failed while it was given its function; trying another", "function", l.fn.Name, "error", err)
		reason = "instance " + string(c.Instance().ID()) + " failed while it was given its function; " + how
		if kind != lambent.StartOnDemand {
			kind = lambent.StartWarm
		}
		c = next
	}
}

// replace destroys an instance that failed and, if again, gets another, nil when
// there is none to be had.
func (p *Pool) replace(l *line, failed *host.Container, again bool) (next *host.Container, how string, err error) {
	p.mu.Lock()
	p.destroy(failed.Instance())
	switch {
	case !again || p.draining:
		p.mu.Unlock()
		return nil, "", nil
	case len(p.warm[l.supply.config]) > 0:
		defer p.mu.Unlock()
		return p.takeWarm(l.supply.config), "took another warm one", nil
	case p.instances-p.destroying >= p.opts.MaxInstances:
		p.mu.Unlock()
		return nil, "", nil
	}
	claim := p.claim(l)
	p.mu.Unlock()
	switch next, err = p.await(claim); err {
	case nil:
		return next, "booted another", nil
	case errUnneeded:
		return nil, "", err
	}
	return nil, "", nil // what failed first is what is told
}

// errUnneeded is a claim that was dropped: there is nobody to be told.
var errUnneeded = errors.New("no longer needed")

// errNoInstance is a boot that failed.
var errNoInstance = errors.New("no instance could be booted; the server's log says why")

// StartError is a start that failed by the function's own fault: Err is one of
// those host.Container.Load tells of.
type StartError struct {
	Err       error
	Container *host.Container // stopped or being stopped; its log can still be written
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
func (p *Pool) load(fn *lambent.Function, c *host.Container, limit time.Duration) (host.Loaded, error) {
	if err := c.Instance().Assign(fn.Account); err != nil {
		return host.Loaded{}, err
	}
	return c.Load(p.ctx, fn, limit)
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

func (p *Pool) started(l *line, c *host.Container, kind lambent.StartKind, reason string, loaded host.Loaded) {
	w := &worker{container: c, line: l}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers[c.ID()] = w
	p.containers.Add(l.key, c.Instance().ID(), c.ID())
	l.workers++
	p.change(l, func() { l.starting-- })
	p.watch(w)
	if (l.retired || p.draining) && len(l.waiters) == 0 {
		p.discard(w)
		return
	}
	p.offer(w, kind, reason, loaded)
}

// startFailed tells one caller, and no other, that a start failed; nobody where
// other starts are under way for all who wait.
func (p *Pool) startFailed(l *line, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == errUnneeded {
		p.serveQueued()
		return
	}
	p.change(l, func() { l.starting-- })
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
	s.booting++
	p.booting++
	p.instances++
	p.work.Go(func() {
		c, inst, err := p.bootInstance(s)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.poke()
		s.booting--
		p.booting--
		defer p.bootPending()
		switch {
		case err != nil:
			p.bootFailed(s, inst, err)
		case len(s.claims) > 0:
			s.failures = 0
			s.next() <- c
		case p.draining:
			p.destroy(inst)
		default:
			s.failures = 0
			p.booted[c.ID()] = c
			p.warm[s.config] = append(p.warm[s.config], placement.Warm{Instance: inst.ID(), Container: c.ID()})
			p.work.Go(func() { p.watchWarm(s, c) })
			p.serveQueued() // a queued caller may take it
		}
	})
}

// next takes the first claim.
func (s *supply) next() chan<- *host.Container {
	c := s.claims[0]
	s.claims = s.claims[1:]
	return c.got
}

// bootFailed gives the failure to the first claim and lets the pool of this
// configuration rest for a while, longer each time.
//
// +checklocks:p.mu
func (p *Pool) bootFailed(s *supply, inst *host.Instance, err error) {
	if inst != nil {
		p.destroy(inst)
	} else {
		p.instances--
	}
	if p.ctx.Err() == nil {
		p.log.Error("an instance could not be booted", "configuration", s.config, "error", err)
	}
	s.failures++
	s.retryAt = time.Now().Add(min(time.Second<<min(s.failures-1, 5), 30*time.Second))
	if len(s.claims) > 0 {
		s.next() <- nil
	}
}

func (p *Pool) bootInstance(s *supply) (*host.Container, *host.Instance, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.BootTimeout)
	defer cancel()
	inst, err := p.host.Start(ctx, p.opts.InstanceMB)
	if err != nil {
		return nil, nil, err
	}
	c, err := inst.Boot(ctx, s.runtime, s.config.EphemeralMB)
	return c, inst, err
}

// watchWarm replaces a warm instance that dies.
func (p *Pool) watchWarm(s *supply, c *host.Container) {
	<-c.Done() // also ends once it was assigned and stopped
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.removeWarm(s.config, c.ID()) {
		p.log.Warn("a warm instance died; booting another", "configuration", s.config, "instance", c.Instance().ID())
		p.destroy(c.Instance())
	}
}
