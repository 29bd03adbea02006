package pool

import (
	"context"
	"errors"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/placement"
)

// Provision is how many containers of a version are to be kept initialised,
// whether it is called or not.
type Provision struct {
	Function *lambent.Function
	Count    int
}

// dedication is what is done for a Provision. Its containers are a line of their
// own, in which nobody waits: a caller takes one that is idle, or goes the usual
// way.
type dedication struct {
	fn       *lambent.Function
	line     *line // nil: nothing can serve the function, as failure says
	want     int
	renewing int // one more than are wanted, while containers are due to be replaced
	due      int // of these containers, when topUp counted last
	failures int // starts failed in a row
	retryAt  time.Time
	failure  string // why there are too few, where waiting would not help
	// ctx is of the starts for the dedication, which end with it: code may take
	// minutes to initialise, and would hold room meanwhile that is nobody's share.
	ctx context.Context
	end context.CancelFunc
}

// missing is how many containers are to be started.
func (d *dedication) missing() int { return d.line.needs() - d.line.starting }

// dispensable tells whether a container of the dedication can go: one that is
// due once there is another in its place, and any where there are too many.
func (d *dedication) dispensable(w *worker, now time.Time) bool {
	over := d.line.workers - d.want
	return over > d.renewing || over > 0 && w.due(now)
}

// needs is how many starts are of use to the line.
func (l *line) needs() int {
	if l.dedication != nil {
		return l.dedication.want + l.dedication.renewing - l.workers
	}
	return len(l.waiters) + l.standing
}

// due reports whether another is to be started in place of a dedicated one.
func (w *worker) due(now time.Time) bool { return !w.renewAt.IsZero() && !now.Before(w.renewAt) }

// beside is the line whose callers a dedicated line's containers serve; nil where
// there are none, or the line is no dedicated one.
//
// +checklocks:p.mu
func (p *Pool) beside(l *line) *line {
	if l.dedication == nil {
		return nil
	}
	key := l.key
	key.Dedicated = false
	return p.lines[key]
}

// provisionedInit is how long a function may take to initialise before there is
// a call, where its own timeout is not longer (developer guide, "Lambda execution
// environment lifecycle").
const provisionedInit = 130 * time.Second

// Waits between attempts to start a container for a dedication.
const (
	dedicateRetryMin = time.Second
	dedicateRetryMax = time.Minute
	dedicateNoRoom   = time.Second // where the machine is full
	dedicateRenew    = time.Minute // before credentials are of no use for a call, a container with new ones is started
)

// Provision says all that is to be provisioned of a function, in place of what
// was said before: nothing, where wanted is empty. It returns at once; Provisioned
// tells how far it has come.
func (p *Pool) Provision(account lambent.AccountID, name lambent.FunctionName, wanted []Provision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := map[lambent.MatchKey]bool{}
	for _, w := range wanted {
		key := w.Function.Key()
		key.Dedicated = true
		d := p.dedications[key]
		if d == nil {
			d = &dedication{}
			d.ctx, d.end = context.WithCancel(p.ctx)
			p.dedications[key] = d
		}
		if !keep[key] {
			d.want = 0
		}
		keep[key] = true
		d.fn = w.Function
		d.want += w.Count                                     // two aliases may mean one version
		d.failures, d.retryAt, d.failure = 0, time.Time{}, "" // what failed is tried again: somebody did something about it
		if d.line == nil {
			p.dedicate(d, key)
		}
	}
	for key := range p.dedications {
		if key.Account == account && key.Function == name && !keep[key] {
			p.undedicate(key)
		}
	}
	p.poke()
}

// dedicate gives a dedication its line.
//
// +checklocks:p.mu
func (p *Pool) dedicate(d *dedication, key lambent.MatchKey) {
	rt, err := p.runtimeOf(d.fn)
	if err == nil && d.fn.MemoryMB > p.opts.InstanceMB {
		err = errors.New(TooLarge(d.fn.MemoryMB, p.opts.InstanceMB))
	}
	if err != nil {
		d.failure = err.Error()
		return
	}
	l := p.lines[key]
	if l == nil {
		l = &line{key: key, fn: d.fn, supply: p.supplyOf(rt, d.fn.EphemeralMB)}
		p.lines[key] = l
	}
	d.line, l.dedication, l.retired, d.failure = l, d, false, ""
}

// undedicate ends what is done for a key: idle containers go at once, busy ones
// with their executions.
//
// +checklocks:p.mu
func (p *Pool) undedicate(key lambent.MatchKey) {
	d := p.dedications[key]
	if d == nil {
		return
	}
	delete(p.dedications, key)
	d.end()
	if d.line == nil {
		return
	}
	d.line.dedication, d.line.retired = nil, true
	p.discardIdle(func(w *worker) bool { return w.line == d.line })
	p.forgetLine(d.line)
}

// dedicatedStart is the context of a start for a dedicated line: ended, where
// nothing is provisioned any more.
func (p *Pool) dedicatedStart(l *line) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.dedication != nil {
		return l.dedication.ctx
	}
	ctx, end := context.WithCancel(p.ctx)
	end()
	return ctx
}

// startUnwanted ends a start, and its container, for what is provisioned no more.
func (p *Pool) startUnwanted(st *start, pl *place, c *host.Container) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopContainer(pl, c, &st.line.key)
	p.change(st.line, func() { st.line.starting-- })
	st.ended(errUnwanted)
	p.serveQueued()
	p.poke() // it may be provisioned again meanwhile
}

