package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/hostinfo"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// start runs a pool over the fake driver; it drains with the test's end, and
// nothing may be left.
func start(t *testing.T, f *hosttest.Fixture, change func(*pool.Options)) *pool.Pool {
	t.Helper()
	opts := pool.Options{Host: f.Host, Runtimes: []hostinfo.Installed{hosttest.Node()}, Targets: map[lambent.Family]int{lambent.FamilyNode: 2},
		MaxInstances: 12, MaxQueue: 1000, InstanceMB: 512, IdleTimeout: 20 * time.Millisecond,
		InitTimeout: 10 * time.Second, BootTimeout: 10 * time.Second, MaxBoots: 2, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&opts)
	}
	p := pool.New(opts)
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { p.Run(ctx, 5*time.Second) })
	t.Cleanup(func() {
		if t.Failed() {
			p.Forsake()
		}
		stop()
		done.Wait()
	})
	return p
}

// owners checks, lease by lease, what must never happen.
type owners struct {
	t *testing.T

	mu sync.Mutex
	// +checklocks:mu
	leased map[lambent.ContainerID]bool
	// +checklocks:mu
	account map[lambent.InstanceID]lambent.AccountID
}

func (o *owners) take(l *pool.Lease, account lambent.AccountID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	id, inst := l.Container.ID(), l.Container.Instance().ID()
	if o.leased[id] {
		o.t.Errorf("container %s was handed to two callers", id)
	}
	o.leased[id] = true
	if before := o.account[inst]; before != "" && before != account {
		o.t.Errorf("instance %s went from account %s to %s", inst, before, account)
	}
	o.account[inst] = account
}

func (o *owners) give(l *pool.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.leased, l.Container.ID())
}

func TestUnderRandomLoadAndDeathsNoContainerAndNoInstanceIsShared(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, nil)
	o := &owners{t: t, leased: map[lambent.ContainerID]bool{}, account: map[lambent.InstanceID]lambent.AccountID{}}
	var fns []*lambent.Function
	for a := range 3 {
		for n := range 4 {
			fn := hosttest.Function(fmt.Sprintf("f%d", n), "echo")
			fn.Account = lambent.AccountID(fmt.Sprintf("%012d", a))
			fns = append(fns, fn)
		}
	}
	var callers sync.WaitGroup
	for c := range 40 {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(c)))
			for k := range 25 {
				fn := fns[r.IntN(len(fns))]
				l, err := p.Acquire(t.Context(), fn)
				if err != nil {
					continue // the machine is full, or the instance was killed: both are told
				}
				o.take(l, fn.Account)
				_, err = l.Container.Invoke(&host.Event{RequestID: lambent.RequestID(fmt.Sprint(c, "-", k)), Payload: []byte("1"), Timeout: 5 * time.Second})
				switch r.IntN(10) {
				case 0:
					_ = f.Driver.Kill(l.Container.Instance().ID(), nil) // it may have died already
				case 1:
					err = context.Canceled
				}
				o.give(l)
				if err != nil {
					l.Discard()
				} else {
					l.Release()
				}
			}
		})
	}
	callers.Wait()
}

func TestCallersWhoGiveUpLeaveNothingBehind(t *testing.T) {
	f := hosttest.New(t, fake.Options{StartDelay: 30 * time.Millisecond})
	p := start(t, f, func(o *pool.Options) { o.Targets = nil })
	fn := hosttest.Function("f", "echo")
	var callers sync.WaitGroup
	for k := range 30 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(k)*2*time.Millisecond)
			defer cancel()
			if l, err := p.Acquire(ctx, fn); err == nil {
				l.Release()
			} else if lambent.KindOf(err) != lambent.KindThrottled {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	hosttest.Eventually(t, "all containers have expired", func() bool { return f.Driver.Alive() == fake.Alive{} })
}

func TestABootThatFailsIsTriedAgainAndThenTold(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Targets = nil })
	fn := hosttest.Function("f", "echo")
	for failures, works := range map[int]bool{1: true, 2: true, 3: false} {
		f.Driver.Heal()
		for n := range failures {
			f.Driver.Script(fake.Fault{Op: fake.OpStart, Nth: n + 1, Err: fmt.Errorf("not this one")})
		}
		l, err := p.Acquire(t.Context(), fn)
		if works != (err == nil) {
			t.Errorf("after %d failed boots: %v", failures, err)
		}
		if err == nil {
			l.Discard()
		}
	}
}

