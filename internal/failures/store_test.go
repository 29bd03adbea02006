package failures

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lambent"
	"lambent/internal/cluster"
)

const alice, bob lambent.AccountID = "000000000001", "000000000002"

// fixture is a store in a folder of its own, with a queue that remembers.
type fixture struct {
	*Store
	node  *cluster.Node
	dir   string
	log   *bytes.Buffer
	queue *fakeQueue
}

// fakeQueue takes events, or refuses them.
type fakeQueue struct {
	mu     sync.Mutex
	events []*Record
	refuse error
	came   chan struct{} // holds one
}

func (q *fakeQueue) Accept(_ context.Context, events ...*Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	q.events = append(q.events, events...)
	wake(q.came)
	return nil
}

func (q *fakeQueue) ids() (ids []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range q.events {
		ids = append(ids, string(e.RequestID))
	}
	return ids
}

// await waits until so many events came in all.
func (q *fakeQueue) await(t *testing.T, n int) []string {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		if ids := q.ids(); len(ids) >= n {
			return ids
		}
		select {
		case <-q.came:
		case <-deadline:
			t.Fatalf("%v came, of %d", q.ids(), n)
		}
	}
}

func openStore(t testing.TB, dir string, o Options) *fixture {
	t.Helper()
	f := &fixture{dir: dir, node: cluster.New(cluster.Options{Dir: dir, Sync: cluster.SyncSometime}), log: &bytes.Buffer{}, queue: &fakeQueue{came: make(chan struct{}, 1)}}
	if err := f.node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o.Queue == nil {
		o.Queue = f.queue
	} else {
		f.queue = o.Queue.(*fakeQueue)
	}
	o.Log = slog.New(slog.NewTextHandler(f.log, nil))
	var err error
	if f.Store, err = Open(t.Context(), f.node, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.close(t) })
	return f
}

func (f *fixture) close(t testing.TB) {
	t.Helper()
	if err := errors.Join(f.Store.Close(), f.node.Close()); err != nil {
		t.Error(err)
	}
}

// again closes the store and opens what it left.
func (f *fixture) again(t testing.TB) *fixture {
	t.Helper()
	f.close(t)
	return openStore(t, f.dir, f.opts)
}

func failed(account lambent.AccountID, function lambent.FunctionName, id string) *Record {
	return &Record{Key: Key{account, lambent.RequestID(id)}, Function: function, Qualifier: "live", Version: "3", Reason: FunctionError,
		Error: Error{Type: "TypeError", Message: "x is undefined", Stack: []string{"at f (a.js:1)", "at g (a.js:2)"}}, Attempts: 3,
		FirstAt: time.Now().Add(-time.Minute).UTC(), Payload: []byte(`{"id":"` + id + `"}`), ClientContext: `{"custom":{}}`, TraceID: "Root=1", TenantID: "t", Urgency: "high", Depth: 2,
		Deadline: time.Now().Add(time.Hour).UTC(), State: []byte("state"), Response: []byte(`"odd"`), Actions: []Action{{time.Now().UTC(), "told the owner"}}}
}

