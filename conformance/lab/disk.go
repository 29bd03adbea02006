package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"
)

// Disk is a file system of a test's own.
type Disk struct {
	Dir string // where it is

	mount  func() error
	image  string // of a disk in a file
	filler string
}

// newDisk prepares a place for a file system, that is gone with the test. What is
// unmounted there is unmounted for every server that was started meanwhile, too:
// each takes a copy of all mounts into a namespace of its own, where it would live
// on, in use, but for the place being shared.
func newDisk(tb testing.TB) *Disk {
	tb.Helper()
	base, err := os.MkdirTemp("", "lambent-disk") // a short name, for the sockets below
	if err != nil {
		tb.Fatal(err)
	}
	d := &Disk{Dir: filepath.Join(base, "at"), filler: filepath.Join(base, "at", "filler")}
	err = syscall.Mount("lambent-test", base, "tmpfs", 0, "")
	if err == nil {
		tb.Cleanup(func() { cleanUp(tb, base) })
		err = errors.Join(syscall.Mount("", base, "", syscall.MS_SHARED, ""), os.Mkdir(d.Dir, 0o700))
	}
	if err != nil {
		tb.Skipf("there is no place for a disk: %v", err)
	}
	return d
}

func cleanUp(tb testing.TB, base string) {
	tb.Helper()
	if err := errors.Join(unmount(base), os.Remove(base)); err != nil {
		tb.Errorf("take the test's disk away: %v", err)
	}
}

// unmount ends a file system that nobody uses any more, in a moment: sandboxes of a
// server that was killed end after it.
func unmount(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return Until(ctx, func() error {
		if err := syscall.Unmount(dir, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
		return nil
	})
}

// SmallDisk mounts a file system in memory with room for so many bytes.
func SmallDisk(tb testing.TB, bytes int) *Disk {
	tb.Helper()
	d := newDisk(tb)
	d.mount = func() error {
		return syscall.Mount("lambent-test", d.Dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
	}
	d.begin(tb)
	return d
}

// Ext4 makes a file system in a file, whose power can be cut: CutPower.
func Ext4(tb testing.TB, bytes int64) *Disk {
	tb.Helper()
	d := newDisk(tb)
	image := filepath.Join(tb.TempDir(), "image")
	d.image = image
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, bytes)); err != nil {
		tb.Fatal(err)
	}
	if err := run("mkfs.ext4", "-q", image); err != nil {
		tb.Skipf("there is no file system to take away: %v", err)
	}
	d.mount = func() error { return run("mount", "-o", "loop", image, d.Dir) }
	d.begin(tb)
	return d
}

func (d *Disk) begin(tb testing.TB) {
	tb.Helper()
	if err := d.mount(); err != nil {
		tb.Skipf("there is no disk: mount: %v", err)
	}
	tb.Cleanup(func() {
		if err := unmount(d.Dir); err != nil {
			tb.Error(err)
		}
	})
}

// CutPower ends the file system at once, without a write of what only memory has,
// its own journal included. Nothing can be read from it, or written to it, until
// Mount. Whoever uses it had better be stopped before: nobody acknowledges anything
// after the power has gone, but a process that goes on would.
func (d *Disk) CutPower() error {
	// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, of the kernel's
	// fs/ext4/ext4.h.
	const shutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.Dir)
	if err != nil {
		return fmt.Errorf("cut the power of a disk: %w", err)
	}
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		err = fmt.Errorf("cut the power of a disk: %w", errno)
	}
	return errors.Join(err, f.Close())
}

// Mount reads the file system from the file again. Nobody uses it any more, or he
// is ending: a sandbox's process, with mounts of its own, takes a moment to.
func (d *Disk) Mount() error {
	if err := unmount(d.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := Until(ctx, func() error {
		out, err := exec.Command("losetup", "--associated", d.image).Output()
		if err == nil && len(out) > 0 {
			err = fmt.Errorf("the file system is in use still: %s", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.mount()
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// Fill leaves so many bytes free, in blocks of the disk's.
func (d *Disk) Fill(tb testing.TB, left int64) {
	tb.Helper()
	f, err := os.OpenFile(d.filler, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for d.Free(tb) > left && err == nil {
		_, err = f.Write(chunk[:min(int64(len(chunk)), d.Free(tb)-left)])
	}
	if err = errors.Join(err, f.Close()); err != nil && !errors.Is(err, syscall.ENOSPC) {
		tb.Fatalf("fill the disk: %v", err)
	}
}

// Free is how many bytes there are.
func (d *Disk) Free(tb testing.TB) int64 {
	tb.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &st); err != nil {
		tb.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// MakeRoom undoes Fill.
func (d *Disk) MakeRoom(tb testing.TB) {
	tb.Helper()
	if err := os.Remove(d.filler); err != nil {
		tb.Fatal(err)
	}
}
