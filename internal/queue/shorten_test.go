package queue

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/cluster"
)

// large accepts and settles events of 1 MiB until the journal has taken so many.
func (f *fixture) large(t *testing.T, l Line, n int) {
	t.Helper()
	for range n {
		must(0, f.Accept(t.Context(), &Event{Line: l, ID: "large", Payload: make([]byte, MaxPayload)}))(t)
		taken, ok, err := f.Take(t.Context(), l)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		taken.Settle()
	}
}

// eventually waits until something holds that the queue's goroutines bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("in vain was waited until %s", what)
		}
	}
}

func (f *fixture) stored(t *testing.T) int64 {
	return int64(must(f.journal.State(t.Context()))(t).Bytes)
}

func TestWhatIsSettledIsDroppedFromTheDisk(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	f.large(t, hello, 40)
	eventually(t, "the journal is short", func() bool { return f.stored(t) < 2*cluster.DropBytes })
	f.accept(t, hello, "a")
	f = f.again(t)
	f.wantDrained(t, hello, "a")
}

func TestEventsThatWaitForLongAreMovedOutOfTheWay(t *testing.T) {
	f := openQueue(t, t.TempDir(), Options{})
	blocked, busy := Line{"000000000000", "blocked", ""}, Line{"000000000000", "busy", ""}
	f.accept(t, blocked, "taken", "retried", "later", "a", "b", "c")
	taken, retried, later := f.take(t, blocked), f.take(t, blocked), f.take(t, blocked)
	must(0, later.Retry(t.Context(), time.Hour))(t)
	f.large(t, busy, 150)
	eventually(t, "the journal is short", func() bool { return f.stored(t) < cluster.SpareBytes+3*cluster.DropBytes })
	f.accept(t, blocked, "d")
	f.mu.Lock()
	if first := f.packs.first; taken.ref.pack() < first || f.delays[0].ref.pack() < first || f.lines[blocked].due.at(0).pack() < first {
		t.Errorf("not all was moved: the first pack is %d", first)
	}
	f.mu.Unlock()
	if age := taken.Age(); age > time.Minute {
		t.Errorf("the age is %v", age)
	}
	must(0, retried.Retry(t.Context(), 0))(t)

	f = f.again(t)
	f.mu.Lock()
	if left := time.Duration(f.delays[0].due-f.clock.now()) * time.Millisecond; left > time.Hour || left < 50*time.Minute {
		t.Errorf("the late one is due in %v", left)
	}
	f.mu.Unlock()
	got := f.drain(t, blocked)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "retried", "taken"}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if f.log.Len() > 0 {
		t.Errorf("it says: %s", f.log)
	}
}

// What happens to an event between the reading and the writing of its move: the
// two are carried out here in every order.
func TestEventsThatChangeWhileTheyAreMovedAreNeitherLostNorDoubled(t *testing.T) {
	for name, c := range map[string]struct {
		before bool // it is taken before it is moved
		change func(t *testing.T, f *fixture, taken *Taken)
		want   []string
	}{
		"nothing":                 {false, nil, []string{"a", "b"}},
		"stays taken":             {true, nil, []string{"a", "b"}},
		"settled":                 {true, func(_ *testing.T, _ *fixture, taken *Taken) { taken.Settle() }, []string{"b"}},
		"returned":                {true, func(_ *testing.T, _ *fixture, taken *Taken) { taken.Return() }, []string{"a", "b"}},
		"put back":                {true, func(t *testing.T, _ *fixture, taken *Taken) { must(0, taken.Retry(t.Context(), 0))(t) }, []string{"a", "b"}},
		"put back for later":      {true, func(t *testing.T, _ *fixture, taken *Taken) { must(0, taken.Retry(t.Context(), time.Hour))(t) }, []string{"b"}},
		"taken and settled":       {false, func(t *testing.T, f *fixture, _ *Taken) { f.take(t, hello).Settle() }, []string{"b"}},
		"put back by an old name": {true, stalePutBack, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := openQueue(t, t.TempDir(), Options{})
			f.accept(t, hello, "a", "b")
			var taken *Taken
			if c.before {
				taken = f.take(t, hello)
			}
			refs := f.early()
			// The move's own write is the last, so whatever is done to the event
			// now is done between.
			f.reader = newReader(during{f.journal, func() {
				if c.change != nil {
					c.change(t, f, taken)
					c.change = nil
				}
			}}, 1)
			if n, err := f.move(t.Context(), refs); n != len(refs) || err != nil {
				t.Errorf("moved %d of %d, %v", n, len(refs), err)
			}
			f = f.again(t)
			got := f.drain(t, hello)
			slices.Sort(got)
			if !slices.Equal(got, c.want) {
				t.Errorf("there are %v, want %v", got, c.want)
			}
			if f.log.Len() > 0 {
				t.Errorf("it says: %s", f.log)
			}
		})
	}
}

// stalePutBack writes an event anew that was moved after its entry was made.
func stalePutBack(t *testing.T, f *fixture, taken *Taken) {
	f.reader = newReader(f.journal, 1)
	old := taken.at()
	if _, err := f.move(t.Context(), []ref{old}); err != nil {
		t.Error(err)
	}
	env := envelope{stamp: f.clock.stamp(), replaces: old, accepted: taken.accepted}
	e := *taken.Event
	must(0, f.journal.Append(t.Context(), cluster.Append{Entries: [][]byte{encodeEvent(env, &e)}, Stored: func(at cluster.Position) { f.putBack(taken, &e, env, at) }}))(t)
	taken.over = true
}

// during does something before each read.
type during struct {
	source
	do func()
}

func (d during) Read(ctx context.Context, number uint64) (cluster.Pack, error) {
	d.do()
	return d.source.Read(ctx, number)
}
