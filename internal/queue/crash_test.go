package queue

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/cluster/crashtest"
)

func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, map[string]crashtest.Work{"queue": workUntilKilled}))
}

// step is something the child did: it says so when it was acknowledged.
type step struct {
	ID       string
	Accepted bool // else it was given
	Attempts int  // as given
	Ended    string
}

// workUntilKilled accepts events of several lines, by several callers, and works
// them as a dispatcher does. Some are so large that the journal is shortened, too.
func workUntilKilled(dir string, out *crashtest.Output) error {
	ctx := context.Background()
	node := cluster.New(cluster.Options{Dir: dir})
	if err := node.Open(ctx); err != nil {
		return err
	}
	q, err := Open(ctx, node, Options{CacheBytes: 100_000})
	if err != nil {
		return err
	}
	failed := make(chan error)
	lines := make(chan Line, 10_000)
	q.Notify(func(l Line) { lines <- l })
	for k := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), k, i)
				e := &Event{ID: lambent.RequestID(id), Line: Line{Function: lambent.FunctionName(fmt.Sprintf("f%d", i%3))}, Payload: []byte(id)}
				if rand.IntN(20) == 0 {
					e.Payload = append(e.Payload, make([]byte, MaxPayload-len(id))...)
				}
				if err := q.Accept(ctx, e); err != nil {
					failed <- err
				}
				out.Say(step{ID: id, Accepted: true})
			}
		}()
	}
	for range 3 {
		go func() {
			for l := range lines {
				for {
					t, ok, err := q.Take(ctx, l)
					if err != nil {
						failed <- err
					}
					if !ok {
						break
					}
					s := step{ID: string(t.Event.ID), Attempts: t.Event.Attempts}
					switch rand.IntN(8) {
					case 0:
						t.Event.Attempts++
						err = t.Retry(ctx, time.Duration(rand.IntN(50))*time.Millisecond)
						s.Ended = "put back"
					case 1:
						s.Ended = "kept" // until the server ends
					default:
						s.Ended = "settled"
						out.Say(s) // before: what is said is done
						t.Settle()
						continue
					}
					if err != nil {
						failed <- err
					}
					out.Say(s)
				}
			}
		}()
	}
	return <-failed
}

// account is what is known of the events of a child: what was said.
type account struct {
	waiting map[string]int // attempts at least, by id
	settled map[string]bool
	doubled int
}

func newAccount() *account { return &account{waiting: map[string]int{}, settled: map[string]bool{}} }

// note notes what the child said, all of which counts.
func (a *account) note(s step) (counts bool) {
	switch {
	case a.settled[s.ID] && s.Ended == "settled":
		a.doubled++
	case a.settled[s.ID]: // it may have been given before it was said to be accepted
	case s.Accepted:
		a.waiting[s.ID] = max(a.waiting[s.ID], 0)
	case s.Ended == "settled":
		a.settled[s.ID] = true
		delete(a.waiting, s.ID)
	case s.Ended == "put back":
		a.waiting[s.ID] = s.Attempts + 1
	}
	return true
}

// compare looks that every event that was accepted was settled, or is there as it
// was last.
func (a *account) compare(t *testing.T, round int, dir string) {
	t.Helper()
	held := look(t, dir)
	for id, attempts := range a.waiting {
		e := held[id]
		if e == nil {
			t.Errorf("round %d: accepted event %s is neither there nor settled", round, id)
			delete(a.waiting, id)
		} else if e.Attempts < attempts || !bytes.HasPrefix(e.Payload, []byte(id)) {
			t.Errorf("round %d: event %s has %d attempts and %.30q, not %d", round, id, e.Attempts, e.Payload, attempts)
		}
	}
}

func (a *account) report(t *testing.T) {
	t.Helper()
	t.Logf("%d events were settled, %d of them twice; %d are waiting", len(a.settled), a.doubled, len(a.waiting))
	if a.doubled > len(a.settled)/4 {
		t.Errorf("%d of %d events were given again after they were settled", a.doubled, len(a.settled))
	}
}

// A child is killed at whatever it is doing, several times over.
func TestAcceptedEventsSurviveKill(t *testing.T) {
	dir, a := t.TempDir(), newAccount()
	for round := range 6 {
		crashtest.Until(t, "queue", dir, 50+rand.IntN(400), a.note, (*os.Process).Kill)
		a.compare(t, round, dir)
	}
	a.report(t)
}

// The file system under a child ends at once, without a write of what it has in
// memory, and is then read from the disk again: what was not synced is lost.
func TestAcceptedEventsSurviveAPowerLoss(t *testing.T) {
	mount := crashtest.Ext4(t)
	a := newAccount()
	for round := range 4 {
		dir := mount()
		crashtest.Until(t, "queue", dir, 50+rand.IntN(400), a.note, func(p *os.Process) error { return crashtest.CutPower(p, dir) })
		a.compare(t, round, mount())
	}
	a.report(t)
}

// look opens a queue that was left behind and gives all it has.
func look(t *testing.T, dir string) map[string]*Event {
	t.Helper()
	f := openQueue(t, dir, Options{})
	defer f.close(t)
	f.mu.Lock()
	for len(f.delays) > 0 { // they are due now
		d := f.delays.pop()
		d.line.delayed--
		d.line.due.pushBack(d.ref)
	}
	f.mu.Unlock()
	held := map[string]*Event{}
	for _, s := range f.Stats() {
		for {
			taken, ok, err := f.Take(t.Context(), s.Line)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			id := string(taken.Event.ID)
			if held[id] != nil {
				t.Errorf("event %s is there twice", id)
			}
			held[id] = taken.Event
		}
	}
	if strings.Contains(f.log.String(), "ERROR") {
		t.Errorf("it says: %s", f.log)
	}
	return held
}

func TestQueueWhoseJournalIsDamagedServesTheRestAndSaysSo(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"cut at the end": func(data []byte) []byte { return data[:len(data)-20] },
		"zeroes at end":  func(data []byte) []byte { clear(data[len(data)-100:]); return data },
		"in the middle":  func(data []byte) []byte { data[bytes.Index(data, []byte(`"e50"`))] ^= 1; return data },
		"of the first":   func(data []byte) []byte { data[bytes.Index(data, []byte(`"e0"`))] ^= 1; return data },
	} {
		t.Run(name, func(t *testing.T) {
			f := openQueue(t, t.TempDir(), Options{})
			for i := range 100 {
				f.accept(t, hello, fmt.Sprintf("e%d", i))
			}
			f.close(t)
			blocks := must(filepath.Glob(filepath.Join(f.dir, "jetstream/*/streams/JOURNAL_events/msgs/*.blk")))(t)
			data := must(os.ReadFile(blocks[0]))(t)
			must(0, os.WriteFile(blocks[0], damage(data), 0o600))(t)
			f = openQueue(t, f.dir, Options{})
			if got := f.drain(t, hello); len(got) < 98 || len(got) > 99 {
				t.Errorf("%d of 100 events are left", len(got))
			}
			if !strings.Contains(f.log.String(), "is lost") && len(f.node.Damage()) == 0 {
				t.Errorf("it says: %q", f.log)
			}
			f.accept(t, hello, "new")
			f = f.again(t)
			f.wantDrained(t, hello, "new")
		})
	}
}
