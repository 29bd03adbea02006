package invoke_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/hostinfo"
	"lambent/internal/invoke"
	"lambent/internal/obs"
	"lambent/internal/pool"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

// platform is a service over a pool over the fake driver.
type platform struct {
	*hosttest.Fixture
	*invoke.Service
	pool *pool.Pool

	mu sync.Mutex
	// +checklocks:mu
	fns map[lambent.FunctionName]*lambent.Function
	// +checklocks:mu
	rollouts []lambent.FunctionName
	// +checklocks:mu
	standInsEnd bool // nothing may stand in any more
	// +checklocks:mu
	execs []obs.Execution
	// +checklocks:mu
	waiting int
}

func (p *platform) Waiting(delta int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting += delta
}

func (p *platform) Executed(e obs.Execution) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.execs = append(p.execs, e)
}

// recorded is the record of a request.
func (p *platform) recorded(t *testing.T, id lambent.RequestID) obs.Execution {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []obs.Execution
	for _, e := range p.execs {
		if e.RequestID == id {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("request %s has %d records: %+v", id, len(found), found)
	}
	return found[0]
}

func (p *platform) Route(_ lambent.AccountID, name lambent.FunctionName, _ string, _ float64) (fn *lambent.Function, standIns []*lambent.Function, inPlace bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fn = p.fns[name]; fn == nil {
		return nil, nil, false, &lambent.Error{Kind: lambent.KindNotFound}
	}
	if fn.Previous != nil && !p.standInsEnd {
		standIns = append(standIns, fn.Previous)
	}
	return fn, standIns, fn.Previous == nil, nil
}

func (p *platform) Rollout(_ lambent.AccountID, name lambent.FunctionName, _ string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rollouts = append(p.rollouts, name)
}

func (p *platform) deploy(name, handler string) *lambent.Function {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fns[lambent.FunctionName(name)] = hosttest.Function(name, handler)
	return p.fns[lambent.FunctionName(name)]
}

func (p *platform) call(t *testing.T, name, payload string) *lambent.Result {
	t.Helper()
	r, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: lambent.RequestID(name + payload), Account: lambent.DefaultAccount,
		Function: lambent.FunctionName(name), Payload: []byte(payload), ReceivedAt: time.Now(), WantLogTail: true})
	if err != nil {
		t.Fatalf("call %s(%s): %v", name, payload, err)
	}
	return r
}

// start opens a platform that keeps warm instances ready; with the test's end it
// drains and everything must be gone.
func start(t *testing.T, warm int, change func(*pool.Options), opts fake.Options) *platform {
	t.Helper()
	f := hosttest.New(t, opts)
	po := pool.Options{Host: f.Host, Runtimes: []hostinfo.Installed{hosttest.Node()}, Targets: map[lambent.Family]int{lambent.FamilyNode: warm}, MaxInstances: 50, MaxQueue: 1000, InstanceMB: 512,
		IdleTimeout: time.Minute, InitTimeout: 10 * time.Second, BootTimeout: 10 * time.Second, MaxBoots: 4, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&po)
	}
	p := &platform{Fixture: f, pool: pool.New(po), fns: map[lambent.FunctionName]*lambent.Function{}}
	p.Service = invoke.New(invoke.Options{Functions: p, Workers: p.pool, Region: "eu-test-1", Log: slog.New(slog.DiscardHandler), Recorder: p})
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { p.pool.Run(ctx, 5*time.Second) })
	t.Cleanup(func() { stop(); done.Wait() })
	p.awaitWarm(t, warm)
	return p
}

func (p *platform) awaitWarm(t *testing.T, n int) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("%d warm instances are ready", n), func() bool {
		for _, s := range p.pool.Statuses() {
			if s.Ready == n && s.Config.Family == lambent.FamilyNode {
				return true
			}
		}
		return n == 0
	})
}

func TestACallIsAnsweredByTheFunctionAndLogged(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("hello", "log some words")
	r := p.call(t, "hello", `{"a":"ä"}`)
	if got, want := string(r.Payload), `{"a":"ä"}`; got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	if r.FunctionError != "" || r.Outcome != lambent.OutcomeSuccess {
		t.Errorf("outcome %s, error %q", r.Outcome, r.FunctionError)
	}
	id := string(r.RequestID)
	lines := p.Logs.Of(r.RequestID)
	if len(lines) != 4 {
		t.Fatalf("log has %d lines: %q", len(lines), lines)
	}
	if diff := cmp.Diff([]string{"START RequestId: " + id + " Version: $LATEST", "some words", "END RequestId: " + id}, lines[:3]); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{"REPORT RequestId: " + id + "\tDuration: ", " ms\tBilled Duration: ", "\tMemory Size: 128 MB\tMax Memory Used: ", "Init Duration: "} {
		if !strings.Contains(lines[3], part) {
			t.Errorf("REPORT line %q lacks %q", lines[3], part)
		}
	}
	if tail := string(r.LogTail); !strings.Contains(tail, "some words\n") || !strings.HasPrefix(tail, "INIT_START") {
		t.Errorf("log tail %q", tail)
	}
	if got := r.Start; got.ExecStartedAt.Before(got.ReceivedAt) || got.Container == "" || got.Instance == "" || got.Reason == "" {
		t.Errorf("start %+v", got)
	}
}

