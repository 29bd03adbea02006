package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says which versions of the interface may be used.
type Mode string

// The modes. The zero value is ModeAuto.
const (
	ModeAuto Mode = "auto" // whatever each controller sits on
	ModeV1   Mode = "v1"
	ModeV2   Mode = "v2"
	ModeNone Mode = "none" // no groups at all: nothing is bounded or counted
)

// Options configures Open.
type Options struct {
	Mode Mode
	// Name tells this server's groups from those of another one on the same
	// machine: letters, digits, '.', '_' and '-', at most 64.
	Name string
}

// serverLeaf is where on version 2 the server itself goes when its own group
// has to be emptied of processes.
const serverLeaf = "lambent-server"

// period is over which CPU time is shared out. A quarter of the kernel's
// default of 100 ms: whoever has used up its share waits for 20 ms at most, not
// 100, at the price of more timer interrupts.
const period = 20 * time.Millisecond

var nameShape = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// Tree is the place of one server's groups.
type Tree struct {
	dirs   []treeDir
	by     map[Controller]int // index into dirs
	weaker []string
}

// treeDir is the tree's folder in one hierarchy.
type treeDir struct {
	version Version
	path    string
}

// Open finds the hierarchies and makes the tree's folder in each that is of
// use. It fails only where the machine's state cannot be read or opts is wrong;
// what cannot be bounded is told by Weaker.
func Open(opts Options) (*Tree, error) {
	if !nameShape.MatchString(opts.Name) || strings.Trim(opts.Name, ".") == "" {
		return nil, fmt.Errorf("open cgroup tree: name %q is not 1 to 64 letters, digits, '.', '_' or '-'", opts.Name)
	}
	if opts.Mode == "" {
		opts.Mode = ModeAuto
	}
	if !slices.Contains([]Mode{ModeAuto, ModeV1, ModeV2, ModeNone}, opts.Mode) {
		return nil, fmt.Errorf("open cgroup tree: mode %q is not one of auto, v1, v2, none", opts.Mode)
	}
	if opts.Mode == ModeNone {
		return openIn(nil, opts)
	}
	found, err := detectHere()
	if err != nil {
		return nil, fmt.Errorf("open cgroup tree: %w", err)
	}
	return openIn(found, opts)
}

// openIn is Open on hierarchies found before.
func openIn(found []hierarchy, opts Options) (*Tree, error) {
	t := &Tree{by: map[Controller]int{}}
	if opts.Mode == ModeNone {
		t.weaker = append(t.weaker, "cgroups are switched off: neither memory nor CPU nor processes of an instance are bounded; set the cgroup mode to auto")
		return t, nil
	}
	// Version 1 first: where a controller is on such a hierarchy, version 2
	// does not offer it.
	slices.SortStableFunc(found, func(a, b hierarchy) int { return int(a.version) - int(b.version) })
	for _, h := range found {
		if (opts.Mode == ModeV1 && h.version != V1) || (opts.Mode == ModeV2 && h.version != V2) {
			continue
		}
		path := filepath.Join(h.own, "lambent-"+opts.Name)
		controllers := h.controllers
		var err error
		if h.version == V1 {
			err = t.makeV1(path)
		} else {
			controllers, err = t.makeV2(h, path)
		}
		if err != nil {
			t.weaker = append(t.weaker, fmt.Sprintf("cgroups below %s cannot be used (%v): run as root, or have this group delegated", h.own, err))
			continue
		}
		t.dirs = append(t.dirs, treeDir{h.version, path})
		for _, c := range controllers {
			if _, taken := t.by[c]; !taken {
				t.by[c] = len(t.dirs) - 1
			}
		}
	}
	for c, what := range map[Controller]string{Memory: "memory is", CPU: "CPU time is", Pids: "processes are"} {
		if !t.Has(c) {
			t.weaker = append(t.weaker, fmt.Sprintf("%s not bounded: no usable cgroup hierarchy has the %s controller; enable it in the kernel or delegate it to this process", what, c))
		}
	}
	slices.Sort(t.weaker)
	return t, nil
}

