package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/placement"
)

// # New code beside old
//
// Where a function gets other code, its calls are to wait for nothing. While the
// new code is brought up, containers of the old one that are there serve them:
// Acquire is told who may stand in, and takes it as long as no container of what
// was asked for is ready. Stand brings that one up, on the instance of an old one
// where there is room, and as many as the old code needed at once lately, so that
// the switch leaves no caller behind. The old ones are not ended by that: Retire
// does it, when the record says that the new code is in place.

// standIn picks what serves a call: what was asked for, once it has containers
// and Stand is done with it, or else the first of those that stand in for it and
// have some. Where both have, and only the old one has an idle one, it is that:
// until the switch nobody waits.
//
// +checklocks:p.mu
func (p *Pool) standIn(asked *lambent.Function, standIns []*lambent.Function) *lambent.Function {
	if len(standIns) == 0 {
		return asked
	}
	by := p.warmOf(asked, standIns)
	if by == nil || p.hasDedicated(asked) {
		return asked
	}
	if l := p.lines[asked.Key()]; l == nil || l.workers == 0 || l.stands > 0 {
		return by
	}
	if !p.hasIdle(asked) && p.hasIdle(by) {
		return by
	}
	return asked
}

// +checklocks:p.mu
func (p *Pool) hasIdle(fn *lambent.Function) bool {
	_, idle := p.containers.Count(fn.Key())
	return idle > 0
}

// hasDedicated tells of an idle container of what is provisioned, which needs no
// stand-in.
//
// +checklocks:p.mu
func (p *Pool) hasDedicated(fn *lambent.Function) bool {
	key := fn.Key()
	key.Dedicated = true
	_, idle := p.containers.Count(key)
	return idle > 0
}

// warmOf is the first of those that can stand in and have containers, nil where
// none has. What is retired does not stand in any more: the switch has come since
// the caller was told.
//
// +checklocks:p.mu
func (p *Pool) warmOf(asked *lambent.Function, standIns []*lambent.Function) *lambent.Function {
	for _, by := range standIns {
		if l := p.lines[by.Key()]; by.CanStandIn(asked) && l != nil && l.workers > 0 && !l.retired {
			return by
		}
	}
	return nil
}

// leaseFor completes a lease of what serves a call for what was asked for.
func leaseFor(asked, serves *lambent.Function, l *Lease) *Lease {
	l.Function = serves
	switch {
	case asked == serves:
	case asked.Version != serves.Version:
		l.Reason = fmt.Sprintf("version %s is not ready yet, version %s stood in: %s", asked.Version, serves.Version, l.Reason)
	default:
		l.Reason = "the new code is not ready yet, the code before stood in: " + l.Reason
	}
	return l
}

// Stand brings up containers of fn, before any call comes to them, where old code
// that can stand in for it is warm: the first beside one of these, and as many as
// its calls needed at once lately. It returns when they are ready. Where fn's own
// fault keeps them from it the calls will be told: that is no error. An error is
// that fewer are ready, or none, and why.
func (p *Pool) Stand(ctx context.Context, fn *lambent.Function, old ...*lambent.Function) error {
	l, err := p.standBegins(fn, old)
	if l == nil {
		return err
	}
	defer p.standEnds(l)
	for {
		stood, err := p.standOne(l, fn, old)
		if stood == nil {
			return err
		}
		select {
		case err = <-stood:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if _, fault := errors.AsType[*StartError](err); fault {
			return nil
		}
		if err != nil && err != errUnneeded { // else it is tried again: a caller gave up, and the start went with it
			return err
		}
	}
}

// standBegins gives the line of fn, nil where nothing is to stand.
func (p *Pool) standBegins(fn *lambent.Function, old []*lambent.Function) (*line, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining || p.warmOf(fn, old) == nil || fn.MemoryMB > p.opts.InstanceMB {
		return nil, nil
	}
	l, err := p.lineOf(fn)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if by := p.lines[p.warmOf(fn, old).Key()]; l.use.short(now) == 0 {
		l.use.held[1] = by.use.short(now) // it does about the same
	}
	l.stands++
	return l, nil
}

func (p *Pool) standEnds(l *line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.stands--
	p.forgetLine(l)
}

// standOne begins to bring one container up, and gives what tells how it ended.
// Where no more is wanted it gives nothing, where there is no room for the first
// the reason.
func (p *Pool) standOne(l *line, fn *lambent.Function, old []*lambent.Function) (<-chan error, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	by := p.warmOf(fn, old)
	if by == nil || p.draining || l.workers+l.starting >= max(1, p.lines[by.Key()].use.wants(time.Now())) {
		return nil, nil
	}
	plan := placement.Stand(p.snapshot(l, p.queued), placement.Request{Key: l.key, Configuration: l.supply.config, Beside: by.Code})
	switch {
	case plan.Action != placement.Refuse:
		stood := make(chan error, 1)
		p.begin(plan, l, stood)
		return stood, nil
	case l.workers > 0:
		return nil, nil // better some than none
	}
	return nil, errors.New(plan.Reason())
}

// use is how many of a line's containers were used at once, and for how long.
type use struct {
	now   int
	peaks [2]int           // of the span that runs and of the one before
	held  [2]time.Duration // the shortest use that ended in each; zero: none did
	since time.Time        // when the one that runs began
}

// useSpan is how long a peak is remembered, and at most twice as long.
const useSpan = 10 * time.Second

func (u *use) began(now time.Time) {
	u.turn(now)
	u.now++
	u.peaks[0] = max(u.peaks[0], u.now)
}

func (u *use) ended(now time.Time, held time.Duration) {
	u.turn(now)
	u.now--
	u.held[0] = shorter(u.held[0], held)
}

// most is the peak of lately.
func (u *use) most(now time.Time) int {
	u.turn(now)
	return max(u.peaks[0], u.peaks[1])
}

// short is the shortest use of lately, zero where none is known: how long a call
// takes that the machine does not keep waiting. The longer ones, and their mean,
// tell of the machine as much as of the function.
func (u *use) short(now time.Time) time.Duration {
	u.turn(now)
	return shorter(u.held[0], u.held[1])
}

// shorter is the shorter of two times that are known.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// wants is how many containers are enough for lately: for each of the callers of
// the peak one, or fewer where calls are so short that the last of them still gets
// his within swift.
func (u *use) wants(now time.Time) int {
	most, short := u.most(now), u.short(now)
	if short == 0 {
		return most
	}
	return min(most, int((time.Duration(most)*short+swift-1)/swift))
}

const swift = 10 * time.Millisecond

// turn begins a new span where the time of the one that runs is over.
func (u *use) turn(now time.Time) {
	passed := now.Sub(u.since)
	if passed < useSpan {
		return
	}
	u.peaks[1], u.held[1] = u.peaks[0], u.held[0]
	if passed >= 2*useSpan {
		u.peaks[1], u.held[1] = u.now, 0
	}
	u.peaks[0], u.held[0], u.since = u.now, 0, now
}