// topUp starts what dedications lack and stops what they have too many of. It
// returns when to look again, zero for not before something changes.
//
// +checklocks:p.mu
func (p *Pool) topUp(now time.Time) (again time.Time) {
	if len(p.dedications) == 0 || p.draining {
		return time.Time{}
	}
	p.countDue(now)
	p.discardIdle(func(w *worker) bool {
		d := w.line.dedication
		return d != nil && d.dispensable(w, now)
	})
	if at := p.countDue(now); !at.IsZero() {
		again = sooner(again, later(now, at))
	}
	places := max(1, p.opts.MaxInstances*3/4)
	taken, most := p.dedicatedMB(), places*p.opts.InstanceMB
	for _, d := range p.dedications {
		if d.line == nil {
			continue
		}
		share := p.dedicates(d)
		if d.due > 0 && d.renewing == 0 && d.missing() == 0 {
			if taken+share <= most {
				d.renewing = 1
			} else { // the others serve meanwhile
				p.discardIdle(func(w *worker) bool { return w.line == d.line && d.missing() == 0 && w.due(now) })
				taken -= max(0, d.missing()) * share
			}
		}
		for d.missing() > 0 {
			if now.Before(d.retryAt) {
				again = sooner(again, d.retryAt)
				break
			}
			full := taken > 0 && taken+share > most
			if !full {
				plan := p.plan(d.line, p.queued, now, placement.Request{Fresh: true, Within: p.dedicatedPlaces() >= places})
				p.carryOut(plan, d.line)
				if plan.Action != placement.Queue && plan.Action != placement.Refuse {
					taken += share
					continue
				}
				full = plan.Action == placement.Refuse && d.line.starting == 0
			}
			if full {
				d.failure = "there is no room on this server for more provisioned concurrency"
			}
			again = sooner(again, now.Add(dedicateNoRoom))
			break
		}
	}
	return again
}

// countDue counts the containers of each dedication that are to be replaced. It
// gives when the first is, or was, due; zero where none ever is.
//
// +checklocks:p.mu
func (p *Pool) countDue(now time.Time) (first time.Time) {
	for _, d := range p.dedications {
		d.due = 0
	}
	for _, w := range p.workers {
		d := w.line.dedication
		if d == nil || w.renewAt.IsZero() {
			continue
		}
		if first.IsZero() || w.renewAt.Before(first) {
			first = w.renewAt
		}
		if w.due(now) {
			d.due++
		}
	}
	for _, d := range p.dedications {
		d.renewing = min(d.renewing, d.due)
	}
	return first
}

// dedicatedMB is what all dedications take of the machine. Three quarters of it
// they may take together, in memory as in instances, so that nobody can provision
// away what others are called on; the first container there is may take more.
//
// +checklocks:p.mu
func (p *Pool) dedicatedMB() (taken int) {
	for _, d := range p.dedications {
		if d.line != nil {
			taken += (d.line.workers + d.line.starting) * p.dedicates(d)
		}
	}
	return taken
}

// dedicatedPlaces is how many instances hold dedicated containers, or will, once
// they have booted.
//
// +checklocks:p.mu
func (p *Pool) dedicatedPlaces() int {
	n := p.containers.Dedicated()
	for _, s := range p.supplies {
		for _, c := range s.claims {
			if c.line.key.Dedicated {
				n++
			}
		}
	}
	return n
}

// dedicates is what one container of a dedication takes of the machine: an
// instance, where each has one for itself.
func (p *Pool) dedicates(d *dedication) int {
	if !p.shares {
		return p.opts.InstanceMB
	}
	return d.fn.MemoryMB
}

// renewal is when a container whose credentials end is replaced, idle: in time for
// none of its calls to outlive them, but not in the first half of their time.
func renewal(now, until time.Time, timeout time.Duration) time.Time {
	if until.IsZero() {
		return time.Time{}
	}
	life := until.Sub(now)
	return now.Add(max(life-timeout-dedicateRenew, life/2, time.Second))
}

// sooner is the first of two times, of which the one may be zero for never.
func sooner(one, other time.Time) time.Time {
	if one.IsZero() || other.Before(one) {
		return other
	}
	return one
}

// later is at, but not before a second from now: a container that is busy is
// looked at again when it may be idle.
func later(now, at time.Time) time.Time {
	if soonest := now.Add(time.Second); at.Before(soonest) {
		return soonest
	}
	return at
}

// dedicatedFailed has a dedication rest after a start that failed.
//
// +checklocks:p.mu
func (p *Pool) dedicatedFailed(d *dedication, err error) {
	d.failures++
	d.retryAt = time.Now().Add(min(dedicateRetryMin<<min(d.failures-1, 10), dedicateRetryMax))
	d.failure = ""
	if failed, ok := errors.AsType[*StartError](err); ok {
		d.failure = "FUNCTION_ERROR_INIT_FAILURE: " + failed.Err.Error() // AWS's code for it
	} else if _, ok := errors.AsType[*host.CodeError](err); ok { // which another server may have, and the next try
		d.failure = "the function's code could not be had; it is tried again"
	}
	p.log.Warn("a container of provisioned concurrency could not be started", "function", d.fn.Name, "version", d.fn.Version, "error", err)
	p.poke()
}

// Provisioned tells of a version how many containers are kept initialised for
// it, how many of them are idle, and why it is fewer than were asked for, where
// the reason does not go away by itself.
func (p *Pool) Provisioned(fn *lambent.Function) (allocated, available int, failure string) {
	key := fn.Key()
	key.Dedicated = true
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.dedications[key]; d != nil {
		if d.line != nil {
			allocated = d.line.workers
		}
		_, available = p.containers.Count(key)
		failure = d.failure
	}
	return allocated, available, failure
}
