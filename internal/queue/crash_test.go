package queue

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/cluster"
)

// These name, to the child, the folder it shall work in until it is killed.
const crashDir = "LAMBENT_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, workUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
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
func workUntilKilled(dir string) error {
	ctx := context.Background()
	node := cluster.New(cluster.Options{Dir: dir})
	if err := node.Open(ctx); err != nil {
		return err
	}
	q, err := Open(ctx, node, Options{CacheBytes: 100_000})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(s step) {
		mu.Lock()
		defer mu.Unlock()
		if err := out.Encode(s); err != nil {
			os.Exit(1)
		}
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
				say(step{ID: id, Accepted: true})
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
						say(s) // before: what is said is done
						t.Settle()
						continue
					}
					if err != nil {
						failed <- err
					}
					say(s)
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

func (a *account) note(s step) {
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
		runUntil(t, dir, 50+rand.IntN(400), a.note, (*os.Process).Kill)
		a.compare(t, round, dir)
	}
	a.report(t)
}

// The file system under a child ends at once, without a write of what it has in
// memory, and is then read from the disk again: what was not synced is lost.
func TestAcceptedEventsSurviveAPowerLoss(t *testing.T) {
	mount := ext4(t)
	a := newAccount()
	for round := range 4 {
		dir := mount()
		runUntil(t, dir, 50+rand.IntN(400), a.note, func(p *os.Process) error {
			return errors.Join(stop(p), losePower(dir), p.Kill())
		})
		a.compare(t, round, mount())
	}
	a.report(t)
}

// ext4 makes a file system in a file. The function it returns mounts it, anew
// where it was mounted before, and gives the folder.
func ext4(t *testing.T) (mount func() string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	}
	must(0, errors.Join(os.Mkdir(at, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20)))(t)
	for _, c := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, at}} {
		if err := run(c[0], c[1:]...); err != nil {
			t.Skipf("there is no file system to take away: %v", err)
		}
	}
	t.Cleanup(func() { must(0, run("umount", at))(t) })
	return func() string {
		must(0, run("umount", at))(t)
		must(0, run("mount", "-o", "loop", image, at))(t)
		return at
	}
}

// stop has a child do nothing more, and waits until it does: nobody acknowledges
// anything after the power has gone, but a process would that goes on. (A sync that
// was under way may tell it of success when the journal it waited for is given up.)
func stop(p *os.Process) error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	var status unix.WaitStatus
	_, err := unix.Wait4(p.Pid, &status, unix.WUNTRACED, nil)
	if err == nil && !status.Stopped() {
		err = fmt.Errorf("the child is not stopped: %v", status)
	}
	return err
}

// losePower ends a mounted ext4 without writing what it has not written
// (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, of the kernel's
// fs/ext4/ext4.h).
func losePower(dir string) error {
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush), f.Close())
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

// runUntil has a child work until it has done so many things, and ends it then.
func runUntil(t *testing.T, dir string, steps int, done func(step), end func(*os.Process) error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			break // cut short by the kill
		}
		done(s)
		if steps--; steps == 0 {
			if err := end(cmd.Process); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // says that it was killed
	if steps > 0 {
		t.Fatalf("the child ended by itself: %s", stderr.String())
	}
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
			if !strings.Contains(f.log.String(), "is lost") {
				t.Errorf("it says: %q", f.log)
			}
			f.accept(t, hello, "new")
			f = f.again(t)
			f.wantDrained(t, hello, "new")
		})
	}
}
