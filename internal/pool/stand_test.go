package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// standing has new code stand ready in the background.
func standing(t *testing.T, p *pool.Pool, fn *lambent.Function, old ...*lambent.Function) (ended <-chan error) {
	t.Helper()
	e := make(chan error, 1)
	var done sync.WaitGroup
	done.Go(func() { e <- p.Stand(t.Context(), fn, old...) })
	t.Cleanup(done.Wait)
	return e
}

func wantStood(t *testing.T, ended <-chan error) {
	t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("waited in vain for new code to stand")
	}
}

func TestOldCodeStandsInUntilNewCodeStandsBesideIt(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "count", 128)
	two := hosttest.Updated(one, "two")
	release := f.Hold(two.Code)
	l := acquire(t, p, one)
	first, instance := l.Container.ID(), instanceOf(l)
	l.Release()
	ended := standing(t, p, two, one)
	for range 3 {
		l, err := p.Acquire(t.Context(), two, one)
		if err != nil {
			t.Fatal(err)
		}
		if l.Container.ID() != first || l.Function != one || l.Kind != lambent.StartReuse || !strings.HasPrefix(l.Reason, "the new code is not ready yet, the code before stood in: an idle container") {
			t.Errorf("meanwhile %s of %v: %s", l.Container.ID(), l.Function, l.Reason)
		}
		l.Release()
	}
	running, err := p.Acquire(t.Context(), two, one)
	if err != nil {
		t.Fatal(err)
	}
	release(nil)
	wantStood(t, ended)
	l, err = p.Acquire(t.Context(), two, one)
	if err != nil {
		t.Fatal(err)
	}
	if l.Container.ID() == first || instanceOf(l) != instance || l.Function != two || l.Kind != lambent.StartReuse || strings.Contains(l.Reason, "stood in") {
		t.Errorf("then %s on %s, which is %s of %v: %s", l.Container.ID(), instanceOf(l), l.Kind, l.Function, l.Reason)
	}
	l.Release()
	p.Retire(one.Account, one.Name, one.Version, two.Key())
	select {
	case <-running.Container.Done():
		t.Error("the old container was ended while it ran")
	default:
	}
	running.Release()
	hosttest.Eventually(t, "the old container is gone", func() bool {
		for _, i := range p.Snapshots() {
			for _, c := range i.Containers {
				if c.ID == first {
					return false
				}
			}
		}
		return true
	})
}

func TestAVersionThatStandsInIsNamed(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	one.Version = "1"
	two := *one
	two.Version = "2"
	acquire(t, p, one).Release()
	l, err := p.Acquire(t.Context(), &two, one)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if l.Function != one || !strings.HasPrefix(l.Reason, "version 2 is not ready yet, version 1 stood in: ") {
		t.Errorf("%v: %s", l.Function, l.Reason)
	}
}

func TestWhereNothingOldIsWarmCallsWaitForTheNew(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	wantStood(t, standing(t, p, two, one))
	if a := f.Driver.Count(fake.OpAttach); a != 0 {
		t.Errorf("%d containers were given code for nothing", a)
	}
	l, err := p.Acquire(t.Context(), two, one)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if l.Function != two {
		t.Errorf("it got %v", l.Function)
	}
}

func TestNobodyStandsInWhoCannot(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	acquire(t, p, one).Release()
	other := *hosttest.Updated(one, "two")
	other.Environment = map[string]string{"A": "b"}
	other.ConfigHash = other.HashConfig()
	l, err := p.Acquire(t.Context(), &other, one)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if l.Function != &other {
		t.Errorf("it got %v", l.Function)
	}
}

