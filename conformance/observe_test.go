package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lambent/conformance/lab"
)

// onlyNode is a server that keeps one Node instance warm and nothing else.
func onlyNode() []string {
	return []string{"--pool-nodejs", "1", "--pool-python", "0", "--pool-provided", "0"}
}

// expect is the record that an answer's headers promise.
func expect(c *lab.Caller, name string, a *lab.Answer, memory int, status, failure string) lab.Execution {
	h := a.Header.Get
	e := lab.Execution{RequestID: a.RequestID(), Account: c.Account, Function: name, Version: h("X-Lambent-Served-Version"),
		ReceivedAt: h("X-Lambent-Received-At"), ExecStartedAt: h("X-Lambent-Exec-Started-At"), StartKind: h("X-Lambent-Start-Kind"), Reason: h("X-Lambent-Reason"),
		InstanceID: h("X-Lambent-Instance-Id"), ContainerID: a.ContainerID(), MemoryMB: memory, Status: status, Error: failure, RequestedVersion: h("X-Lambent-Requested-Version")}
	if e.StartKind == "warm_pool" {
		e.Pool = "nodejs"
	}
	return e
}

// Every invocation leaves a record that says what its answer's headers said, for
// its account and the operator alone, and still does after a kill -9.
func TestExecutionsAreRecordedForTheirAccountThroughAKill(t *testing.T) {
	t.Parallel()
	data := newData(t)
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: onlyNode()})
	c, other := s.Caller(t, fix.accounts.Next()), s.Caller(t, fix.accounts.Next())
	f := node(t).function("recorded")
	f.Memory, f.Timeout = 256, 1
	c.Create(t, f)
	broken := f
	broken.Name, broken.Zip = "broken", lab.File("index.mjs", "throw new RangeError('never')")
	other.Create(t, broken)

	var want []lab.Execution // the newest first
	add := func(e lab.Execution) { want = append([]lab.Execution{e}, want...) }
	for range 3 {
		_, a := lab.Do[int](t, c, f.Name, op{"op": "calls"})
		add(expect(c, f.Name, a, 256, "success", ""))
	}
	_, a := c.Fail(t, f.Name, op{"op": "throw"})
	add(expect(c, f.Name, a, 256, "function_error", "TypeError"))
	_, a = c.Fail(t, f.Name, op{"op": "exit", "status": 3})
	add(expect(c, f.Name, a, 256, "function_error", "Runtime.ExitError"))
	_, a = c.Fail(t, f.Name, op{"op": "sleep", "ms": 60_000})
	add(expect(c, f.Name, a, 256, "timed_out", "Sandbox.Timedout"))
	_, a = other.Fail(t, broken.Name, nil)
	failed := expect(other, broken.Name, a, 256, "function_error", "RangeError")
	if failed.ExecStartedAt != "" {
		t.Errorf("a start that failed was handed its event at %s", failed.ExecStartedAt)
	}

	check := func(s *lab.Server) {
		t.Helper()
		same := func(what string, got, want []lab.Execution, err error) {
			t.Helper()
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(lab.Execution{}, "FinishedAt", "MaxMemoryUsedMB", "CPUMillis")); err != nil || diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", what, err, diff)
			}
			for _, e := range got {
				received, err := time.Parse(time.RFC3339Nano, e.ReceivedAt)
				finished, err2 := time.Parse(time.RFC3339Nano, e.FinishedAt)
				if err != nil || err2 != nil || !finished.After(received) || e.MaxMemoryUsedMB <= 0 {
					t.Errorf("%s: received %s, finished %s, %d MB used", what, e.ReceivedAt, e.FinishedAt, e.MaxMemoryUsedMB)
				}
			}
		}
		as := func(c *lab.Caller, query string) ([]lab.Execution, error) {
			reply := s.Caller(t, c.Account).HTTP(t, http.MethodGet, "/_lambent/v1/executions"+query, nil)
			if reply.Status != http.StatusOK {
				return nil, fmt.Errorf("status %d: %s", reply.Status, reply.Body)
			}
			var out []lab.Execution
			return out, json.Unmarshal(reply.Body, &out)
		}
		got, err := as(c, "")
		same("the account's own", got, want, err)
		got, err = as(c, "?function=recorded&limit=2")
		same("the newest two", got, want[:2], err)
		got, err = as(c, "?request_id="+want[1].RequestID)
		same("one request", got, want[1:2], err)
		got, err = as(c, "?function=broken")
		same("another account's function", got, []lab.Execution{}, err)
		got, err = as(other, "")
		same("the other account's", got, []lab.Execution{failed}, err)
		got, err = s.Executions("limit=100000")
		same("the operator's", got, append([]lab.Execution{failed}, want...), err)
		got, err = s.Executions("account=" + c.Account)
		same("the operator's, of one account", got, want, err)
	}
	check(s)

	reply := other.HTTP(t, http.MethodGet, "/_lambent/v1/executions?account="+c.Account, nil)
	if reply.Status != http.StatusForbidden {
		t.Errorf("another account's executions: status %d: %s", reply.Status, reply.Body)
	}
	for _, limit := range []string{"0", "-1", "100001", "many", ""} {
		if reply := c.HTTP(t, http.MethodGet, "/_lambent/v1/executions?limit="+limit, nil); reply.Status != http.StatusBadRequest {
			t.Errorf("limit=%s: status %d: %s", limit, reply.Status, reply.Body)
		}
	}

	s.Kill()
	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: onlyNode()})
	check(s)
}

