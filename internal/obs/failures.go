package obs

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lambent"
)

// FailureCount is what a function has in the store of failures.
type FailureCount struct {
	Account          lambent.AccountID
	Function         lambent.FunctionName
	Count, Redriving int
	Oldest           time.Time // when the one failed last that has been there for longest
}

// maxFailureLabels bounds the functions that have series of their own: those with
// the most failures. The others are one, whose labels are empty.
const maxFailureLabels = 500

// WatchFailures has the metrics show the failures that ask tells of at each
// scrape, and the bytes of their store on the disk. It is called once.
func (m *Metrics) WatchFailures(ask func() (counts []FailureCount, bytes int64)) {
	labels := []string{"account", "function"}
	m.registry.MustRegister(&failureCensus{
		ask:       ask,
		count:     prometheus.NewDesc("lambent_failures", "Requests in the failure store, by function. More than before means that a function fails, or what it needs does: lambent failures ls.", labels, nil),
		redriving: prometheus.NewDesc("lambent_failures_redriving", "Those of them that are in the queue again.", labels, nil),
		oldest:    prometheus.NewDesc("lambent_failures_oldest_seconds", "How long ago the one failed last that has been there for longest. It is removed at failures.retention.", labels, nil),
		bytes:     prometheus.NewDesc("lambent_failure_store_bytes", "What the failure store takes on the disk.", nil, nil),
	})
}

// failureCensus collects at each scrape.
type failureCensus struct {
	ask                             func() ([]FailureCount, int64)
	count, redriving, oldest, bytes *prometheus.Desc
}

// Describe lists the metrics.
func (c *failureCensus) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.count, c.redriving, c.oldest, c.bytes} {
		out <- d
	}
}

// Collect makes the metrics.
func (c *failureCensus) Collect(out chan<- prometheus.Metric) {
	counts, bytes := c.ask()
	out <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(bytes))
	slices.SortFunc(counts, func(a, b FailureCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Function, b.Function))
	})
	if len(counts) > maxFailureLabels {
		others := FailureCount{}
		for _, f := range counts[maxFailureLabels:] {
			others.Count += f.Count
			others.Redriving += f.Redriving
			if others.Oldest.IsZero() || f.Oldest.Before(others.Oldest) {
				others.Oldest = f.Oldest
			}
		}
		counts = append(counts[:maxFailureLabels:maxFailureLabels], others)
	}
	for _, f := range counts {
		of := []string{string(f.Account), string(f.Function)}
		out <- prometheus.MustNewConstMetric(c.count, prometheus.GaugeValue, float64(f.Count), of...)
		out <- prometheus.MustNewConstMetric(c.redriving, prometheus.GaugeValue, float64(f.Redriving), of...)
		out <- prometheus.MustNewConstMetric(c.oldest, prometheus.GaugeValue, seconds(time.Since(f.Oldest)), of...)
	}
}
