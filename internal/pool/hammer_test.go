package pool_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// hammer is what many callers, killers and updaters do to one pool, and what
// must hold meanwhile.
type hammer struct {
	t      *testing.T
	f      *hosttest.Fixture
	p      *pool.Pool
	owners *owners
	fns    []atomic.Pointer[lambent.Function] // as they are now
	end    time.Time

	right, failed, refused, unstarted, kills, updates atomic.Int64
}

// hammerFor is how long the hammer hits: HAMMER, or what a test may take.
func hammerFor(t *testing.T, otherwise time.Duration) time.Duration {
	t.Helper()
	text, given := os.LookupEnv("HAMMER")
	if !given {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("HAMMER: %v", err)
	}
	return d
}

func TestUnderTheHammerEveryAnswerIsItsCallersAndNothingIsLeft(t *testing.T) {
	const accounts, functions, callers = 6, 20, 500
	f := hosttest.New(t, fake.Options{})
	h := &hammer{t: t, f: f, fns: make([]atomic.Pointer[lambent.Function], functions), end: time.Now().Add(hammerFor(t, 2*time.Second)),
		owners: &owners{t: t, leased: map[lambent.ContainerID]bool{}, account: map[lambent.InstanceID]lambent.AccountID{}}}
	h.p = sharing(t, f, func(o *pool.Options) {
		o.MaxInstances, o.MaxQueue, o.MaxBoots, o.IdleTimeout = 24, callers, 4, 50*time.Millisecond
		o.ProbeEvery, o.ProbeTimeout = 20*time.Millisecond, time.Second
		o.Log = slog.New(&refusals{t: t})
	})
	for n := range h.fns {
		handler := "echo"
		switch n % 5 {
		case 3:
			handler = "exit-after"
		case 4:
			handler = "exit 1"
		}
		h.fns[n].Store(of(n%accounts, fmt.Sprint("f", n), handler, 128<<(n%3)))
	}
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() { h.call(c) })
	}
	all.Go(h.kill)
	all.Go(h.update)
	all.Go(h.look)
	all.Wait()
	t.Logf("%d right answers, %d calls whose runtime or instance ended, %d refused, %d that could not start; %d kills, %d updates",
		h.right.Load(), h.failed.Load(), h.refused.Load(), h.unstarted.Load(), h.kills.Load(), h.updates.Load())
	if h.right.Load() == 0 || h.failed.Load() == 0 || h.kills.Load() == 0 || h.updates.Load() == 0 {
		t.Error("it did not hit")
	}
}

func (h *hammer) over() bool { return !time.Now().Before(h.end) }

// call is one caller, who calls one function after the other.
func (h *hammer) call(n int) {
	r := rand.New(rand.NewPCG(2, uint64(n)))
	for k := 0; !h.over(); k++ {
		fn := h.fns[r.IntN(len(h.fns))].Load()
		patience := 5 * time.Second
		if r.IntN(8) == 0 {
			patience = time.Duration(r.IntN(20)) * time.Millisecond
		}
		h.once(fn, lambent.RequestID(fmt.Sprint(n, "-", k)), patience, r.IntN(20) == 0)
	}
}

func (h *hammer) once(fn *lambent.Function, id lambent.RequestID, patience time.Duration, discard bool) {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	var standIns []*lambent.Function
	if fn.Previous != nil {
		standIns = append(standIns, fn.Previous)
	}
	l, err := h.p.Acquire(ctx, fn, standIns...)
	switch {
	case lambent.KindOf(err) == lambent.KindThrottled:
		h.refused.Add(1)
		return
	case err != nil:
		h.unstarted.Add(1)
		if isRefusal(err.Error()) {
			h.t.Errorf("the pool asked for what the host refuses: %v", err)
		}
		return
	}
	h.owners.take(l, fn.Account)
	if is := l.Container.Snapshot(); is.Account != fn.Account || is.Function != fn.Name || is.MemoryMB != fn.MemoryMB {
		h.t.Errorf("a call of %s of %s got a container of %s of %s with %d MB", fn.Name, fn.Account, is.Function, is.Account, is.MemoryMB)
	}
	payload := fmt.Sprintf(`{"account":%q,"function":%q,"id":%q}`, fn.Account, fn.Name, id)
	a, err := l.Container.Invoke(&host.Event{RequestID: id, Payload: []byte(payload), Timeout: 5 * time.Second})
	h.owners.give(l)
	switch {
	case err != nil:
		h.failed.Add(1)
		if isRefusal(err.Error()) {
			h.t.Errorf("the pool leased what the host refuses: %v", err)
		}
	case string(a.Payload) != payload:
		h.t.Errorf("%s is answered %s", payload, a.Payload)
	default:
		h.right.Add(1)
	}
	if err != nil || discard {
		l.Discard()
	} else {
		l.Release()
	}
}

