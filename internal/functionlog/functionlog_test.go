package functionlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

const (
	account = lambent.AccountID("111122223333")
	name    = lambent.FunctionName("hello")
)

func open(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	l := New(o)
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func at(sec int) time.Time { return time.Date(2026, 1, 2, 3, 4, sec, 5, time.UTC) }

func entry(sec int, text string) Entry {
	return Entry{Time: at(sec), Stream: "stdout", RequestID: lambent.RequestID(fmt.Sprintf("r%d", sec)), Text: text}
}

func read(t testing.TB, l *Log, want Filter) []Entry {
	t.Helper()
	entries, err := l.Read(t.Context(), account, name, want)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func texts(entries []Entry) (out []string) {
	for _, e := range entries {
		out = append(out, e.Text)
	}
	return out
}

func TestLinesAreReadAtOnceAndAfterARestart(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	if got := read(t, l, Filter{}); len(got) != 0 {
		t.Errorf("a function without a log has %v", got)
	}
	want := []Entry{entry(1, "one"), entry(2, "two"), {Time: at(3), Stream: "stderr", Text: ""}}
	for _, e := range want {
		l.Append(account, name, e)
		l.Append(account, "other", entry(9, "not this one's"))
		l.Append("444455556666", name, entry(9, "not this one's"))
	}
	if diff := cmp.Diff(want, read(t, l, Filter{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.Append(account, "clock", Entry{Text: "no time"})
	if got, err := l.Read(t.Context(), account, "clock", Filter{Since: time.Now().Add(-time.Minute)}); len(got) != 1 {
		t.Errorf("without a time: %v, %v", got, err)
	}
	last := entry(4, "the last before Close")
	l.Append(account, name, last)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Append(account, name, entry(5, "after Close"))
	if _, err := l.Read(t.Context(), account, name, Filter{}); !errors.Is(err, errClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if diff := cmp.Diff(append(want, last), read(t, open(t, Options{Dir: dir}), Filter{})); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

func TestSecurityHostileTextStaysWithinItsLine(t *testing.T) {
	l := open(t, Options{})
	for in, want := range map[string]string{
		"a\nb\r\nc\n":                   "a\nb\r\nc",
		"\n\n":                          "\n",
		"nul\x00nul":                    "nul\x00nul",
		"bad \xff\xfe utf-8 \xc3":       "bad \uFFFD utf-8 \uFFFD",
		"\x1b[31m\u2028\u2029<&>\"'\\":  "\x1b[31m\u2028\u2029<&>\"'\\",
		`{"time":"x","text":"forged"}`:  `{"time":"x","text":"forged"}`,
		"x\n{\"text\":\"forged\"}\n":    "x\n{\"text\":\"forged\"}",
		strings.Repeat("\x00", MaxText): strings.Repeat("\x00", MaxText),
	} {
		if err := l.Delete(t.Context(), account, name); err != nil {
			t.Fatal(err)
		}
		e := entry(1, in)
		e.Stream = "s\n" + strings.ToValidUTF8(in, "?")[:1]
		l.Append(account, name, e)
		e.Text = want
		if diff := cmp.Diff([]Entry{e}, read(t, l, Filter{})); diff != "" {
			t.Errorf("%.50q (-want +got):\n%.500s", in, diff)
		}
	}
}

func TestLongLinesAreSplitBetweenRunes(t *testing.T) {
	l := open(t, Options{})
	long := strings.Repeat("x", MaxText-1) + "é" + strings.Repeat("y", MaxText+10)
	l.Append(account, name, entry(1, long))
	got := texts(read(t, l, Filter{}))
	if len(got) != 3 || strings.Join(got, "") != long || len(got[0]) != MaxText-1 {
		t.Errorf("%d parts", len(got))
	}
}

func TestFilterPicksLines(t *testing.T) {
	l := open(t, Options{})
	for i := range 6 {
		l.Append(account, name, entry(i, fmt.Sprint(i)))
	}
	for _, tc := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "[0 1 2 3 4 5]"},
		{Filter{Limit: 2}, "[4 5]"},
		{Filter{Limit: 1}, "[5]"},
		{Filter{Limit: 100, Since: at(3)}, "[3 4 5]"},
		{Filter{Since: at(3)}, "[3 4 5]"},
		{Filter{RequestID: "r2"}, "[2]"},
		{Filter{RequestID: "r2", Since: at(3)}, "[]"},
	} {
		if got := fmt.Sprint(texts(read(t, l, tc.filter))); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.filter, got, tc.want)
		}
	}
}

func TestOldLinesGoWhenTheBoundIsReached(t *testing.T) {
	const bound = 10_000
	dir := t.TempDir()
	l := open(t, Options{Dir: dir, MaxBytes: bound})
	for i := range 1000 {
		l.Append(account, name, entry(0, fmt.Sprintf("%04d", i)))
		if i%10 == 0 {
			read(t, l, Filter{}) // so that it is not one batch
		}
	}
	got := texts(read(t, l, Filter{}))
	if len(got) < 40 || got[len(got)-1] != "0999" {
		t.Fatalf("%d lines, %v", len(got), got)
	}
	for i, text := range got {
		if want := fmt.Sprintf("%04d", 1000-len(got)+i); text != want {
			t.Fatalf("line %d is %s, want %s", i, text, want)
		}
	}
	var size int64
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return err
	})
	if err != nil || size > bound {
		t.Errorf("%d bytes are stored, %v", size, err)
	}
}

func TestDamagedLinesArePassedOver(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	l.Append(account, name, entry(1, "before"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder(dir, owner{account, name}), currentName)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	garbage := "\x00\xff\nnull\n[]\n" + strings.Repeat("z", 7*MaxText) + "\n" + `{"time":"2026-01-02T03:04:05Z","text":"cut sho`
	if _, err := f.WriteString(garbage); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Options{Dir: dir})
	check := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, texts(read(t, l, Filter{}))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	check("before")
	l.Append(account, name, entry(2, "after"))
	check("before", "after")
}

// stall keeps the writer busy until release is called.
func stall(t *testing.T, l *Log) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	go func() { _ = l.do(context.Background(), func() { close(entered); <-leave }) }()
	<-entered
	return sync.OnceFunc(func() { close(leave) })
}

