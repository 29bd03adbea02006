package pool

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/host"
)

// Run keeps the pools: refills the warm instances and stops containers that are
// idle for too long, until ctx ends. Then it drains: no new work is taken,
// executions may end within drain, all instances are destroyed. It returns when
// nothing is left.
func (p *Pool) Run(ctx context.Context, drain time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(p.keep(time.Now()))
		select {
		case <-p.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	p.drain(drain)
}

// keep does what is due and returns how long nothing will be.
func (p *Pool) keep(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := min(p.refill(now), p.expire(now))
	return max(next, time.Millisecond)
}

// refill boots warm instances up to the targets, a few at a time, and never into
// the last room callers might need.
//
// +checklocks:p.mu
func (p *Pool) refill(now time.Time) (next time.Duration) {
	next = time.Hour
	for _, st := range p.pooled() {
		if st.Target == 0 {
			continue
		}
		s := p.supply(st.Config)
		if wait := s.retryAt.Sub(now); s.failures > 0 && wait > 0 {
			next = min(next, wait)
			continue
		}
		for len(s.warm)+s.booting-len(s.claims) < st.Target && p.booting < p.opts.MaxBoots && p.instances < p.opts.MaxInstances {
			p.boot(s)
		}
	}
	return next
}

// expire stops what was idle for the time-out.
//
// +checklocks:p.mu
func (p *Pool) expire(now time.Time) (next time.Duration) {
	next = time.Hour
	var expired []*worker
	for _, l := range p.lines {
		for _, w := range l.idle { // least recently used first
			left := w.idleSince.Add(p.opts.IdleTimeout).Sub(now)
			if left > 0 {
				next = min(next, left)
				break
			}
			expired = append(expired, w)
		}
	}
	for _, w := range expired {
		p.discard(w)
	}
	return next
}

// Retire stops what serves other than the current state of a function: current
// is its key now, or nil when it is deleted. Running executions end first.
func (p *Pool) Retire(account lambent.AccountID, name lambent.FunctionName, current *lambent.MatchKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, l := range p.lines {
		if key.Account != account || key.Function != name || (current != nil && key == *current) {
			continue
		}
		l.retired = true
		for _, w := range slices.Clone(l.idle) {
			p.discard(w)
		}
	}
	if current != nil {
		if l := p.lines[*current]; l != nil {
			l.retired = false // it was changed back
		}
	}
}

// drain ends everything.
func (p *Pool) drain(limit time.Duration) {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	if !p.awaitIdle(time.After(limit)) {
		p.log.Warn("executions were still running when the time to drain was over; ending them", "limit", limit)
	}
	p.stop() // ends boots and loads
	p.mu.Lock()
	for _, l := range p.lines {
		for _, wt := range l.waiters {
			wt.grant <- grant{err: context.Canceled}
			p.queued--
		}
		l.waiters = nil
		for _, w := range slices.Clone(l.idle) {
			p.discard(w)
		}
	}
	for _, s := range p.configs {
		for _, b := range s.warm {
			p.destroy(b.container.Instance())
		}
		s.warm = nil
	}
	p.mu.Unlock()
	for _, i := range p.host.Instances() { // what executions still hold
		if i.State() == lambent.InstanceActive {
			ctx, cancel := context.WithTimeout(context.Background(), destroyTimeout)
			if err := i.Destroy(ctx); err != nil {
				p.log.Error("an instance could not be released whole", "instance", i.ID(), "error", err)
			}
			cancel()
		}
	}
	p.awaitIdle(nil) // they end now that their instances are gone
	p.work.Wait()
}

// awaitIdle waits until no lease is out, false when limit comes first.
func (p *Pool) awaitIdle(limit <-chan time.Time) bool {
	p.mu.Lock()
	if p.busy == 0 {
		p.mu.Unlock()
		return true
	}
	if p.idleChanged == nil {
		p.idleChanged = make(chan struct{})
	}
	idle := p.idleChanged
	p.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-limit:
		return false
	}
}

// Status is what the admin API shows of a warming pool.
type Status struct {
	Config Config
	Target int
	Ready  int
}

// Statuses lists the warming pools in a stable order.
func (p *Pool) Statuses() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.pooled()
	for k := range out {
		if s := p.configs[out[k].Config]; s != nil {
			out[k].Ready = len(s.warm)
		}
	}
	return out
}

// Snapshots lists the instances of the pool's host.
func (p *Pool) Snapshots() []host.Snapshot { return p.host.Snapshots() }
