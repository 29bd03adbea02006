package obs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

func openStore(t testing.TB, opts StoreOptions) *Store {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "executions")
	}
	s := NewStore(opts)
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// numbered is the record of a test's n-th call, one of two accounts with three
// functions each.
func numbered(n int) *Execution {
	e := usual()
	e.RequestID = lambent.RequestID(fmt.Sprintf("00000000-0000-4000-8000-%012d", n))
	e.Account = lambent.AccountID(fmt.Sprintf("%012d", n%2))
	e.Function = lambent.FunctionName(fmt.Sprintf("f%d", n%3))
	return &e
}

func numberOf(t testing.TB, id lambent.RequestID) int {
	t.Helper()
	_, digits, _ := strings.Cut(string(id), "8000-")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatalf("request id %q", id)
	}
	return n
}

func newest(t testing.TB, s *Store, q Query) (numbers []int) {
	t.Helper()
	if err := s.Newest(t.Context(), q, func(e *Execution) error {
		numbers = append(numbers, numberOf(t, e.RequestID))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return numbers
}

// countdown lists from, from-1, … to.
func countdown(from, to int) (out []int) {
	for n := from; n >= to; n-- {
		out = append(out, n)
	}
	return out
}

func TestRecordsAreServedAtOnceNewestFirstAndThroughARestart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, StoreOptions{Dir: dir})
	if got := newest(t, s, Query{Limit: 10}); got != nil {
		t.Errorf("an empty store has %v", got)
	}
	for n := range 600 { // more than a chunk
		s.Add(numbered(n))
	}
	var first Execution
	if err := s.Newest(t.Context(), Query{Limit: 1}, func(e *Execution) error { first = *e; return nil }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*numbered(599), first); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	check := func(s *Store) {
		t.Helper()
		for _, tc := range []struct {
			query Query
			want  func(n int) bool
		}{
			{Query{Limit: 1000}, func(int) bool { return true }},
			{Query{Limit: 300}, func(int) bool { return true }},
			{Query{Account: "000000000001", Limit: 1000}, func(n int) bool { return n%2 == 1 }},
			{Query{Account: "000000000001", Function: "f2", Limit: 7}, func(n int) bool { return n%2 == 1 && n%3 == 2 }},
			{Query{Function: "f2", Limit: 1000}, func(n int) bool { return n%3 == 2 }},
			{Query{Function: "f3", Limit: 1000}, func(int) bool { return false }},
			{Query{RequestID: numbered(17).RequestID, Limit: 1000}, func(n int) bool { return n == 17 }},
			{Query{RequestID: numbered(17).RequestID, Account: "000000000000", Limit: 1000}, func(int) bool { return false }},
		} {
			var want []int
			for _, n := range countdown(599, 0) {
				if tc.want(n) && len(want) < tc.query.Limit {
					want = append(want, n)
				}
			}
			if diff := cmp.Diff(want, newest(t, s, tc.query)); diff != "" {
				t.Errorf("%+v (-want +got):\n%s", tc.query, diff)
			}
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Add(numbered(600))
	if s.Lost() != 1 {
		t.Errorf("%d records are counted as lost after Close, want 1", s.Lost())
	}
	check(openStore(t, StoreOptions{Dir: dir}))
}

func TestTheNewestAreKeptAndNotMuchMore(t *testing.T) {
	const keep = 160
	dir := t.TempDir()
	s := openStore(t, StoreOptions{Dir: dir, Keep: keep})
	for n := range 1000 {
		s.Add(numbered(n))
		if n%7 != 0 {
			continue
		}
		got := newest(t, s, Query{Limit: 10_000})
		if diff := cmp.Diff(countdown(n, n-len(got)+1), got); diff != "" {
			t.Fatalf("after %d (-want +got):\n%s", n, diff)
		}
		if len(got) < min(keep, n+1) || len(got) > keep+keep/segments {
			t.Fatalf("after %d there are %d", n, len(got))
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var size int64
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if len(files) > segments+1 || size > 150*(keep+keep/segments) {
		t.Errorf("%d files of %d bytes", len(files), size)
	}
	s = openStore(t, StoreOptions{Dir: dir, Keep: 40}) // fewer from now on
	if got := newest(t, s, Query{Limit: 10_000}); len(got) < 40 || len(got) > 60 || got[0] != 999 {
		t.Errorf("%d are left: %v", len(got), got)
	}
}

func TestManyRestartsLoseNothing(t *testing.T) {
	dir := t.TempDir()
	for n := range 40 {
		s := openStore(t, StoreOptions{Dir: dir, Keep: 24})
		s.Add(numbered(n))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, StoreOptions{Dir: dir, Keep: 24})
	if got := newest(t, s, Query{Limit: 24}); !slices.Equal(got, countdown(39, 16)) {
		t.Errorf("it has %v", got)
	}
}

// logged collects a store's log.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func TestDamageCostsTheDamagedRecordsAndIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		damage func(data []byte) []byte // of a file of ten records
		want   []int
	}{
		"none":                          {func(d []byte) []byte { return d }, countdown(9, 0)},
		"the last cut short":            {func(d []byte) []byte { return d[:len(d)-1] }, countdown(8, 0)},
		"the last's checksum cut short": {func(d []byte) []byte { return d[:len(d)-len(d)/10+4] }, countdown(8, 0)},
		"zeros at the end":              {func(d []byte) []byte { return append(d, make([]byte, 4096)...) }, countdown(9, 0)},
		"a bit of the first body":       {func(d []byte) []byte { d[headerSize+frameSize+20] ^= 4; return d }, countdown(9, 1)},
		"a length":                      {func(d []byte) []byte { d[headerSize+1] = 0xff; return d }, countdown(9, 1)},
		"the magic":                     {func(d []byte) []byte { d[0] = 'x'; return d }, nil},
		"the salt":                      {func(d []byte) []byte { d[len(magic)]++; return d }, nil},
		"nothing but the magic":         {func(d []byte) []byte { return d[:len(magic)] }, nil},
		"nothing":                       {func(d []byte) []byte { return nil }, nil},
		"another record within one's error": {func(d []byte) []byte { // what a function could have written itself
			e := numbered(77)
			e.Reason = ""
			forged := &segment{}
			forged.append(e)
			return append(d, forged.tail...)
		}, countdown(9, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, StoreOptions{Dir: dir})
			for n := range 10 {
				s.Add(numbered(n))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			file := segmentPath(dir, 1)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, tc.damage(slices.Clone(data)), 0o600); err != nil {
				t.Fatal(err)
			}
			var log logged
			s = openStore(t, StoreOptions{Dir: dir, Log: log.logger()})
			if got := newest(t, s, Query{Limit: 100}); !slices.Equal(got, tc.want) {
				t.Errorf("it serves %v, want %v", got, tc.want)
			}
			if told := strings.Contains(log.String(), "records"); told != (name != "none" && name != "nothing") {
				t.Errorf("the log says %q", log.String())
			}
			s.Add(numbered(10)) // and it goes on
			want := append([]int{10}, tc.want...)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, StoreOptions{Dir: dir})
			if got := newest(t, s, Query{Limit: 100}); !slices.Equal(got, want) {
				t.Errorf("after another start it serves %v, want %v", got, want)
			}
		})
	}
}

func TestForeignFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes.txt", "1.records", "00000000.records", "-0000001.records"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, StoreOptions{Dir: dir})
	s.Add(numbered(1))
	newest(t, s, Query{Limit: 1})
	if files, err := os.ReadDir(dir); err != nil || len(files) != 5 {
		t.Errorf("%d files, %v", len(files), err)
	}
}

// breakDisk makes writes to the newest segment fail until mend is called.
func breakDisk(t *testing.T, s *Store) (mend func()) {
	t.Helper()
	s.disk.Lock()
	defer s.disk.Unlock()
	last := s.segments[len(s.segments)-1]
	sound := last.file
	readOnly, err := os.Open(sound.Name())
	if err != nil {
		t.Fatal(err)
	}
	last.file = readOnly
	return func() {
		s.disk.Lock()
		defer s.disk.Unlock()
		last.file = sound
		if err := readOnly.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhileTheDiskRefusesTheNewestAreServedFromMemory(t *testing.T) {
	var log logged
	dir := t.TempDir()
	s := openStore(t, StoreOptions{Dir: dir, Keep: 80, Log: log.logger()})
	for n := range 5 {
		s.Add(numbered(n))
	}
	s.flush()
	mend := breakDisk(t, s)
	for n := 5; n < 50; n++ { // more than a segment's
		s.Add(numbered(n))
		s.flush()
	}
	if got := newest(t, s, Query{Limit: 100}); !slices.Equal(got, countdown(49, 0)) {
		t.Errorf("it serves %v", got)
	}
	if n := strings.Count(log.String(), "cannot be stored"); n != 1 {
		t.Errorf("it was told %d times: %s", n, log.String())
	}
	mend()
	s.Add(numbered(50))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, StoreOptions{Dir: dir, Keep: 80})
	if got := newest(t, s, Query{Limit: 100}); !slices.Equal(got, countdown(50, 0)) {
		t.Errorf("after a restart it serves %v", got)
	}
}

func TestOverTheBoundsRecordsAreLostAndCounted(t *testing.T) {
	var log logged
	s := openStore(t, StoreOptions{Keep: 1_000_000, Log: log.logger()})
	s.disk.Lock() // the disk is busy
	for n := range maxPending + 5 {
		s.Add(numbered(n))
	}
	s.disk.Unlock()
	s.flush()
	s.flush()
	if s.Lost() != 5 || !strings.Contains(log.String(), "records=5") {
		t.Errorf("%d are counted as lost, and told: %s", s.Lost(), log.String())
	}
	mend := breakDisk(t, s)
	for n := range 50_000 {
		s.Add(numbered(n))
		if n%10_000 == 0 {
			s.flush()
		}
	}
	s.flush()
	s.disk.RLock()
	if tail := len(s.segments[0].tail); tail > maxUnsaved {
		t.Errorf("%d bytes wait for the disk", tail)
	}
	s.disk.RUnlock()
	if s.Lost() <= 5 {
		t.Error("nothing more was lost")
	}
	mend()
}

func TestAWriterThatIsNeverAskedWritesByItself(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, StoreOptions{Dir: dir})
	for round := range 3 { // the timer starts anew each time
		s.Add(numbered(round))
		deadline := time.Now().Add(10 * time.Second)
		for {
			s.disk.RLock()
			kept := s.kept
			s.disk.RUnlock()
			if kept == round+1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("record %d was not written", round)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

func TestReadersAndWritersAtOnce(t *testing.T) {
	s := openStore(t, StoreOptions{Keep: 400})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := range 2000 {
				s.Add(numbered(4*n + w))
			}
		})
		wg.Go(func() {
			for range 20 {
				q := Query{Account: lambent.AccountID(fmt.Sprintf("%012d", w%2)), Limit: 1000}
				if err := s.Newest(t.Context(), q, func(e *Execution) error {
					if e.Account != q.Account || e.Reason == "" {
						return fmt.Errorf("got %+v", e)
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if s.Lost() > 0 {
		t.Errorf("%d lost", s.Lost())
	}
	if got := newest(t, s, Query{Limit: 400}); len(got) != 400 {
		t.Errorf("%d kept", len(got))
	}
}

func TestReadingEndsWithItsContextAndWithItsReader(t *testing.T) {
	s := openStore(t, StoreOptions{})
	for n := range 1000 {
		s.Add(numbered(n))
	}
	enough := errors.New("enough")
	calls := 0
	if err := s.Newest(t.Context(), Query{Limit: 10}, func(*Execution) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d", err, calls)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if err := s.Newest(ctx, Query{Limit: 10}, func(*Execution) error { return nil }); !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestAStoreIsOpenedOnce(t *testing.T) {
	s := openStore(t, StoreOptions{})
	if err := s.Open(); err == nil {
		t.Error("a second Open worked")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Open(); err == nil {
		t.Error("Open after Close worked")
	}
	if err := NewStore(StoreOptions{}).Close(); err != nil {
		t.Error(err)
	}
	blocked := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewStore(StoreOptions{Dir: blocked}).Open(); err == nil || !strings.Contains(err.Error(), blocked) {
		t.Errorf("a file in the folder's place: %v", err)
	}
}

// crashDir is set in a child process that adds records there until it is killed.
const crashDir = "LAMBENT_TEST_OBS_CRASH"

// What was written before a kill -9 is there afterwards, in order and whole.
func TestAKilledProcessLosesOnlyWhatWasBeingGathered(t *testing.T) {
	if dir := os.Getenv(crashDir); dir != "" {
		addForEver(t, dir)
	}
	dir := t.TempDir()
	next := 0
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAKilledProcessLosesOnlyWhatWasBeingGathered$")
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		written := -1
		for k := 0; k < 3+round && lines.Scan(); k++ {
			if written, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("the child says %q", lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			written, _ = strconv.Atoi(lines.Text())
		}
		_ = cmd.Wait() // it was killed
		s := openStore(t, StoreOptions{Dir: dir, Keep: 50_000})
		got := newest(t, s, Query{Limit: 100_000})
		if len(got) == 0 || got[0] < written || written < next {
			t.Fatalf("round %d: the newest of %d is not %d or after, which was written", round, len(got), written)
		}
		if diff := cmp.Diff(countdown(got[0], got[0]-len(got)+1), got); diff != "" {
			t.Fatalf("round %d (-want +got):\n%.500s", round, diff)
		}
		next = got[0] + 1
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// addForEver adds records and tells, now and then, up to which they are written.
func addForEver(t *testing.T, dir string) {
	s := NewStore(StoreOptions{Dir: dir, Keep: 50_000})
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if got := newest(t, s, Query{Limit: 1}); len(got) > 0 {
		n = got[0] + 1
	}
	for ; ; n++ {
		s.Add(numbered(n))
		if n%1000 == 999 {
			s.flush()
			if _, err := io.WriteString(os.Stdout, fmt.Sprintln(n)); err != nil {
				os.Exit(1)
			}
		}
	}
}
