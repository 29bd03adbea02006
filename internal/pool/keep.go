package pool

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/hostinfo"
	"lambent/internal/placement"
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
	next := now.Add(time.Hour)
	for _, at := range []time.Time{p.topUp(now), p.refill(now), p.expire(now), p.serveRested(now), p.probe(now)} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return max(next.Sub(now), time.Millisecond)
}

// refill boots warm instances up to the targets, a few at a time.
//
// +checklocks:p.mu
func (p *Pool) refill(now time.Time) (again time.Time) {
	var pools []placement.Supply
	var supplies []*supply
	for _, st := range p.pooled() {
		s := p.supplyOf(st.runtime, st.Config.EphemeralMB)
		supplies = append(supplies, s)
		pools = append(pools, placement.Supply{Configuration: s.config, Target: st.Target, Ready: len(p.warm[s.config]),
			Starting: s.booting, Claimed: len(s.claims), RestUntil: s.retryAt})
	}
	if p.pending() > 0 {
		return again // callers come first; the end of their boots wakes the keeper
	}
	if p.yields(now, pools) {
		return p.yieldUntil
	}
	p.bootPending() // spares gave way, too
	boots, again := placement.Refill(pools, placement.Room{Instances: p.opts.MaxInstances - p.instances, Boots: p.sideBoots() - p.booting}, now)
	for k, n := range boots {
		for range n {
			p.boot(supplies[k])
		}
	}
	return again
}

// sideBoots is how many boots may run at once before one is begun that nobody
// waits for. While there are calls it is a quarter of what it is else, for half
// of the CPUs: calls that the boots took all of them from would wait for
// their turn with every step, and overlap, and have more containers started.
//
// +checklocks:p.mu
func (p *Pool) sideBoots() int {
	if p.busy > 0 || time.Since(p.called) < callsLast {
		return max(1, p.opts.MaxBoots/4)
	}
	return p.opts.MaxBoots
}

// callsLast is for how long after the last call more are expected.
const callsLast = time.Second

// yield has what is not urgent give way to a start for so long: booting an
// instance takes a CPU for a third of a second, and on a small machine it is the
// one that the function's code is loaded on. Starts that follow each other put
// refilling off for maxYield at most.
//
// +checklocks:p.mu
func (p *Pool) yield(now time.Time, long time.Duration) {
	if p.yieldSince.IsZero() {
		p.yieldSince = now
	}
	p.yieldUntil = now.Add(long)
	if latest := p.yieldSince.Add(maxYield); p.yieldUntil.After(latest) {
		p.yieldUntil = latest
	}
}

const (
	yieldLoad = 50 * time.Millisecond // for the code to be loaded, or most of it
	yieldCall = 5 * time.Millisecond  // for the first event to be handed over, when it is
	maxYield  = 150 * time.Millisecond
)

// yields tells whether refilling gives way now. It does not where a pool has run
// empty: the next caller would wait for it.
//
// +checklocks:p.mu
func (p *Pool) yields(now time.Time, pools []placement.Supply) bool {
	if now.Before(p.yieldUntil) && !slices.ContainsFunc(pools, func(s placement.Supply) bool { return s.Target > 0 && s.Ready == 0 }) {
		return true
	}
	p.yieldSince = time.Time{}
	return false
}

// expire stops what was idle for the time-out.
//
// +checklocks:p.mu
func (p *Pool) expire(now time.Time) (again time.Time) {
	expired, again := placement.Expire(&p.containers, now, placement.Keep{Base: p.opts.IdleTimeout, Most: p.opts.IdleMost})
	for _, e := range expired {
		if w := p.workers[e.Container]; w != nil { // else it went with its instance, just now
			p.discard(w)
		}
	}
	return again
}

// probe asks the warm instances whether they are well, and the others what their
// idle containers use, all at once. A warm one that does not answer is replaced,
// a container that has grown over its memory ended.
//
// +checklocks:p.mu
func (p *Pool) probe(now time.Time) (again time.Time) {
	if p.opts.ProbeEvery == 0 {
		return time.Time{}
	}
	if due := p.probed.Add(p.opts.ProbeEvery); now.Before(due) {
		return due
	}
	p.probed = now
	for _, pl := range p.places {
		if pl.closed {
			continue
		}
		look := p.probeWarm
		if pl.assigned {
			look = p.probeIdle
		}
		p.work.Go(func() {
			ctx, cancel := context.WithTimeout(p.ctx, p.opts.ProbeTimeout)
			defer cancel()
			look(ctx, pl)
		})
	}
	return now.Add(p.opts.ProbeEvery)
}