func (f *fixture) put(t testing.TB, account lambent.AccountID, function lambent.FunctionName, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := f.Put(t.Context(), failed(account, function, id)); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) get(t testing.TB, account lambent.AccountID, id string) *Record {
	t.Helper()
	r, err := f.Get(t.Context(), Key{account, lambent.RequestID(id)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f *fixture) list(t testing.TB, want Filter, limit int) (ids []string, next uint64) {
	t.Helper()
	p := f.Find(want, limit)
	if err := p.Each(t.Context(), func(r *Record) error { ids = append(ids, string(r.RequestID)); return nil }); err != nil {
		t.Fatal(err)
	}
	return ids, p.Next
}

func (f *fixture) wantListed(t testing.TB, want Filter, ids ...string) {
	t.Helper()
	if got, next := f.list(t, want, 1000); !slices.Equal(got, ids) || next != 0 {
		t.Errorf("%+v lists %v (next %d), want %v", want, got, next, ids)
	}
}

func wantKind(t testing.TB, err error, kind lambent.Kind) {
	t.Helper()
	if err == nil || lambent.KindOf(err) != kind {
		t.Errorf("the error is %v, want one of kind %v", err, kind)
	}
}

func TestAFailureIsKeptWholeAndThroughARestart(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	want := failed(alice, "pay", "a")
	want.LastAt = time.Now().UTC()
	if err := f.Put(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if diff := cmp.Diff(want, f.get(t, alice, "a"), cmpopts.EquateApproxTime(0)); diff != "" {
			t.Errorf("what is kept is not what was put (-put +kept):\n%s", diff)
		}
		f = f.again(t)
	}
	_, err := f.Get(t.Context(), Key{bob, "a"})
	wantKind(t, err, lambent.KindNotFound)
}

func TestListIsTheNewestFirstByAccountFunctionReasonAndTime(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a1")
	f.put(t, alice, "ship", "a2")
	f.put(t, bob, "pay", "b1")
	f.put(t, alice, "pay", "a3")
	slow := failed(bob, "ship", "b2")
	slow.Reason, slow.LastAt = Timeout, time.Now().Add(-30*time.Minute)
	if err := f.Put(t.Context(), slow); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		f.wantListed(t, Filter{}, "b2", "a3", "b1", "a2", "a1")
		f.wantListed(t, Filter{Account: alice}, "a3", "a2", "a1")
		f.wantListed(t, Filter{Account: alice, Function: "pay"}, "a3", "a1")
		f.wantListed(t, Filter{Function: "pay"}, "a3", "b1", "a1")
		f.wantListed(t, Filter{Reason: Timeout}, "b2")
		f.wantListed(t, Filter{Since: time.Now().Add(-10 * time.Minute)}, "a3", "b1", "a2", "a1")
		f.wantListed(t, Filter{Account: "000000000003"})
		f.wantListed(t, Filter{Account: bob, Function: "none"})
		f = f.again(t)
	}
}

func TestListGoesOnWhereItEnded(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	var want []string
	for i := range 25 {
		id := fmt.Sprintf("r%02d", i)
		f.put(t, alice, lambent.FunctionName(fmt.Sprintf("f%d", i%3)), id)
		want = append(want, id)
	}
	slices.Reverse(want)
	var got []string
	for before := uint64(0); ; {
		ids, next := f.list(t, Filter{Account: alice, Before: before}, 4)
		got = append(got, ids...)
		if before = next; next == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages have %v, want %v", got, want)
	}
}

func TestAFailureThatHappensAgainIsTheSameOne(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a", "b")
	first := f.get(t, alice, "a")
	for range 2 {
		if err := f.Redrive(t.Context(), first.Key, nil); err != nil {
			t.Fatal(err)
		}
		again := failed(alice, "pay", "a")
		again.Reason, again.Origin = Timeout, Source
		if err := f.Put(t.Context(), again); err != nil {
			t.Fatal(err)
		}
	}
	f = f.again(t)
	f.wantListed(t, Filter{}, "a", "b")
	got := f.get(t, alice, "a")
	if got.Attempts != 9 || got.Redrives != 2 || !got.FirstAt.Equal(first.FirstAt) || got.Reason != Timeout || !got.Redriving.IsZero() || got.Origin != "" || got.Original != nil {
		t.Errorf("it is now %+v", got)
	}
	if n := len(got.Actions); n != 5 || !strings.Contains(got.Actions[1].What, "failed again") {
		t.Errorf("its actions: %v", got.Actions)
	}
}

func TestWhatSucceedsOrIsDeletedIsGone(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a", "b", "c")
	if err := errors.Join(f.Succeeded(t.Context(), Key{alice, "a"}), f.Succeeded(t.Context(), Key{alice, "a"}), f.Delete(t.Context(), Key{alice, "b"})); err != nil {
		t.Fatal(err)
	}
	wantKind(t, f.Delete(t.Context(), Key{alice, "b"}), lambent.KindNotFound)
	f.wantListed(t, Filter{}, "c")
	f = f.again(t)
	f.wantListed(t, Filter{}, "c")
	if got := f.Stats(); len(got) != 1 || got[0].Count != 1 || got[0].Function != "pay" {
		t.Errorf("stats: %+v", got)
	}
}

func TestAnEditKeepsWhatItWas(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a", "b")
	k := Key{alice, "a"}
	other := lambent.FunctionName("pay2")
	for _, payload := range []string{`{"x":1}`, `{"x":2}`} {
		if _, err := f.Edit(t.Context(), k, Edit{Function: &other, Payload: []byte(payload)}, "edited by me"); err != nil {
			t.Fatal(err)
		}
	}
	f = f.again(t)
	got := f.get(t, alice, "a")
	if string(got.Payload) != `{"x":2}` || got.Function != "pay2" || got.Qualifier != "live" || got.Attempts != 3 {
		t.Errorf("edited: %+v", got)
	}
	if diff := cmp.Diff(&Original{"pay", "live", []byte(`{"id":"a"}`)}, got.Original); diff != "" {
		t.Errorf("original (-want +got):\n%s", diff)
	}
	f.wantListed(t, Filter{Account: alice}, "b", "a") // where it was
	f.wantListed(t, Filter{Account: alice, Function: "pay2"}, "a")
	if err := f.Redrive(t.Context(), k, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Edit(t.Context(), k, Edit{Payload: []byte(`1`)}, "late"); lambent.KindOf(err) != lambent.KindExists {
		t.Errorf("edited while in the queue: %v", err)
	}
	if err := f.Note(t.Context(), k, "paused the source"); err != nil {
		t.Fatal(err)
	}
	f = f.again(t)
	if got := f.get(t, alice, "a"); got.Redriving.IsZero() || got.Redrives != 1 || got.Actions[len(got.Actions)-1].What != "paused the source" {
		t.Errorf("noted: %+v", got)
	}
}

func TestLargestPayloadsFitBeforeAndAfterAnEdit(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	r := failed(alice, "pay", "a")
	r.Payload = []byte(`"` + strings.Repeat("x", MaxPayload-2) + `"`)
	r.State, r.Response = make([]byte, MaxState), make([]byte, 1<<20)
	r.Error.Message, r.Error.Stack = strings.Repeat("m", 1<<20), []string{strings.Repeat("s", 1<<16-1), "more"}
	if err := f.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	edited := []byte(`"` + strings.Repeat("y", MaxPayload-2) + `"`)
	if _, err := f.Edit(t.Context(), r.Key, Edit{Payload: edited}, "edited"); err != nil {
		t.Fatal(err)
	}
	f = f.again(t)
	got := f.get(t, alice, "a")
	if !bytes.Equal(got.Payload, edited) || got.Original == nil || !bytes.Equal(got.Original.Payload, r.Payload) || len(got.Response) != MaxResponse || len(got.Error.Stack) != 1 {
		t.Errorf("kept: payload %d, original %v", len(got.Payload), got.Original != nil)
	}
	r.Payload = append(r.Payload, ' ')
	r.RequestID = "b"
	wantKind(t, f.Put(t.Context(), r), lambent.KindTooLarge)
}

func TestAFullStoreRefusesAndOneAccountDoesNotFillIt(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{MaxEntries: 4})
	f.put(t, alice, "pay", "a1", "a2")
	err := f.Put(t.Context(), failed(alice, "pay", "a3"))
	wantKind(t, err, lambent.KindUnavailable)
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Reason != ReasonFull {
		t.Errorf("the reason is not %s: %v", ReasonFull, err)
	}
	f.put(t, alice, "pay", "a2") // is there already
	f.put(t, bob, "pay", "b1", "b2")
	wantKind(t, f.Put(t.Context(), failed("000000000003", "pay", "c")), lambent.KindUnavailable)
	if err := f.Delete(t.Context(), Key{alice, "a1"}); err != nil {
		t.Fatal(err)
	}
	f.put(t, "000000000003", "pay", "c")

	f = openStore(t, t.TempDir(), Options{MaxBytes: 1000})
	big := failed(alice, "pay", "a")
	big.Payload = make([]byte, 1000)
	wantKind(t, f.Put(t.Context(), big), lambent.KindUnavailable)
}

func TestWhatIsTooOldGoes(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{Retention: time.Hour})
	old := failed(alice, "pay", "old")
	old.LastAt = time.Now().Add(-2 * time.Hour)
	if err := f.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.put(t, alice, "pay", "new")
	eventually(t, "the old one is gone", func() bool { n, _ := f.Size(); return n == 1 })
	f.wantListed(t, Filter{}, "new")
	f = f.again(t)
	f.wantListed(t, Filter{}, "new")
}

