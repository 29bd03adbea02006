package queue

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fixture is a queue in a folder of its own.
type fixture struct {
	*Queue
	node *cluster.Node
	dir  string
	log  *bytes.Buffer
}

func openQueue(t testing.TB, dir string, o Options) *fixture {
	t.Helper()
	f := &fixture{dir: dir, node: cluster.New(cluster.Options{Dir: dir, Sync: cluster.SyncSometime}), log: &bytes.Buffer{}}
	if err := f.node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.Log = slog.New(slog.NewTextHandler(f.log, nil))
	var err error
	if f.Queue, err = Open(t.Context(), f.node, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close(t) })
	return f
}

func (f *fixture) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(f.Queue.Close(), f.node.Close()); err != nil {
		t.Error(err)
	}
}

// again closes the queue and opens what it left.
func (f *fixture) again(t testing.TB) *fixture {
	t.Helper()
	f.close(t)
	return openQueue(t, f.dir, f.opts)
}

var hello = Line{"000000000000", "hello", ""}

func event(l Line, id string) *Event {
	return &Event{ID: lambent.RequestID(id), Line: l, Payload: []byte(`"` + id + `"`), AcceptedAt: time.Now()}
}

func (f *fixture) accept(t testing.TB, l Line, ids ...string) {
	t.Helper()
	for _, id := range ids {
		must(0, f.Accept(t.Context(), event(l, id)))(t)
	}
}

// take takes the next event, nil where there is none.
func (f *fixture) take(t testing.TB, l Line) *Taken {
	t.Helper()
	taken, ok, err := f.Take(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	if want := `"` + string(taken.Event.ID) + `"`; string(taken.Event.Payload) != want {
		t.Errorf("the payload of %s is %.100q", taken.Event.ID, taken.Event.Payload)
	}
	return taken
}

// drain takes all that is due, settles it, and gives the ids.
func (f *fixture) drain(t testing.TB, l Line) (ids []string) {
	t.Helper()
	for taken := f.take(t, l); taken != nil; taken = f.take(t, l) {
		ids = append(ids, string(taken.Event.ID))
		taken.Settle()
	}
	return ids
}

func (f *fixture) wantDrained(t testing.TB, l Line, want ...string) {
	t.Helper()
	if got := f.drain(t, l); !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", l, got, want)
	}
}

func TestEventsOfALineComeInTheirOrder(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	live := Line{"000000000000", "hello", "live"}
	f.accept(t, hello, "a", "b")
	f.accept(t, live, "c")
	must(0, f.Accept(t.Context(), event(hello, "d"), event(live, "e")))(t)
	if got := f.Backlog(hello); got.Due != 3 || got.Taken != 0 {
		t.Errorf("backlog %+v", got)
	}
	a := f.take(t, hello)
	if got, want := f.Backlog(hello), (LineStats{Line: hello, Due: 2, Taken: 1}); got != want {
		t.Errorf("backlog %+v, want %+v", got, want)
	}
	f.wantDrained(t, live, "c", "e")
	f.wantDrained(t, hello, "b", "d")
	if got := f.Stats(); len(got) != 1 || got[0] != (LineStats{Line: hello, Taken: 1}) {
		t.Errorf("stats %+v", got)
	}
	a.Settle()
	if got := f.Stats(); len(got) != 0 {
		t.Errorf("stats of an empty one %+v", got)
	}
	if n, _ := f.Size(); n != 0 {
		t.Errorf("%d events are held", n)
	}
	f = f.again(t)
	f.wantDrained(t, hello)
	f.wantDrained(t, live)
}

func TestWhatIsNotSettledIsThereAfterARestart(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "settled", "taken", "returned", "again", "later", "waiting")
	f.take(t, hello).Settle()
	f.take(t, hello)
	returned, again, later := f.take(t, hello), f.take(t, hello), f.take(t, hello)
	returned.Return()
	again.Event.Attempts, again.Event.State = 1, []byte("what happened")
	must(0, again.Retry(t.Context(), 0))(t)
	must(0, later.Retry(t.Context(), time.Hour))(t)

	f = f.again(t)
	if got, want := f.Backlog(hello), (LineStats{Line: hello, Due: 4, Delayed: 1}); got != want {
		t.Errorf("backlog %+v, want %+v", got, want)
	}
	first := f.take(t, hello)
	if first.Event.ID != "again" || first.Event.Attempts != 1 || string(first.Event.State) != "what happened" {
		t.Errorf("put back was %+v", first.Event)
	}
	f.wantDrained(t, hello, "taken", "returned", "waiting")
	if f.log.Len() > 0 {
		t.Errorf("it says: %s", f.log)
	}
}