func TestOverTheBoundLinesAreDroppedAndTold(t *testing.T) {
	l := New(Options{Dir: t.TempDir()})
	l.queue = 100 * (entryOverhead + 1)
	if err := l.Open(); err != nil {
		t.Fatal(err)
	}
	release := stall(t, l)
	for range 60 { // while the writer is stuck: nobody waits for it
		l.Append(account, name, entry(1, "x"))
		l.Append(account, "flood", entry(1, "x"))
	}
	l.Append("444455556666", name, entry(1, "y")) // another account has its share
	release()
	got := read(t, l, Filter{RequestID: "r1"})
	flood, err := l.Read(t.Context(), account, "flood", Filter{})
	if err != nil {
		t.Fatal(err)
	}
	const share = 100 / accountShare
	if len(got)+len(flood) != share+2 {
		t.Fatalf("%d and %d entries, want %d and two notes", len(got), len(flood), share)
	}
	dropped := 0
	for _, entries := range [][]Entry{got, flood} {
		var n int
		last := entries[len(entries)-1]
		if _, err := fmt.Sscanf(last.Text, "%d lines were dropped here", &n); err != nil || last.Stream != StreamNote || time.Since(last.Time) > time.Minute {
			t.Errorf("the last entry is %+v", last)
		}
		dropped += n
	}
	if dropped != 120-share {
		t.Errorf("%d are told to be dropped, of %d", dropped, 120-share)
	}
	others, err := l.Read(t.Context(), "444455556666", name, Filter{})
	if err != nil || len(others) != 1 {
		t.Errorf("the other account has %v, %v", others, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLinesTheDiskRefusedAreTold(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	obstacle := filepath.Join(dir, string(account)) // a file where a folder should be
	if err := os.WriteFile(obstacle, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wait := func() {
		if err := l.do(t.Context(), func() {}); err != nil {
			t.Fatal(err)
		}
	}
	l.Append(account, name, entry(1, "lost"))
	wait()
	l.Append(account, name, entry(2, "lost too"))
	wait()
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	l.Append(account, name, entry(3, "kept"))
	want := []string{"up to 2 lines were lost here: the disk did not take them", "kept"}
	if diff := cmp.Diff(want, texts(read(t, l, Filter{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var errEnough = errors.New("enough")

func TestFollowGivesWhatIsStoredAndWhatComesWithoutAGap(t *testing.T) {
	l := open(t, Options{MaxBytes: 1 << 20})
	const lines = 2000
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range lines {
			l.Append(account, name, entry(0, fmt.Sprint(i)))
			l.Append(account, "other", entry(0, "not this one's"))
		}
	})
	for range 4 { // each begins somewhere in the midst
		next := 0
		err := l.Follow(t.Context(), account, name, Filter{}, func(e Entry) error {
			if e.Text != fmt.Sprint(next) {
				return fmt.Errorf("got %q, want %d", e.Text, next)
			}
			if next++; next == lines {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Error(err)
		}
	}
	wg.Wait()
	err := l.do(t.Context(), func() {
		if n := len(l.writer.followers); n != 0 {
			t.Errorf("%d followers are left", n)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSlowFollowerIsToldWhatItMissedAndHoldsUpNobody(t *testing.T) {
	l := open(t, Options{})
	l.Append(account, name, entry(0, "first"))
	var got []string
	err := l.follow(t.Context(), owner{account, name}, Filter{}, 10*(entryOverhead+1), func(e Entry) error {
		if got = append(got, e.Text); len(got) == 1 {
			for range 50 { // while it is busy with the first
				l.Append(account, name, entry(0, "x"))
			}
			read(t, l, Filter{}) // all are written
		}
		if e.Stream == StreamNote {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	if len(got) != 12 || got[11] != "40 lines were left out here: this reader is too slow for them" {
		t.Errorf("got %d: %v", len(got), got)
	}
}

func TestFollowEndsWithItsContextAndWithTheLog(t *testing.T) {
	l := open(t, Options{})
	l.Append(account, name, entry(0, "stored"))
	ctx, cancel := context.WithCancelCause(t.Context())
	err := l.Follow(ctx, account, name, Filter{}, func(Entry) error { cancel(errEnough); return nil })
	if !errors.Is(err, errEnough) {
		t.Errorf("by its context: %v", err)
	}
	first := make(chan struct{})
	var got []string
	ended := make(chan error)
	go func() {
		ended <- l.Follow(context.Background(), account, name, Filter{Since: at(0), RequestID: "r1"}, func(e Entry) error {
			if got = append(got, e.Text); len(got) == 1 {
				close(first)
			}
			return nil
		})
	}()
	l.Append(account, name, entry(1, "wanted"))
	l.Append(account, name, entry(2, "not wanted"))
	<-first
	l.Append(account, name, entry(1, "last words"))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, errClosed) {
		t.Errorf("by Close: %v", err)
	}
	if diff := cmp.Diff([]string{"wanted", "last words"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := l.Follow(t.Context(), account, name, Filter{}, nil); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestDeletedLogIsGoneAndBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	l.Append(account, name, entry(1, "old"))
	l.Append(account, "other", entry(1, "other"))
	for range 2 { // the second time there is none
		if err := l.Delete(t.Context(), account, name); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, l, Filter{}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	l.Append(account, name, entry(2, "new"))
	if diff := cmp.Diff([]string{"new"}, texts(read(t, l, Filter{}))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, n := range []lambent.FunctionName{name, "other"} {
		if err := l.Delete(t.Context(), account, n); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSecurityFilesAreForTheirOwnerAndStayInTheFolder(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "logs")
	l := open(t, Options{Dir: dir})
	for _, hostile := range []lambent.FunctionName{"..", "../../x", "/etc/passwd", "", "a/b", "a\x00b", name} {
		l.Append(lambent.AccountID(hostile), hostile, entry(1, string(hostile)))
		got, err := l.Read(t.Context(), lambent.AccountID(hostile), hostile, Filter{})
		if err != nil || len(got) != 1 || got[0].Text != string(hostile) {
			t.Errorf("%q: %v, %v", hostile, got, err)
		}
	}
	err := filepath.WalkDir(parent, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == parent {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 || !strings.HasPrefix(p, dir) {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLogThatIsNotOpenSaysSo(t *testing.T) {
	l := New(Options{Dir: t.TempDir()})
	if _, err := l.Read(t.Context(), account, name, Filter{}); !errors.Is(err, errNotOpen) {
		t.Errorf("Read: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := New(Options{Dir: "/proc/nowhere"}).Open(); err == nil {
		t.Error("a folder that cannot be made was opened")
	}
	l = open(t, Options{})
	if err := l.Open(); err == nil {
		t.Error("opened twice")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	release := stall(t, l)
	defer release()
	if _, err := l.Read(ctx, account, name, Filter{}); !errors.Is(err, errEnough) {
		t.Errorf("cancelled Read: %v", err)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		l := New(Options{Dir: t.TempDir()})
		if err := l.Open(); err != nil {
			t.Fatal(err)
		}
		l.Append(account, name, entry(1, "x"))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// What has ended may take a moment to be gone from the count.
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, Options{})
	e := entry(1, strings.Repeat("x", 100))
	b.ReportAllocs()
	for b.Loop() {
		l.Append(account, name, e)
	}
}
