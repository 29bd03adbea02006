package pool_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

func provisioned(t *testing.T, p *pool.Pool, fn *lambent.Function, want int) {
	t.Helper()
	hosttest.Eventually(t, "as many containers are ready as were asked for", func() bool {
		allocated, available, _ := p.Provisioned(fn)
		return allocated == want && available == want
	})
}

func provision(p *pool.Pool, fn *lambent.Function, count int) {
	p.Provision(fn.Account, fn.Name, []pool.Provision{{Function: fn, Count: count}})
}

func TestProvisionedContainersAreReadyBeforeAnyCallAndStay(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets = nil })
	fn := hosttest.Function("f", "env AWS_LAMBDA_INITIALIZATION_TYPE")
	provision(p, fn, 2)
	provisioned(t, p, fn, 2)
	time.Sleep(3 * 20 * time.Millisecond) // of idle time-outs, which must do nothing
	var leases []*pool.Lease
	for range 3 {
		leases = append(leases, acquire(t, p, fn))
	}
	for k, want := range []lambent.StartKind{lambent.StartDedicated, lambent.StartDedicated} {
		if l := leases[k]; l.Kind != want || !strings.Contains(l.Reason, "provisioned concurrency") {
			t.Errorf("call %d is a %s: %s", k, l.Kind, l.Reason)
		}
	}
	if l := leases[2]; l.Kind == lambent.StartDedicated || l.Kind == lambent.StartReuse {
		t.Errorf("the call beyond is a %s: %s", l.Kind, l.Reason)
	}
	for k, want := range []string{`"provisioned-concurrency"`, `"provisioned-concurrency"`, `"on-demand"`} {
		a, err := leases[k].Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: 5 * time.Second})
		if err != nil || string(a.Payload) != want {
			t.Errorf("call %d was initialised as %s, %v", k, a.Payload, err)
		}
		leases[k].Release()
	}
	provisioned(t, p, fn, 2)
}

func TestProvisionedContainersAreReplacedWhenTheyDieAndReleasedWhenTheyAreNotWanted(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	fn := hosttest.Function("f", "echo")
	provision(p, fn, 2)
	provisioned(t, p, fn, 2)
	first := acquire(t, p, fn)
	if err := f.Driver.Kill(instanceOf(first), nil); err != nil {
		t.Fatal(err)
	}
	first.Discard()
	provisioned(t, p, fn, 2)
	if l := acquire(t, p, fn); l.Kind != lambent.StartDedicated || l.Container.ID() == first.Container.ID() {
		t.Errorf("after a death a %s in %s", l.Kind, l.Container.ID())
	} else {
		l.Release()
	}
	provision(p, fn, 1)
	provisioned(t, p, fn, 1)
	p.Provision(fn.Account, fn.Name, nil)
	hosttest.Eventually(t, "everything is released", func() bool { return f.Driver.Alive() == fake.Alive{} })
}

// Code that never ends to initialise holds nothing once it is provisioned no more.
func TestWhatIsProvisionedNoMoreIsNotInitialisedToItsEnd(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	fn := hosttest.Function("f", "init-hang")
	fn.TimeoutSecs = 900
	provision(p, fn, 1)
	hosttest.Eventually(t, "it is being initialised", func() bool { return f.Driver.Alive().Containers > 0 })
	p.Provision(fn.Account, fn.Name, nil)
	hosttest.Eventually(t, "everything is released", func() bool { return f.Driver.Alive() == fake.Alive{} })
	well := hosttest.Function("f", "echo")
	provision(p, well, 1)
	provisioned(t, p, well, 1)
}

func TestProvisionedConcurrencyOfCodeThatIsMissingHasFailed(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	fn := hosttest.Function("f", "echo")
	release := f.Hold(fn.Code)
	provision(p, fn, 1)
	release(errors.New("it is gone"))
	hosttest.Eventually(t, "it has failed", func() bool {
		_, _, failure := p.Provisioned(fn)
		return strings.Contains(failure, "code could not be had")
	})
	p.Provision(fn.Account, fn.Name, nil)
	hosttest.Eventually(t, "everything is released", func() bool { return f.Driver.Alive() == fake.Alive{} })
}

func TestProvisionedContainersAreReplacedBeforeTheirCredentialsEnd(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	fn := hosttest.Function("f", "env AWS_SECRET_ACCESS_KEY")
	f.Give(host.Credentials{SecretAccessKey: "first", Expires: time.Now().Add(fn.Timeout() + 100*time.Millisecond)})
	provision(p, fn, 1)
	provisioned(t, p, fn, 1)
	f.Give(host.Credentials{SecretAccessKey: "second", Expires: time.Now().Add(time.Hour)})
	hosttest.Eventually(t, "the container is another", func() bool {
		_, available, _ := p.Provisioned(fn)
		if available == 0 {
			return false
		}
		l := acquire(t, p, fn)
		defer l.Release()
		a, err := l.Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: 5 * time.Second})
		return err == nil && l.Kind == lambent.StartDedicated && string(a.Payload) == `"second"`
	})
}

