package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/runtimeapi"
)

// startWorker begins to bring up one more container for a line, if the host has
// room for its instance or a warm one is at hand. Otherwise the line's callers
// wait for one to become free.
//
// +checklocks:p.mu
func (p *Pool) startWorker(l *line) {
	s := p.supply(l.config)
	b := s.takeWarm()
	if b == nil && !p.haveRoom() {
		return
	}
	l.starting++
	p.poke() // a warm one was taken, or a boot is needed
	if b != nil {
		left := len(s.warm)
		p.work.Go(func() {
			p.bringUp(l, b, lambent.StartWarm, fmt.Sprintf("no idle container of this version; took a warm %s instance, %d left", l.config.Runtime.Family, left))
		})
		return
	}
	c := &claim{got: make(chan *booted, 1)}
	s.claims = append(s.claims, c)
	p.boot(s)
	p.work.Go(func() {
		select {
		case b := <-c.got:
			p.bringUp(l, b, lambent.StartOnDemand, fmt.Sprintf("no idle container of this version and no warm %s instance; booted one", l.config.Runtime.Family))
		case <-p.ctx.Done():
			p.startFailed(l, p.ctx.Err())
		}
	})
}

// haveRoom makes sure that one more instance may be booted, at the cost of the
// container that has been idle longest, if need be.
//
// +checklocks:p.mu
func (p *Pool) haveRoom() bool {
	if p.instances < p.opts.MaxInstances {
		return true
	}
	var oldest *worker
	for _, l := range p.lines {
		if len(l.idle) > 0 && (oldest == nil || l.idle[0].idleSince.Before(oldest.idleSince)) {
			oldest = l.idle[0]
		}
	}
	if oldest != nil {
		p.discard(oldest) // its end serves the queue
		return false
	}
	for _, s := range p.configs { // a warm instance of another kind is worth less than a caller who waits
		if b := s.takeWarm(); b != nil {
			p.destroy(b.container.Instance())
			return false
		}
	}
	return false
}

// serveQueued starts containers for callers who could not be given one before.
//
// +checklocks:p.mu
func (p *Pool) serveQueued() {
	if p.draining {
		return
	}
	for _, l := range p.lines {
		if l.starting < len(l.waiters) {
			p.startWorker(l)
		}
	}
}

// maxTries is how many instances are tried for one start when they die before
// the code has a part in it.
const maxTries = 3

// bringUp turns a booted instance into a container of the line and offers it. An
// instance that died meanwhile is replaced, as long as no code of the user's ran.
func (p *Pool) bringUp(l *line, b *booted, kind lambent.StartKind, reason string) {
	limit := p.opts.InitTimeout
	for try := 1; ; try++ {
		loaded, err := p.load(l.fn, b, limit)
		if err == nil {
			p.started(l, b, kind, reason, loaded)
			return
		}
		if b == nil {
			p.startFailed(l, err)
			return
		}
		b.container.MaxMemoryUsed() // remember it: the start may be reported
		p.mu.Lock()
		p.destroy(b.container.Instance())
		s := p.supply(l.config)
		var next *booted
		fault := isFunctionsFault(err)
		again := !fault && try < maxTries
		if timeout, ok := errors.AsType[*host.TimeoutError](err); ok && limit == p.opts.InitTimeout && try == 1 {
			// AWS: an init phase over its limit is run once more within the first
			// invocation, under the function's own timeout.
			limit, again = l.fn.Timeout(), timeout.Phase == "init"
		}
		if again = again && !p.draining; again {
			next = s.takeWarm()
			again = next != nil || p.haveRoom()
		}
		if !again {
			p.mu.Unlock()
			if fault {
				err = &StartError{Err: err, Container: b.container, Kind: kind, Reason: reason, Took: loaded.Init}
			}
			p.startFailed(l, err)
			return
		}
		p.log.Warn("an instance failed while it was given its function; trying another", "function", l.fn.Name, "error", err)
		c := &claim{got: make(chan *booted, 1)}
		if next == nil {
			kind, reason = lambent.StartOnDemand, fmt.Sprintf("a warm %s instance failed while it was assigned; booted another", l.config.Runtime.Family)
			s.claims = append(s.claims, c)
			p.boot(s)
		}
		p.mu.Unlock()
		if next == nil {
			select {
			case next = <-c.got:
			case <-p.ctx.Done():
				p.startFailed(l, p.ctx.Err())
				return
			}
		}
		b = next
	}
}

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
func (p *Pool) load(fn *lambent.Function, b *booted, limit time.Duration) (host.Loaded, error) {
	if b == nil {
		return host.Loaded{}, errNoInstance
	}
	if err := b.container.Instance().Assign(fn.Account); err != nil {
		return host.Loaded{}, err
	}
	return b.container.Load(p.ctx, fn, limit)
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

func (p *Pool) started(l *line, b *booted, kind lambent.StartKind, reason string, loaded host.Loaded) {
	w := &worker{container: b.container, line: l}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.starting--
	l.workers++
	p.watch(w)
	if (l.retired || p.draining) && len(l.waiters) == 0 {
		p.discard(w)
		return
	}
	p.offer(w, kind, reason, loaded)
}

// startFailed tells one caller, and no other, that a start failed.
func (p *Pool) startFailed(l *line, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.starting--
	if len(l.waiters) > 0 {
		wt := l.waiters[0]
		l.waiters = l.waiters[1:]
		p.queued--
		wt.grant <- grant{err: err}
	}
	p.forgetLine(l)
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
		for _, idle := range w.line.idle {
			if idle == w {
				p.log.Info("an idle container ended by itself", "container", w.container.ID(), "function", w.line.key.Function)
				p.discard(w)
				return
			}
		}
	})
}

