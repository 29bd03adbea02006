package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
)

// A process that is killed while it starts another one leaves the lock to that for
// a moment.
func TestTheLockOfAProcessThatHasEndedIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	held := func(pid int) *os.File {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if err == nil {
			err = writeHolder(f, holder{PID: pid, Since: time.Now()})
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	left := held(ended.Process.Pid)
	time.AfterFunc(50*time.Millisecond, func() { _ = left.Close() }) // the moment it is left for
	f, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	defer held(os.Getpid()).Close()
	if _, err := lockFolder(dir); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("the lock of a process that runs: %v", err)
	}
}
