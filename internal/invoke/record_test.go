package invoke_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/obs"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

func TestEveryExecutionIsRecordedHoweverItEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		handler string
		want    obs.Execution // what of it is the same each time
		started bool          // the runtime was handed the event
	}{
		{"echo", obs.Execution{Outcome: lambent.OutcomeSuccess}, true},
		{"fail", obs.Execution{Outcome: lambent.OutcomeFunctionError, Error: "Oops"}, true},
		{"exit 3", obs.Execution{Outcome: lambent.OutcomeFunctionError, Error: "Runtime.ExitError"}, true},
		{"hang", obs.Execution{Outcome: lambent.OutcomeTimedOut, Error: "Sandbox.Timedout"}, true},
		{"init-error", obs.Execution{Outcome: lambent.OutcomeFunctionError, Error: "Runtime.ImportModuleError"}, false},
		{"init-exit 4", obs.Execution{Outcome: lambent.OutcomeFunctionError, Error: "Runtime.ExitError"}, false},
	} {
		t.Run(tc.handler, func(t *testing.T) {
			t.Parallel()
			p := start(t, 1, nil, fake.Options{})
			p.deploy("f", tc.handler).TimeoutSecs = 1
			r := p.call(t, "f", "1")
			e := p.recorded(t, r.RequestID)
			if e.ExecStartedAt.IsZero() == tc.started || e.FinishedAt.Before(e.ReceivedAt) || !e.ReceivedAt.Equal(r.Start.ReceivedAt) || !e.ExecStartedAt.Equal(r.Start.ExecStartedAt) {
				t.Errorf("received %v, started %v, finished %v", e.ReceivedAt, e.ExecStartedAt, e.FinishedAt)
			}
			want := tc.want
			want.RequestID, want.Account, want.Function, want.Version = r.RequestID, lambent.DefaultAccount, "f", lambent.Latest
			want.StartKind, want.Pool, want.Reason = lambent.StartWarm, "nodejs", r.Start.Reason
			want.Instance, want.Container, want.MemoryMB, want.MaxMemoryUsedMB = r.Start.Instance, r.Start.Container, 128, e.MaxMemoryUsedMB
			e.ReceivedAt, e.ExecStartedAt, e.FinishedAt = time.Time{}, time.Time{}, time.Time{}
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("the record (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReusedContainersRecordNamesNoPool(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "echo")
	p.call(t, "f", "1")
	e := p.recorded(t, p.call(t, "f", "2").RequestID)
	if e.StartKind != lambent.StartReuse || e.Pool != "" || e.Reason == "" {
		t.Errorf("the record is %+v", e)
	}
}

func TestThrottledCallsAreRecordedAndNobodyIsLeftWaiting(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.MaxInstances, o.InstanceMB, o.MaxQueue = 1, 128, 1 }, fake.Options{})
	p.deploy("f", "wait gate")
	var calls sync.WaitGroup
	calls.Go(func() { p.call(t, "f", "1") })
	hosttest.Eventually(t, "the first call runs", func() bool {
		s := p.pool.Snapshots()
		return len(s) == 1 && len(s[0].Containers) == 1 && s[0].Containers[0].State == lambent.ContainerBusy
	})
	throttled := make(chan lambent.RequestID, 2)
	for k := range 2 { // one waits, one is too many
		calls.Go(func() {
			id := lambent.RequestID(fmt.Sprint(k))
			if _, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: id, Account: lambent.DefaultAccount, Function: "f", ReceivedAt: time.Now()}); err != nil {
				throttled <- id
			}
		})
	}
	e := p.recorded(t, <-throttled)
	if e.Outcome != lambent.OutcomeThrottled || e.Error != "ConcurrentInvocationLimitExceeded" || e.StartKind != "" || e.Container != "" || !e.ExecStartedAt.IsZero() || e.Reason == "" {
		t.Errorf("the record is %+v", e)
	}
	waiting := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waiting
	}
	if n := waiting(); n != 1 {
		t.Errorf("%d calls are counted as waiting, want 1", n)
	}
	p.Open("gate")
	calls.Wait()
	if n := waiting(); n != 0 {
		t.Errorf("at the end %d calls are counted as waiting", n)
	}
}

// That a caller has no patience says nothing of the machine: no alarm may come of
// it.
func TestACallWhoseCallerLeftIsNotRecordedAsThrottled(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.MaxInstances, o.InstanceMB = 1, 128 }, fake.Options{})
	p.deploy("f", "wait gate")
	var calls sync.WaitGroup
	calls.Go(func() { p.call(t, "f", "1") })
	hosttest.Eventually(t, "the first call runs", func() bool {
		s := p.pool.Snapshots()
		return len(s) == 1 && len(s[0].Containers) == 1 && s[0].Containers[0].State == lambent.ContainerBusy
	})
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		_, err := p.Invoke(ctx, &lambent.Invocation{RequestID: "left", Account: lambent.DefaultAccount, Function: "f", ReceivedAt: time.Now()})
		left <- err
	}()
	hosttest.Eventually(t, "the second call waits", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.waiting == 1
	})
	leave()
	if err := <-left; err == nil {
		t.Error("it ran")
	}
	e := p.recorded(t, "left")
	if e.Outcome != lambent.OutcomeAbandoned || e.Error != "" || e.StartKind != "" || e.Reason != pool.ErrLeft.Error() {
		t.Errorf("the record is %+v", e)
	}
	p.Open("gate")
	calls.Wait()
}

func TestWhatReachedNoDecisionLeavesNoRecord(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, fake.Options{})
	p.deploy("failed", "echo").State = "Failed"
	p.deploy("ruby", "echo").Runtime = "ruby3.4"
	for _, name := range []lambent.FunctionName{"none", "failed", "ruby"} {
		if _, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: "r", Account: lambent.DefaultAccount, Function: name}); err == nil {
			t.Errorf("%s was run", name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.execs) > 0 {
		t.Errorf("records %+v", p.execs)
	}
}

// What the platform did wrong is told to its log, and in the record by kind only.
func TestSecurityTheRecordOfALostCallTellsNothingOfTheMachine(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, fake.Options{})
	p.deploy("f", "echo")
	p.Driver.Script(fake.Fault{Op: fake.OpStart, Err: errors.New("open /secret/place: no such file")})
	_, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: "r", Account: lambent.DefaultAccount, Function: "f", ReceivedAt: time.Now()})
	if err == nil {
		t.Fatal("it ran")
	}
	e := p.recorded(t, "r")
	want := obs.Execution{RequestID: "r", Account: lambent.DefaultAccount, Function: "f", Version: lambent.Latest, ReceivedAt: e.ReceivedAt, FinishedAt: e.FinishedAt,
		MemoryMB: 128, Outcome: lambent.OutcomeLost, Error: "internal"}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("the record (-want +got):\n%s", diff)
	}
}
