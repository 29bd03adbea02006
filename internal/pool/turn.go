package pool

import (
	"cmp"
	"slices"
	"time"
)

// unservedSince is when the first of a line's callers came for whom nothing is
// starting. There is one.
func (l *line) unservedSince() time.Time { return l.waiters[len(l.waiters)-l.unserved()].since }

// queue lists the lines in which callers wait for whom nothing is starting, the
// one whose first such caller has waited longest first.
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
	slices.SortFunc(lines, func(a, b *line) int {
		return cmp.Or(a.unservedSince().Compare(b.unservedSince()), cmp.Compare(a.key.Function, b.key.Function))
	})
	return lines
}

// makeWay ends a container whose execution has ended, although callers of its own
// line wait, where another line's caller has waited longer than they and for more
// than a turn: on a full machine a function that is called without pause would
// keep its containers, and with them the machine, from everybody else for ever.
// One instance at a time makes way, another when a further turn has not been
// enough. It has had a turn itself by then: where all wait for long, as many do on
// a machine that is asked for too much, it would else do nothing but start.
//
// +checklocks:p.mu
func (p *Pool) makeWay(w *worker, now time.Time) (made bool) {
	if p.queued == 0 || p.opts.Turn == 0 || len(w.line.waiters) == 0 || now.Sub(w.since) < p.opts.Turn || now.Before(p.nextTurn) {
		return false
	}
	p.nextTurn = now.Add(p.opts.Turn / 20) // looking costs a glance at every line
	first := p.queue()[0]
	turns := time.Duration(1 + p.leaving + p.destroying)
	if first == w.line || now.Sub(first.unservedSince()) < turns*p.opts.Turn || !first.unservedSince().Before(w.line.waiters[0].since) {
		return false
	}
	_, free, _ := p.containers.Tenancy(w.place.inst.ID())
	suits := first.key.Account == w.line.key.Account && first.supply.runtime == w.place.supply.runtime
	if !suits || free+w.line.key.Size.MemoryMB < first.key.Size.MemoryMB {
		p.abandon(w.place) // no room of it can be the other's
	}
	p.discard(w)
	return true
}
