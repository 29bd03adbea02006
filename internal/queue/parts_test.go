package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/cluster"
)

func TestRingIsASliceThatIsCheapAtBothEnds(t *testing.T) {
	var r ring
	var want []ref
	next := ref(1)
	for range 20_000 {
		switch k := rand.IntN(10); {
		case k < 4:
			r.pushBack(next)
			want = append(want, next)
			next++
		case k < 5:
			r.pushFront(next)
			want = slices.Insert(want, 0, next)
			next++
		case k < 6 && len(want) > 0:
			x := want[rand.IntN(len(want))]
			if !r.remove(x) || r.remove(x) {
				t.Fatalf("removing %d", x)
			}
			want = slices.DeleteFunc(want, func(y ref) bool { return y == x })
		case len(want) > 0 && rand.IntN(3000) > len(want):
			if got := r.popFront(); got != want[0] {
				t.Fatalf("got %d, want %d", got, want[0])
			}
			want = want[1:]
		}
		if r.size != len(want) || len(r.refs) > 64+8*r.size {
			t.Fatalf("%d of %d places used, want %d", r.size, len(r.refs), len(want))
		}
	}
	for _, x := range want {
		if got := r.popFront(); got != x {
			t.Fatalf("got %d, want %d", got, x)
		}
	}
}

func TestDelaysComeEarliestFirst(t *testing.T) {
	var d delays
	var want []int64
	for i := range 1000 {
		due := rand.Int64N(500)
		d.push(delayed{due: due, ref: ref(i)})
		want = append(want, due)
	}
	gone := d[300]
	d.remove(300)
	want = slices.Delete(want, slices.Index(want, gone.due), slices.Index(want, gone.due)+1)
	slices.Sort(want)
	for _, due := range want {
		if x := d.pop(); x.due != due || x.ref == gone.ref {
			t.Fatalf("got %+v, want due %d", x, due)
		}
	}
	if len(d) != 0 || cap(d) > 64 {
		t.Errorf("%d of %d are left", len(d), cap(d))
	}
}

func TestPacksAreDroppedUpToTheFirstThatIsNeeded(t *testing.T) {
	var p packs
	p.add(7, 100, 10)
	p.hold(makeRef(7, 3), 5000)
	p.hold(makeRef(7, 4), 4000)
	p.add(8, 50, 1)
	p.add(7, 100, 10)  // a later part of it
	p.add(10, 200, 20) // 9 was not written
	p.add(11, 10, 1)
	expect := func(before uint64, bytes, waste int64) {
		t.Helper()
		if b, dead := p.dead(); b != before || dead != bytes || p.bytes-p.live != waste {
			t.Errorf("%d bytes before %d are dead, %d wasted; want %d before %d, %d", dead, b, p.bytes-p.live, bytes, before, waste)
		}
	}
	expect(7, 0, 340)
	if p.of(7).since != 4 || p.of(6) != nil || p.of(12) != nil || p.next() != 12 {
		t.Errorf("packs %+v", p)
	}
	p.release(makeRef(7, 3))
	expect(7, 0, 350)
	p.hold(makeRef(10, 19), 0)
	p.release(makeRef(7, 4))
	expect(10, 150, 350)
	p.drop(8)
	expect(10, 50, 250)
	p.drop(10)
	expect(10, 0, 200)
	p.release(makeRef(10, 19))
	expect(11, 200, 210) // the last one may be written on
	p.drop(11)
	p.add(12, 1, 1)
	expect(12, 10, 11)
	if p.count != 0 || p.live != 0 {
		t.Errorf("%d events, %d bytes are needed", p.count, p.live)
	}
}

func TestRecentKeepsTheNewestWithinItsBound(t *testing.T) {
	c := recent{limit: 10_000}
	e := &Event{Payload: make([]byte, 600)}
	for r := range ref(100_000) {
		c.put(r+1, e, 0)
		if r%2 == 0 {
			if got, _ := c.take(r + 1); got != e {
				t.Fatal("what was just put is not there")
			}
		}
		if c.used > c.limit || c.used != len(c.events)*e.size() || c.order.size > 2*len(c.events)+1024 {
			t.Fatalf("%d bytes of %d events, %d in order", c.used, len(c.events), c.order.size)
		}
	}
	if len(c.events) != 10 {
		t.Errorf("%d are kept", len(c.events))
	}
	if c.put(1, &Event{Payload: make([]byte, 5000)}, 0); c.events[1].event != nil {
		t.Error("a large one pushed the others out")
	}
	if got, _ := c.take(2); got != nil {
		t.Error("an old one is there")
	}
}