// A call that found no room until its caller gave up is recorded as abandoned,
// and nothing says that it was throttled: who leaves tells nothing of the machine.
func TestCallsWhoseCallerLeftAreRecordedAndCounted(t *testing.T) {
	t.Parallel()
	s := newServer(t, append(noPools, "--limits-instances", "1", "--instance-memory", "128")...)
	c := s.Caller(t, fix.accounts.Next())
	f := node(t).function("full")
	c.Create(t, f)
	busy := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), f.Name, op{"op": "sleep", "ms": 3000})
		busy <- err
	}()
	lab.Eventually(t, "the function runs", func() error {
		containers, err := s.Containers()
		if err == nil && !slices.ContainsFunc(containers, func(c lab.Container) bool { return c.State == "busy" }) { // one may be starting beside it
			err = fmt.Errorf("containers %+v", containers)
		}
		return err
	})
	ctx, giveUp := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer giveUp()
	if _, err := c.Call(ctx, f.Name, nil); err == nil {
		t.Fatal("a second call found room")
	}
	lab.Eventually(t, "the call that gave up is recorded", func() error {
		got, err := s.Executions("")
		if err != nil {
			return err
		}
		if len(got) != 1 {
			return fmt.Errorf("%d executions", len(got))
		}
		e := got[0]
		if e.Status != "abandoned" || e.Error != "" || e.StartKind != "" || e.ExecStartedAt != "" || e.Reason == "" || e.ContainerID != "" {
			t.Errorf("its record is %+v", e)
		}
		return nil
	})
	m, err := s.Metrics()
	if err != nil || m[`lambent_throttles_total{reason="ConcurrentInvocationLimitExceeded"}`] != 0 || m[`lambent_invocations_total{outcome="abandoned"}`] != 1 || m["lambent_queue_length"] != 0 {
		t.Errorf("%v: the metrics do not tell of it: %v", err, m)
	}
	if err := <-busy; err != nil {
		t.Error(err)
	}
}

// The metrics are the operator's, and their numbers are those of what was done.
func TestMetricsAgreeWithWhatWasDone(t *testing.T) {
	t.Parallel()
	s := newServer(t, onlyNode()...)
	c := s.Caller(t, fix.accounts.Next())
	f := node(t).function("counted")
	c.Create(t, f)
	s.AwaitSettled(t)
	const calls = 20
	for range calls {
		lab.Do[any](t, c, f.Name, op{"op": "nothing"})
	}
	c.Fail(t, f.Name, op{"op": "throw"})
	executions, err := s.Executions("limit=1000")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	kinds, waited := map[string]float64{}, map[string]float64{}
	for _, e := range executions {
		received, err := time.Parse(time.RFC3339Nano, e.ReceivedAt)
		if err != nil {
			t.Fatal(err)
		}
		started, err := time.Parse(time.RFC3339Nano, e.ExecStartedAt)
		if err != nil {
			t.Fatal(err)
		}
		kinds[e.StartKind]++
		waited[e.StartKind] += started.Sub(received).Seconds()
	}
	want := map[string]float64{
		`lambent_invocations_total{outcome="success"}`: calls, `lambent_invocations_total{outcome="function_error"}`: 1,
		`lambent_execution_duration_seconds_count`: calls + 1, `lambent_queue_length`: 0, `lambent_pool_target{configuration="nodejs"}`: 1,
		`lambent_instances{state="active"}`: 1, `lambent_containers{state="idle"}`: 1, `lambent_containers{state="busy"}`: 0,
		`lambent_container_state_entries_total{state="busy"}`: calls + 1, `lambent_execution_records_lost_total`: 0,
	}
	for kind, n := range kinds {
		want[`lambent_starts_total{kind="`+kind+`"}`] = n
		want[`lambent_start_latency_seconds_count{kind="`+kind+`"}`] = n
		want[`lambent_start_latency_seconds_sum{kind="`+kind+`"}`] = waited[kind]
	}
	for name, n := range want {
		if got, there := m[name]; !there || max(got-n, n-got) > 0.0001 {
			t.Errorf("%s is %v, %v, want %v", name, got, there, n)
		}
	}
	if m[`lambent_instance_state_seconds_total{state="warm"}`] <= 0 || m["process_resident_memory_bytes"] <= 0 || m["go_goroutines"] <= 0 {
		t.Errorf("time, memory or goroutines are not counted: %v", m)
	}
	if reply := c.HTTP(t, http.MethodGet, "/_lambent/metrics", nil); reply.Status != http.StatusForbidden {
		t.Errorf("an account is shown the metrics: status %d", reply.Status)
	}
}