func (p *Pool) probeWarm(ctx context.Context, pl *place) {
	err := pl.inst.Probe(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil || pl.assigned || pl.closed || p.ctx.Err() != nil {
		return
	}
	p.log.Warn("a warm instance does not answer; booting another", "configuration", pl.supply.config, "error", err)
	p.close(pl)
}

func (p *Pool) probeIdle(ctx context.Context, pl *place) {
	p.probeSpares(ctx, pl)
	over, err := pl.inst.Overfull(ctx)
	if err != nil {
		p.log.Debug("an instance does not say what its containers use", "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range over {
		if w := p.workers[id]; w != nil && p.containers.Busy(id) { // a busy one is its execution's to look at
			p.log.Info("an idle container grew over its memory; ending it", "container", id, "function", w.line.key.Function)
			p.discard(w)
		}
	}
}

// probeSpares asks the runtimes that wait in an assigned instance whether they
// are well, and ends those that are not: a start given to one would wait for
// nothing. Where not even that can be done, the instance is abandoned.
func (p *Pool) probeSpares(ctx context.Context, pl *place) {
	p.mu.Lock()
	spares := slices.Clone(pl.waiting)
	p.mu.Unlock()
	for _, w := range spares {
		err := w.container.Probe(ctx)
		if err == nil {
			continue
		}
		p.mu.Lock()
		if !pl.closed && p.ctx.Err() == nil && p.take(pl, w.container.ID()) != nil { // else it is somebody's meanwhile
			p.log.Warn("a waiting runtime does not answer; ending it", "configuration", w.config, "instance", pl.inst.ID(), "error", err)
			p.stopContainer(pl, w.container, nil)
		}
		p.mu.Unlock()
	}
}

// Retire stops what serves other than the current state of a version of a
// function: its key now, and that of what may stand in for it; none when it is
// deleted. "" are all versions. Running executions end first.
func (p *Pool) Retire(account lambent.AccountID, name lambent.FunctionName, version lambent.Version, current ...lambent.MatchKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, l := range p.lines {
		if key.Account != account || key.Function != name || version != "" && key.Version != version {
			continue
		}
		key.Dedicated, key.Tenant = false, ""
		if slices.Contains(current, key) {
			l.retired = l.key.Dedicated && l.dedication == nil // else it may have been changed back
			continue
		}
		if l.dedication != nil {
			p.undedicate(l.key)
		}
		l.retired = true
		p.discardIdle(func(w *worker) bool { return w.line == l })
	}
	for _, key := range current {
		if l := p.lines[key]; l != nil {
			l.retired = false // it was changed back
		}
	}
}

// Renew has no container used again that runs a function of a role: its
// credentials are no longer those it would get. Running executions end first.
func (p *Pool) Renew(role string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed[role] = time.Now()
	for _, w := range p.workers {
		if w.line.fn.Role == role {
			w.until = time.Unix(0, 0)
		}
	}
	p.discardIdle(func(w *worker) bool { return w.line.fn.Role == role })
	p.serveQueued()
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
		for len(l.waiters) > 0 {
			p.grant(l, grant{err: shuttingDown(l.fn)})
		}
	}
	for _, pl := range p.places { // what executions still hold goes too
		p.close(pl)
	}
	p.mu.Unlock()
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

// discardIdle stops the idle containers that which picks.
//
// +checklocks:p.mu
func (p *Pool) discardIdle(which func(*worker) bool) {
	for id, w := range p.workers {
		if which(w) && p.containers.Busy(id) {
			p.discard(w)
		}
	}
}

// Status is what the admin API shows of a warming pool.
type Status struct {
	Config  placement.Configuration
	Target  int
	Ready   int
	runtime hostinfo.Installed
}

// pooled lists the warming pools, with their targets, in a fixed order: one a
// family, of its newest runtime.
func (p *Pool) pooled() []Status {
	var out []Status
	for _, rt := range p.opts.Runtimes {
		if !slices.ContainsFunc(out, func(s Status) bool { return s.Config.Family == rt.Family }) {
			out = append(out, Status{Target: p.opts.Targets[rt.Family], runtime: rt,
				Config: placement.Configuration{Family: rt.Family, Version: rt.Version, EphemeralMB: lambent.MinEphemeralMB}})
		}
	}
	return out
}

// Statuses lists the warming pools in a stable order.
func (p *Pool) Statuses() []Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.pooled()
	for k := range out {
		out[k].Ready = len(p.warm[out[k].Config])
	}
	return out
}

// Snapshots lists the instances of the pool's host.
func (p *Pool) Snapshots() []host.Snapshot { return p.host.Snapshots() }
