package pool

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/placement"
)

// place is an instance as the pool sees it: warm and nobody's, or assigned to an
// account and holding its containers. What is reserved on an assigned one,
// Pool.containers knows.
type place struct {
	inst      *host.Instance
	supply    *supply // whose configuration it is of
	assigned  bool
	abandoned bool                            // nothing new comes, and it is closed when no execution is left
	closed    bool                            // being destroyed
	spent     bool                            // a runtime could not be booted in it: none waits there any more
	waiting   []*waiting                      // runtimes without code, longest first
	boots     map[placement.Configuration]int // runtimes being booted in it
	claims    []*claim                        // starts that wait for one of those
}

// waiting is a runtime that waits for code.
type waiting struct {
	container *host.Container
	config    placement.Configuration
}

// claimed counts the claims on runtimes of a configuration.
func (pl *place) claimed(config placement.Configuration) (n int) {
	for _, c := range pl.claims {
		if c.line.supply.config == config {
			n++
		}
	}
	return n
}

func (pl *place) removeClaim(k int) *claim {
	c := pl.claims[k]
	pl.claims = slices.Delete(pl.claims, k, k+1)
	return c
}

// assign gives a place to the account of a line, for life. Whatever else waits
// in it becomes the account's spare.
//
// +checklocks:p.mu
func (p *Pool) assign(pl *place, l *line) {
	pl.assigned = true
	p.containers.Assign(pl.inst.ID(), l.key.Account, pl.supply.config, p.capacity(l))
	for _, w := range pl.waiting {
		p.containers.AddSpare(pl.inst.ID(), w.config, w.container.ID())
	}
}

// capacity is what the containers of an instance may be allotted in all. Where
// the memory of one container cannot be told from that of its siblings, the
// first has the instance for itself.
func (p *Pool) capacity(l *line) int {
	if !p.shares {
		return l.key.Size.MemoryMB
	}
	return p.opts.InstanceMB
}

// takeWarm takes the place of a configuration that has waited longest.
//
// +checklocks:p.mu
func (p *Pool) takeWarm(config placement.Configuration) *place {
	pl := p.places[p.warm[config][0].Instance]
	p.unlistWarm(pl)
	return pl
}

// unlistWarm takes a place off the warm ones, false when it is none of them.
//
// +checklocks:p.mu
func (p *Pool) unlistWarm(pl *place) bool {
	warm := p.warm[pl.supply.config]
	k := slices.IndexFunc(warm, func(w placement.Warm) bool { return w.Instance == pl.inst.ID() })
	if k < 0 {
		return false
	}
	p.warm[pl.supply.config] = slices.Delete(warm, k, k+1)
	return true
}

// take takes a waiting runtime out of a place, nil when it is not there.
//
// +checklocks:p.mu
func (p *Pool) take(pl *place, id lambent.ContainerID) *host.Container {
	k := slices.IndexFunc(pl.waiting, func(w *waiting) bool { return w.container.ID() == id })
	if k < 0 {
		return nil
	}
	c := pl.waiting[k].container
	pl.waiting = slices.Delete(pl.waiting, k, k+1)
	p.containers.TakeSpare(pl.inst.ID(), id)
	return c
}

// keepWaiting adds a booted runtime to those that wait in a place, and watches
// it.
//
// +checklocks:p.mu
func (p *Pool) keepWaiting(pl *place, c *host.Container, config placement.Configuration) {
	pl.waiting = append(pl.waiting, &waiting{container: c, config: config})
	if pl.assigned {
		p.containers.AddSpare(pl.inst.ID(), config, c.ID())
	}
	p.work.Go(func() {
		<-c.Done() // also ends once it was given its function and stopped
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.take(pl, c.ID()) == nil || pl.closed {
			return
		}
		if !pl.assigned {
			p.log.Warn("a warm instance died; booting another", "configuration", pl.supply.config, "instance", pl.inst.ID())
			p.close(pl)
			return
		}
		p.stopContainer(pl, c, nil)
	})
}

// lacks tells whether a place should have one more runtime waiting: a spare for
// the account's next function or next simultaneous call, while the instance has
// room for one. A warm place has its spare too, so that the account's second
// function need not wait for it.
//
// +checklocks:p.mu
func (p *Pool) lacks(pl *place) bool {
	if pl.closed || pl.spent || p.draining || !p.shares {
		return false
	}
	have := pl.boots[pl.supply.config] - pl.claimed(pl.supply.config)
	for _, w := range pl.waiting {
		if w.config == pl.supply.config {
			have++
		}
	}
	if !pl.assigned {
		return have < 1+p.opts.Spares
	}
	_, free, _ := p.containers.Tenancy(pl.inst.ID())
	return have < p.opts.Spares && free >= lambent.MinMemoryMB
}