func TestTheSecondCallReusesTheContainerAndItsState(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "count")
	first, second := p.call(t, "f", "1"), p.call(t, "f", "2")
	if first.Start.Kind != lambent.StartWarm || second.Start.Kind != lambent.StartReuse {
		t.Errorf("start kinds %s, %s", first.Start.Kind, second.Start.Kind)
	}
	if first.Start.Container != second.Start.Container || string(second.Payload) != "2" {
		t.Errorf("second call on %s answered %s", second.Start.Container, second.Payload)
	}
}

func TestWithoutAWarmInstanceOneIsBooted(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, fake.Options{})
	p.deploy("f", "echo")
	if r := p.call(t, "f", "1"); r.Start.Kind != lambent.StartOnDemand {
		t.Errorf("start kind %s: %s", r.Start.Kind, r.Start.Reason)
	}
}

func TestWhatTheFunctionDoesWrongIsAFunctionError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		handler, errorType, message string
		outcome                     lambent.Outcome
		reused                      bool // the container lives on
	}{
		{"fail", "Oops", "as asked", lambent.OutcomeFunctionError, true},
		{"exit 3", "Runtime.ExitError", "RequestId: f1 Error: Runtime exited with error: exit status 3", lambent.OutcomeFunctionError, false},
		{"exit 0", "Runtime.ExitError", "RequestId: f1 Error: Runtime exited without providing a reason", lambent.OutcomeFunctionError, false},
		{"hang 1", "Sandbox.Timedout", "RequestId: f1 Error: Task timed out after 1.00 seconds", lambent.OutcomeTimedOut, false},
		{"init-error", "Runtime.ImportModuleError", "no such module", lambent.OutcomeFunctionError, false},
		{"init-exit 4", "Runtime.ExitError", "RequestId: f1 Error: Runtime exited with error: exit status 4", lambent.OutcomeFunctionError, false},
	} {
		t.Run(tc.handler, func(t *testing.T) {
			t.Parallel()
			p := start(t, 1, nil, fake.Options{})
			p.deploy("f", tc.handler).TimeoutSecs = 1
			r := p.call(t, "f", "1")
			var body struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(r.Payload, &body); err != nil {
				t.Fatalf("payload %q: %v", r.Payload, err)
			}
			if r.FunctionError != "Unhandled" || r.Outcome != tc.outcome || body.ErrorType != tc.errorType || body.ErrorMessage != tc.message {
				t.Errorf("%s, %s: %s", r.FunctionError, r.Outcome, r.Payload)
			}
			last := p.Logs.Of(r.RequestID)
			if report := last[len(last)-1]; !strings.Contains(report, "\tStatus: ") {
				t.Errorf("REPORT tells of no failure: %q", report)
			}
			again := p.call(t, "f", "2")
			if (again.Start.Container == r.Start.Container) != tc.reused {
				t.Errorf("first on %s, then on %s", r.Start.Container, again.Start.Container)
			}
		})
	}
}

func TestAnInitOverItsLimitIsRunOnceMoreUnderTheTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, 1, func(o *pool.Options) { o.InitTimeout = 20 * time.Millisecond }, fake.Options{})
	p.deploy("f", "init-hang").TimeoutSecs = 1
	r := p.call(t, "f", "1")
	if want := "Task timed out after 1.00 seconds"; !strings.Contains(string(r.Payload), want) {
		t.Errorf("payload %s, want %q", r.Payload, want)
	}
}

func TestARuntimeThatEndsAfterItsAnswerIsReplaced(t *testing.T) {
	t.Parallel()
	p := start(t, 2, nil, fake.Options{})
	p.deploy("f", "exit-after")
	for k := range 20 {
		if r := p.call(t, "f", fmt.Sprint(k)); r.FunctionError != "" || string(r.Payload) != fmt.Sprint(k) {
			t.Fatalf("call %d: %s %s", k, r.FunctionError, r.Payload)
		}
	}
}

func TestSimultaneousCallsGetContainersOfTheirOwn(t *testing.T) {
	t.Parallel()
	p := start(t, 2, nil, fake.Options{})
	p.deploy("f", "wait gate")
	const n = 20
	var mu sync.Mutex
	containers := map[lambent.ContainerID]int{}
	var calls sync.WaitGroup
	for k := range n {
		calls.Go(func() {
			r := p.call(t, "f", fmt.Sprint(k))
			mu.Lock()
			defer mu.Unlock()
			containers[r.Start.Container]++
		})
	}
	busy := func() (n int) {
		for _, i := range p.pool.Snapshots() {
			for _, c := range i.Containers {
				if c.State == lambent.ContainerBusy {
					n++
				}
			}
		}
		return n
	}
	hosttest.Eventually(t, "every call has its container", func() bool { return busy() == n })
	p.Open("gate")
	calls.Wait()
	if len(containers) != n {
		t.Errorf("%d containers served %d simultaneous calls", len(containers), n)
	}
}

