package pool

import (
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/placement"
)

// Waiting is how many callers wait in the line of a function.
func (p *Pool) Waiting(fn *lambent.Function) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lines[fn.Key()]; l != nil {
		return len(l.waiters)
	}
	return 0
}

// Queued is how many callers wait for whom nothing is starting.
func (p *Pool) Queued() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queued
}

// Idle is how many runtimes wait for code, as the pool knows.
func (p *Pool) Idle() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pl := range p.places {
		n += len(pl.waiting)
	}
	return n
}

// Forsake forgets the leases that are out: the test that has them failed, and
// will not end them.
func (p *Pool) Forsake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = 1
	p.leaseEnded(&line{}, 0)
}

// Standing is how many containers of a key are being brought up for no caller.
func (p *Pool) Standing(key lambent.MatchKey) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.lines[key]; l != nil {
		return l.standing
	}
	return 0
}

// BootDone is the end of an instance's boot that a caller of fn has claimed.
func (p *Pool) BootDone(fn *lambent.Function, i *host.Instance, c *host.Container) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, err := p.lineOf(fn)
	if err != nil {
		return err
	}
	l.supply.claims = append(l.supply.claims, &claim{line: l, got: make(chan booted, 1)})
	p.instances++
	p.bootDone(l.supply, &place{inst: i, supply: l.supply, boots: map[placement.Configuration]int{}}, c)
	return nil
}

// Boots has n more boots seem under way, and gives how many are.
func (p *Pool) Boots(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.booting += n
	return p.booting
}

// Wants is how many containers are wanted where so many were in use at once, each
// for so long.
func Wants(most int, held time.Duration) int {
	now := time.Now()
	u := use{peaks: [2]int{most, most}, since: now, held: [2]time.Duration{0, held}}
	return u.wants(now)
}

// Supplies is how many configurations the pool knows of.
func (p *Pool) Supplies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.supplies)
}

// InUse is how many executions are counted.
func (p *Pool) InUse() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.usage.functions {
		n += m
	}
	for _, m := range p.usage.unreserved {
		n += m
	}
	return n
}