func TestTheWarmingPoolIsRefilledAfterATakeAndADeath(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, nil)
	full := func() bool { return p.Statuses()[0].Ready == 2 }
	hosttest.Eventually(t, "the pool is full", full)
	l, err := p.Acquire(t.Context(), hosttest.Function("f", "echo"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if l.Kind != lambent.StartWarm {
		t.Errorf("start kind %s: %s", l.Kind, l.Reason)
	}
	hosttest.Eventually(t, "the pool is full again", full)
	for _, i := range f.Driver.Instances() {
		if i != l.Container.Instance().ID() {
			if err := f.Driver.Kill(i, nil); err != nil {
				t.Error(err)
			}
			break
		}
	}
	hosttest.Eventually(t, "the dead one is replaced", func() bool { return full() && f.Driver.Count(fake.OpStart) >= 4 })
}

func TestWithStrictRuntimesOnlyTheVeryVersionServes(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, func(o *pool.Options) { o.Strict = true })
	fn := hosttest.Function("f", "echo")
	fn.Runtime = "nodejs22.x"
	if _, err := p.Acquire(t.Context(), fn); lambent.KindOf(err) != lambent.KindInvalid {
		t.Errorf("nodejs22.x was served by 20: %v", err)
	}
}

// What nobody waits for is booted on half of the CPUs at most while there are
// calls, and on all of them where there are none.
func TestWhileThereAreCallsFewerBootThatNobodyWaitsFor(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	gate := make(chan struct{})
	f := hosttest.New(t, fake.Options{Before: func(ctx context.Context, c fake.Call) error {
		if c.Op != fake.OpStart {
			return nil
		}
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		return nil
	}})
	peak := func() int {
		mu.Lock()
		defer mu.Unlock()
		return most
	}
	p := start(t, f, func(o *pool.Options) {
		o.Targets, o.MaxBoots, o.IdleTimeout = map[lambent.Family]int{lambent.FamilyNode: 6}, 8, time.Minute
	})
	hosttest.Eventually(t, "all boot at once", func() bool { return peak() == 6 })
	for range 6 {
		gate <- struct{}{}
	}
	ready(t, p, 6)
	mu.Lock()
	most = 0
	mu.Unlock()
	var leases []*pool.Lease
	for n := range 5 {
		leases = append(leases, acquire(t, p, of(n, "f", "echo", 128))) // an instance of the pool each
	}
	for range 5 {
		gate <- struct{}{}
	}
	ready(t, p, 6)
	if peak() > 2 {
		t.Errorf("%d booted at once while there were calls, want 2 of 8", peak())
	}
	for _, l := range leases {
		l.Release()
	}
}

func TestABurstBootsAFewInstancesAtATimeAndNoMoreThanItNeeds(t *testing.T) {
	var mu sync.Mutex
	running, most := 0, 0
	f := hosttest.New(t, fake.Options{Before: func(ctx context.Context, c fake.Call) error {
		if c.Op != fake.OpStart {
			return nil
		}
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		defer func() {
			mu.Lock()
			running--
			mu.Unlock()
		}()
		select {
		case <-time.After(5 * time.Millisecond): // how long a boot takes
		case <-ctx.Done():
		}
		return nil
	}})
	p := start(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.IdleTimeout = nil, 500, time.Minute })
	fn := hosttest.Function("f", "echo")
	const callers = 200
	var wait sync.WaitGroup
	for range callers {
		wait.Go(func() {
			l, err := p.Acquire(t.Context(), fn)
			if err != nil {
				t.Error(err)
				return
			}
			l.Release()
		})
	}
	wait.Wait()
	mu.Lock()
	defer mu.Unlock()
	if most > 2 {
		t.Errorf("%d instances were booting at once, at most 2 may", most)
	}
	if n := f.Driver.Count(fake.OpStart); n > callers/4 {
		t.Errorf("%d instances were started for %d calls that each took no time", n, callers)
	}
}