func TestWhileAProvisionedContainerIsReplacedItServes(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	fn := hosttest.Function("f", "env AWS_SECRET_ACCESS_KEY")
	fn.TimeoutSecs = 1
	f.Give(host.Credentials{SecretAccessKey: "first", Expires: time.Now().Add(2*fn.Timeout() + 500*time.Millisecond)}) // replaced in half of it
	provision(p, fn, 1)
	provisioned(t, p, fn, 1)
	f.Give(host.Credentials{SecretAccessKey: "second", Expires: time.Now().Add(time.Hour)})
	seen := map[string]bool{}
	hosttest.Eventually(t, "the container is another", func() bool {
		if allocated, _, _ := p.Provisioned(fn); allocated < 1 {
			t.Error("there is none for a moment")
		}
		l := acquire(t, p, fn)
		defer l.Release()
		if l.Kind != lambent.StartDedicated {
			t.Errorf("a %s: %s", l.Kind, l.Reason)
		}
		a, err := l.Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: 5 * time.Second})
		if err != nil {
			t.Error(err)
		}
		seen[string(a.Payload)] = true
		return seen[`"second"`]
	})
	provisioned(t, p, fn, 1)
	hosttest.Eventually(t, "there is one", func() bool { return f.Driver.Alive().Containers <= 1 })
	if !seen[`"first"`] {
		t.Error("the first was never called")
	}
}

func TestProvisionedVersionsFollowTheirFunction(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.IdleTimeout = nil, time.Hour })
	one, two := *hosttest.Function("f", "echo"), *hosttest.Function("f", "echo")
	one.Version, two.Version = "1", "2"
	provision(p, &one, 1)
	provisioned(t, p, &one, 1)
	provision(p, &two, 1) // an alias was moved
	provisioned(t, p, &two, 1)
	hosttest.Eventually(t, "the first version's is released", func() bool {
		allocated, _, _ := p.Provisioned(&one)
		return allocated == 0 && f.Driver.Alive().Containers <= 2
	})
	key := two.Key()
	p.Retire(two.Account, two.Name, two.Version, key) // its record was settled: nothing changes
	provisioned(t, p, &two, 1)
	p.Retire(two.Account, two.Name, "")
	hosttest.Eventually(t, "everything is released", func() bool { return f.Driver.Alive() == fake.Alive{} })
}

func TestProvisioningAFunctionThatFailsSaysWhy(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets = nil })
	fn := hosttest.Function("f", "init-error")
	provision(p, fn, 1)
	hosttest.Eventually(t, "the failure is told", func() bool {
		allocated, _, failure := p.Provisioned(fn)
		return allocated == 0 && failure != ""
	})
	alien := hosttest.Function("g", "echo")
	alien.Runtime = "python3.12"
	provision(p, alien, 1)
	if _, _, failure := p.Provisioned(alien); !strings.Contains(failure, "not installed") {
		t.Errorf("a runtime that is not there: %q", failure)
	}
}

func TestSecurityProvisionedContainersLeaveRoomForEverybodyElse(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) {
		o.Targets, o.MaxInstances, o.InstanceMB, o.IdleTimeout = nil, 4, 256, time.Hour
	})
	greedy, other := of(1, "greedy", "echo", 128), of(2, "other", "echo", 128)
	provision(p, greedy, 100)
	provisioned(t, p, greedy, 6) // of the eight there is room for
	hosttest.Eventually(t, "it is told why there are no more", func() bool {
		_, _, failure := p.Provisioned(greedy)
		return strings.Contains(failure, "no room")
	})
	acquire(t, p, other).Release()
	if allocated, _, _ := p.Provisioned(greedy); allocated != 6 {
		t.Errorf("%d are kept", allocated)
	}
}

func TestSecurityProvisioningAccountsLeaveInstancesForEverybodyElse(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) {
		o.Targets, o.MaxInstances, o.InstanceMB, o.IdleTimeout = nil, 4, 1024, time.Hour
	})
	var all []*lambent.Function
	for k := range 4 {
		fn := of(k, "provisioned", "echo", 128)
		all = append(all, fn)
		provision(p, fn, 1)
	}
	total := func() (allocated, refused int) {
		for _, fn := range all {
			here, _, failure := p.Provisioned(fn)
			allocated += here
			if strings.Contains(failure, "no room") {
				refused++
			}
		}
		return allocated, refused
	}
	hosttest.Eventually(t, "three accounts have theirs, and the fourth is told why it has not", func() bool {
		allocated, refused := total()
		return allocated == 3 && refused == 1
	})
	acquire(t, p, of(9, "other", "echo", 128)).Release()
	if allocated, _ := total(); allocated != 3 {
		t.Errorf("%d are kept", allocated)
	}
}

