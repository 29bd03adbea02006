package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

func openNode(t testing.TB, o Options) *Node {
	t.Helper()
	n := New(o)
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func openBucket(t testing.TB, n *Node, name string) *Bucket {
	t.Helper()
	b, err := n.Bucket(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openBlobs(t testing.TB, n *Node, name string) *Blobs {
	t.Helper()
	b, err := n.Blobs(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantKind(t *testing.T, err error, want lambent.Kind) {
	t.Helper()
	if err == nil || lambent.KindOf(err) != want {
		t.Errorf("got %v (%v), want an error of kind %v", err, lambent.KindOf(err), want)
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestRecordsKeepTheirRevisions(t *testing.T) {
	b := openBucket(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "records")
	ctx := t.Context()
	_, err := b.Get(ctx, "a")
	wantKind(t, err, lambent.KindNotFound)

	first := must(b.Create(ctx, "a", []byte("1")))(t)
	_, err = b.Create(ctx, "a", []byte("other"))
	wantKind(t, err, lambent.KindExists)
	second := must(b.Update(ctx, "a", []byte("2"), first))(t)
	_, err = b.Update(ctx, "a", []byte("late"), first)
	wantKind(t, err, lambent.KindPrecondition)
	_, err = b.Update(ctx, "missing", []byte("x"), 7)
	wantKind(t, err, lambent.KindPrecondition)
	if got := must(b.Get(ctx, "a"))(t); string(got.Value) != "2" || got.Revision != second || second <= first || got.Written.IsZero() {
		t.Errorf("got %+v after revisions %d, %d", got, first, second)
	}

	wantKind(t, b.Delete(ctx, "a", first), lambent.KindPrecondition)
	if err := b.Delete(ctx, "a", second); err != nil {
		t.Error(err)
	}
	_, err = b.Get(ctx, "a")
	wantKind(t, err, lambent.KindNotFound)
	if err := b.Delete(ctx, "a", 0); err != nil {
		t.Errorf("deleting what is not there: %v", err)
	}
	must(b.Create(ctx, "a", []byte("again")))(t)

	_, err = b.Put(ctx, "no spaces", nil)
	wantKind(t, err, lambent.KindInvalid)
	_, err = b.Put(ctx, "large", make([]byte, maxPayload+1))
	wantKind(t, err, lambent.KindTooLarge)
}

func TestAllVisitsWhatIsThereAndNothingElse(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	b, other := openBucket(t, n, "records"), openBucket(t, n, "others")
	ctx := t.Context()
	visit := func() (keys []string) {
		if err := b.All(ctx, func(e Entry) error { keys = append(keys, e.Key+"="+string(e.Value)); return nil }); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	if got := visit(); got != nil {
		t.Errorf("an empty bucket has %v", got)
	}
	for _, k := range []string{"c", "a", "b", "d"} {
		must(b.Put(ctx, k, []byte(k+k)))(t)
		must(other.Put(ctx, "other", nil))(t)
	}
	must(b.Put(ctx, "c", []byte("new")))(t)
	if err := b.Delete(ctx, "b", 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a=aa", "d=dd", "c=new"}, visit()); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	enough := errors.New("enough")
	if err := b.All(ctx, func(Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("All returned %v", err)
	}
}

func TestWatchTellsWhatIsThereAndThenEveryChange(t *testing.T) {
	b := openBucket(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "records")
	ctx, cancel := context.WithCancelCause(t.Context())
	must(b.Put(ctx, "a", []byte("1")))(t)
	seen := make(chan string)
	done := make(chan error)
	go func() {
		done <- b.Watch(ctx, func(e Entry) error {
			seen <- fmt.Sprintf("%s=%s %v", e.Key, e.Value, e.Deleted)
			return nil
		})
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-seen:
			if got != want {
				t.Errorf("saw %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("waited in vain for %q", want)
		}
	}
	expect("a=1 false")
	expect("= false")
	must(b.Put(t.Context(), "b", []byte("2")))(t)
	expect("b=2 false")
	if err := b.Delete(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	expect("a= true")
	enough := errors.New("enough")
	cancel(enough)
	if err := <-done; !errors.Is(err, enough) {
		t.Errorf("Watch returned %v", err)
	}
}

func TestReadingThatStallsIsAnErrorButWaitingForChangesIsNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		visit := func(jetstream.KeyValueEntry) (bool, error) { return true, nil }
		updates := make(chan jetstream.KeyValueEntry)
		began := time.Now()
		if err := feed(t.Context(), updates, visit); !errors.Is(err, errStalled) || time.Since(began) != stallLimit {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		go func() {
			time.Sleep(stallLimit - 1)
			updates <- nil
			time.Sleep(100 * stallLimit)
			close(updates)
		}()
		if err := feed(t.Context(), updates, visit); !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("waiting for changes ended with %v", err)
		}
	})
}

func TestLostConnectionIsMadeAgain(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	b := openBucket(t, n, "records")
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan string, 10)
	done := make(chan error)
	go func() { done <- b.Watch(ctx, func(e Entry) error { seen <- e.Key; return nil }) }()
	<-seen // the end of what is stored: nothing
	for i := range 3 {
		if err := connectionOf(n).ForceReconnect(); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("k%d", i)
		must(b.Put(t.Context(), key, nil))(t)
		must(b.Get(t.Context(), key))(t)
		if got := <-seen; got != key {
			t.Errorf("the watcher saw %q, want %q", got, key)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func connectionOf(n *Node) *nats.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conn
}

func TestDeletedKeysAreForgottenInTime(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), MarkerTTL: time.Second})
	b := openBucket(t, n, "records")
	must(b.Put(t.Context(), "a", nil))(t)
	if err := b.Delete(t.Context(), "a", 0); err != nil {
		t.Fatal(err)
	}
	stream := must(must(n.stream("look at", "records"))(t).Stream(t.Context(), "KV_records"))(t)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if info := must(stream.Info(t.Context()))(t); info.State.Msgs == 0 {
			return
		}
	}
}

func TestKeysOfAnyPartsAreSafeAndReadBack(t *testing.T) {
	for want, parts := range map[string][]string{
		"fn.000000000000.hello.=24LATEST": {"fn", "000000000000", "hello", "$LATEST"},
		"=":                               {""},
		"a.=.b":                           {"a", "", "b"},
		"a=2eb":                           {"a.b"},
		"=3d=ff=00=2f=20":                 {"=\xff\x00/ "},
	} {
		if got := Key(parts...); got != want {
			t.Errorf("Key(%q) = %q, want %q", parts, got, want)
		}
		if back, err := KeyParts(want); err != nil || !cmp.Equal(back, parts) {
			t.Errorf("KeyParts(%q) = %q, %v", want, back, err)
		}
	}
	for _, bad := range []string{"", "a..b", "a=2", "=2E", "=61", "a b", "==", "é"} {
		if parts, err := KeyParts(bad); err == nil {
			t.Errorf("KeyParts(%q) = %q", bad, parts)
		}
	}
}

func FuzzKey(f *testing.F) {
	f.Add("a", "b.c")
	f.Add("", "=\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		key := Key(a, b)
		if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.") != "" {
			t.Errorf("key %q", key)
		}
		if parts, err := KeyParts(key); err != nil || !cmp.Equal(parts, []string{a, b}) {
			t.Errorf("Key(%q, %q) = %q, read back as %q, %v", a, b, key, parts, err)
		}
		if parts, err := KeyParts(a); err == nil && Key(parts...) != a {
			t.Errorf("KeyParts(%q) = %q", a, parts)
		}
	})
}

func TestFullDiskRefusesBlobsFirstAndRecordsBeforeItIsTooLate(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	b, blobs := openBucket(t, n, "records"), openBlobs(t, n, "code")
	must(b.Put(t.Context(), "a", nil))(t)
	if err := n.Room(); err != nil {
		t.Errorf("there is room: %v", err)
	}
	n.free = func(string) (int64, error) { return blobReserve - 1, nil }
	_, err := blobs.Put(t.Context(), "a", strings.NewReader("x"))
	wantKind(t, err, lambent.KindUnavailable)
	if !strings.Contains(err.Error(), "make room") {
		t.Errorf("error %q does not say what to do", err)
	}
	if told, ok := errors.AsType[*lambent.Error](err); !ok || !strings.Contains(told.Message, "storage") || strings.ContainsAny(told.Message, "/0123456789") {
		t.Errorf("a caller is told %q; not of paths and sizes", told.Message)
	}
	wantKind(t, n.Room(), lambent.KindUnavailable)
	must(b.Put(t.Context(), "a", nil))(t)
	n.free = func(string) (int64, error) { return recordReserve - 1, nil }
	_, err = b.Put(t.Context(), "a", nil)
	wantKind(t, err, lambent.KindUnavailable)
	_, err = b.Create(t.Context(), "b", nil)
	wantKind(t, err, lambent.KindUnavailable)
	_, err = b.Update(t.Context(), "a", nil, 1)
	wantKind(t, err, lambent.KindUnavailable)
	if err := b.Delete(t.Context(), "a", 0); err != nil { // which is how room is made
		t.Error(err)
	}
	n.free = func(string) (int64, error) { return 0, errBroken }
	_, err = b.Put(t.Context(), "a", nil)
	wantKind(t, err, lambent.KindInternal)
}

func TestSecondServerOnAFolderIsToldWhoHasIt(t *testing.T) {
	dir := t.TempDir()
	first := openNode(t, Options{Dir: dir})
	err := New(Options{Dir: dir}).Open(t.Context())
	wantKind(t, err, lambent.KindUnavailable)
	for _, want := range []string{dir, fmt.Sprintf("process %d", os.Getpid()), "since 2", "stop that server"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openNode(t, Options{Dir: dir})
}

func TestNodeThatIsNotOpenSaysSo(t *testing.T) {
	n := New(Options{Dir: t.TempDir(), Sync: SyncSometime})
	if err := n.Close(); err != nil {
		t.Errorf("Close before Open: %v", err)
	}
	_, err := n.Bucket(t.Context(), "records")
	wantKind(t, err, lambent.KindUnavailable)
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, n.Open(t.Context()), lambent.KindExists)
	b := openBucket(t, n, "records")
	for range 2 {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err = b.Put(t.Context(), "a", nil)
	wantKind(t, err, lambent.KindUnavailable)
	wantKind(t, b.All(t.Context(), func(Entry) error { return nil }), lambent.KindUnavailable)
	if err := New(Options{Dir: "/proc/nowhere"}).Open(t.Context()); err == nil {
		t.Error("a folder that cannot be made was opened")
	}
}

func TestCancelledOpenHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("no longer wanted")
	cancel(stop)
	if err := New(Options{Dir: dir}).Open(ctx); !errors.Is(err, stop) {
		t.Errorf("Open returned %v", err)
	}
	openNode(t, Options{Dir: dir})
}

func TestSecurityFolderIsForItsOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	openNode(t, Options{Dir: dir})
	for _, p := range []string{dir, filepath.Join(dir, "jetstream"), filepath.Join(dir, "lock")} {
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
	}
}

// listeners counts the sockets on which this process takes connections.
func listeners(t *testing.T) (n int) {
	t.Helper()
	mine := map[string]bool{}
	for _, fd := range must(os.ReadDir("/proc/self/fd"))(t) {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil { // some are gone by now
			mine[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(string(must(os.ReadFile("/proc/self/net/" + table))(t))) {
			const state, listen, inode = 3, "0A", 9
			if f := strings.Fields(line); len(f) > inode && f[state] == listen && mine[f[inode]] {
				n++
			}
		}
	}
	return n
}

func TestSecurityNothingListens(t *testing.T) {
	before := listeners(t)
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	openBlobs(t, n, "code")
	if after := listeners(t); after != before {
		t.Errorf("%d sockets take connections, %d before", after, before)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // that they would be seen
	if err != nil {
		t.Fatal(err)
	}
	if after := listeners(t); after != before+1 {
		t.Errorf("a listener is not seen: %d, %d before", after, before)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 3 {
		n := New(Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err := n.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := openBucket(t, n, "records")
		must(b.Put(t.Context(), "a", nil))(t)
		if err := b.All(t.Context(), func(Entry) error { return nil }); err != nil {
			t.Fatal(err)
		}
		must(openBlobs(t, n, "code").Put(t.Context(), "a", strings.NewReader("x")))(t)
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// What has ended may take a moment to be gone from the count.
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		n := New(Options{Dir: dir})
		if err := n.Open(b.Context()); err != nil {
			b.Fatal(err)
		}
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for name, sync := range map[string]Sync{"each": SyncEach, "sometime": SyncSometime} {
		b.Run(name, func(b *testing.B) {
			bucket := openBucket(b, openNode(b, Options{Dir: b.TempDir(), Sync: sync}), "records")
			value := randomBytes(1, 1000)
			for b.Loop() {
				if _, err := bucket.Put(b.Context(), "a", value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
