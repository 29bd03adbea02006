package obs

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lambent"
)

// MetricsOptions are what Metrics are made of.
type MetricsOptions struct {
	Census func() Census // asked at each scrape; nil: nothing is there
	Lost   func() int64  // execution records that were lost so far; nil: none
	Log    *slog.Logger  // what goes wrong in a scrape; nil: nowhere
}

// Metrics counts what the platform does. No label's value comes from a caller,
// so their number is fixed, whatever accounts and functions there are; but for
// those of failures and events, which are bounded. Safe for
// use by several goroutines.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger

	starts      labelled[prometheus.Counter]
	latency     labelled[prometheus.Observer]
	invocations labelled[prometheus.Counter]
	throttles   labelled[prometheus.Counter]
	duration    prometheus.Histogram
	eventAge    prometheus.Histogram
	queue       prometheus.Gauge
	instances   *states
	containers  *states
}

// labelled holds one metric for each value of its label, looked up once.
type labelled[M any] struct {
	values []string
	each   []M
}

// other is the value for what there is none for.
const other = "other"

func newLabelled[M any](with func(...string) M, values ...string) labelled[M] {
	l := labelled[M]{values: append(values, other)}
	for _, v := range l.values {
		l.each = append(l.each, with(v))
	}
	return l
}

func (l *labelled[M]) of(value string) M {
	last := len(l.values) - 1
	for i, v := range l.values[:last] {
		if v == value {
			return l.each[i]
		}
	}
	return l.each[last]
}

// throttleReasons are AWS's (API reference, TooManyRequestsException, Reason).
func throttleReasons() []string {
	return []string{"ConcurrentInvocationLimitExceeded", "ReservedFunctionConcurrentInvocationLimitExceeded",
		"FunctionInvocationRateLimitExceeded", "ReservedFunctionInvocationRateLimitExceeded",
		"CallerRateLimitExceeded", "ConcurrentSnapshotCreateLimitExceeded"}
}

// outcomes are all there are.
func outcomes() (names []string) {
	for o := lambent.OutcomeSuccess; o <= lambent.OutcomeAbandoned; o++ {
		names = append(names, o.String())
	}
	return names
}

// startBuckets reach from a reused container (0.2 ms) over a warm instance
// (10 ms) and a boot (300 ms) to a queue.
func startBuckets() []float64 {
	return []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// eventBuckets reach to the greatest age an event can have, 6 hours.
func eventBuckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 21600}
}

// durationBuckets reach to the longest timeout a function can have.
func durationBuckets() []float64 {
	return []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, lambent.MaxTimeoutSecs}
}

