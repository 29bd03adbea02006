package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/obs"
)

// fakeExecutions notes what was wanted and delivers what it has.
type fakeExecutions struct {
	want    obs.Query
	records []obs.Execution
}

func (f *fakeExecutions) Newest(_ context.Context, want obs.Query, deliver func(*obs.Execution) error) error {
	f.want = want
	for k := range f.records {
		if err := deliver(&f.records[k]); err != nil {
			return err
		}
	}
	return nil
}

const (
	asOperator = ""
	asAccount  = "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
)

// ask asks from this machine.
func (d *door) ask(t testing.TB, target, authorization string) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:5", "127.0.0.1:4566"
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), raw: rec.Body.String()}
	if strings.HasPrefix(a.raw, "{") {
		if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
			t.Errorf("GET %s: %v", target, err)
		}
	}
	return a
}

func TestExecutionsAreListedAsTheContractHasThem(t *testing.T) {
	at := time.Date(2026, 11, 21, 6, 7, 8, 123456789, time.FixedZone("", 3600))
	d, f := newDoor(t), &fakeExecutions{records: []obs.Execution{
		{RequestID: "r1", Account: "123456789012", Function: "f", Version: "$LATEST", ReceivedAt: at, ExecStartedAt: at.Add(time.Millisecond), FinishedAt: at.Add(time.Second),
			StartKind: lambent.StartWarm, Reason: "took a <warm> one", Pool: "nodejs", Instance: "i-1", Container: "c-1", MemoryMB: 128, MaxMemoryUsedMB: 40,
			CPU: 1500 * time.Microsecond, Outcome: lambent.OutcomeFunctionError, Error: "Oops"},
		{RequestID: "r2", Account: "123456789012", Function: "f", Version: "7", ReceivedAt: at, FinishedAt: at, Reason: "full", Outcome: lambent.OutcomeThrottled,
			Error: "ConcurrentInvocationLimitExceeded", MemoryMB: 128},
	}}
	d.HandleExecutions(f)
	got := d.ask(t, "/_lambent/v1/executions", asOperator)
	want := `[{"request_id":"r1","account":"123456789012","function":"f","version":"$LATEST","invocation_type":"RequestResponse","requested_version":"$LATEST","received_at":"2026-11-21T05:07:08.123456789Z",` +
		`"exec_started_at":"2026-11-21T05:07:08.124456789Z","finished_at":"2026-11-21T05:07:09.123456789Z","start_kind":"warm_pool","reason":"took a <warm> one",` +
		`"pool":"nodejs","instance_id":"i-1","container_id":"c-1","memory_mb":128,"max_memory_used_mb":40,"cpu_ms":1.5,"status":"function_error","error":"Oops"}` + "\n" +
		`,{"request_id":"r2","account":"123456789012","function":"f","version":"7","invocation_type":"RequestResponse","requested_version":"7","received_at":"2026-11-21T05:07:08.123456789Z",` +
		`"exec_started_at":null,"finished_at":"2026-11-21T05:07:08.123456789Z","start_kind":"","reason":"full",` +
		`"pool":"","instance_id":"","container_id":"","memory_mb":128,"max_memory_used_mb":0,"cpu_ms":0,"status":"throttled","error":"ConcurrentInvocationLimitExceeded"}` + "\n]\n"
	if diff := cmp.Diff(want, got.raw); diff != "" || got.status != 200 || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d (-want +got):\n%s", got.status, diff)
	}
	f.records = nil
	if got := d.ask(t, "/_lambent/v1/executions", asOperator); got.raw != "[]\n" {
		t.Errorf("nothing is listed as %q", got.raw)
	}
}

