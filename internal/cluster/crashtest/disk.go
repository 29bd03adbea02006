package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// SmallDisk mounts a file system in memory with room for so many bytes, and gives
// its folder. It is gone with the test.
func SmallDisk(t testing.TB, bytes int) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir = t.TempDir()
	if err := unix.Mount("lambent-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Skipf("there is no small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Ext4 makes a file system in a file, gone with the test. The function it returns
// mounts it, anew where it was mounted before, and gives the folder.
func Ext4(t testing.TB) (mount func() (dir string)) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	image, at := filepath.Join(dir, "image"), filepath.Join(dir, "at")
	const size = 400 << 20
	if err := errors.Join(os.Mkdir(at, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	again := [][]string{{"mount", "-o", "loop", image, at}}
	for _, c := range append([][]string{{"mkfs.ext4", "-q", image}}, again...) {
		if err := run(c); err != nil {
			t.Skipf("there is no file system to take away: %v", err)
		}
	}
	end := []string{"umount", at}
	t.Cleanup(func() {
		if err := run(end); err != nil {
			t.Error(err)
		}
	})
	return func() string {
		t.Helper()
		if err := errors.Join(run(end), run(again[0])); err != nil {
			t.Fatal(err)
		}
		return at
	}
}

func run(command []string) error {
	out, err := exec.Command(command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%q: %w: %s", command, err, out)
	}
	return nil
}

// CutPower ends a child and the ext4 it works on as a power loss does: what was not
// synced is not there when that is mounted again.
//
// The child is stopped before: nobody acknowledges anything after the power has
// gone, but a process that goes on would. (A sync that was under way may tell it of
// success when the file system's journal it waited for is given up.)
func CutPower(child *os.Process, dir string) error {
	return errors.Join(stop(child), shutDown(dir), child.Kill())
}

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

// shutDown ends a mounted ext4 without writing what it has not written
// (EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, of the kernel's
// fs/ext4/ext4.h).
func shutDown(dir string) error {
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), shutdown, noLogFlush), f.Close())
}
