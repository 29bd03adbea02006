package main

import (
	"lambent/internal/host"
	"lambent/internal/obs"
	"lambent/internal/pool"
)

// workersView is what the gauges are taken from.
type workersView interface {
	Statuses() []pool.Status
	Snapshots() []host.Snapshot
}

// census counts what there is.
func census(w workersView) obs.Census {
	c := obs.Census{Instances: map[string]int{}, Containers: map[string]int{}}
	for _, s := range w.Statuses() {
		c.Pools = append(c.Pools, obs.PoolCount{Configuration: string(s.Config.Family), Ready: s.Ready, Target: s.Target})
	}
	for _, i := range w.Snapshots() {
		c.Instances[i.State.String()]++
		for _, k := range i.Containers {
			c.Containers[k.State.String()]++
		}
	}
	return c
}

// transitions has the host's changes of state counted.
func transitions(m *obs.Metrics) func(host.Transition) {
	return func(t host.Transition) {
		if t.Container != "" {
			m.ContainerBecame(t.Container, t.To)
			return
		}
		m.InstanceBecame(t.Instance, t.To)
	}
}
