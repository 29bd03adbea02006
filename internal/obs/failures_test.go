package obs

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lambent"
)

func TestFailuresAreCountedByFunctionUpToABound(t *testing.T) {
	m := NewMetrics(MetricsOptions{})
	counts := []FailureCount{{"000000000001", "pay", 7, 2, time.Now().Add(-time.Hour)}}
	m.WatchFailures(func() ([]FailureCount, int64) { return counts, 1234 })
	scrape := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Body.String()
	}
	got := scrape()
	for _, want := range []string{
		`lambent_failures{account="000000000001",function="pay"} 7`, `lambent_failures_redriving{account="000000000001",function="pay"} 2`,
		`lambent_failures_oldest_seconds{account="000000000001",function="pay"} 3600`, `lambent_failure_store_bytes 1234`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %s", want)
		}
	}
	for i := range maxFailureLabels + 9 {
		counts = append(counts, FailureCount{"000000000002", lambent.FunctionName(fmt.Sprintf("f%d", i)), 1, 0, time.Now()})
	}
	got = scrape()
	if n := strings.Count(got, "\nlambent_failures{"); n != maxFailureLabels+1 {
		t.Errorf("%d functions have a series", n)
	}
	if !strings.Contains(got, `lambent_failures{account="",function=""} 10`) {
		t.Error("the others are not added up")
	}
}