// NewMetrics makes the metrics in a registry of their own.
func NewMetrics(opts MetricsOptions) *Metrics {
	if opts.Census == nil {
		opts.Census = func() Census { return Census{} }
	}
	if opts.Lost == nil {
		opts.Lost = func() int64 { return 0 }
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), log: opts.Log}

	var kinds []string
	for _, k := range startKinds() {
		kinds = append(kinds, string(k))
	}
	starts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_starts_total",
		Help: "Executions by how they got their container (kind), failed starts included. container_reuse is a warm call; " +
			"warm_pool and new_container are cold ones made fast; on_demand means that nothing was ready: raise the pool's target if it grows."}, []string{"kind"})
	m.starts = newLabelled(func(v ...string) prometheus.Counter { return starts.WithLabelValues(v...) }, kinds...)

	latency := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lambent_start_latency_seconds", Buckets: startBuckets(),
		Help: "Time from a synchronous request's arrival until its function was handed the event, by start kind: all that the platform adds before the function's own code, waiting for a container included."},
		[]string{"kind"})
	m.latency = newLabelled(func(v ...string) prometheus.Observer { return latency.WithLabelValues(v...) }, kinds...)

	m.duration = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lambent_execution_duration_seconds", Buckets: durationBuckets(),
		Help: "Time from the handing over of the event until the execution ended: the function's own time, failures and timeouts included."})

	m.eventAge = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lambent_event_latency_seconds", Buckets: eventBuckets(),
		Help: "Time from an asynchronous call's acceptance until its function was handed the event; of a retry, from its turn. Backlogs and throttles show here."})

	invocations := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_invocations_total",
		Help: "Invocations for which a container was asked, by outcome. function_error and timed_out are the function's doing, throttled means a limit or no room, lost is the platform's fault: alert on it."},
		[]string{"outcome"})
	m.invocations = newLabelled(func(v ...string) prometheus.Counter { return invocations.WithLabelValues(v...) }, outcomes()...)

	throttles := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lambent_throttles_total",
		Help: "Refused invocations (HTTP 429) by AWS's reason. ConcurrentInvocationLimitExceeded: the machine is full or the caller gave up waiting; " +
			"ReservedFunctionConcurrentInvocationLimitExceeded: the function's own limit."}, []string{"reason"})
	m.throttles = newLabelled(func(v ...string) prometheus.Counter { return throttles.WithLabelValues(v...) }, throttleReasons()...)

	m.queue = prometheus.NewGauge(prometheus.GaugeOpts{Name: "lambent_queue_length",
		Help: "Invocations that wait for a container now, whether one is being started for them or there is no room. More than an instant above 0 is what callers feel as a slow start."})

	m.instances = newStates("instance", "instances", "sandboxes, each with a kernel of its own; warm ones are of no account yet",
		lambent.InstanceCreating, lambent.InstanceWarm, lambent.InstanceActive, lambent.InstanceDraining, lambent.InstanceLost, lambent.InstanceGone)
	m.containers = newStates("container", "containers", "one function version each; those of a warm instance are starting: their runtime waits for code",
		lambent.ContainerStarting, lambent.ContainerIdle, lambent.ContainerBusy, lambent.ContainerFrozen, lambent.ContainerStopped)

	m.registry.MustRegister(starts, latency, m.duration, m.eventAge, invocations, throttles, m.queue,
		&census{ask: opts.Census, lost: opts.Lost, instances: m.instances, containers: m.containers,
			ready: prometheus.NewDesc("lambent_pool_ready", "Warm instances that are ready, by configuration. 0 means that the next new function waits for a boot.",
				[]string{"configuration"}, nil),
			target: prometheus.NewDesc("lambent_pool_target", "Warm instances that are to be kept ready, by configuration: pool.… of the configuration.",
				[]string{"configuration"}, nil),
			losses: prometheus.NewDesc("lambent_execution_records_lost_total", "Execution records that could not be kept, because the disk did not take them in time.", nil, nil)},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler serves the metrics in Prometheus' text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(m.log.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4, // each is a census of all instances
	})
}

// Waiting tells that so many more calls, or fewer, wait for a container.
func (m *Metrics) Waiting(delta int) { m.queue.Add(float64(delta)) }

// Executed counts one invocation.
func (m *Metrics) Executed(e *Execution) {
	m.invocations.of(e.Outcome.String()).Inc()
	if e.Outcome == lambent.OutcomeThrottled {
		m.throttles.of(e.Error).Inc()
	}
	if e.StartKind == "" {
		return
	}
	m.starts.of(string(e.StartKind)).Inc()
	if e.ExecStartedAt.IsZero() {
		return
	}
	if waited := seconds(e.ExecStartedAt.Sub(e.ReceivedAt)); e.Asynchronous {
		m.eventAge.Observe(waited)
	} else {
		m.latency.of(string(e.StartKind)).Observe(waited)
	}
	m.duration.Observe(seconds(e.FinishedAt.Sub(e.ExecStartedAt)))
}

// seconds is d, not below 0: wall clocks can go back.
func seconds(d time.Duration) float64 { return max(0, d.Seconds()) }

// InstanceBecame tells that an instance entered a state, by the name that
// lambent.InstanceState gives it.
func (m *Metrics) InstanceBecame(id lambent.InstanceID, state string) {
	m.instances.change(string(id), state)
}

// ContainerBecame tells that a container entered a state, by the name that
// lambent.ContainerState gives it.
func (m *Metrics) ContainerBecame(id lambent.ContainerID, state string) {
	m.containers.change(string(id), state)
}

// Recorder is what becomes of an invocation's record: it is counted and kept.
type Recorder struct {
	Metrics    *Metrics
	Executions *Store
}

// Waiting tells that so many more calls, or fewer, wait for a container.
func (r Recorder) Waiting(delta int) { r.Metrics.Waiting(delta) }

// Executed takes the record of an invocation that was settled.
func (r Recorder) Executed(e Execution) {
	r.Metrics.Executed(&e)
	r.Executions.Add(&e)
}
