package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/cluster/crashtest"
)

func wantFull(t *testing.T, err error) {
	t.Helper()
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != lambent.KindUnavailable || e.Reason != "DiskFull" {
		t.Errorf("a full disk says %v", err)
	}
}

// fill accepts events of 1 MiB until the disk takes no more, and tells how many.
func (f *fixture) fill(t *testing.T) (n int) {
	t.Helper()
	for ; n < 1000; n++ {
		e := &Event{Line: hello, ID: lambent.RequestID(fmt.Sprint(n)), Payload: make([]byte, MaxPayload)}
		if err := f.Accept(t.Context(), e); err != nil {
			wantFull(t, err)
			return n
		}
	}
	t.Fatal("the disk is not full")
	return n
}

func TestFullDiskRefusesEventsAndLosesNoneOfThoseItHas(t *testing.T) {
	f := openQueue(t, crashtest.SmallDisk(t, 96<<20), Options{})
	n := f.fill(t)
	if n < 40 {
		t.Errorf("%d MiB fit", n)
	}
	// What is there can be worked on, and put back.
	next := func() *Taken {
		t.Helper()
		taken, ok, err := f.Take(t.Context(), hello)
		if !ok || err != nil || len(taken.Event.Payload) != MaxPayload {
			t.Fatalf("%v, %v", ok, err)
		}
		return taken
	}
	for range 5 {
		taken := next()
		taken.Event.Attempts = 1
		must(0, taken.Retry(t.Context(), 0))(t)
	}
	f = f.again(t)
	if got := f.Backlog(hello); got.Due != n {
		t.Fatalf("of %d events there are %+v", n, got)
	}
	// With those that are settled, room comes back.
	for range n / 2 {
		next().Settle()
	}
	eventually(t, "events are accepted again", func() bool { return f.Accept(t.Context(), event(hello, "after")) == nil })
	left := n - n/2 + 1
	f = f.again(t)
	if got := f.Backlog(hello); got.Due != left {
		t.Errorf("of %d events there are %+v", left, got)
	}
}

func TestQueueGoesOnWhereSomebodyElseFilledTheDisk(t *testing.T) {
	dir := crashtest.SmallDisk(t, 96<<20)
	f := openQueue(t, filepath.Join(dir, "data"), Options{})
	f.accept(t, hello, "a", "b")
	filler := filepath.Join(dir, "filler")
	for _, left := range []int{20 << 20, 5 << 20, 0} {
		file := must(os.Create(filler))(t)
		var st unix.Statfs_t
		must(0, unix.Statfs(dir, &st))(t)
		must(file.Write(make([]byte, max(0, int(st.Bavail)*int(st.Bsize)-left))))(t)
		must(0, file.Close())(t)
		wantFull(t, f.Accept(t.Context(), event(hello, "refused")))
		a := f.take(t, hello)
		if err := a.Retry(t.Context(), 0); left < 8<<20 {
			wantFull(t, err)
			a.Return()
		} else if err != nil {
			t.Error(err)
		}
		must(0, os.Remove(filler))(t)
		f.accept(t, hello, fmt.Sprintf("with %d left", left))
	}
	f.take(t, hello).Settle() // whose record waits for room, if need be
	f = f.again(t)
	if got := f.drain(t, hello); len(got) != 4 {
		t.Errorf("there are %v", got)
	}
}
