package obs

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"lambent"
)

// scrape gives every sample of our own, by its name and labels as they are
// printed, and the whole text.
func scrape(t testing.TB, m *Metrics) (map[string]float64, string) {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	text := rec.Body.String()
	samples := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasPrefix(name, "lambent_") {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		samples[name] = n
	}
	return samples, text
}

// more are the samples that changed, without buckets.
func more(before, after map[string]float64) map[string]float64 {
	out := map[string]float64{}
	for name, n := range after {
		if n != before[name] && !strings.Contains(name, "_bucket{") {
			out[name] = n - before[name]
		}
	}
	return out
}

func TestMetricsCountWhatWasDone(t *testing.T) {
	m := NewMetrics(MetricsOptions{
		Census: func() Census {
			return Census{Pools: []PoolCount{{"nodejs", 1, 2}, {"python", 0, 1}, {"nodejs", 2, 3}},
				Instances: map[string]int{"warm": 3, "active": 2}, Containers: map[string]int{"busy": 1}}
		},
		Lost: func() int64 { return 9 },
	})
	before, _ := scrape(t, m)
	for name, want := range map[string]float64{
		`lambent_pool_ready{configuration="nodejs"}`: 3, `lambent_pool_target{configuration="nodejs"}`: 5,
		`lambent_pool_ready{configuration="python"}`: 0, `lambent_pool_target{configuration="python"}`: 1,
		`lambent_instances{state="warm"}`: 3, `lambent_instances{state="active"}`: 2, `lambent_instances{state="lost"}`: 0,
		`lambent_containers{state="busy"}`: 1, `lambent_containers{state="idle"}`: 0,
		`lambent_execution_records_lost_total`: 9,
	} {
		if got, there := before[name]; !there || got != want {
			t.Errorf("%s is %v, %v, want %v", name, got, there, want)
		}
	}

	warm := usual() // 0.2 ms until it started, 0.7 ms on
	cold := usual()
	cold.StartKind, cold.Outcome = lambent.StartWarm, lambent.OutcomeFunctionError
	failed := usual() // before it was handed its event
	failed.StartKind, failed.Outcome, failed.ExecStartedAt = lambent.StartOnDemand, lambent.OutcomeTimedOut, time.Time{}
	throttled := Execution{Outcome: lambent.OutcomeThrottled, Error: "ConcurrentInvocationLimitExceeded"}
	unknown := Execution{Outcome: lambent.OutcomeThrottled, Error: "of a later version", StartKind: "teleported"}
	for _, e := range []Execution{warm, warm, cold, failed, throttled, unknown} {
		m.Executed(&e)
	}
	m.Waiting(1)
	m.Waiting(1)
	m.Waiting(-1)
	after, _ := scrape(t, m)
	want := map[string]float64{
		`lambent_starts_total{kind="container_reuse"}`: 2, `lambent_starts_total{kind="warm_pool"}`: 1,
		`lambent_starts_total{kind="on_demand"}`: 1, `lambent_starts_total{kind="other"}`: 1,
		`lambent_start_latency_seconds_count{kind="container_reuse"}`: 2, `lambent_start_latency_seconds_sum{kind="container_reuse"}`: 0.0004,
		`lambent_start_latency_seconds_count{kind="warm_pool"}`: 1, `lambent_start_latency_seconds_sum{kind="warm_pool"}`: 0.0002,
		`lambent_execution_duration_seconds_count`: 3, `lambent_execution_duration_seconds_sum`: 0.0021,
		`lambent_invocations_total{outcome="success"}`: 2, `lambent_invocations_total{outcome="function_error"}`: 1,
		`lambent_invocations_total{outcome="timed_out"}`: 1, `lambent_invocations_total{outcome="throttled"}`: 2,
		`lambent_throttles_total{reason="ConcurrentInvocationLimitExceeded"}`: 1, `lambent_throttles_total{reason="other"}`: 1,
		`lambent_queue_length`: 1,
	}
	near := cmp.Comparer(func(a, b float64) bool { return max(a-b, b-a) < 1e-9 })
	if diff := cmp.Diff(want, more(before, after), near); diff != "" {
		t.Errorf("what was counted (-want +got):\n%s", diff)
	}
	if got := after[`lambent_start_latency_seconds_bucket{kind="container_reuse",le="0.0001"}`]; got != 0 {
		t.Errorf("%v starts took less than 0.1 ms", got)
	}
	if got := after[`lambent_start_latency_seconds_bucket{kind="container_reuse",le="0.00025"}`]; got != 2 {
		t.Errorf("%v starts took less than 0.25 ms, want 2", got)
	}
}