func TestSecurityAnAccountSeesItsOwnExecutionsAndTheOperatorAll(t *testing.T) {
	d, f := newDoor(t), &fakeExecutions{}
	d.HandleExecutions(f)
	for _, tc := range []struct {
		query, authorization string
		want                 obs.Query
	}{
		{"", asOperator, obs.Query{Limit: 100}},
		{"", asAccount, obs.Query{Limit: 100, Account: "123456789012"}},
		{"?function=f&limit=7", asOperator, obs.Query{Limit: 7, Function: "f"}},
		{"?function=f&limit=100000", asAccount, obs.Query{Limit: 100_000, Function: "f", Account: "123456789012"}},
		{"?account=210987654321&request_id=r", asOperator, obs.Query{Limit: 100, Account: "210987654321", RequestID: "r"}},
		{"?account=123456789012", asAccount, obs.Query{Limit: 100, Account: "123456789012"}},
	} {
		f.want = obs.Query{}
		got := d.ask(t, "/_lambent/v1/executions"+tc.query, tc.authorization)
		if diff := cmp.Diff(tc.want, f.want); diff != "" || got.status != 200 {
			t.Errorf("%q: %d %s (-want +got):\n%s", tc.query, got.status, got.raw, diff)
		}
	}
	f.want = obs.Query{}
	got := d.ask(t, "/_lambent/v1/executions?account=210987654321", asAccount)
	got.wantError(t, 403, "AccessDeniedException")
	if f.want != (obs.Query{}) {
		t.Errorf("the store was asked for %+v", f.want)
	}
	// From another machine nobody is the operator.
	got = d.do(t, "GET", "http://192.0.2.1/_lambent/v1/executions", "")
	if got.status != 200 || f.want.Account != lambent.DefaultAccount {
		t.Errorf("from elsewhere: %d, asked for %+v", got.status, f.want)
	}
}

func TestBadQueriesForExecutionsAreRefusedWithTheBound(t *testing.T) {
	d, f := newDoor(t), &fakeExecutions{}
	d.HandleExecutions(f)
	for query, want := range map[string]string{
		"limit=0":                    "limit is '0'; it must be a whole number from 1 to 100000 (without it: 100)",
		"limit=100001":               "from 1 to 100000",
		"limit=-1":                   "from 1 to 100000",
		"limit=":                     "from 1 to 100000",
		"limit=many":                 "from 1 to 100000",
		"limit=1e3":                  "from 1 to 100000",
		"limit=99999999999999999999": "from 1 to 100000",
		"function=":                  "it must be a function's name alone",
		"function=a%2Fb":             "it must be a function's name alone",
		"function=f:1":               "it must be a function's name alone",
		"account=1234":               "it must be 12 digits",
		"functon=f":                  "There is no parameter 'functon' here",
	} {
		got := d.ask(t, "/_lambent/v1/executions?"+query, asOperator)
		if message := got.wantError(t, 400, "InvalidParameterValueException"); !strings.Contains(message, want) {
			t.Errorf("%s: %q lacks %q", query, message, want)
		}
	}
}

// leaving is a caller that goes away.
type leaving struct{ discardWriter }

func (*leaving) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestACallerOfExecutionsThatGoesAwayEndsTheReading(t *testing.T) {
	d, f := newDoor(t), &fakeExecutions{records: make([]obs.Execution, 100_000)}
	delivered := 0
	d.HandleExecutions(executionsFunc(func(ctx context.Context, want obs.Query, deliver func(*obs.Execution) error) error {
		return f.Newest(ctx, want, func(e *obs.Execution) error { delivered++; return deliver(e) })
	}))
	r := httptest.NewRequest("GET", "http://127.0.0.1/_lambent/v1/executions", nil)
	d.ServeHTTP(&leaving{discardWriter{header: http.Header{}}}, r)
	if delivered > 1000 {
		t.Errorf("%d records were read for nobody", delivered)
	}
}

type executionsFunc func(context.Context, obs.Query, func(*obs.Execution) error) error

func (f executionsFunc) Newest(ctx context.Context, want obs.Query, deliver func(*obs.Execution) error) error {
	return f(ctx, want, deliver)
}

func TestSecurityMetricsAreTheOperators(t *testing.T) {
	d := newDoor(t)
	d.HandleMetrics(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "lambent_up 1\n") }))
	if got := d.ask(t, "/_lambent/metrics", asOperator); got.status != 200 || got.raw != "lambent_up 1\n" {
		t.Errorf("the operator gets %d %q", got.status, got.raw)
	}
	got := d.ask(t, "/_lambent/metrics", asAccount)
	if message := got.wantError(t, 403, "AccessDeniedException"); !strings.Contains(message, "without credentials") {
		t.Errorf("an account is told %q", message)
	}
	got = d.do(t, "GET", "http://192.0.2.1/_lambent/metrics", "")
	got.wantError(t, 403, "AccessDeniedException")
}
