package pool

import (
	"time"

	"lambent/internal/placement"
)

// # Waiting a moment instead of starting
//
// Booting a runtime takes a CPU for a quarter of a second, and on a small machine
// all others are slower meanwhile: calls that never met begin to overlap. To start
// a container for each that finds none idle then, with a runtime to be booted in
// its place, makes the machine slower still, and more calls overlap, until it does
// nothing but boot. So while something boots, or code is being loaded, a caller
// who can expect one of its function's containers soon, by how long calls of it
// need to hold one, waits for that, and has one started only when it does not
// come; and of a function of such calls never more are started at once than run.

// patience is for how long a caller waits so: with what a start takes from a
// waiting runtime it stays below the 100 ms of P01-R7.
const patience = 50 * time.Millisecond

// waitsFirst reports whether the caller a plan is for waits for a container that
// is in use before one is started.
//
// +checklocks:p.mu
func (p *Pool) waitsFirst(l *line, plan placement.Plan) bool {
	switch plan.Action {
	case placement.NewContainer, placement.TakeWarm, placement.StartOnDemand:
		short := l.use.short(time.Now())
		return p.isSwift(l) && (l.starting >= l.workers || short*time.Duration(l.patient+1)/time.Duration(l.workers) <= patience)
	}
	return false
}

// isSwift reports whether something boots or starts, and whoever waits for a
// line's containers in use can expect one soon.
//
// +checklocks:p.mu
func (p *Pool) isSwift(l *line) bool {
	short := l.use.short(time.Now())
	return p.booting+p.starts > 0 && l.workers > 0 && short > 0 && short <= patience
}

// bePatient has one of a line's callers wait before a container is started, if by
// then there are more of them than starts.
//
// +checklocks:p.mu
func (p *Pool) bePatient(l *line) {
	p.change(l, func() { l.patient++ })
	p.work.Go(func() {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ctx.Done():
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.change(l, func() { l.patient-- })
		switch {
		case l.unserved() == 0 || p.draining:
		case p.isSwift(l) && l.starting >= l.workers:
			p.bePatient(l)
		default:
			p.carryOut(p.decide(l, p.queued-1, time.Now()), l)
		}
	})
}
