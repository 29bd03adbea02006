package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Group is one set of processes, bounded and counted as a whole.
type Group struct {
	name string
	tree *Tree
	dirs []string // one for each of the tree's

	// What the kernel was told last, so as not to tell it again; 0 is no bound.
	mu sync.Mutex
	// +checklocks:mu
	memory int64 // bytes
	// +checklocks:mu
	quota int64 // µs of CPU time a period
	// +checklocks:mu
	burst int64 // µs of CPU time that may be saved up
	// +checklocks:mu
	pids int
}

// New makes a group with no bounds and nothing in it. name is as
// Options.Name; a group of that name must not be there.
func (t *Tree) New(name string) (*Group, error) {
	if !nameShape.MatchString(name) || strings.Trim(name, ".") == "" {
		return nil, fmt.Errorf("make cgroup: name %q is not 1 to 64 letters, digits, '.', '_' or '-'", name)
	}
	g := t.group(name)
	for i, dir := range g.dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			for _, made := range g.dirs[:i] {
				_ = os.Remove(made) // nothing is in it yet
			}
			return nil, fmt.Errorf("make cgroup %s: %w", name, err)
		}
	}
	// The period is set once; a bound then is one write.
	if dir, v := g.at(CPU); v == V1 {
		if err := write(filepath.Join(dir, "cpu.cfs_period_us"), strconv.FormatInt(period.Microseconds(), 10)); err != nil {
			_ = g.Remove(context.Background())
			return nil, fmt.Errorf("make cgroup %s: %w", name, err)
		}
	}
	return g, nil
}

func (t *Tree) group(name string) *Group {
	g := &Group{name: name, tree: t}
	for _, d := range t.dirs {
		g.dirs = append(g.dirs, filepath.Join(d.path, name))
	}
	return g
}

// at gives the group's folder for a controller; version 0 where there is none.
func (g *Group) at(c Controller) (string, Version) {
	i, ok := g.tree.by[c]
	if !ok {
		return "", 0
	}
	return g.dirs[i], g.tree.dirs[i].version
}

// Name is the name the group was made with.
func (g *Group) Name() string { return g.name }

// ProcsFiles lists the files a process joins the group by, writing its id (or
// "0" for itself) into each.
func (g *Group) ProcsFiles() []string {
	files := make([]string, len(g.dirs))
	for i, d := range g.dirs {
		files[i] = filepath.Join(d, "cgroup.procs")
	}
	return files
}

// Join moves a process, with all its threads, into the group. Memory it has
// taken before stays charged where it was.
func (g *Group) Join(pid int) error {
	for _, f := range g.ProcsFiles() {
		if err := write(f, strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("move process %d into cgroup %s: %w", pid, g.name, err)
		}
	}
	return nil
}

// SetMemory bounds the group's memory in bytes; 0 is no bound. No swap is used
// within a bound. Lowering it below what is used makes the kernel reclaim, and
// fails (version 1: EBUSY) or kills (version 2) if it cannot.
func (g *Group) SetMemory(bytes int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if bytes == g.memory {
		return nil
	}
	dir, v := g.at(Memory)
	var err error
	switch v {
	case V1:
		err = setMemoryV1(dir, bytes)
	case V2:
		err = setMemoryV2(dir, bytes)
	}
	if err != nil {
		return fmt.Errorf("bound memory of cgroup %s to %d bytes: %w", g.name, bytes, err)
	}
	g.memory = bytes
	return nil
}

// setMemoryV1: memory+swap must never be below memory, so which is written
// first depends on the direction; trying both orders is simpler than knowing.
func setMemoryV1(dir string, bytes int64) error {
	value := "-1"
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	limit, both := filepath.Join(dir, "memory.limit_in_bytes"), filepath.Join(dir, "memory.memsw.limit_in_bytes")
	if !exists(both) { // no swap accounting
		return write(limit, value)
	}
	if err := write(limit, value); err != nil {
		if !errors.Is(err, syscall.EINVAL) {
			return err
		}
		if err := write(both, value); err != nil {
			return err
		}
		return write(limit, value)
	}
	return write(both, value)
}

func setMemoryV2(dir string, bytes int64) error {
	value := "max"
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	if err := write(filepath.Join(dir, "memory.max"), value); err != nil {
		return err
	}
	if f := filepath.Join(dir, "memory.swap.max"); exists(f) {
		if err := write(f, "0"); err != nil {
			return err
		}
	}
	// All or none: half a sandbox is of no use, and its memory belongs to no
	// single process.
	return write(filepath.Join(dir, "memory.oom.group"), "1")
}

