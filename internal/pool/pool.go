// Package pool is the worker manager: it owns which container serves which
// function. One lock guards one table of lines (the containers and callers of one
// match key) and configurations (the warm instances of one kind); every decision
// is taken under it and carried out outside it.
//
//	          Acquire
//	             │ idle container of the key? ─────────────► reuse
//	             ▼
//	wait in the key's line ◄──────── Release hands a container on
//	             │ fewer starts under way than callers waiting?
//	             ▼
//	claim a booted instance ─ warm one at hand ────────────► warm_pool
//	             │           └ first one to finish booting ► on_demand
//	             ▼
//	assign to the account, load the code, hand to the first in line
//
// An instance is of one account for life and is destroyed when its container
// goes (P01-E7).
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
)

// Config is what instances are booted alike: the key of a warming pool.
type Config struct {
	Runtime     hostinfo.Installed
	EphemeralMB int
}

// Options are what a Pool needs.
type Options struct {
	Host         *host.Host
	Runtimes     []hostinfo.Installed   // what can be booted, the newest of a family first
	Strict       bool                   // refuse a function whose very runtime is not installed, instead of the nearest
	Targets      map[lambent.Family]int // how many warm instances to keep ready, of the newest runtime, with AWS's default /tmp
	MaxInstances int                    // on this host, warm ones included
	MaxQueue     int                    // callers that may wait for a container, all functions together
	InstanceMB   int                    // bound of an instance's memory until it is given its function
	IdleTimeout  time.Duration          // a container unused for this long is stopped
	InitTimeout  time.Duration          // AWS: 10 s
	BootTimeout  time.Duration          // of an instance and its runtime, before any code of users is involved
	MaxBoots     int                    // instances that may be booting at once
	Log          *slog.Logger
}

// Pool is the worker manager of one host. Make it with New, start it with Run.
// Safe for use by several goroutines.
type Pool struct {
	opts Options
	host *host.Host
	log  *slog.Logger
	work sync.WaitGroup     // everything that Run's end waits for
	ctx  context.Context    // of all work; ended by Close
	stop context.CancelFunc // ends ctx
	wake chan struct{}      // the keeper has something to do

	mu sync.Mutex
	// +checklocks:mu
	lines map[lambent.MatchKey]*line
	// +checklocks:mu
	configs map[Config]*supply
	// +checklocks:mu
	instances int // booting, warm, active and being destroyed
	// +checklocks:mu
	booting int
	// +checklocks:mu
	queued int
	// +checklocks:mu
	busy int // leases out
	// +checklocks:mu
	draining bool
	// +checklocks:mu
	idleChanged chan struct{} // closed when busy falls to 0 while draining
}

// line is everything of one match key.
type line struct {
	key      lambent.MatchKey
	fn       *lambent.Function
	config   Config
	idle     []*worker // most recently used last
	waiters  []*waiter // first come, first served
	starting int       // containers being brought up for this line
	workers  int       // all containers of the line that are not gone
	retired  bool      // no longer the function's current key: nothing of it is kept
}

// supply is everything of one configuration.
type supply struct {
	config   Config
	warm     []*booted
	claims   []*claim
	booting  int
	failures int // boots failed in a row
	retryAt  time.Time
}

// booted is an instance with a runtime that waits for code.
type booted struct {
	container *host.Container
	since     time.Time
}

// worker is a container with its function.
type worker struct {
	container *host.Container
	line      *line
	idleSince time.Time
	gone      bool // being destroyed
}

// waiter is a caller in a line. grant takes exactly one value if the waiter is
// still in the line, none otherwise.
type waiter struct{ grant chan grant }

type grant struct {
	lease *Lease
	err   error
}

// claim is a start that waits for an instance to finish booting.
type claim struct{ got chan *booted }

// Lease is a container handed to one caller for one execution. End it with
// Release or Discard, once.
type Lease struct {
	Container *host.Container
	Kind      lambent.StartKind
	Reason    string
	Loaded    host.Loaded // of the start; zero when reused

	pool *Pool
	w    *worker
}

// New makes a pool; nothing happens until Run.
func New(opts Options) *Pool {
	ctx, stop := context.WithCancel(context.Background())
	return &Pool{opts: opts, host: opts.Host, log: opts.Log, ctx: ctx, stop: stop, wake: make(chan struct{}, 1),
		lines: map[lambent.MatchKey]*line{}, configs: map[Config]*supply{}}
}

// pooled lists the configurations of the warming pools with their targets, in a
// fixed order, so that none starves another by chance.
func (p *Pool) pooled() []Status {
	var out []Status
	seen := map[lambent.Family]bool{}
	for _, rt := range p.opts.Runtimes {
		if !seen[rt.Family] {
			seen[rt.Family] = true
			out = append(out, Status{Config: Config{Runtime: rt, EphemeralMB: lambent.MinEphemeralMB}, Target: p.opts.Targets[rt.Family]})
		}
	}
	return out
}