func TestTimeInStatesAddsUp(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	now := time.Duration(0)
	m.containers.now = func() time.Duration { return now }
	at := func(second int, id lambent.ContainerID, state string) {
		now = time.Duration(second) * time.Second
		m.ContainerBecame(id, state)
	}
	at(0, "a", "idle")
	at(1, "b", "busy")
	at(3, "a", "busy")
	at(4, "a", "idle")
	at(5, "b", "stopped")
	at(5, "c", "stopped") // never seen before
	at(5, "d", "melted")  // no such state
	now = 10 * time.Second
	got, _ := scrape(t, m)
	for name, want := range map[string]float64{
		`lambent_container_state_seconds_total{state="idle"}`: 3 + 6, `lambent_container_state_seconds_total{state="busy"}`: 4 + 1,
		`lambent_container_state_seconds_total{state="starting"}`: 0,
		`lambent_container_state_entries_total{state="idle"}`:     2, `lambent_container_state_entries_total{state="busy"}`: 2,
		`lambent_container_state_entries_total{state="stopped"}`: 2, `lambent_container_state_entries_total{state="frozen"}`: 0,
	} {
		if n, there := got[name]; !there || n != want {
			t.Errorf("%s is %v, %v, want %v", name, n, there, want)
		}
	}
	m.containers.mu.Lock()
	defer m.containers.mu.Unlock()
	if len(m.containers.things) != 1 {
		t.Errorf("%d containers are remembered, want 1", len(m.containers.things))
	}
}

func TestMetricsKeepPrometheusRulesAndTeach(t *testing.T) {
	m := NewMetrics(MetricsOptions{Census: func() Census { return Census{Pools: []PoolCount{{"nodejs", 1, 1}}} }})
	_, text := scrape(t, m)
	var own bytes.Buffer
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimLeft(line, "# HELPTY"), "lambent_") {
			own.WriteString(line)
		}
		if rest, is := strings.CutPrefix(line, "# HELP lambent_"); is {
			name, help, _ := strings.Cut(rest, " ")
			if names[name] = true; len(help) < 60 {
				t.Errorf("the help of lambent_%s teaches little: %s", name, help)
			}
		}
	}
	problems, err := promlint.New(&own).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if len(names) != 16 {
		t.Errorf("there are %d metrics of our own: %v", len(names), names)
	}
	for _, theirs := range []string{"go_goroutines", "process_resident_memory_bytes", "process_cpu_seconds_total"} {
		if !strings.Contains(text, "\n"+theirs+" ") {
			t.Errorf("%s is missing", theirs)
		}
	}
}

func TestSecurityNoLabelComesFromACaller(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	_, before := scrape(t, m)
	hostile := usual()
	hostile.Function, hostile.Account, hostile.Error = "secret", "210987654321", `x"} 1`
	hostile.StartKind, hostile.Reason = "secret", "secret"
	for o := range lambent.Outcome(200) {
		hostile.Outcome = o
		m.Executed(&hostile)
	}
	_, after := scrape(t, m)
	count := func(text string) int { return strings.Count(text, "\nlambent_") }
	if count(before) != count(after) || strings.Contains(after, "secret") || strings.Contains(after, "210987654321") {
		t.Errorf("%d series became %d, or one names a caller", count(before), count(after))
	}
}

func TestMetricsMayBeCountedAndScrapedAtOnce(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	s := openStore(t, StoreOptions{})
	r := Recorder{Metrics: m, Executions: s}
	var wg sync.WaitGroup
	const each = 500
	for range 4 {
		wg.Go(func() {
			for range each {
				r.Waiting(1)
				m.ContainerBecame("c-1", "busy")
				r.Waiting(-1)
				r.Executed(*numbered(1))
				m.ContainerBecame("c-1", "idle")
				m.InstanceBecame("i-1", "active")
			}
		})
	}
	for range 10 {
		scrape(t, m)
	}
	wg.Wait()
	got, _ := scrape(t, m)
	if got[`lambent_invocations_total{outcome="success"}`] != 4*each || got[`lambent_queue_length`] != 0 {
		t.Errorf("counted %v", got)
	}
	if n := len(newest(t, s, Query{Limit: 10_000})); n != 4*each {
		t.Errorf("%d are recorded", n)
	}
}

func BenchmarkExecuted(b *testing.B) {
	m := NewMetrics(MetricsOptions{})
	e := usual()
	b.ReportAllocs()
	for b.Loop() {
		m.Executed(&e)
	}
}

// BenchmarkWholeCall is all that a warm call pays for being seen.
func BenchmarkWholeCall(b *testing.B) {
	m := NewMetrics(MetricsOptions{})
	s := openStore(b, StoreOptions{})
	var r interface { // as package invoke has it
		Waiting(int)
		Executed(Execution)
	} = Recorder{Metrics: m, Executions: s}
	e := usual()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r.Waiting(1)
		r.Waiting(-1)
		m.ContainerBecame(e.Container, "busy")
		m.ContainerBecame(e.Container, "idle")
		r.Executed(e)
		if n++; n%1000 == 0 {
			b.StopTimer()
			s.flush()
			b.StartTimer()
		}
	}
}
