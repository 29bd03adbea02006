package pool

import (
	"cmp"
	"slices"
	"time"

	"lambent"
	"lambent/internal/placement"
)

// unservedSince is when the first of a line's callers came for whom nothing is
// starting. There is one.
func (l *line) unservedSince() time.Time { return l.waiters[len(l.waiters)-l.unserved()].since }

// holdings is how many instances accounts have, or will have once they have
// booted, but for those of containers kept ready.
//
// +checklocks:p.mu
func (p *Pool) holdings() map[lambent.AccountID]int {
	n := p.containers.Holdings()
	for _, s := range p.supplies {
		for _, c := range s.claims {
			if !c.line.key.Dedicated {
				n[c.line.key.Account]++
			}
		}
	}
	return n
}

// claimant is a line whose callers wait, since.
func (l *line) claimant(holdings map[lambent.AccountID]int, since time.Time) placement.Claimant {
	return placement.Claimant{Account: l.key.Account, Instances: holdings[l.key.Account], Since: since}
}

// queue lists the lines in which callers wait for whom nothing is starting, those
// first who are to be served first.
//
// +checklocks:p.mu
func (p *Pool) queue() []*line {
	if p.queued == 0 {
		return nil
	}
	var lines []*line
	for _, l := range p.lines {
		if l.unserved() > 0 {
			lines = append(lines, l)
		}
	}
	if len(lines) < 2 {
		return lines
	}
	holdings := p.holdings()
	slices.SortFunc(lines, func(a, b *line) int {
		return cmp.Or(a.claimant(holdings, a.unservedSince()).Compare(b.claimant(holdings, b.unservedSince())), cmp.Compare(a.key.Function, b.key.Function))
	})
	return lines
}

// makeWay ends a container whose execution has ended, although callers of its own
// line wait, where another line's caller has waited for more than a turn and is
// to have it, see placement.Claimant: on a full machine a function that is called
// without pause would keep its containers, and with them the machine, from
// everybody else for ever. One instance at a time makes way, another when a
// further turn has not been enough. It has had a turn itself by then: where all
// wait for long, as many do on a machine that is asked for too much, it would else
// do nothing but start.
//
// +checklocks:p.mu
func (p *Pool) makeWay(w *worker, now time.Time) (made bool) {
	if p.queued == 0 || p.opts.Turn == 0 || len(w.line.waiters) == 0 || now.Sub(w.since) < p.opts.Turn || now.Before(p.nextTurn) {
		return false
	}
	p.nextTurn = now.Add(p.opts.Turn / 20) // looking costs a glance at every line
	turns := time.Duration(1 + p.leaving + p.destroying)
	holdings := p.holdings()
	holder := w.line.claimant(holdings, w.line.waiters[0].since)
	for _, l := range p.queue() {
		since := l.unservedSince()
		if l == w.line || now.Sub(since) < turns*p.opts.Turn || !l.claimant(holdings, since).Takes(holder) {
			continue
		}
		_, free, _ := p.containers.Tenancy(w.place.inst.ID())
		suits := l.key.Account == w.line.key.Account && l.supply.runtime == w.place.supply.runtime
		if !suits || free+w.line.key.Size.MemoryMB < l.key.Size.MemoryMB {
			p.abandon(w.place) // no room of it can be the other's
		}
		p.discard(w)
		return true
	}
	return false
}

// awaitRest has the keeper look when an idle instance has been left alone for
// long enough, while callers wait whom it could make room for.
//
// +checklocks:p.mu
func (p *Pool) awaitRest() {
	if p.queued > 0 && p.opts.Turn > 0 && p.containers.Resting() {
		p.poke()
	}
}

// serveRested decides anew for callers who wait, when an idle instance has been
// left alone for long enough.
//
// +checklocks:p.mu
func (p *Pool) serveRested(now time.Time) (again time.Time) {
	if p.queued == 0 || p.opts.Turn == 0 || !p.containers.Resting() {
		return time.Time{}
	}
	if due := p.containers.RestsSince().Add(p.opts.Turn); now.Before(due) {
		return due
	}
	p.serveQueued()
	if !p.containers.Resting() {
		return time.Time{}
	}
	if due := p.containers.RestsSince().Add(p.opts.Turn); now.Before(due) {
		return due
	}
	return time.Time{} // when one that is being destroyed is gone, it is looked again
}
