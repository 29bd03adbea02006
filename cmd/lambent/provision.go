package main

import (
	"math"
	"sync"

	"lambent"
	"lambent/internal/pool"
	"lambent/internal/registry"
)

// provisioning has the pool keep ready what the registry says is provisioned.
type provisioning struct {
	functions *registry.Registry
	workers   *pool.Pool

	// telling orders what the pool is told: each time what the registry says by
	// then, so that what it is told last is what holds.
	telling sync.Mutex
}

// follow tells the pool of all that is provisioned, and of every change of it:
// of a configuration, of the version an alias points to, of a version that is
// ready at last.
func (p *provisioning) follow() {
	// Subscribers are called when the registry says already what they are told, and
	// the functions of a start may be made ready while it is read here.
	p.functions.Provisioned.Subscribe(func(c registry.ObjectChange[registry.Provisioned]) { p.tell(c.Key) })
	p.functions.Aliases.Subscribe(func(c registry.ObjectChange[registry.Alias]) { p.tell(c.Key) })
	p.functions.Subscribe(func(c registry.Change) {
		if c.Version.IsNumbered() {
			p.tell(registry.ObjectKey{Account: c.Account, Parent: string(c.Name)})
		}
	})
	var keys []registry.ObjectKey
	p.functions.Provisioned.Each(func(o registry.Object[registry.Provisioned]) { keys = append(keys, o.Key) })
	for _, key := range keys {
		p.tell(key)
	}
}

// tell has the pool keep what is provisioned of one function.
func (p *provisioning) tell(of registry.ObjectKey) {
	p.telling.Lock()
	defer p.telling.Unlock()
	name := lambent.FunctionName(of.Parent)
	all, _ := p.functions.Provisioned.List(of.Account, of.Parent, registry.ObjectKey{}, math.MaxInt, nil)
	var wanted []pool.Provision
	for _, o := range all {
		for _, s := range p.shares(o.Key, o.Value.Requested) {
			if s.Function.State == "Active" && s.Count > 0 {
				wanted = append(wanted, s)
			}
		}
	}
	p.workers.Provision(of.Account, name, wanted)
}

// shares tells which versions a qualifier means, with their shares of so many
// containers: an alias that divides calls between two versions divides these,
// too.
func (p *provisioning) shares(key registry.ObjectKey, count int) (of []pool.Provision) {
	name := lambent.FunctionName(key.Parent)
	additional, extra := lambent.Version(""), 0
	if alias := p.functions.Aliases.Get(key); alias != nil && alias.Additional != "" {
		additional, extra = alias.Additional, int(math.Round(float64(count)*alias.Weight))
	}
	for _, s := range []struct {
		qualifier string
		count     int
	}{{key.Name, count - extra}, {string(additional), extra}} {
		if s.qualifier == "" {
			continue
		}
		if fn, err := p.functions.Function(key.Account, name, s.qualifier); err == nil {
			of = append(of, pool.Provision{Function: fn, Count: s.count})
		}
	}
	return of
}

// Provisioned tells how far the pool has come for one qualifier. Where several
// mean the same version, the first in the order of lists gets the containers
// first.
func (p *provisioning) Provisioned(account lambent.AccountID, name lambent.FunctionName, qualifier string) (allocated, available int, failure string) {
	all, _ := p.functions.Provisioned.List(account, string(name), registry.ObjectKey{}, math.MaxInt, nil)
	before := map[lambent.Version]int{} // asked for by those in front
	for _, o := range all {
		mine := o.Key.Name == qualifier
		for _, s := range p.shares(o.Key, o.Value.Requested) {
			if mine {
				here, idle, why := p.workers.Provisioned(s.Function)
				allocated += min(max(here-before[s.Function.Version], 0), s.Count)
				available += min(max(idle-before[s.Function.Version], 0), s.Count)
				if why != "" {
					failure = why
				}
			}
			before[s.Function.Version] += s.Count
		}
		if mine {
			break
		}
	}
	return allocated, available, failure
}