// SetCPU bounds the group's CPU time to so many CPUs' worth; 0 is no bound.
// Time not used may be saved up to the share of one period, where the kernel
// can (5.14).
func (g *Group) SetCPU(cpus float64) error {
	if cpus < 0 || math.IsNaN(cpus) || cpus > 1e6 {
		return fmt.Errorf("bound CPU of cgroup %s: %v CPUs is not between 0 and a million", g.name, cpus)
	}
	var quota int64
	if cpus > 0 {
		quota = max(int64(cpus*float64(period.Microseconds())), 1000) // the kernel's least is 1 ms
	}
	dir, v := g.at(CPU)
	if v == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if quota == g.quota {
		return nil
	}
	if err := g.setQuota(dir, v, quota); err != nil {
		return fmt.Errorf("bound CPU of cgroup %s to %v CPUs: %w", g.name, cpus, err)
	}
	return nil
}

// setQuota writes quota and burst in the order in which the kernel takes them:
// a burst over the quota is refused at any time.
// +checklocks:g.mu
func (g *Group) setQuota(dir string, v Version, quota int64) error {
	if quota > 0 && g.burst > quota {
		if err := g.setBurst(dir, v, quota); err != nil {
			return err
		}
	}
	var err error
	switch {
	case v == V1 && quota == 0:
		err = write(filepath.Join(dir, "cpu.cfs_quota_us"), "-1")
	case v == V1:
		err = write(filepath.Join(dir, "cpu.cfs_quota_us"), strconv.FormatInt(quota, 10))
	case quota == 0:
		err = write(filepath.Join(dir, "cpu.max"), "max "+strconv.FormatInt(period.Microseconds(), 10))
	default:
		err = write(filepath.Join(dir, "cpu.max"), fmt.Sprintf("%d %d", quota, period.Microseconds()))
	}
	if err != nil {
		return err
	}
	g.quota = quota
	return g.setBurst(dir, v, quota)
}

// +checklocks:g.mu
func (g *Group) setBurst(dir string, v Version, us int64) error {
	if us == g.burst {
		return nil
	}
	file := filepath.Join(dir, "cpu.cfs_burst_us")
	if v == V2 {
		file = filepath.Join(dir, "cpu.max.burst")
	}
	err := write(file, strconv.FormatInt(us, 10))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a kernel without bursts
	}
	if err == nil {
		g.burst = us
	}
	return err
}

// SetPids bounds how many processes and threads the group may have; 0 is no
// bound.
func (g *Group) SetPids(n int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	dir, v := g.at(Pids)
	if v == 0 || n == g.pids {
		return nil
	}
	value := "max"
	if n > 0 {
		value = strconv.Itoa(n)
	}
	if err := write(filepath.Join(dir, "pids.max"), value); err != nil {
		return fmt.Errorf("bound processes of cgroup %s to %d: %w", g.name, n, err)
	}
	g.pids = n
	return nil
}

// Pids lists the processes in the group now.
func (g *Group) Pids() ([]int, error) {
	var all []int
	for _, f := range g.ProcsFiles() {
		pids, err := readPids(f)
		if err != nil {
			return nil, fmt.Errorf("list processes of cgroup %s: %w", g.name, err)
		}
		all = append(all, pids...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Kill kills every process in the group and waits until none is left but
// zombies, which are their parents' business. It fails when ctx ends first.
func (g *Group) Kill(ctx context.Context) error {
	for i, d := range g.tree.dirs {
		if d.version == V2 { // one write, and no fork can outrun it (5.14)
			_ = write(filepath.Join(g.dirs[i], "cgroup.kill"), "1") // the loop below does it where this cannot
		}
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		pids, err := g.Pids()
		if err != nil {
			return err
		}
		alive := 0
		for _, pid := range pids {
			if pid == 0 || pid == os.Getpid() {
				return fmt.Errorf("kill cgroup %s: process %d in it is this one or from outside its view", g.name, pid)
			}
			if !isZombie(pid) {
				alive++
				_ = syscall.Kill(pid, syscall.SIGKILL) // gone meanwhile is what we want
			}
		}
		if alive == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("kill cgroup %s: %d processes still there: %w", g.name, alive, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// isZombie reports whether a process has ended and only waits for its parent;
// one that is not there at all counts as one. State is the first field after
// the command in parentheses (proc_pid_stat(5)).
func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	i := strings.LastIndexByte(string(b), ')')
	return i < 0 || i+2 >= len(b) || b[i+2] == 'Z' || b[i+2] == 'X'
}

// Remove removes the group. Its last processes may take a moment to leave it
// after their end, so it tries until ctx ends. A group that is gone is fine.
func (g *Group) Remove(ctx context.Context) error {
	for _, dir := range g.dirs {
		for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
			err := os.Remove(dir)
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				break
			}
			if !errors.Is(err, syscall.EBUSY) {
				return fmt.Errorf("remove cgroup %s: %w", g.name, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup %s: still busy: %w", g.name, context.Cause(ctx))
			case <-time.After(wait):
			}
		}
	}
	return nil
}