// Who wants the new code exactly gets the container that is being brought up, and
// nobody else needs to be.
func TestAnExactCallGetsWhatStands(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	release := f.Hold(two.Code)
	acquire(t, p, one).Release()
	ended := standing(t, p, two, one)
	got := make(chan *pool.Lease)
	for range 2 {
		go func() {
			l, err := p.Acquire(t.Context(), two)
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
	}
	release(nil) // once: one download for all who wait
	wantStood(t, ended)
	for range 2 {
		if l := <-got; l != nil {
			if l.Function != two {
				t.Errorf("it got %v", l.Function)
			}
			l.Release()
		}
	}
}

func TestAsManyStandAsWereUsedAtOnce(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	for range 3 { // how long they are used is not known
		defer acquire(t, p, one).Release()
	}
	two := hosttest.Updated(one, "two")
	wantStood(t, standing(t, p, two, one))
	for k := range 3 {
		l := acquire(t, p, two)
		defer l.Release()
		if l.Kind != lambent.StartReuse {
			t.Errorf("call %d is a %s: %s", k, l.Kind, l.Reason)
		}
	}
}

func TestOfShortCallsFewerContainersAreEnough(t *testing.T) {
	for _, tc := range []struct {
		most int
		held time.Duration
		want int
	}{{3, 0, 3}, {3, time.Minute, 3}, {1, time.Microsecond, 1}, {8, time.Millisecond, 1}, {8, 3 * time.Millisecond, 3}, {8, 10 * time.Millisecond, 8}, {0, time.Second, 0}} {
		if got := pool.Wants(tc.most, tc.held); got != tc.want {
			t.Errorf("of %d at once for %s each: %d, want %d", tc.most, tc.held, got, tc.want)
		}
	}
}

// While the machine boots, a caller of calls that are short waits for the
// container in use; where it does not come one is started.
func TestWhileSomethingBootsShortCallsWaitForTheContainerInUse(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	fn := of(1, "f", "echo", 128)
	acquire(t, p, fn).Release() // which was short
	hosttest.Eventually(t, "all has booted", func() bool { return p.Boots(0) == 0 })
	defer p.Boots(-1)
	p.Boots(1)
	l := acquire(t, p, fn)
	got := make(chan *pool.Lease)
	waiter := func() {
		l, err := p.Acquire(context.Background(), fn)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}
	go waiter()
	hosttest.Eventually(t, "it waits", func() bool { return p.Waiting(fn) == 1 })
	first := l.Container.ID()
	l.Release()
	if l = <-got; l.Container.ID() != first || l.Kind != lambent.StartReuse {
		t.Errorf("%s is a %s: %s", l.Container.ID(), l.Kind, l.Reason)
	}
	go waiter()
	other := <-got // though the first is in use for good
	if other.Container.ID() == first {
		t.Error("two have the same container")
	}
	other.Release()
	l.Release()
}

// So it is while code is being loaded, whosever it is: nothing is to be booted in
// place of what the start took as long as there is no hurry.
func TestWhileCodeIsLoadedShortCallsWaitForTheContainerInUse(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	fn, other := of(1, "f", "echo", 128), hosttest.Updated(of(2, "g", "count", 128), "its own")
	acquire(t, p, fn).Release() // which was short
	load := f.Hold(other.Code)
	var loading sync.WaitGroup
	loading.Go(func() {
		l, err := p.Acquire(context.Background(), other)
		if err != nil {
			t.Error(err)
			return
		}
		l.Release()
	})
	defer loading.Wait()
	defer load(nil)
	hosttest.Eventually(t, "the other is being loaded, and all has booted", func() bool {
		return p.Waiting(other) == 1 && p.Queued() == 0 && p.Idle() == 6 // in two warm instances two each, and a spare in each of theirs
	})
	l := acquire(t, p, fn)
	got := make(chan *pool.Lease)
	go func() {
		l, err := p.Acquire(context.Background(), fn)
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	hosttest.Eventually(t, "a caller waits", func() bool { return p.Waiting(fn) == 1 })
	first := l.Container.ID()
	l.Release()
	l = <-got
	if l.Container.ID() != first || l.Kind != lambent.StartReuse {
		t.Errorf("%s is a %s: %s", l.Container.ID(), l.Kind, l.Reason)
	}
	l.Release()
}

func TestWithoutRoomNothingStandsAndNothingIsEnded(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.Spares, o.InstanceMB = nil, 1, 0, 128 })
	one := of(1, "f", "echo", 128)
	l := acquire(t, p, one)
	l.Release()
	two := hosttest.Updated(one, "two")
	if err := <-standing(t, p, two, one); err == nil || !strings.Contains(err.Error(), "1 of at most 1 instances run") {
		t.Errorf("it says %v", err)
	}
	again, err := p.Acquire(t.Context(), two, one)
	if err != nil {
		t.Fatal(err)
	}
	if again.Container.ID() != l.Container.ID() {
		t.Error("the old container has gone")
	}
	again.Release()
	p.Retire(one.Account, one.Name, one.Version, two.Key())
	acquire(t, p, two).Release()
}

