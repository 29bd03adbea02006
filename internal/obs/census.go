package obs

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Census is what there is at one moment.
type Census struct {
	Pools      []PoolCount    // those of one configuration are added up
	Instances  map[string]int // by state
	Containers map[string]int // by state
}

// PoolCount is one warming pool.
type PoolCount struct {
	Configuration string
	Ready, Target int
}

// census collects at each scrape what need not be counted before.
type census struct {
	ask                   func() Census
	lost                  func() int64
	instances, containers *states
	ready, target, losses *prometheus.Desc
}

// Describe lists the metrics.
func (c *census) Describe(out chan<- *prometheus.Desc) {
	for _, s := range []*states{c.instances, c.containers} {
		out <- s.count
		out <- s.seconds
		out <- s.entries
	}
	out <- c.ready
	out <- c.target
	out <- c.losses
}

// Collect makes the metrics.
func (c *census) Collect(out chan<- prometheus.Metric) {
	now := c.ask()
	pools := map[string]PoolCount{}
	for _, p := range now.Pools {
		sum := pools[p.Configuration]
		pools[p.Configuration] = PoolCount{Ready: sum.Ready + p.Ready, Target: sum.Target + p.Target}
	}
	for configuration, p := range pools {
		out <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, float64(p.Ready), configuration)
		out <- prometheus.MustNewConstMetric(c.target, prometheus.GaugeValue, float64(p.Target), configuration)
	}
	c.instances.collect(out, now.Instances)
	c.containers.collect(out, now.Containers)
	out <- prometheus.MustNewConstMetric(c.losses, prometheus.CounterValue, float64(c.lost()))
}

// states keeps how much time things of one kind have spent in each state.
type states struct {
	names   []string
	final   int // of names
	count   *prometheus.Desc
	seconds *prometheus.Desc
	entries *prometheus.Desc
	now     func() time.Duration // since any moment

	mu sync.Mutex // held for two look-ups: calls take it
	// +checklocks:mu
	things map[string]stay
	// +checklocks:mu
	left []time.Duration // time spent by those that left each state
	// +checklocks:mu
	entered []int64
}

// stay is since when a thing is in its state.
type stay struct {
	state int // of names
	since time.Duration
}

// newStates makes the metrics of a kind of thing: its states, the final one, of
// which nothing is kept, last.
func newStates[S fmt.Stringer](one, many, what string, all ...S) *states {
	label := []string{"state"}
	began := time.Now()
	s := &states{final: len(all) - 1, things: map[string]stay{}, now: func() time.Duration { return time.Since(began) },
		left: make([]time.Duration, len(all)), entered: make([]int64, len(all)),
		count: prometheus.NewDesc("lambent_"+many, fmt.Sprintf("The %s there are now, by state: %s.", many, what), label, nil),
		seconds: prometheus.NewDesc("lambent_"+one+"_state_seconds_total",
			fmt.Sprintf("Time all %s together have spent in each state, this moment included. Its rate is how many were in that state on average.", many), label, nil),
		entries: prometheus.NewDesc("lambent_"+one+"_state_entries_total",
			fmt.Sprintf("How often %s entered each state. The rate of the seconds over that of this is how long they stay.", many), label, nil)}
	for _, state := range all {
		s.names = append(s.names, state.String())
	}
	return s
}

func (s *states) change(id, to string) {
	now := s.now()
	at := slices.Index(s.names, to)
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, known := s.things[id]; known {
		s.left[old.state] += now - old.since
	}
	if at >= 0 {
		s.entered[at]++
	}
	if at < 0 || at == s.final {
		delete(s.things, id)
		return
	}
	s.things[id] = stay{at, now}
}

// collect makes the metrics. Every state has its series, also while nothing is
// in it.
func (s *states) collect(out chan<- prometheus.Metric, there map[string]int) {
	now := s.now()
	s.mu.Lock()
	spent, entered := slices.Clone(s.left), slices.Clone(s.entered)
	for _, t := range s.things {
		spent[t.state] += max(0, now-t.since)
	}
	s.mu.Unlock()
	for k, name := range s.names {
		out <- prometheus.MustNewConstMetric(s.entries, prometheus.CounterValue, float64(entered[k]), name)
		if k == s.final {
			continue
		}
		out <- prometheus.MustNewConstMetric(s.count, prometheus.GaugeValue, float64(there[name]), name)
		out <- prometheus.MustNewConstMetric(s.seconds, prometheus.CounterValue, spent[k].Seconds(), name)
	}
}
