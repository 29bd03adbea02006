package failures

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/cluster/crashtest"
)

// large puts failures of 1 MiB, which succeed at once.
func (f *fixture) large(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		r := failed(alice, "busy", fmt.Sprintf("large%d", i))
		r.Payload = make([]byte, MaxPayload)
		if err := f.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if err := f.Succeeded(t.Context(), r.Key); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *fixture) stored(t *testing.T) int64 {
	t.Helper()
	state, err := f.journal.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int64(state.Bytes)
}

func TestWhatIsGoneIsDroppedFromTheDisk(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.large(t, 30)
	eventually(t, "the journal is short", func() bool { return f.stored(t) < 2*cluster.DropBytes })
	f.put(t, alice, "pay", "a")
	f = f.again(t)
	f.wantListed(t, Filter{}, "a")
}

func TestWhatIsInTheWayIsMovedAsItIs(t *testing.T) {
	f := openStore(t, t.TempDir(), Options{})
	f.put(t, alice, "pay", "a", "b", "c", "d")
	if err := f.Redrive(t.Context(), Key{alice, "b"}, nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() { // changes while it is moved
		defer close(done)
		for i := range 50 {
			f.put(t, alice, "pay", "c")
			if err := f.Note(t.Context(), Key{alice, "d"}, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	}()
	f.large(t, 120)
	<-done
	eventually(t, "the journal is short", func() bool { return f.stored(t) < cluster.SpareBytes+2*cluster.DropBytes })
	for range 2 {
		f.wantListed(t, Filter{}, "c", "d", "b", "a")
		if got := f.get(t, alice, "b"); got.Redriving.IsZero() || string(got.Payload) != `{"id":"b"}` {
			t.Errorf("b is %+v", got)
		}
		if got := f.get(t, alice, "c"); got.Attempts != 3 || len(got.Actions) != 51 {
			t.Errorf("c has %d attempts, %d actions", got.Attempts, len(got.Actions))
		}
		if got := f.get(t, alice, "d"); got.Actions[len(got.Actions)-1].What != "49" {
			t.Errorf("d: %v", got.Actions)
		}
		f = f.again(t)
	}
}

func TestFullDiskRefusesFailuresAndLosesNone(t *testing.T) {
	dir := crashtest.SmallDisk(t, 72<<20)
	f := openStore(t, dir+"/data", Options{})
	t.Cleanup(func() { f.close(t) })
	f.put(t, alice, "pay", "a", "b")
	if err := os.WriteFile(dir+"/ballast", make([]byte, 48<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	wantKind(t, f.Put(t.Context(), failed(alice, "pay", "c")), lambent.KindUnavailable)
	if err := f.Succeeded(t.Context(), Key{alice, "a"}); err != nil {
		t.Errorf("what is gone cannot be written: %v", err)
	}
	f = f.again(t)
	f.wantListed(t, Filter{}, "b")
	if err := os.Remove(dir + "/ballast"); err != nil {
		t.Fatal(err)
	}
	f.put(t, alice, "pay", "c")
	f.wantListed(t, Filter{}, "c", "b")
}

func TestIndexKeepsItsOrderWhateverIsPutAndRemoved(t *testing.T) {
	x := &index{}
	x.packs.add(1, 1)
	seed := uint64(1)
	random := func(n uint64) uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed >> 33 % n }
	want := map[Key]envelope{}
	for range 5000 {
		k := Key{lambent.AccountID(fmt.Sprint(random(3))), lambent.RequestID(fmt.Sprint(random(300)))}
		if random(3) == 0 {
			_, there := want[k]
			if x.remove(k.hash()) != there {
				t.Fatal("removed what was not there, or not what was")
			}
			delete(want, k)
			continue
		}
		env := envelope{key: k, function: lambent.FunctionName(fmt.Sprint(random(5))), order: 1 + random(1<<30), reason: 1, last: int64(random(1000))}
		x.put(k.hash(), env, makeRef(1, 0), 100)
		want[k] = env
	}
	for _, oldestFirst := range []bool{false, true} {
		var orders, got []uint64
		for _, env := range want {
			if env.key.Account == "1" {
				orders = append(orders, env.order)
			}
		}
		slices.Sort(orders)
		if !oldestFirst {
			slices.Reverse(orders)
		}
		x.walk(&Filter{Account: "1"}, oldestFirst, func(e *entry) bool { got = append(got, e.order); return true })
		if !slices.Equal(got, orders) {
			t.Errorf("oldest first %v: it has %d in another order than %d", oldestFirst, len(got), len(orders))
		}
	}
	if x.count != len(want) || x.packs.table[0].live != uint32(len(want)) {
		t.Errorf("it counts %d and %d of %d", x.count, x.packs.table[0].live, len(want))
	}
}

func TestAnEntryTakesAHundredBytes(t *testing.T) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	x := &index{}
	const n = 300_000
	for i := range n {
		x.packs.add(uint64(1+i/10), 10)
		k := Key{alice, lambent.RequestID(fmt.Sprint(i))}
		x.put(k.hash(), envelope{key: k, function: "pay", order: uint64(i), reason: 1}, makeRef(uint64(1+i/10), 0), 100)
	}
	each := float64(heap()-before) / n
	t.Logf("%.0f bytes each", each)
	if each > 110 { // what slices and maps have in reserve for more included
		t.Errorf("an entry takes %.0f bytes", each)
	}
	runtime.KeepAlive(x)
}

// BenchmarkPut puts failures of 1 KB from 64 goroutines, synced.
func BenchmarkPut(b *testing.B) {
	n := cluster.New(cluster.Options{Dir: b.TempDir()})
	if err := n.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	s, err := Open(b.Context(), n, Options{})
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 1000)
	work := make(chan int)
	var all sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		all.Go(func() {
			for i := range work {
				r := failed(alice, "pay", fmt.Sprint(i))
				r.Payload = payload
				if err := s.Put(b.Context(), r); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range b.N {
		work <- i
	}
	close(work)
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
	if b.N > 1000 {
		began := time.Now()
		if err := s.Find(Filter{Account: alice}, 100).Each(b.Context(), func(*Record) error { return nil }); err != nil {
			b.Error(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds()), "µs-list-100")
		began = time.Now()
		if err := s.Find(Filter{Account: alice}, 100_000).Each(b.Context(), func(*Record) error { return nil }); err != nil {
			b.Error(err)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-list-all")
	}
	if err := s.Close(); err != nil {
		b.Error(err)
	}
	if err := n.Close(); err != nil {
		b.Error(err)
	}
}