// supply finds or makes the state of a configuration.
//
// +checklocks:p.mu
func (p *Pool) supply(config Config) *supply {
	s := p.configs[config]
	if s == nil {
		s = &supply{config: config}
		p.configs[config] = s
	}
	return s
}

// takeWarm takes the instance that has waited longest and still lives. Dead ones
// are left to their watchers.
func (s *supply) takeWarm() *booted {
	for k, b := range s.warm {
		select {
		case <-b.container.Done():
			continue
		default:
		}
		s.warm = append(s.warm[:k:k], s.warm[k+1:]...)
		return b
	}
	return nil
}

// boot starts one instance of a configuration. Whoever claims first gets it, else
// it waits warm.
//
// +checklocks:p.mu
func (p *Pool) boot(s *supply) {
	s.booting++
	p.booting++
	p.instances++
	p.work.Go(func() {
		b, inst, err := p.bootInstance(s.config)
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.poke()
		s.booting--
		p.booting--
		if err != nil {
			p.bootFailed(s, inst, err)
			return
		}
		s.failures = 0
		if len(s.claims) > 0 {
			c := s.claims[0]
			s.claims = s.claims[1:]
			c.got <- b
			return
		}
		if p.draining {
			p.destroy(inst)
			return
		}
		s.warm = append(s.warm, b)
		p.work.Go(func() { p.watchWarm(s, b) })
	})
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
		p.log.Error("an instance could not be booted", "configuration", s.config.Runtime, "error", err)
	}
	s.failures++
	s.retryAt = time.Now().Add(min(time.Second<<min(s.failures-1, 5), 30*time.Second))
	if len(s.claims) > 0 {
		c := s.claims[0]
		s.claims = s.claims[1:]
		c.got <- nil
	}
}

func (p *Pool) bootInstance(config Config) (*booted, *host.Instance, error) {
	ctx, cancel := context.WithTimeout(p.ctx, p.opts.BootTimeout)
	defer cancel()
	inst, err := p.host.Start(ctx, p.opts.InstanceMB)
	if err != nil {
		return nil, nil, err
	}
	c, err := inst.Boot(ctx, config.Runtime, config.EphemeralMB)
	if err != nil {
		return nil, inst, err
	}
	return &booted{container: c, since: time.Now()}, inst, nil
}

// watchWarm replaces a warm instance that dies.
func (p *Pool) watchWarm(s *supply, b *booted) {
	<-b.container.Done() // also ends once it was assigned and stopped
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, other := range s.warm {
		if other == b {
			s.warm = append(s.warm[:k:k], s.warm[k+1:]...)
			p.log.Warn("a warm instance died; booting another", "configuration", s.config.Runtime, "instance", b.container.Instance().ID())
			p.destroy(b.container.Instance())
			return
		}
	}
}
