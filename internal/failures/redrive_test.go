package failures

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
)

func TestARedriveIsMarkedUntilItsEnd(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a")
	k := Key{alice, "a"}
	if err := f.Redrive(t.Context(), k, &Target{"pay2", ""}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, f.Redrive(t.Context(), k, nil), lambent.KindExists)
	if e := f.queue.events[0]; e.Function != "pay2" || e.Qualifier != "" || string(e.Payload) != `{"id":"a"}` || e.State != nil {
		t.Errorf("in the queue: %+v", e)
	}
	f = f.again(t)
	wantKind(t, f.Redrive(t.Context(), k, nil), lambent.KindExists)
	if got := f.get(t, alice, "a"); got.Redriving.IsZero() || got.Redrives != 1 || got.Function != "pay" {
		t.Errorf("marked: %+v", got)
	}
	again := failed(alice, "pay2", "a") // where it was sent
	again.Qualifier = ""
	if err := f.Put(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	got := f.get(t, alice, "a")
	if got.Function != "pay2" || got.Redrives != 1 || got.Original == nil || got.Original.Function != "pay" {
		t.Errorf("failed again: %+v", got)
	}
	wantKind(t, f.Redrive(t.Context(), Key{bob, "a"}, nil), lambent.KindNotFound)
}

// What is known of a request goes with it, not with what was made of it.
func TestTheStateIsOfTheRequestAsItIs(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "same", "named", "other", "edited")
	if _, err := f.Edit(t.Context(), Key{alice, "edited"}, Edit{Payload: []byte("1")}, "edited"); err != nil {
		t.Fatal(err)
	}
	for id, to := range map[lambent.RequestID]*Target{"same": nil, "named": {"pay", "live"}, "other": {"pay", "old"}, "edited": nil} {
		if err := f.Redrive(t.Context(), Key{alice, id}, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range f.queue.events {
		if want := map[lambent.RequestID]string{"same": "state", "named": "state"}[e.RequestID]; string(e.State) != want {
			t.Errorf("the state of %s is %q, want %q", e.RequestID, e.State, want)
		}
	}
}

// What cannot be kept of a failure does not keep it from being kept.
func TestAFailureThatGrewTooLargeIsKeptWithoutWhatItWas(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	random := func() []byte {
		b := make([]byte, MaxPayload)
		_, _ = rand.Read(b) // never fails
		return b
	}
	r := failed(alice, "pay", "a")
	r.State, r.Payload = nil, random()
	if err := f.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	r.Payload = random() // by a control function
	if err := f.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got := f.get(t, alice, "a")
	if !bytes.Equal(got.Payload, r.Payload) || got.Original == nil || got.Original.Payload != nil || !strings.Contains(got.Actions[len(got.Actions)-1].What, "too large together") {
		t.Errorf("kept is %d bytes, of %+v, %v", len(got.Payload), got.Original, got.Actions)
	}
}

func TestAMarkThatIsTooOldHoldsNoMore(t *testing.T) {
	var ahead atomic.Int64
	f := openStore(t, t.TempDir(), Options{now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	f.put(t, alice, "pay", "a")
	if err := f.Redrive(t.Context(), Key{alice, "a"}, nil); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(markLimit + time.Minute))
	if err := f.Redrive(t.Context(), Key{alice, "a"}, nil); err != nil {
		t.Error(err)
	}
}

func TestWhatTheQueueDoesNotTakeIsAsItWas(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a", "b")
	f.queue.refuse = errors.New("full")
	if err := f.Redrive(t.Context(), Key{alice, "a"}, nil); !errors.Is(err, f.queue.refuse) {
		t.Error(err)
	}
	if p, err := f.RedriveAll(t.Context(), Filter{}, Batch{}); !errors.Is(err, f.queue.refuse) || p.Redriven != 0 {
		t.Error(p, err)
	}
	f.queue.refuse = nil
	if p, err := f.RedriveAll(t.Context(), Filter{}, Batch{}); err != nil || p != (Progress{Redriven: 2}) {
		t.Error(p, err)
	}
}

func TestManyAreRedrivenOldestFirstAndOnce(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	var want []string
	for i := range 200 {
		id := fmt.Sprintf("%03d", i)
		f.put(t, alice, lambent.FunctionName(fmt.Sprintf("f%d", i%2)), id)
		if i%2 == 0 {
			want = append(want, id)
		}
	}
	if err := f.Redrive(t.Context(), Key{alice, "004"}, nil); err != nil {
		t.Fatal(err)
	}
	f.queue.events = nil
	want = slices.DeleteFunc(want, func(id string) bool { return id == "004" })
	filter := Filter{Account: alice, Function: "f0", Before: f.Newest() + 1}
	total := Progress{}
	for {
		p, err := f.RedriveAll(t.Context(), filter, Batch{Limit: 30})
		if err != nil {
			t.Fatal(err)
		}
		total.Redriven += p.Redriven
		total.Skipped += p.Skipped
		for _, e := range f.queue.events[max(0, len(f.queue.events)-p.Redriven):] { // each fails again at once
			if err := f.Put(t.Context(), failed(alice, e.Function, string(e.RequestID))); err != nil {
				t.Fatal(err)
			}
		}
		if filter.After = p.Next; p.Next == 0 {
			break
		}
	}
	if total != (Progress{Redriven: 99, Skipped: 1}) || !slices.Equal(f.queue.ids(), want) {
		t.Errorf("%+v: %v", total, f.queue.ids())
	}
}

func TestLargeEventsGoInSeveralWrites(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	for i := range 5 {
		r := failed(alice, "pay", fmt.Sprint(i))
		r.Payload = make([]byte, 600<<10)
		if err := f.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := f.RedriveAll(t.Context(), Filter{}, Batch{}); err != nil || p.Redriven != 5 {
		t.Errorf("%+v, %v", p, err)
	}
}

// rulesOf are rules of one function.
func rulesOf(name lambent.FunctionName, r *Rules) func(lambent.AccountID, lambent.FunctionName) *Rules {
	return func(_ lambent.AccountID, of lambent.FunctionName) *Rules {
		if of != name {
			return nil
		}
		return r
	}
}

func TestARuleRedrivesAfterATimeAndNotForEver(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{Rules: rulesOf("pay", &Rules{After: []time.Duration{time.Millisecond}, Max: 3, Rate: 1000})})
	f.put(t, alice, "other", "o")
	f.put(t, alice, "pay", "a")
	for n := 1; n <= 3; n++ {
		f.queue.await(t, n)
		f.put(t, alice, "pay", "a") // it failed again
	}
	f.put(t, alice, "pay", "b")
	ids := f.queue.await(t, 4)
	if !slices.Equal(ids, []string{"a", "a", "a", "b"}) {
		t.Errorf("redriven: %v", ids)
	}
	if got := f.get(t, alice, "a"); got.Redrives != 3 || !got.Redriving.IsZero() {
		t.Errorf("it stays as %+v", got)
	}
}

func TestARuleRedrivesWhenTheCodeChanged(t *testing.T) {
	var changed atomic.Int64
	o := Options{Rules: rulesOf("pay", &Rules{OnChange: true, Max: 3, Rate: 1000}),
		Changed: func(lambent.AccountID, lambent.FunctionName) time.Time { return time.UnixMilli(changed.Load()) }}
	f := openStore(t, t.TempDir(), o)
	old := failed(alice, "pay", "a")
	old.LastAt = time.Now().Add(-time.Minute)
	if err := f.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.CodeChanged(alice, "pay")
	f.queue.await(t, 1)
	old = failed(alice, "pay", "a")
	old.LastAt = time.Now().Add(-30 * time.Second)
	f.close(t)

	changed.Store(time.Now().Add(-10 * time.Second).UnixMilli()) // while no server ran
	f = openStore(t, f.dir, Options{Queue: f.queue})
	if err := f.Put(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	f.close(t)
	o.Queue = f.queue
	f = openStore(t, f.dir, o)
	f.queue.await(t, 2)
}

func TestARuleRedrivesWhenADependencyIsWellAgain(t *testing.T) {
	var well atomic.Bool
	asked := make(chan bool, 100)
	dependency := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		asked <- well.Load()
	}))
	defer dependency.Close()
	f := openStore(t, t.TempDir(), Options{Rules: rulesOf("pay", &Rules{Healthy: []string{dependency.URL}, Max: 3, Rate: 1000}), HealthHosts: []string{"127.0.0.1"}})
	f.put(t, alice, "pay", "a")
	if <-asked {
		t.Error("it was well")
	}
	if ids := f.queue.ids(); len(ids) != 0 {
		t.Errorf("redriven: %v", ids)
	}
	well.Store(true)
	f.queue.await(t, 1)
}

func TestSecurityHealthIsNotAskedOfTheMachineOrItsNetwork(t *testing.T) {
	reached := false
	own := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer own.Close()
	port := own.Listener.Addr().String()[len("127.0.0.1:"):]
	h := newHealth([]string{"db.internal", "127.0.0.1:1"})
	for _, u := range []string{own.URL, "http://localhost:" + port, "http://[::ffff:127.0.0.1]:" + port, "http://0.0.0.0:" + port, "http://2130706433:" + port} {
		if h.ask(t.Context(), u) || reached {
			t.Errorf("%s was asked", u)
		}
	}
	moved := httptest.NewServer(http.RedirectHandler(own.URL, http.StatusFound))
	defer moved.Close()
	if newHealth([]string{moved.Listener.Addr().String()}).ask(t.Context(), moved.URL) || reached {
		t.Error("a redirection was followed")
	}
}