// bootInside boots a runtime in a place. The first claim on one of its
// configuration gets it, else it waits.
//
// +checklocks:p.mu
func (p *Pool) bootInside(pl *place, s *supply) {
	awaited := slices.ContainsFunc(pl.claims, func(c *claim) bool { return c.line.supply == s && c.awaited })
	pl.boots[s.config]++
	p.booting++
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, p.opts.BootTimeout)
		defer cancel()
		c, err := pl.inst.Boot(ctx, host.Boot{Runtime: s.runtime, EphemeralMB: s.config.EphemeralMB, Awaited: awaited})
		p.mu.Lock()
		defer p.mu.Unlock()
		defer p.poke() // a pool may have waited for this one's turn to boot
		defer p.bootPending()
		pl.boots[s.config]--
		p.booting--
		k := slices.IndexFunc(pl.claims, func(c *claim) bool { return c.line.supply == s })
		if err != nil {
			if p.ctx.Err() == nil && !pl.closed {
				p.log.Error("a runtime could not be booted", "configuration", s.config, "instance", pl.inst.ID(), "error", err)
			}
			pl.spent = true
			if k >= 0 {
				pl.removeClaim(k).got <- booted{}
			}
			select {
			case <-pl.inst.Done(): // nothing will ever boot in it: who else waits goes elsewhere
				p.close(pl)
			default:
			}
			return
		}
		switch {
		case pl.closed: // it goes with its instance
		case k >= 0:
			pl.removeClaim(k).got <- booted{place: pl, container: c}
		default:
			p.keepWaiting(pl, c, s.config)
		}
	})
}

// stopContainer ends one container of a place, or the whole place when it was
// the last that holds a function. The room of one that does is free when nothing
// is left of it; reserved is whose that is, nil for a runtime that waits.
//
// +checklocks:p.mu
func (p *Pool) stopContainer(pl *place, c *host.Container, reserved *lambent.MatchKey) {
	placed := p.placed(pl)
	if reserved != nil && !pl.abandoned {
		placed--
	}
	dead := false
	select {
	case <-pl.inst.Done(): // with all that was in it
		dead = true
	default:
	}
	switch {
	case pl.closed:
		return // whose room nobody asks for any more
	case dead || placed == 0 && len(pl.claims) == 0:
		p.close(pl) // starts that wait for a runtime in it go elsewhere
		return
	}
	p.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), stopTimeout)
		defer cancel()
		err := c.Stop(ctx)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil {
			if !pl.closed { // else it went with its instance
				p.log.Error("a container could not be released whole; giving up its instance", "container", c.ID(), "instance", pl.inst.ID(), "error", err)
			}
			p.abandon(pl)
			return
		}
		if reserved != nil {
			p.containers.Vacate(pl.inst.ID(), *reserved)
		}
		p.closeEmpty(pl)
		p.serveQueued()
		p.bootPending()
	})
}

// stopTimeout bounds the end of one container, which takes some milliseconds.
// What takes longer is a sandbox that does not answer.
const stopTimeout = 10 * time.Second

// placed counts the containers that keep an assigned place: those being started
// and being stopped, too, unless it was given up.
//
// +checklocks:p.mu
func (p *Pool) placed(pl *place) (n int) {
	if !pl.abandoned {
		n, _, _ = p.containers.Tenancy(pl.inst.ID())
		return n
	}
	for _, w := range p.workers {
		if w.place == pl {
			n++
		}
	}
	return n
}

// abandon takes a place out of use in which a container could not be stopped:
// whether its room is free nobody can be sure of, nor whether the sandbox still
// does what it is told. Executions on it may end; then it is destroyed, for which
// it is not asked.
//
// +checklocks:p.mu
func (p *Pool) abandon(pl *place) {
	if pl.closed || pl.abandoned {
		return
	}
	pl.abandoned, pl.spent = true, true
	p.leaving++
	p.leave(pl)
	p.closeEmpty(pl)
	p.serveQueued()
}

// close ends a place with everything in it, in the background. It takes room on
// the machine until nothing is left of it.
//
// +checklocks:p.mu
func (p *Pool) close(pl *place) {
	if pl.closed {
		return
	}
	pl.closed = true
	if pl.abandoned {
		p.leaving--
	}
	p.unlistWarm(pl)
	p.leave(pl)
	p.destroy(pl)
}

// leave takes a place out of every decision, with those of its containers that
// nobody uses. Busy ones are their lease holders' to discard.
//
// +checklocks:p.mu
func (p *Pool) leave(pl *place) {
	p.containers.Close(pl.inst.ID())
	for _, c := range pl.claims {
		c.got <- booted{}
	}
	pl.claims = nil
	for _, w := range p.workers {
		if w.place == pl && p.containers.Busy(w.container.ID()) {
			p.forget(w)
		}
	}
}
