package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what a group uses and has used. A counter whose controller is
// missing is 0.
type Usage struct {
	Anon     int64         // bytes now: heaps and stacks
	Shmem    int64         // bytes now: shared memory, memory files, tmpfs
	Peak     int64         // bytes at most, page cache included; 0 where the kernel does not say
	CPUTime  time.Duration // of all processes since the group was made
	OOMKills int           // processes killed for the memory bound
}

// Usage reads the counters.
func (g *Group) Usage() (Usage, error) {
	var u Usage
	if err := g.readMemory(&u); err != nil {
		return Usage{}, fmt.Errorf("read memory use of cgroup %s: %w", g.name, err)
	}
	if err := g.readCPU(&u); err != nil {
		return Usage{}, fmt.Errorf("read CPU use of cgroup %s: %w", g.name, err)
	}
	return u, nil
}

// OOMKills reads just that counter of Usage.
func (g *Group) OOMKills() (int, error) {
	dir, v := g.at(Memory)
	file := "memory.oom_control"
	switch v {
	case 0:
		return 0, nil
	case V2:
		file = "memory.events"
	}
	b, err := read(filepath.Join(dir, file))
	if err != nil {
		return 0, fmt.Errorf("read memory kills of cgroup %s: %w", g.name, err)
	}
	n, err := keyed(b, "oom_kill")
	return int(n), err
}

// nearBound is how close to its bound a group is when it cannot have more: the
// kernel charges in batches and huge pages.
const nearBound = 16 << 20

// Starved reports whether the group is at its memory bound or has lost a process
// for memory. It tells what an event of WatchOOM meant.
func (g *Group) Starved() (bool, error) {
	kills, err := g.OOMKills()
	if err != nil || kills > 0 {
		return kills > 0, err
	}
	dir, v := g.at(Memory)
	use, bound := "memory.usage_in_bytes", "memory.limit_in_bytes"
	switch v {
	case 0:
		return false, nil
	case V2:
		use, bound = "memory.current", "memory.max"
	}
	used, err := number(filepath.Join(dir, use))
	if err != nil {
		return false, fmt.Errorf("read memory use of cgroup %s: %w", g.name, err)
	}
	b, err := read(filepath.Join(dir, bound))
	if err != nil {
		return false, fmt.Errorf("read memory bound of cgroup %s: %w", g.name, err)
	}
	limit, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	if err != nil { // "max"
		return false, nil
	}
	return used > limit-nearBound, nil
}

// WatchOOM gives a file that becomes readable (8 bytes) each time the group, or
// one above it, is out of memory, just before the kernel picks a process to
// kill, and once more when the group is removed: ask Starved. It is nil on
// version 2, where the kernel kills the whole group by itself, and where memory
// is not bounded. The caller closes it.
// (Kernel documentation, cgroup-v1/memory, "OOM Control".)
func (g *Group) WatchOOM() (*os.File, error) {
	dir, v := g.at(Memory)
	if v != V1 {
		return nil, nil
	}
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return nil, fmt.Errorf("watch memory of cgroup %s: %w", g.name, err)
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch memory of cgroup %s: %w", g.name, err)
	}
	events := os.NewFile(uintptr(fd), "out of memory events")
	if err := write(filepath.Join(dir, "cgroup.event_control"), fmt.Sprintf("%d %d", fd, control.Fd())); err != nil {
		return nil, errors.Join(fmt.Errorf("watch memory of cgroup %s: %w", g.name, err), events.Close())
	}
	return events, nil
}

func (g *Group) readMemory(u *Usage) error {
	dir, v := g.at(Memory)
	if v == 0 {
		return nil
	}
	stat, err := read(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return err
	}
	anon, shmem, peak := "total_rss", "total_shmem", "memory.max_usage_in_bytes"
	if v == V2 {
		anon, shmem, peak = "anon", "shmem", "memory.peak"
	}
	if u.Anon, err = keyed(stat, anon); err != nil {
		return err
	}
	if u.Shmem, err = keyed(stat, shmem); err != nil {
		return err
	}
	if u.Peak, err = number(filepath.Join(dir, peak)); err != nil {
		return err
	}
	u.OOMKills, err = g.OOMKills()
	return err
}

func (g *Group) readCPU(u *Usage) error {
	dir, v := g.at(CPUAcct)
	switch v {
	case V1:
		n, err := number(filepath.Join(dir, "cpuacct.usage"))
		u.CPUTime = time.Duration(n)
		return err
	case V2:
		b, err := read(filepath.Join(dir, "cpu.stat"))
		if err != nil {
			return err
		}
		n, err := keyed(b, "usage_usec")
		u.CPUTime = time.Duration(n) * time.Microsecond
		return err
	}
	return nil
}

// number reads a file of one number; 0 where the kernel has no such file.
func number(path string) (int64, error) {
	b, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
}

// keyed finds "key value" in a file of such lines; 0 where the kernel has no
// such key.
func keyed(b []byte, key string) (int64, error) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(key+" ")); ok {
			return strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
		}
	}
	return 0, nil
}
