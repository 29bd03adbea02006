package failures

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"lambent/internal/cluster"
	"lambent/internal/cluster/crashtest"
)

func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, map[string]crashtest.Work{"failures": failUntilKilled}))
}

// step is something the child did: it says so when it was acknowledged, and of
// what is going when it begins.
type step struct {
	What string // put, going, gone, redriven
	ID   string
	Size int // of the payload that was put
}

// failUntilKilled puts failures, settles some, redrives others, and says what of
// that was acknowledged.
func failUntilKilled(dir string, out *crashtest.Output) error {
	ctx := context.Background()
	n := cluster.New(cluster.Options{Dir: dir})
	if err := n.Open(ctx); err != nil {
		return err
	}
	s, err := Open(ctx, n, Options{Queue: &fakeQueue{came: make(chan struct{}, 1)}})
	if err != nil {
		return err
	}
	failing := make(chan error)
	for w := range 8 {
		go func() { // until it is killed
			for i := 0; ; i++ {
				r := failed(alice, "pay", fmt.Sprintf("%d-%d-%d", os.Getpid(), w, i))
				r.Payload = bytes.Repeat([]byte("x"), 1+rand.IntN(20_000))
				if err := s.Put(ctx, r); err != nil {
					failing <- err
				}
				out.Say(step{"put", string(r.RequestID), len(r.Payload)})
				switch i % 4 {
				case 0:
					out.Say(step{What: "going", ID: string(r.RequestID)})
					if err := s.Succeeded(ctx, r.Key); err != nil {
						failing <- err
					}
					out.Say(step{What: "gone", ID: string(r.RequestID)})
				case 1:
					if err := s.Redrive(ctx, r.Key, nil); err != nil {
						failing <- err
					}
					out.Say(step{What: "redriven", ID: string(r.RequestID)})
				}
			}
		}()
	}
	return <-failing
}

func TestWhatWasPutSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	size, gone, going, redriven := map[string]int{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for round := range 5 {
		crashtest.Until(t, "failures", dir, 1+rand.IntN(400), func(s step) bool {
			switch s.What {
			case "put":
				size[s.ID] = s.Size
			case "going":
				going[s.ID] = true
			case "gone":
				gone[s.ID] = true
			case "redriven":
				redriven[s.ID] = true
			}
			return true
		}, (*os.Process).Kill)

		f := openStore(t, dir, Options{})
		there := map[string]*Record{}
		if err := f.Find(Filter{}, 1_000_000).Each(t.Context(), func(r *Record) error { there[string(r.RequestID)] = r; return nil }); err != nil {
			t.Fatal(err)
		}
		for id, n := range size {
			r := there[id]
			switch {
			case r == nil && !going[id]:
				t.Errorf("round %d: %s is lost", round, id)
			case r != nil && gone[id]:
				t.Errorf("round %d: %s is back", round, id)
			case r != nil && len(r.Payload) != n:
				t.Errorf("round %d: %s has a payload of %d bytes, not %d", round, id, len(r.Payload), n)
			case r != nil && redriven[id] && r.Redriving.IsZero():
				t.Errorf("round %d: %s is not marked any more", round, id)
			}
		}
		if f.log.Len() > 0 {
			t.Errorf("round %d: it says %s", round, f.log)
		}
		f.close(t)
	}
	if len(size) == 0 {
		t.Error("nothing was put")
	}
}

// TestPartOfAnEntryIsNeverAFailure cuts entries short at every place.
func TestPartOfAnEntryIsNeverAFailure(t *testing.T) {
	r := failed(alice, "pay", "a")
	r.Original = &Original{"pay", "", []byte("before")}
	entry, err := encodeRecord(envelope{key: r.Key, function: r.Function, order: 7, last: 8, mark: mark{9, byHealth}, redrives: 10, reason: r.Reason.number()}, r)
	if err != nil {
		t.Fatal(err)
	}
	for n := range entry {
		if _, _, err := decodeRecord(entry[:n]); err == nil {
			t.Errorf("%d of %d bytes are a failure", n, len(entry))
		}
	}
	env, got, err := decodeRecord(entry)
	if err != nil || env.order != 7 || env.mark != (mark{9, byHealth}) || got.Redrives != 10 || string(got.Original.Payload) != "before" {
		t.Errorf("%+v, %+v, %v", env, got, err)
	}
}

func FuzzEntriesFromTheDiskNeverPanic(f *testing.F) {
	r := failed(alice, "pay", "a")
	entry, err := encodeRecord(envelope{key: r.Key, function: r.Function, reason: 1}, r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(entry)
	f.Add(encodeGone([]hash{r.Key.hash()}))
	f.Add(encodeMarks(mark{1, byTime}, []hash{r.Key.hash()}))
	f.Fuzz(func(_ *testing.T, entry []byte) {
		s := &Store{}
		s.index.packs.add(1, len(entry))
		_ = s.replay(makeRef(1, 0), entry) // whatever it is
		_, _, _ = decodeRecord(entry)
	})
}