func TestEventsAreReadBackAsTheyWereWritten(t *testing.T) {
	for name, e := range map[string]*Event{
		"empty": {},
		"full": {
			ID: "8d2f0c4e-9f54-4f0f-8a4a-52c4e1d3f4aa", Line: Line{"000000000000", "hello", "live"}, Payload: []byte(`{"a":1}`), ClientContext: `{"b":2}`,
			TraceID: "Root=1-5759e988-bd862e3fe1be46a994272793", TenantID: "blue", Source: "rule 7", Depth: 3, Urgency: "high", Attempts: 2, State: []byte("state"),
			Deadline: time.Unix(1_800_000_000, 5), AcceptedAt: time.Unix(1_700_000_000, 999_999_999),
		},
	} {
		t.Run(name, func(t *testing.T) {
			env := envelope{stamp: stamp{at: 5_000, wall: 1_700_000_000_000}, replaces: makeRef(3, 9), delay: 90 * time.Second, accepted: 4_000}
			entry := encodeEvent(env, e)
			gotEnv, got, err := decodeEvent(entry)
			if err != nil || gotEnv != env {
				t.Errorf("envelope %+v, %v; want %+v", gotEnv, err, env)
			}
			if diff := cmp.Diff(e, got); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
			d := decoder{rest: entry}
			_, s := d.begin()
			d.envelope(s)
			env.replaces = makeRef(5, 0)
			if moved := encodeMoved(env, d.rest); !bytes.Equal(moved, encodeEvent(env, e)) {
				t.Error("what is moved is written in another way")
			}
			for n := range entry[:len(entry)-len(e.Payload)] {
				if _, _, err := decodeEvent(entry[:n]); err == nil {
					t.Errorf("%d of %d bytes are read as a whole entry", n, len(entry))
				}
			}
		})
	}
}

func TestLargestEventsFitTheirEntry(t *testing.T) {
	full := strings.Repeat("x", maxRest-128)
	e := &Event{Payload: make([]byte, MaxPayload), ClientContext: full, Deadline: time.Unix(1<<33, 1), AcceptedAt: time.Unix(1<<33, 1), Depth: 1 << 40, Attempts: 1 << 40}
	if err := e.check("try"); err != nil {
		t.Fatal(err)
	}
	if err := (&Event{State: make([]byte, MaxPayload)}).check("try"); err != nil { // in the place of a payload
		t.Error(err)
	}
	env := envelope{stamp: stamp{at: 1 << 50, wall: -1 << 50}, replaces: 1<<64 - 1, delay: yearMillis * time.Millisecond}
	if n := len(encodeEvent(env, e)); n > maxEntry {
		t.Errorf("%d bytes, of %d", n, maxEntry)
	}
	for _, over := range []*Event{{Payload: make([]byte, MaxPayload+1)}, {ClientContext: full + "x"}, {Payload: make([]byte, MaxPayload), State: []byte(full), ID: "x"}, {State: make([]byte, maxEntry)}} {
		if err := over.check("try"); lambent.KindOf(err) != lambent.KindTooLarge {
			t.Errorf("it says %v", err)
		}
	}
}

