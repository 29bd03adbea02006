package obs

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lambent"
)

// EventCount is what a function has in the queue of asynchronous calls.
type EventCount struct {
	Account  lambent.AccountID
	Function lambent.FunctionName
	Waiting  int           // could be taken now
	Delayed  int           // wait for their time: that of a retry
	UnderWay int           // are being worked on, waiting for a container included
	Oldest   time.Duration // age of the one whose turn is next; 0: none waits
}

// maxEventLabels bounds the functions that have series of their own: those with
// the most events. The others are one, whose labels are empty.
const maxEventLabels = 500

// EventOptions say what is shown of asynchronous calls.
type EventOptions struct {
	// Reasons are those for which an event fails, or comes again: the values of
	// labels. Any other counts as "other".
	Reasons []string
	// Ask tells of what is in the queue, and of the bytes of its journal on the
	// disk, at each scrape.
	Ask func() (counts []EventCount, bytes int64)
}

// Events counts what becomes of asynchronous calls. Each of its methods is an
// atomic addition. Safe for concurrent use.
type Events struct {
	accepted    labelled[prometheus.Counter]
	settled     labelled[prometheus.Counter]
	retried     labelled[prometheus.Counter]
	undelivered prometheus.Counter
}

// WatchEvents has the metrics show what becomes of asynchronous calls. It is
// called once.
func (m *Metrics) WatchEvents(o EventOptions) *Events {
	accepted := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_events_accepted_total",
		Help: "Events of asynchronous calls that are on the disk, by who sent them: a caller, the failure store (redrive), or another event's record (destination)."}, []string{"source"})
	settled := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_events_settled_total",
		Help: "Events that are done with, by outcome: success, or the reason for which they are failures for good."}, []string{"outcome"})
	retried := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_event_retries_total",
		Help: "How often an event is to come again, by reason. throttled and no_capacity are waits of a whole line, and no attempts."}, []string{"reason"})
	e := &Events{
		accepted: newLabelled(func(v ...string) prometheus.Counter { return accepted.WithLabelValues(v...) }, "caller", "redrive", "destination"),
		settled:  newLabelled(func(v ...string) prometheus.Counter { return settled.WithLabelValues(v...) }, append([]string{"success"}, o.Reasons...)...),
		retried:  newLabelled(func(v ...string) prometheus.Counter { return retried.WithLabelValues(v...) }, slices.Clone(o.Reasons)...),
		undelivered: prometheus.NewCounter(prometheus.CounterOpts{Name: "lambent_event_records_undelivered_total",
			Help: "How often a destination or dead-letter target did not take a record. It is tried again for some 17 minutes, and kept as a failure then."}),
	}
	labels := []string{"account", "function"}
	m.registry.MustRegister(accepted, settled, retried, e.undelivered, &eventCensus{
		ask:    o.Ask,
		count:  prometheus.NewDesc("lambent_events", "Events in the queue, by function and state: waiting for their turn, delayed until a retry is due, or under_way.", append(labels, "state"), nil),
		oldest: prometheus.NewDesc("lambent_events_oldest_seconds", "How long ago the event was accepted whose turn is next. It grows while a function is throttled or slower than its callers.", labels, nil),
		bytes:  prometheus.NewDesc("lambent_event_queue_bytes", "What the queue of events takes on the disk.", nil, nil),
	})
	return e
}

// Accepted counts an event that is on the disk, by who sent it; "" is a caller.
func (e *Events) Accepted(source string) { e.accepted.of(cmp.Or(source, "caller")).Inc() }

// Settled counts an event that is done with; "" is success.
func (e *Events) Settled(reason string) { e.settled.of(cmp.Or(reason, "success")).Inc() }

// Retried counts an event that is to come again.
func (e *Events) Retried(reason string) { e.retried.of(reason).Inc() }

// Undelivered counts a record that was not taken, this time.
func (e *Events) Undelivered() { e.undelivered.Inc() }

// eventCensus collects at each scrape.
type eventCensus struct {
	ask                  func() ([]EventCount, int64)
	count, oldest, bytes *prometheus.Desc
}

// Describe lists the metrics.
func (c *eventCensus) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.count, c.oldest, c.bytes} {
		out <- d
	}
}

// Collect makes the metrics.
func (c *eventCensus) Collect(out chan<- prometheus.Metric) {
	counts, bytes := c.ask()
	out <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(bytes))
	all := func(e EventCount) int { return e.Waiting + e.Delayed + e.UnderWay }
	slices.SortFunc(counts, func(a, b EventCount) int {
		return cmp.Or(cmp.Compare(all(b), all(a)), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function))
	})
	if len(counts) > maxEventLabels {
		others := EventCount{}
		for _, e := range counts[maxEventLabels:] {
			others.Waiting += e.Waiting
			others.Delayed += e.Delayed
			others.UnderWay += e.UnderWay
			others.Oldest = max(others.Oldest, e.Oldest)
		}
		counts = append(counts[:maxEventLabels:maxEventLabels], others)
	}
	for _, e := range counts {
		account, function := string(e.Account), string(e.Function)
		out <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(e.Waiting), account, function, "waiting")
		out <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(e.Delayed), account, function, "delayed")
		out <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(e.UnderWay), account, function, "under_way")
		out <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, seconds(e.Oldest), account, function)
	}
}