func TestAFunctionThatCannotInitialiseIsToldByItsCalls(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "exit-after", 128) // its containers end by themselves
	two := hosttest.Updated(one, "two")
	release := f.Hold(two.Code)
	l := acquire(t, p, one)
	ended := standing(t, p, two, one)
	release(errors.New("the store is down"))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "the store is down") {
		t.Errorf("it says %v", err)
	}
	l.Release()
	bad := of(1, "g", "init-error", 128)
	worse := hosttest.Updated(bad, "two")
	var failed *pool.StartError
	if _, err := p.Acquire(t.Context(), bad); !errors.As(err, &failed) || failed.Function != bad {
		t.Fatalf("%v", err)
	}
	wantStood(t, standing(t, p, worse, bad))
}

// Callers who wait for an old container when the switch comes get it: it does not
// leave them for new starts of what is old.
func TestWhoWaitsForAnOldContainerAtTheSwitchGetsIt(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.Spares, o.InstanceMB = nil, 1, 0, 256 })
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	l := acquire(t, p, one)
	wantStood(t, standing(t, p, two, one)) // the machine is full
	waited := make(chan *pool.Lease)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		old, err := p.Acquire(ctx, one)
		if err != nil {
			t.Error(err)
		}
		waited <- old
	}()
	hosttest.Eventually(t, "the other waits", func() bool { return p.Queued() == 1 })
	p.Retire(one.Account, one.Name, one.Version, two.Key())
	l.Release()
	if old := <-waited; old != nil {
		if old.Container.ID() != l.Container.ID() {
			t.Error("it got another container")
		}
		old.Release()
	}
}

func TestWhoComesLateForOldCodeGetsTheNew(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	l := acquire(t, p, one)
	p.Retire(one.Account, one.Name, one.Version, two.Key())
	late, err := p.Acquire(t.Context(), two, one) // told of one before
	if err != nil {
		t.Fatal(err)
	}
	if late.Function != two {
		t.Errorf("it got %v", late.Function)
	}
	late.Release()
	l.Release()
}

// Until the switch nobody waits: where only an old container is idle, it serves.
func TestWhoeverIsIdleServesUntilTheSwitch(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	acquire(t, p, one).Release()
	exact := acquire(t, p, two)
	l, err := p.Acquire(t.Context(), two, one)
	if err != nil {
		t.Fatal(err)
	}
	if l.Function != one || l.Kind != lambent.StartReuse {
		t.Errorf("while the new container is busy, %v serves by %s", l.Function, l.Kind)
	}
	l.Release()
	exact.Release()
	if l, err = p.Acquire(t.Context(), two, one); err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if l.Function != two {
		t.Errorf("while both are idle, %v serves", l.Function)
	}
}

// AWS runs an init phase that took too long once more, for as long as a call may
// take. Nobody's call is that long for an update: it would be in progress for it.
func TestWhatHangsInItsInitKeepsNoUpdateUp(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.InitTimeout = 20 * time.Millisecond })
	one := of(1, "f", "echo", 128)
	acquire(t, p, one).Release()
	two := hosttest.Updated(one, "two")
	two.Handler, two.TimeoutSecs = "init-hang", 900 // as the new code would
	wantStood(t, standing(t, p, two, one))
}

func TestStandEndsWithItsContextAndWithThePool(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	one := of(1, "f", "echo", 128)
	two := hosttest.Updated(one, "two")
	release := f.Hold(two.Code)
	acquire(t, p, one).Release()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Stand(ctx, two, one) }()
	hosttest.Eventually(t, "it has begun", func() bool { return fmt.Sprint(p.Standing(two.Key())) == "1" })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	release(nil) // the start goes on, and is there for calls
	hosttest.Eventually(t, "it is there", func() bool { return p.Standing(two.Key()) == 0 })
	l := acquire(t, p, two)
	defer l.Release()
	if l.Kind != lambent.StartReuse {
		t.Errorf("a %s: %s", l.Kind, l.Reason)
	}
}