func TestSettlementsAreReadBack(t *testing.T) {
	refs := []ref{makeRef(9, 3), makeRef(9, 4), makeRef(2, 0), makeRef(maxPack, 1<<24-1), makeRef(1, 1)}
	d := decoder{rest: encodeSettled(stamp{at: 3, wall: 4}, refs)}
	kind, s := d.begin()
	var got []ref
	d.settled(func(r ref) { got = append(got, r) })
	if kind != kindSettled || s != (stamp{3, 4}) || !slices.Equal(got, refs) || d.err != nil {
		t.Errorf("read %d, %+v, %v, %v", kind, s, got, d.err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encodeEvent(envelope{}, &Event{ID: "id", Payload: []byte("{}")}))
	f.Add(encodeSettled(stamp{1, 2}, []ref{1, 2}))
	f.Add([]byte{9})
	f.Fuzz(func(t *testing.T, entry []byte) {
		if env, e, err := decodeEvent(entry); err == nil {
			again := encodeEvent(env, e)
			if env2, e2, err := decodeEvent(again); err != nil || env != env2 || !cmp.Equal(e, e2) {
				t.Errorf("%+v %+v, written again: %+v %+v %v", env, e, env2, e2, err)
			}
		}
		d := decoder{rest: entry}
		if kind, _ := d.begin(); kind == kindSettled {
			d.settled(func(ref) {})
		}
	})
}

func TestClockGoesOnWhateverTheMachinesDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			at   int64
			ago  time.Duration // by the machine's clock
			want int64
		}{
			"a minute after the last":    {500, time.Minute, 60_500},
			"set back an hour since":     {500, -time.Hour, 500},
			"set forward an hour before": {500, 10 * time.Millisecond, 510}, // the last entry knows of it
			"a last that is damaged":     {500, -100 * 365 * 24 * time.Hour, 500},
		} {
			clock := newClock(stamp{at: c.at, wall: time.Now().Add(-c.ago).UnixMilli()}, wallClock)
			if got := clock.now(); got != c.want {
				t.Errorf("%s: %d, want %d", name, got, c.want)
			}
			time.Sleep(1500 * time.Millisecond)
			if got := clock.now() - c.want; got != 1500 {
				t.Errorf("%s: after 1.5 s %d have passed", name, got)
			}
		}
		if got := newClock(stamp{}, wallClock).now(); got != 0 {
			t.Errorf("a new one begins at %d", got)
		}
	})
}

// shelf is a journal in memory that counts what is read.
type shelf struct {
	mu sync.Mutex
	// +checklocks:mu
	reads   []uint64
	broken  error
	reading chan bool // where it is set, a read waits for one
}

func (s *shelf) Read(_ context.Context, number uint64) (cluster.Pack, error) {
	s.mu.Lock()
	s.reads = append(s.reads, number)
	s.mu.Unlock()
	if s.reading != nil {
		<-s.reading
	}
	return cluster.Pack{Number: number, Entries: [][]byte{fmt.Append(nil, number)}, Bytes: 1000}, s.broken
}

func (s *shelf) took(t *testing.T, want ...uint64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.reads, want) {
		t.Errorf("read %v, want %v", s.reads, want)
	}
	s.reads = nil
}

func TestPacksAreReadOnceWhileTheyAreKept(t *testing.T) {
	s := &shelf{}
	r := newReader(s, 10_000)
	get := func(n uint64) {
		t.Helper()
		entries, err := r.pack(t.Context(), n)
		if err != nil || string(entries[0]) != fmt.Sprint(n) {
			t.Errorf("pack %d: %q, %v", n, entries, err)
		}
	}
	get(5)
	get(6)
	get(5)
	s.took(t, 5, 6)
	for n := uint64(20); n < 80; n++ {
		get(n)
	}
	r.mu.Lock()
	if r.used > r.limit || len(r.packs) != r.order.Len() || r.used != 1024*len(r.packs) {
		t.Errorf("%d bytes in %d packs, %d in order", r.used, len(r.packs), r.order.Len())
	}
	r.mu.Unlock()
	s.took(t, s.reads...)
	get(5) // which went long ago
	get(79)
	s.took(t, 5)
}

func TestPackThatManyWantIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{reading: make(chan bool)}
		r := newReader(s, 10_000)
		var calls sync.WaitGroup
		left, leave := context.WithCancel(t.Context())
		for k := range 10 {
			ctx := t.Context()
			if k == 9 {
				ctx = left
			}
			calls.Go(func() {
				_, err := r.pack(ctx, 3)
				if k == 9 && err != nil && errors.Is(err, context.Canceled) {
					return // unless it was the one that reads
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		s.reading <- true
		calls.Wait()
		s.took(t, 3)

		s.reading, s.broken = nil, errors.New("broken")
		if _, err := r.pack(t.Context(), 4); !errors.Is(err, s.broken) {
			t.Errorf("it says %v", err)
		}
		s.broken = nil
		if _, err := r.pack(t.Context(), 4); err != nil {
			t.Errorf("after it was mended: %v", err)
		}
	})
}
