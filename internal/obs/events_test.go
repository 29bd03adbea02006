package obs

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lambent"
)

func TestEventsAreCountedByOutcomeAndByFunctionUpToABound(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	counts := []EventCount{{"000000000001", "pay", 7, 2, 1, time.Hour}}
	e := m.WatchEvents(EventOptions{Reasons: []string{"timeout", "throttled"}, Ask: func() ([]EventCount, int64) { return counts, 1234 }})
	e.Accepted("")
	e.Accepted("")
	e.Accepted("redrive")
	e.Settled("")
	e.Settled("timeout")
	e.Settled("what nobody knows")
	e.Retried("throttled")
	e.Undelivered()
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Body.String()
	}
	got := scrape()
	for _, want := range []string{
		`lambent_events_accepted_total{source="caller"} 2`, `lambent_events_accepted_total{source="redrive"} 1`, `lambent_events_accepted_total{source="destination"} 0`,
		`lambent_events_settled_total{outcome="success"} 1`, `lambent_events_settled_total{outcome="timeout"} 1`, `lambent_events_settled_total{outcome="other"} 1`,
		`lambent_event_retries_total{reason="throttled"} 1`, `lambent_event_retries_total{reason="timeout"} 0`, `lambent_event_records_undelivered_total 1`,
		`lambent_events{account="000000000001",function="pay",state="waiting"} 7`, `lambent_events{account="000000000001",function="pay",state="delayed"} 2`,
		`lambent_events{account="000000000001",function="pay",state="under_way"} 1`, `lambent_events_oldest_seconds{account="000000000001",function="pay"} 3600`,
		`lambent_event_queue_bytes 1234`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	for i := range maxEventLabels + 9 {
		counts = append(counts, EventCount{"000000000002", lambent.FunctionName(fmt.Sprintf("f%d", i)), 1, 0, 0, time.Second})
	}
	got = scrape()
	if n := strings.Count(got, "\nlambent_events_oldest_seconds{"); n != maxEventLabels+1 {
		t.Errorf("%d functions have a series", n)
	}
	if !strings.Contains(got, `lambent_events{account="",function="",state="waiting"} 10`) {
		t.Error("the others are not added up")
	}
}

// What an event waits in its line is no start of lambent's being slow.
func TestWhatEventsWaitIsAFigureOfItsOwn(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	began := time.Now()
	for _, asynchronous := range []bool{false, true} {
		e := Execution{ReceivedAt: began, ExecStartedAt: began.Add(2 * time.Millisecond), FinishedAt: began.Add(time.Second), StartKind: lambent.StartReuse, Asynchronous: asynchronous}
		if asynchronous {
			e.ExecStartedAt, e.FinishedAt = began.Add(100*time.Second), began.Add(101*time.Second)
		}
		m.Executed(&e)
	}
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, want := range []string{
		`lambent_start_latency_seconds_count{kind="container_reuse"} 1`, `lambent_start_latency_seconds_sum{kind="container_reuse"} 0.002`,
		`lambent_event_latency_seconds_count 1`, `lambent_event_latency_seconds_sum 100`, `lambent_starts_total{kind="container_reuse"} 2`,
	} {
		if !strings.Contains(w.Body.String(), want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
}