// makeV1 makes the tree's folder on a version 1 hierarchy.
func (t *Tree) makeV1(path string) error {
	if err := mkdir(path); err != nil {
		return err
	}
	// Without it kernels before 5.11 do not count a child's memory with its
	// parent's. Newer ones have only this mode; writing may fail then.
	if f := filepath.Join(path, "memory.use_hierarchy"); exists(f) {
		_ = write(f, "1")
	}
	return nil
}

// makeV2 makes the tree's folder on the version 2 hierarchy and hands it the
// controllers; it returns those that it got. A hierarchy without any is of use
// too: its groups can be killed with one write.
func (t *Tree) makeV2(h hierarchy, path string) ([]Controller, error) {
	if err := mkdir(path); err != nil {
		return nil, err
	}
	if len(h.controllers) == 0 {
		return nil, nil
	}
	// Only the true root may hold processes and hand down controllers; in a
	// container what looks like it is not. It alone has no type.
	if !h.root || exists(filepath.Join(h.own, "cgroup.type")) {
		if err := moveToLeaf(h.own); err != nil {
			return nil, err
		}
	}
	var got []Controller
	for _, c := range h.controllers {
		ok := true
		for _, dir := range []string{h.own, path} {
			if err := write(filepath.Join(dir, "cgroup.subtree_control"), "+"+string(c)); err != nil {
				t.weaker = append(t.weaker, fmt.Sprintf("the %s controller is not handed down: %v; delegate it to this process's group", c, err))
				ok = false
				break
			}
		}
		if ok {
			got = append(got, c)
		}
	}
	if slices.Contains(got, CPU) {
		got = append(got, CPUAcct)
	}
	return got, nil
}

// moveToLeaf moves the server out of its own group, so that the group may hand
// controllers to its children.
func moveToLeaf(own string) error {
	leaf := filepath.Join(own, serverLeaf)
	if err := mkdir(leaf); err != nil {
		return err
	}
	pids, err := readPids(filepath.Join(own, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range pids {
		// Gone meanwhile is fine; one that will not go fails the enabling of
		// controllers below, with the kernel's reason.
		if err := write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Has reports whether groups of this tree are bounded or counted by c.
func (t *Tree) Has(c Controller) bool { _, ok := t.by[c]; return ok }

// Weaker says, a sentence each, what this tree cannot do and what to do about
// it.
func (t *Tree) Weaker() []string { return slices.Clone(t.weaker) }

// String tells where the tree is, for logs.
func (t *Tree) String() string {
	var s []string
	for _, d := range t.dirs {
		s = append(s, fmt.Sprintf("v%d %s", d.version, d.path))
	}
	return strings.Join(s, ", ")
}

// Sweep kills and removes all groups of the tree, those of an earlier process
// too, and says how many there were.
func (t *Tree) Sweep(ctx context.Context) (int, error) {
	names := map[string]bool{}
	for _, d := range t.dirs {
		entries, err := os.ReadDir(d.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("sweep cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() {
				names[e.Name()] = true
			}
		}
	}
	var errs []error
	for name := range names {
		g := t.group(name)
		if err := g.Kill(ctx); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := g.Remove(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return len(names), errors.Join(errs...)
}

// Close removes the tree's own folders, which must have no groups any more.
func (t *Tree) Close() error {
	var errs []error
	for _, d := range t.dirs {
		if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove cgroup tree: %w", err))
		}
	}
	return errors.Join(errs...)
}

func mkdir(path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// write writes a control file with one write, which is what the kernel acts on.
// Plain system calls: the poller that package os would enter the file with is of
// no use here, and costs more than the rest.
func write(path, value string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	for {
		_, err = unix.Write(fd, []byte(value))
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", value, &fs.PathError{Op: "write", Path: path, Err: err})
	}
	return nil
}

// read reads a whole file of the kernel's.
func read(path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2048) // all counters of memory.stat fit into one call
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return b, nil
		}
		if b = b[:len(b)+n]; len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

func open(path string, how int) (int, error) {
	for {
		fd, err := unix.Open(path, how|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return -1, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// readPids reads a cgroup.procs file.
func readPids(path string) ([]int, error) {
	b, err := read(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil, nil // removed
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, s := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