func TestProvisioningAgainTriesAgainAtOnce(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets = nil })
	fn := hosttest.Function("f", "init-error")
	failed := func() bool {
		_, _, failure := p.Provisioned(fn)
		return failure != ""
	}
	for range 3 { // the waits between retries would be 1, 2 and 4 s
		provision(p, fn, 1)
		if failed() {
			t.Error("a failure outlives what it was the answer to")
		}
		hosttest.Eventually(t, "the failure is told", failed)
	}
}

func TestAWaitingCallGetsAProvisionedContainerThatBecomesFree(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.InstanceMB = nil, 1, 128 })
	fn := hosttest.Function("f", "echo")
	fn.MemoryMB = 128
	provision(p, fn, 1)
	provisioned(t, p, fn, 1)
	first := acquire(t, p, fn)
	got := make(chan *pool.Lease)
	go func() {
		l, err := p.Acquire(t.Context(), fn)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	hosttest.Eventually(t, "the second call waits", func() bool { return p.Queued() == 1 })
	first.Release()
	if l := <-got; l != nil {
		if l.Kind != lambent.StartDedicated || l.Container.ID() != first.Container.ID() {
			t.Errorf("it got %s as %s: %s", l.Container.ID(), l.Kind, l.Reason)
		}
		l.Release()
	}
}

// limits is a Concurrency that tests change.
type limits struct {
	mu         sync.Mutex
	reserved   map[lambent.FunctionName]int
	unreserved int
}

func (m *limits) of(_ lambent.AccountID, name lambent.FunctionName) (*int, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, ok := m.reserved[name]; ok {
		return &n, m.unreserved
	}
	return nil, m.unreserved
}

func wantThrottled(t *testing.T, p *pool.Pool, fn *lambent.Function, reason string) {
	t.Helper()
	l, err := p.Acquire(t.Context(), fn)
	if err == nil {
		l.Release()
	}
	e, _ := err.(*lambent.Error)
	if e == nil || e.Kind != lambent.KindThrottled || e.Reason != reason {
		t.Errorf("%s: %v, want it to be throttled for %s", fn.Name, err, reason)
	}
}

func TestConcurrencyIsHeldToWhatIsReservedAndWhatIsLeft(t *testing.T) {
	const function, account = "ReservedFunctionConcurrentInvocationLimitExceeded", "ConcurrentInvocationLimitExceeded"
	f := hosttest.New(t, fake.Options{})
	m := &limits{reserved: map[lambent.FunctionName]int{"reserved": 2, "off": 0}, unreserved: 1}
	p := start(t, f, func(o *pool.Options) { o.Targets, o.Concurrency = nil, m.of })
	reserved, off, one, two := hosttest.Function("reserved", "echo"), hosttest.Function("off", "echo"), hosttest.Function("one", "echo"), hosttest.Function("two", "echo")
	wantThrottled(t, p, off, function)
	a, b := acquire(t, p, reserved), acquire(t, p, reserved)
	wantThrottled(t, p, reserved, function)
	c := acquire(t, p, one)
	wantThrottled(t, p, two, account)
	other := *two
	other.Account = "999999999999"
	acquire(t, p, &other).Release() // has a concurrency of its own
	c.Discard()
	acquire(t, p, two).Release()
	a.Release()
	acquire(t, p, reserved).Release()
	b.Release()

	m.mu.Lock()
	m.unreserved = 0
	m.mu.Unlock()
	wantThrottled(t, p, one, account)
	provision(p, one, 1) // which is on nobody's account but its own
	provisioned(t, p, one, 1)
	l := acquire(t, p, one)
	wantThrottled(t, p, one, account)
	l.Release()
	acquire(t, p, one).Release()
}

func TestACallThatWaitsOrFailsIsCountedUntilItEnds(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	m := &limits{reserved: map[lambent.FunctionName]int{"f": 3, "bad": 1}}
	p := start(t, f, func(o *pool.Options) { o.Targets, o.Concurrency, o.MaxInstances, o.InstanceMB = nil, m.of, 1, 128 })
	fn, bad := hosttest.Function("f", "echo"), hosttest.Function("bad", "init-error")
	fn.MemoryMB, bad.MemoryMB = 128, 128
	first := acquire(t, p, fn)
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Go(func() { acquire(t, p, fn).Release() })
	}
	hosttest.Eventually(t, "two calls wait", func() bool { return p.Queued() == 2 })
	wantThrottled(t, p, fn, "ReservedFunctionConcurrentInvocationLimitExceeded")
	first.Release()
	waiting.Wait()
	acquire(t, p, fn).Release()
	for range 3 { // of which none leaves anything on the count
		if l, err := p.Acquire(t.Context(), bad); err == nil || lambent.KindOf(err) == lambent.KindThrottled {
			t.Errorf("a function that cannot start: %v", err)
			if l != nil {
				l.Release()
			}
		}
	}
	if p.InUse() != 0 {
		t.Errorf("%d executions are counted when none is left", p.InUse())
	}
}