// kill ends instances, and runtimes that wait for code; the functions that exit
// end those that have theirs.
func (h *hammer) kill() {
	r := rand.New(rand.NewPCG(3, 0))
	for !h.over() {
		if alive := h.f.Driver.Instances(); len(alive) > 0 {
			if h.f.Driver.Kill(alive[r.IntN(len(alive))], nil) == nil { // else it was released meanwhile
				h.kills.Add(1)
			}
		}
		if r.IntN(4) == 0 {
			h.f.EndWaiting()
		}
		time.Sleep(10 * time.Millisecond) // so that some of them live
	}
}

// update changes functions, back to what they were too, and deletes them. Code is
// rolled out: the old stands in until the new stands.
func (h *hammer) update() {
	r := rand.New(rand.NewPCG(4, 0))
	for !h.over() {
		at := &h.fns[r.IntN(len(h.fns))]
		old := at.Load()
		fn := *old
		if r.IntN(2) == 0 {
			next := hosttest.Updated(old, fmt.Sprint(r.IntN(3)))
			next.Previous = old
			at.Store(next)
			h.p.Retire(fn.Account, fn.Name, fn.Version, next.Key(), old.Key())
			if err := h.p.Stand(h.t.Context(), next, old); err != nil && isRefusal(err.Error()) {
				h.t.Errorf("the pool asked for what the host refuses: %v", err)
			}
			settled := *next
			settled.Previous = nil
			at.Store(&settled)
			h.p.Retire(fn.Account, fn.Name, fn.Version, next.Key())
			h.updates.Add(1)
			continue
		}
		fn.Environment = map[string]string{"V": fmt.Sprint(r.IntN(3))}
		fn.ConfigHash = fn.HashConfig()
		at.Store(&fn)
		key := fn.Key()
		if r.IntN(4) == 0 {
			h.p.Retire(fn.Account, fn.Name, fn.Version)
		} else {
			h.p.Retire(fn.Account, fn.Name, fn.Version, key)
		}
		h.updates.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

// look checks what the instances say of themselves.
func (h *hammer) look() {
	for !h.over() {
		for _, s := range h.p.Snapshots() {
			if s.FreeMB < 0 {
				h.t.Errorf("instance %s has %d MB free of %d", s.ID, s.FreeMB, s.MemoryMB)
			}
			for _, c := range s.Containers {
				if c.Account != "" && c.Account != s.Account {
					h.t.Errorf("instance %s is of account %q, its container %s of %q", s.ID, s.Account, c.ID, c.Account)
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// isRefusal tells what the host says when it is asked for more memory than an
// instance has left, for another account's instance, or for a container that is
// at work: it keeps the rules itself, so that is how a pool that breaks them
// shows.
func isRefusal(message string) bool {
	return strings.Contains(message, " left, not ") || strings.Contains(message, "it is active, not") || strings.Contains(message, "it is busy")
}

// refusals is a log in which no refusal of the host's may be: the pool logs what
// it tries again.
type refusals struct{ t *testing.T }

func (*refusals) Enabled(context.Context, slog.Level) bool { return true }

func (r *refusals) Handle(_ context.Context, rec slog.Record) error {
	rec.Attrs(func(a slog.Attr) bool {
		if isRefusal(a.Value.String()) {
			r.t.Errorf("%s: %s", rec.Message, a.Value)
		}
		return true
	})
	return nil
}

func (r *refusals) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r *refusals) WithGroup(string) slog.Handler      { return r }