// configOf finds what serves a function.
func (p *Pool) configOf(fn *lambent.Function) (Config, error) {
	rt, exact, ok := hostinfo.Match(fn.Runtime, p.opts.Runtimes)
	switch {
	case !ok:
		return Config{}, &lambent.Error{Op: "find a runtime for", Resource: string(fn.Name), Kind: lambent.KindInvalid,
			Message: fmt.Sprintf("The runtime %s of function %s is not installed on this machine; `lambent doctor` lists what was found", fn.Runtime, fn.Name)}
	case !exact && p.opts.Strict:
		return Config{}, &lambent.Error{Op: "find a runtime for", Resource: string(fn.Name), Kind: lambent.KindInvalid,
			Message: fmt.Sprintf("The runtime %s of function %s is not installed on this machine, and strict_runtimes forbids %s in its place", fn.Runtime, fn.Name, rt)}
	}
	return Config{Runtime: rt, EphemeralMB: fn.EphemeralMB}, nil
}

// Acquire gets a container for fn: an idle one, else the first to become idle or
// to finish starting. A failed start is reported to one caller, as the error of
// host.Container.Load; when there is no capacity at all the error is of kind
// KindThrottled. The wait ends early with ctx.
func (p *Pool) Acquire(ctx context.Context, fn *lambent.Function) (*Lease, error) {
	key := fn.Key()
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		return nil, &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindUnavailable, Message: "the server is shutting down"}
	}
	l := p.lines[key]
	if l == nil {
		config, err := p.configOf(fn)
		if err != nil {
			p.mu.Unlock()
			return nil, err
		}
		l = &line{key: key, fn: fn, config: config}
		p.lines[key] = l
	}
	if w := l.takeIdle(); w != nil {
		p.busy++
		p.mu.Unlock()
		return &Lease{Container: w.container, Kind: lambent.StartReuse, Reason: "an idle container of this version was at hand", pool: p, w: w}, nil
	}
	if p.queued >= p.opts.MaxQueue {
		p.mu.Unlock()
		return nil, throttled(fn, fmt.Sprintf("%d callers wait for a container already", p.opts.MaxQueue))
	}
	wt := &waiter{grant: make(chan grant, 1)}
	l.waiters = append(l.waiters, wt)
	p.queued++
	if l.starting < len(l.waiters) {
		p.startWorker(l)
	}
	p.mu.Unlock()

	select {
	case g := <-wt.grant:
		return g.lease, g.err
	case <-ctx.Done():
		p.mu.Lock()
		left := p.removeWaiter(l, wt)
		p.mu.Unlock()
		if !left { // it was granted at the same moment
			if g := <-wt.grant; g.err == nil {
				g.lease.Release()
			}
		}
		return nil, throttled(fn, "no container became free in time")
	}
}

func throttled(fn *lambent.Function, why string) error {
	return &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindThrottled,
		Reason: "ConcurrentInvocationLimitExceeded", Message: "Rate Exceeded.", Err: errors.New(why)}
}

// Release gives the container back for the next execution.
func (l *Lease) Release() {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaseEnded()
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
	if l.w.line.retired || p.draining {
		p.discard(l.w)
		return
	}
	p.offer(l.w, lambent.StartReuse, "a container of this version became free while the call waited", host.Loaded{})
}

// Discard stops the container: it is of no more use.
func (l *Lease) Discard() {
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaseEnded()
	p.discard(l.w)
}

// +checklocks:p.mu
func (p *Pool) leaseEnded() {
	p.busy--
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
	if len(l.waiters) > 0 {
		wt := l.waiters[0]
		l.waiters = l.waiters[1:]
		p.queued--
		p.busy++
		wt.grant <- grant{lease: &Lease{Container: w.container, Kind: kind, Reason: reason, Loaded: loaded, pool: p, w: w}}
		return
	}
	w.idleSince = time.Now()
	l.idle = append(l.idle, w)
	if len(l.idle) == 1 {
		p.poke() // the keeper may have slept without a next expiry
	}
}

// takeIdle takes the most recently used container, so that surplus ones expire.
func (l *line) takeIdle() *worker {
	n := len(l.idle)
	if n == 0 {
		return nil
	}
	w := l.idle[n-1]
	l.idle[n-1] = nil
	l.idle = l.idle[:n-1]
	return w
}

// +checklocks:p.mu
func (p *Pool) removeWaiter(l *line, wt *waiter) bool {
	for k, other := range l.waiters {
		if other == wt {
			l.waiters = append(l.waiters[:k], l.waiters[k+1:]...)
			p.queued--
			p.forgetLine(l)
			return true
		}
	}
	return false
}

// forgetLine drops a line nothing is left of.
//
// +checklocks:p.mu
func (p *Pool) forgetLine(l *line) {
	if l.workers == 0 && l.starting == 0 && len(l.waiters) == 0 && p.lines[l.key] == l {
		delete(p.lines, l.key)
	}
}

// discard takes a container out of everything and destroys its instance.
//
// +checklocks:p.mu
func (p *Pool) discard(w *worker) {
	if w.gone {
		return
	}
	w.gone = true
	l := w.line
	for k, other := range l.idle {
		if other == w {
			l.idle = append(l.idle[:k], l.idle[k+1:]...)
			break
		}
	}
	l.workers--
	p.forgetLine(l)
	p.destroy(w.container.Instance())
}

// destroy releases an instance in the background; its place is free only when
// nothing is left of it.
//
// +checklocks:p.mu
func (p *Pool) destroy(i *host.Instance) {
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), destroyTimeout)
		defer cancel()
		if err := i.Destroy(ctx); err != nil {
			p.log.Error("an instance could not be released whole", "instance", i.ID(), "error", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.instances--
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