// eventually waits until something holds that the store's goroutines bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
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

func TestBadRecordsAreRefused(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	for name, spoil := range map[string]func(*Record){
		"no account":      func(r *Record) { r.Account = "" },
		"no id":           func(r *Record) { r.RequestID = "" },
		"no function":     func(r *Record) { r.Function = "" },
		"unknown reason":  func(r *Record) { r.Reason = "because" },
		"endless id":      func(r *Record) { r.RequestID = lambent.RequestID(strings.Repeat("x", 1000)) },
		"large state":     func(r *Record) { r.State = make([]byte, MaxPayload+MaxState-len(r.Payload)+1) },
		"endless account": func(r *Record) { r.Account = lambent.AccountID(strings.Repeat("1", 1000)) },
	} {
		r := failed(alice, "pay", "a")
		spoil(r)
		if err := f.Put(t.Context(), r); err == nil {
			t.Errorf("%s: it was kept", name)
		}
	}
	f.wantListed(t, Filter{})
}

func TestManyAtOnceLoseNothing(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	const callers, each = 8, 60
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				r := failed(alice, lambent.FunctionName(fmt.Sprintf("f%d", i%5)), fmt.Sprintf("%d-%d", i, c%4)) // two put the same one
				if err := f.Put(t.Context(), r); err != nil {
					t.Error(err)
				}
				if i%3 == 0 && c >= 4 {
					if err := f.Succeeded(t.Context(), r.Key); err != nil {
						t.Error(err)
					}
				}
				if i%7 == 0 {
					if _, err := f.RedriveAll(t.Context(), Filter{Function: r.Function}, Batch{Limit: 5}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	before, _ := f.list(t, Filter{}, 10_000)
	f = f.again(t)
	after, _ := f.list(t, Filter{}, 10_000)
	if !slices.Equal(before, after) || len(before) < 4*each*2/3 {
		t.Errorf("%d before the restart, %d after", len(before), len(after))
	}
}
