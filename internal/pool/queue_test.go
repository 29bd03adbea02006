package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
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

// Callers of many functions wait on a full machine. When one account's container
// ends, that account's next caller has room, whoever else waits.
func TestRoomOnAnAccountsInstanceGoesToItsCallerWhoeverElseWaits(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.Spares, o.InstanceMB = nil, 2, 0, 512 })
	one, two := acquire(t, p, of(1, "f", "echo", 512)), acquire(t, p, of(2, "a", "echo", 256))
	three := acquire(t, p, of(2, "b", "echo", 256))
	if instanceOf(two) != instanceOf(three) {
		t.Fatal("they are not on one instance")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	const others = 20
	ended := make(chan struct{}, others)
	for k := range others { // the machine has no room for account 3
		go func() {
			if l, err := p.Acquire(ctx, of(3, fmt.Sprint("f", k), "echo", 128)); err == nil {
				l.Release()
			}
			ended <- struct{}{}
		}()
	}
	got := make(chan *pool.Lease, 1)
	go func() {
		l, err := p.Acquire(t.Context(), of(2, "c", "echo", 256))
		if err != nil {
			t.Error(err)
			return
		}
		got <- l
	}()
	hosttest.Eventually(t, "all wait", func() bool { return p.Queued() == others+1 })
	two.Discard()
	select {
	case l := <-got:
		l.Release()
	case <-time.After(10 * time.Second):
		t.Error("it still waits")
	}
	one.Release()
	three.Release()
	stop()
	for range others {
		<-ended
	}
}

// An account that calls without pause has a full machine for itself only until
// others have waited for a turn.
func TestAFunctionCalledWithoutPauseMakesWayForOthers(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.Turn = nil, 1, 10*time.Millisecond })
	stop := callWithoutPause(t.Context(), p, of(1, "f", "echo", 1024))
	hosttest.Eventually(t, "one has the machine", func() bool { return f.Driver.Alive().Instances == 1 })
	for account := 2; account < 5; account++ {
		patience, giveUp := context.WithTimeout(t.Context(), 10*time.Second)
		if l, err := p.Acquire(patience, of(account, "f", "echo", 128)); err != nil {
			t.Errorf("account %d: %v", account, err)
		} else {
			l.Release()
		}
		giveUp()
	}
	stop()
}

// callWithoutPause keeps a container of a function busy, and its line never empty,
// until it is stopped.
func callWithoutPause(ctx context.Context, p *pool.Pool, fn *lambent.Function) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for ctx.Err() == nil {
				if l, err := p.Acquire(ctx, fn); err == nil {
					for p.Waiting(fn) == 0 && ctx.Err() == nil {
						runtime.Gosched()
					}
					l.Release()
				}
			}
		})
	}
	return func() { cancel(); callers.Wait() }
}

// The same within an account: room on its instance is enough.
func TestAFunctionCalledWithoutPauseMakesWayForItsAccountsOthersOnTheInstance(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.Spares, o.Turn = nil, 1, 0, 10*time.Millisecond })
	kept := acquire(t, p, of(1, "kept", "echo", 512)) // runs for long
	stop := callWithoutPause(t.Context(), p, of(1, "f", "echo", 512))
	hosttest.Eventually(t, "both are there", func() bool { return f.Driver.Alive().Containers == 2 })
	patience, giveUp := context.WithTimeout(t.Context(), 10*time.Second)
	defer giveUp()
	l, err := p.Acquire(patience, of(1, "g", "echo", 512))
	if err != nil {
		t.Error(err)
	} else {
		if instanceOf(l) != instanceOf(kept) {
			t.Error("it is elsewhere")
		}
		l.Release()
	}
	stop()
	kept.Release()
}

// A caller waits for a runtime to be booted on the account's instance, for which
// it is not its turn yet, and gives up; the only container there ends meanwhile.
func TestAnInstanceGoesThoughTheLastStartOnItWasNotNeeded(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxBoots, o.Spares = nil, 1, 0 })
	fn := of(1, "f", "echo", 128)
	one := acquire(t, p, fn)
	f.Driver.Script(fake.Fault{Op: fake.OpStart, Nth: 1, Delay: 100 * time.Millisecond})
	other := make(chan *pool.Lease, 1)
	go func() { // takes the only turn
		l, err := p.Acquire(t.Context(), of(2, "f", "echo", 128))
		if err != nil {
			t.Error(err)
		}
		other <- l
	}()
	hosttest.Eventually(t, "an instance is booting", func() bool { return f.Driver.Count(fake.OpStart) == 2 })
	ctx, giveUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := p.Acquire(ctx, fn); err == nil {
			t.Error("it got a container")
		}
	}()
	hosttest.Eventually(t, "it waits", func() bool { return p.Waiting(fn) == 1 })
	giveUp()
	<-gone
	one.Discard()
	hosttest.Eventually(t, "the container has ended", func() bool { return f.Driver.Alive().Containers == 0 })
	if l := <-other; l != nil {
		l.Discard()
	}
	hosttest.Eventually(t, "nothing is left", func() bool { return f.Driver.Alive() == fake.Alive{} })
}

// An instance that dies while it is given its function takes room until nothing
// is left of it: the next try waits for that.
func TestNeverMoreInstancesThanTheLimitWhateverDies(t *testing.T) {
	const limit = 2
	f := hosttest.New(t, fake.Options{})
	f.Driver.Script(fake.Fault{Op: fake.OpDestroy, Delay: 20 * time.Millisecond})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances, o.MaxBoots = nil, limit, 8 })
	most, over, watched := 0, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for ticker := time.NewTicker(100 * time.Microsecond); ; {
			select {
			case <-ticker.C:
				most = max(most, f.Driver.Alive().Instances)
			case <-over:
				ticker.Stop()
				return
			}
		}
	}()
	for k := range 10 {
		f.Driver.Script(fake.Fault{Op: fake.OpAttach, Nth: 1, Death: errors.New("killed")}, fake.Fault{Op: fake.OpAttach, Nth: 2, Death: errors.New("killed")})
		one, two := acquire(t, p, of(k, "f", "echo", 1024)), acquire(t, p, of(k+100, "f", "echo", 1024))
		one.Discard()
		two.Discard()
	}
	close(over)
	<-watched
	if most > limit {
		t.Errorf("%d instances, with a limit of %d", most, limit)
	}
}

// The last instance may have booted while the pool ended all the others: the
// server would wait for it for ever.
func TestAnInstanceThatBootsWhileThePoolEndsGoesToo(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := pool.New(pool.Options{Host: f.Host, Runtimes: []hostinfo.Installed{hosttest.Node()}, MaxInstances: 1, InstanceMB: 512, Log: slog.New(slog.DiscardHandler)})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	p.Run(ctx, time.Second)
	i, err := f.Host.Start(t.Context(), 512)
	if err != nil {
		t.Fatal(err)
	}
	c, err := i.Boot(t.Context(), host.Boot{Runtime: hosttest.Node(), EphemeralMB: 512})
	if err == nil {
		err = p.BootDone(of(1, "f", "echo", 128), i, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "nothing is left", func() bool { return f.Driver.Alive() == fake.Alive{} && len(p.Snapshots()) == 0 })
}