func TestEventsAreReadFromTheDiskWhereMemoryHasThemNot(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{CacheBytes: 5000})
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i))
	}
	f.accept(t, hello, want...)
	f.take(t, hello).Return()
	f.wantDrained(t, hello, want...)
}

func TestNotifyTellsOfALineThatHasEventsAgain(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "before")
	told := make(chan Line, 100)
	f.Notify(func(l Line) { told <- l })
	expect := func(want ...Line) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-told:
				if got != w {
					t.Errorf("told of %v, want %v", got, w)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("waited in vain for %v", w)
			}
		}
		select {
		case got := <-told:
			t.Errorf("told of %v, too", got)
		default:
		}
	}
	expect(hello)
	f.accept(t, hello, "second")
	expect()
	first := f.take(t, hello)
	f.take(t, hello)
	f.accept(t, hello, "third")
	expect(hello)
	f.take(t, hello).Return()
	expect()
	f.take(t, hello)
	must(0, first.Retry(t.Context(), 0))(t)
	expect(hello)
	must(0, f.take(t, hello).Retry(t.Context(), time.Millisecond))(t)
	expect(hello)
	f.wantDrained(t, hello, "before")
}

func TestAnEventThatComesAgainLaterIsWaitedForByNobody(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	told := make(chan Line, 100)
	f.Notify(func(l Line) { told <- l })
	f.accept(t, hello, "poison", "late", "later", "good")
	<-told
	poison, late, later := f.take(t, hello), f.take(t, hello), f.take(t, hello)
	must(0, later.Retry(t.Context(), time.Hour))(t)
	must(0, poison.Retry(t.Context(), 0))(t)
	must(0, late.Retry(t.Context(), 30*time.Millisecond))(t)
	f.wantDrained(t, hello, "good", "poison")
	<-told
	f.wantDrained(t, hello, "late")
	if got, want := f.Backlog(hello), (LineStats{Line: hello, Delayed: 1}); got != want {
		t.Errorf("backlog %+v, want %+v", got, want)
	}
}

func TestAnEventMayComeAgainAsAnother(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "a")
	a := f.take(t, hello)
	previous := Line{hello.Account, hello.Function, "7"}
	a.Event.Line, a.Event.ID, a.Event.Payload = previous, "b", []byte(`"b"`)
	must(0, a.Retry(t.Context(), 0))(t)
	f.wantDrained(t, hello)
	f.take(t, previous)
	f = f.again(t)
	f.wantDrained(t, hello)
	f.wantDrained(t, previous, "b")
}

func TestAgeIsOfTheAcceptance(t *testing.T) {
	var passed atomic.Int64
	o := Options{wall: func() int64 { return wallClock() + passed.Load() }}
	f := openQueue(t, t.TempDir(), o)
	f.accept(t, hello, "a", "b")
	must(0, f.take(t, hello).Retry(t.Context(), 0))(t)
	f.close(t)
	passed.Store(time.Hour.Milliseconds())
	f = openQueue(t, f.dir, o)
	if s := f.Backlog(hello); s.Oldest < time.Hour || s.Oldest > time.Hour+time.Minute {
		t.Errorf("stats %+v", s)
	}
	for range 2 {
		if age := f.take(t, hello).Age(); age < time.Hour || age > time.Hour+time.Minute {
			t.Errorf("the age is %v", age)
		}
	}
	f.accept(t, hello, "c")
	if age := f.take(t, hello).Age(); age > time.Minute {
		t.Errorf("the age of a new one is %v", age)
	}
}

func TestOldestTellsTheAgeOfTheNext(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "a")
	f.Queue.clock.offset += 90_000
	f.accept(t, hello, "b")
	if got := f.Backlog(hello).Oldest; got != 90*time.Second {
		t.Errorf("oldest %v", got)
	}
	f.take(t, hello)
	if got := f.Backlog(hello).Oldest; got > time.Second {
		t.Errorf("oldest after the first was taken %v", got)
	}
}

