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
)

// Disk is a file system of a test's own.
type Disk struct {
	Dir string // where it is mounted

	filler string
	umount func() error
}

// SmallDisk mounts a file system in memory with room for so many bytes. It is gone
// with the test.
func SmallDisk(tb testing.TB, bytes int) *Disk {
	tb.Helper()
	dir, err := os.MkdirTemp("", "lambent-disk") // a short name, for the sockets below
	if err != nil {
		tb.Fatal(err)
	}
	d := &Disk{Dir: dir, filler: filepath.Join(dir, "filler"), umount: func() error { return syscall.Unmount(dir, 0) }}
	if err := syscall.Mount("lambent-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		tb.Skipf("there is no small disk: mount: %v", err)
	}
	tb.Cleanup(func() { d.end(tb) })
	return d
}

// Ext4 makes a file system in a file, whose power can be cut. It is gone with the
// test.
func Ext4(tb testing.TB, bytes int64) *Disk {
	tb.Helper()
	image := filepath.Join(tb.TempDir(), "image")
	dir, err := os.MkdirTemp("", "lambent-disk")
	if err == nil {
		err = errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, bytes))
	}
	if err != nil {
		tb.Fatal(err)
	}
	d := &Disk{Dir: dir, filler: filepath.Join(dir, "filler"), umount: func() error { return run("umount", dir) }}
	for _, c := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if err := run(c[0], c[1:]...); err != nil {
			tb.Skipf("there is no file system to take away: %v", err)
		}
	}
	tb.Cleanup(func() { d.end(tb) })
	return d
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}

// end takes the file system away, once nobody uses it: sandboxes of a server that
// was killed end a moment after it.
func (d *Disk) end(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	err := Until(ctx, d.umount)
	if err == nil {
		err = os.Remove(d.Dir)
	}
	if err != nil {
		tb.Errorf("take the test's disk away: %v", err)
	}
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
