package gvisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"lambent/internal/sandbox/gvisor/handover"
)

// sweep removes everything an earlier process, or this one, has left: gVisor's
// processes that work in this folder, cgroups, mounts, files. It says how many
// instances there were.
func (d *Driver) sweep(ctx context.Context) (int, error) {
	entries, err := os.ReadDir(instancesDir(d.opts.Dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("look for instances of an earlier process: %w", err)
	}
	found := len(entries)
	if err := killRunning(ctx, stateDir(d.opts.Dir)); err != nil {
		return 0, err
	}
	if d.tree != nil {
		groups, err := d.tree.Sweep(ctx)
		if err != nil {
			return 0, err
		}
		// Where the server had a mount namespace of its own, the folders went
		// with it; the groups did not.
		found = max(found, groups)
	}
	for _, p := range []string{d.opts.Dir, stateDir(d.opts.Dir)} {
		if err := detachAll(p); err != nil {
			return 0, err
		}
	}
	for _, p := range []string{runDir(d.opts.Dir), scratchDir(d.opts.Dir), stateDir(d.opts.Dir)} {
		if err := removeTree(p); err != nil {
			return 0, err
		}
	}
	return found, nil
}

// killRunning kills gVisor's processes whose --root is state, and waits until
// none is left. They are told by their command lines, which only root could
// have made up.
func killRunning(ctx context.Context, state string) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		left, err := running(state)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // gone meanwhile is what we want
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill sandboxes of an earlier process: %d left: %w", len(left), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// running finds gVisor's processes whose --root is state. A zombie has no
// command line.
func running(state string) ([]int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	root := []byte("--root=" + state)
	var found []int
	for _, dir := range dirs {
		pid, err := strconv.Atoi(dir.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", dir.Name(), "cmdline"))
		if err != nil {
			continue // gone
		}
		args := bytes.Split(line, []byte{0})
		name := string(args[0])
		if (name == handover.Sandbox || name == handover.Gofer) && slices.ContainsFunc(args, func(a []byte) bool { return bytes.Equal(a, root) }) {
			found = append(found, pid)
		}
	}
	return found, nil
}

// detachAll takes away all mounts below dir. Mounts may lie over one another, so
// it looks again until none is left.
func detachAll(dir string) error {
	for range 100 {
		mounts, err := mountsBelow(dir)
		if err != nil {
			return err
		}
		mounts = slices.DeleteFunc(mounts, func(m string) bool { return m == dir }) // the owner's own
		if len(mounts) == 0 {
			return nil
		}
		for _, m := range mounts {
			if err := detach(m); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("unmount all below %s: there are ever more", dir)
}

// removeTree removes a folder of ours. It refuses while anything is mounted
// below: that is not ours to remove.
func removeTree(path string) error {
	mounts, err := mountsBelow(path)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("remove %s: still mounted at %s", path, mounts[0])
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}