// A clock that is set, while the server runs or while it does not, must not have an
// event wait for longer than it was to, nor lose it.
func TestClockThatJumpsLosesAndHoldsUpNothing(t *testing.T) {
	for name, jump := range map[string]time.Duration{"back": -time.Hour, "forward": time.Hour, "by years": -50 * 365 * 24 * time.Hour} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, running: %v", name, running), func(t *testing.T) {
				var jumped atomic.Int64
				o := Options{wall: func() int64 { return wallClock() + jumped.Load() }}
				f := openQueue(t, t.TempDir(), o)
				f.accept(t, hello, "waits", "soon", "late")
				waits, soon, late := f.take(t, hello), f.take(t, hello), f.take(t, hello)
				must(0, soon.Retry(t.Context(), 50*time.Millisecond))(t)
				must(0, late.Retry(t.Context(), 3*time.Hour))(t)
				waits.Return()
				if running {
					jumped.Store(jump.Milliseconds())
					f.accept(t, hello, "new") // so that the journal knows of it
				}
				f.close(t)
				jumped.Store(jump.Milliseconds())
				f = openQueue(t, f.dir, o)
				told := make(chan Line, 100)
				f.Notify(func(l Line) { told <- l })
				want := 2
				if running {
					want = 3
				}
				for want > 0 {
					<-told
					want -= len(f.drain(t, hello))
				}
				if got := f.Backlog(hello); want < 0 || got.Delayed != 1 {
					t.Errorf("%d more than there were; backlog %+v", -want, got)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				left := time.Duration(f.delays[0].due-f.clock.now()) * time.Millisecond
				if least := 179 * time.Minute; left > 3*time.Hour || left < least && (running || jump < 0) {
					t.Errorf("the late one is due in %v", left)
				}
			})
		}
	}
}

func TestEndingAnEventTwiceChangesNothing(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "a", "b")
	a, b := f.take(t, hello), f.take(t, hello)
	a.Settle()
	a.Settle()
	a.Return()
	if err := a.Retry(t.Context(), 0); err == nil {
		t.Error("a settled event was put back")
	}
	must(0, b.Retry(t.Context(), 0))(t)
	b.Settle()
	if n := strings.Count(f.log.String(), "ended twice"); n != 3 {
		t.Errorf("it says: %s", f.log)
	}
	f.wantDrained(t, hello, "b")
}

func TestCloseKeepsWhatIsThereAndRefusesTheRest(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.accept(t, hello, "a", "b")
	a := f.take(t, hello)
	must(0, f.Queue.Close())(t)
	must(0, f.Queue.Close())(t)
	if err := f.Accept(t.Context(), event(hello, "c")); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("accepted: %v", err)
	}
	if _, _, err := f.Take(t.Context(), hello); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("taken: %v", err)
	}
	if err := a.Retry(t.Context(), 0); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("put back: %v", err)
	}
	a.Settle()
	f = f.again(t)
	f.wantDrained(t, hello, "a", "b")
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{CacheBytes: 50_000})
	lines := []Line{hello, {"000000000001", "hello", ""}, {"000000000000", "other", "live"}}
	work := make(chan Line, 1000)
	f.Notify(func(l Line) { work <- l })
	const each, accepters = 300, 8
	var mu sync.Mutex
	seen := map[lambent.RequestID]int{}
	done, left := make(chan bool), each*accepters
	var workers, callers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for l := range work {
				for {
					taken, ok, err := f.Take(t.Context(), l)
					if err != nil {
						t.Error(err)
					}
					if !ok {
						break
					}
					mu.Lock()
					seen[taken.Event.ID]++
					n := seen[taken.Event.ID]
					mu.Unlock()
					switch {
					case n == 1 && taken.Event.ID[0]%3 == 0:
						taken.Event.Attempts++
						if err := taken.Retry(t.Context(), time.Duration(taken.Event.ID[1]%3)*time.Millisecond); err != nil {
							t.Error(err)
						}
					case n == 1 && taken.Event.ID[0]%3 == 1:
						taken.Return()
					default:
						taken.Settle()
						mu.Lock()
						if left--; left == 0 {
							close(done)
						}
						mu.Unlock()
					}
				}
			}
		})
	}
	for k := range accepters {
		callers.Go(func() {
			for i := range each {
				if err := f.Accept(t.Context(), event(lines[(i+k)%3], fmt.Sprintf("%03d-%d", i, k))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%d are left: %+v", left, f.Stats())
	}
	close(work)
	workers.Wait()
	if got := f.Stats(); len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
	for _, l := range lines {
		f.wantDrained(t, l)
	}
	f = f.again(t)
	for _, l := range lines {
		f.wantDrained(t, l)
	}
}