func TestOverTheLimitOfInstancesCallsWaitForAContainer(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.MaxInstances = 2 }, fake.Options{})
	p.deploy("f", "echo")
	var calls sync.WaitGroup
	for k := range 50 {
		calls.Go(func() { p.call(t, "f", fmt.Sprint(k)) })
	}
	calls.Wait()
	if n := p.Driver.Count(fake.OpStart); n > 2 {
		t.Errorf("%d instances were started", n)
	}
}

func TestAnotherFunctionTakesThePlaceOfAnIdleOne(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.MaxInstances, o.InstanceMB = 1, 128 }, fake.Options{})
	p.deploy("f", "echo")
	p.deploy("g", "echo")
	p.call(t, "f", "1")
	p.call(t, "g", "1")
	p.call(t, "f", "2")
}

func TestTooManyWaitersAreThrottled(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.MaxInstances, o.InstanceMB, o.MaxQueue = 1, 128, 1 }, fake.Options{})
	p.deploy("f", "wait gate")
	var calls sync.WaitGroup
	calls.Go(func() { p.call(t, "f", "1") })
	hosttest.Eventually(t, "the first call runs", func() bool {
		s := p.pool.Snapshots()
		return len(s) == 1 && len(s[0].Containers) == 1 && s[0].Containers[0].State == lambent.ContainerBusy
	})
	throttled := make(chan error, 2)
	for k := range 2 {
		calls.Go(func() {
			_, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: lambent.RequestID(fmt.Sprint(k)), Account: lambent.DefaultAccount, Function: "f", ReceivedAt: time.Now()})
			throttled <- err
		})
	}
	if err := <-throttled; lambent.KindOf(err) != lambent.KindThrottled {
		t.Errorf("got %v, want a throttle", err)
	}
	p.Open("gate")
	calls.Wait()
}

func TestAWarmInstanceThatDiesWhileAssignedIsReplaced(t *testing.T) {
	t.Parallel()
	p := start(t, 2, nil, fake.Options{})
	p.deploy("f", "echo")
	p.Driver.Script(fake.Fault{Op: fake.OpAttach, Nth: 1, Death: fake.ErrKilled})
	if r := p.call(t, "f", "1"); string(r.Payload) != "1" {
		t.Errorf("answer %s", r.Payload)
	}
}

func TestAnIdleContainerIsStoppedAfterItsTimeout(t *testing.T) {
	t.Parallel()
	p := start(t, 0, func(o *pool.Options) { o.IdleTimeout = 10 * time.Millisecond }, fake.Options{})
	p.deploy("f", "count")
	p.call(t, "f", "1")
	hosttest.Eventually(t, "the instance is gone", func() bool { return p.Driver.Alive() == fake.Alive{} })
	if r := p.call(t, "f", "2"); string(r.Payload) != "1" {
		t.Errorf("a stopped container answered: count %s", r.Payload)
	}
}

func TestAnUpdatedFunctionIsNotServedByOldContainers(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, fake.Options{})
	p.deploy("f", "echo")
	old := p.call(t, "f", "1")
	fn := p.deploy("f", "count")
	key := fn.Key()
	p.pool.Retire(fn.Account, fn.Name, fn.Version, key)
	if r := p.call(t, "f", "2"); string(r.Payload) != "1" || r.Start.Container == old.Start.Container {
		t.Errorf("answer %s by %s", r.Payload, r.Start.Container)
	}
	hosttest.Eventually(t, "the old container is gone", func() bool { return len(p.pool.Snapshots()) == 1 })
}

func TestADeadIdleContainerIsRemoved(t *testing.T) {
	t.Parallel()
	p := start(t, 0, nil, fake.Options{})
	p.deploy("f", "echo")
	r := p.call(t, "f", "1")
	if err := p.Driver.Kill(r.Start.Instance, nil); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the dead instance is gone", func() bool { return len(p.pool.Snapshots()) == 0 })
	p.call(t, "f", "2")
}

func TestARunningFunctionOverItsMemoryIsEnded(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "wait gate")
	done := make(chan *lambent.Result)
	go func() { done <- p.call(t, "f", "1") }()
	hosttest.Eventually(t, "the call runs", func() bool {
		for _, i := range p.pool.Snapshots() {
			if i.State == lambent.InstanceActive && len(i.Containers) == 1 && i.Containers[0].State == lambent.ContainerBusy {
				return p.Driver.SetUsage(i.ID, sandbox.Usage{MemoryBytes: 129 << 20}) == nil
			}
		}
		return false
	})
	r := <-done
	if want := "Runtime exited with error: signal: killed"; !strings.Contains(string(r.Payload), want) {
		t.Errorf("payload %s, want %q", r.Payload, want)
	}
	lines := p.Logs.Of(r.RequestID)
	if report := lines[len(lines)-1]; !strings.Contains(report, "Max Memory Used: 129 MB") || !strings.Contains(report, "Runtime.OutOfMemory") {
		t.Errorf("REPORT %q", report)
	}
	p.Open("gate")
}
