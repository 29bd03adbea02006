package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Census is what a server has of the machine, each thing by a name that says
// what it is. Two censuses of a settled server with the same functions count the
// same; Compare says where they do not.
//
// Nothing in it comes from the server: it is read from /proc, /sys/fs/cgroup and
// the data folder.
type Census struct {
	Sandboxes []string // gVisor kernels: processes
	Helpers   []string // their gofers and whatever else runs beside them
	Orphans   []string // processes of a sandbox that is not there any more
	Zombies   []string
	Mounts    []string // in the server's mount namespace, below the data folder
	Cgroups   []string // folders, in every hierarchy
	Networks  []string // network namespaces that sandboxes are in
	Handles   []string // the server's descriptors, but for TCP connections
	Files     []string // below the data folder, but for what is remembered there

	trees []string // the cgroup folders the server's groups are below
	stubs int
}

// remembered reports whether a path below the data folder is not a leftover of
// executions: what is in the store and the logs, the records of executions, and
// the code of functions, which is kept for some time after a function is gone.
func remembered(path string) bool {
	return slices.ContainsFunc([]string{"jetstream", "logs", "executions", filepath.Join("host", "code")}, func(dir string) bool {
		return strings.HasPrefix(path, dir+"/")
	})
}

// Count counts what s has.
func Count(s *Server) (Census, error) {
	http.DefaultClient.CloseIdleConnections() // of these it may keep one more or less
	c, err := countProcesses(s.Data, s.PID(), nil)
	if err != nil {
		return c, err
	}
	if c.Mounts, err = mountsBelow(s.PID(), s.Data); err != nil {
		return c, err
	}
	if c.Handles, err = handles(s.PID(), s.Data); err != nil {
		return c, err
	}
	return c, c.countFolders(s.Data)
}

// CountLeft counts what a server that has ended left behind. before is a census
// of its life, which knows where its cgroups were.
func CountLeft(s *Server, before Census) (Census, error) {
	c, err := countProcesses(s.Data, s.PID(), before.trees)
	if err != nil {
		return c, err
	}
	if c.Mounts, err = mountsBelow(os.Getpid(), s.Data); err != nil {
		return c, err
	}
	return c, c.countFolders(s.Data)
}

// Compare reports, as an error, in what two censuses differ.
func Compare(before, after Census) error {
	var all []error
	check := func(what string, a, b []string) {
		if len(a) != len(b) {
			all = append(all, fmt.Errorf("%s: %d before, %d after:\n%s", what, len(a), len(b), cmp.Diff(anonymous(a), anonymous(b))))
		}
	}
	check("sandboxes", before.Sandboxes, after.Sandboxes)
	check("helpers of sandboxes", before.Helpers, after.Helpers)
	check("orphaned processes", before.Orphans, after.Orphans)
	check("zombies", before.Zombies, after.Zombies)
	check("mounts", before.Mounts, after.Mounts)
	check("cgroups", before.Cgroups, after.Cgroups)
	check("network namespaces", before.Networks, after.Networks)
	if len(after.Handles) > len(before.Handles) { // there may have been some that Go's collector was yet to close
		check("descriptors of the server", before.Handles, after.Handles)
	}
	check("files", before.Files, after.Files)
	return errors.Join(all...)
}

// ids are what the server names instances and containers.
var ids = regexp.MustCompile(`\b([ic])-[0-9a-f]{17}`)

// anonymous leaves out what differs though it is the same: who it is of.
func anonymous(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, ids.ReplaceAllString(n, "$1-*"))
	}
	slices.Sort(out)
	return out
}

// String is the census in one line.
func (c Census) String() string {
	return fmt.Sprintf("%d sandboxes, %d helpers, %d stubs, %d orphans, %d zombies, %d mounts, %d cgroups, %d network namespaces, %d descriptors, %d files",
		len(c.Sandboxes), len(c.Helpers), c.stubs, len(c.Orphans), len(c.Zombies), len(c.Mounts), len(c.Cgroups), len(c.Networks), len(c.Handles), len(c.Files))
}

// MustCount is Count for tests.
func MustCount(tb testing.TB, s *Server) Census {
	tb.Helper()
	c, err := Count(s)
	if err != nil {
		tb.Fatalf("count what the server has: %v", err)
	}
	return c
}

// AwaitCensus waits until s is settled and has what want has.
func AwaitCensus(tb testing.TB, s *Server, want Census) {
	tb.Helper()
	var last Census
	var collected time.Time
	Eventually(tb, "wait until nothing is left of what ran", func() error {
		if err := s.Settled(); err != nil {
			return err
		}
		var err error
		if last, err = Count(s); err != nil {
			return err
		}
		if err = Compare(want, last); err != nil && time.Since(collected) > 5*time.Second {
			s.collect()
			collected = time.Now()
		}
		return err
	})
	tb.Logf("counted %s", last)
}

// collect makes the server's garbage collector run, by a request that needs much
// memory and is refused: gVisor leaves some files to it to close, for minutes on
// a server with nothing else to do.
func (s *Server) collect() {
	resp, err := http.Post(s.URL+"/2015-03-31/functions", "application/json", bytes.NewReader(bytes.Repeat([]byte(" "), 40<<20)))
	if err == nil {
		_ = resp.Body.Close()
	}
}

// process is what /proc says of one.
type process struct {
	pid, parent int
	state       byte
	args        []string
}

func (p process) String() string { return fmt.Sprintf("%d %s", p.pid, strings.Join(p.args, " ")) }

// processes lists all there are. One that ends meanwhile is left out.
func processes() (map[int]process, error) {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, n := range names {
		pid, err := strconv.Atoi(n.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", n.Name(), "stat"))
		if err != nil {
			continue
		}
		// "PID (NAME) STATE PARENT …": the name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", n.Name(), "cmdline"))
		if err != nil {
			continue
		}
		all[pid] = process{pid: pid, parent: parent, state: fields[0][0], args: strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")}
	}
	return all, nil
}

// countProcesses finds the processes of the server that works on data: those
// that name the folder, whoever is their parent; all descendants of pid; and
// those in the cgroups below trees, which are the server's if it knows them.
func countProcesses(data string, pid int, trees []string) (Census, error) {
	c := Census{trees: trees}
	all, err := processes()
	if err != nil {
		return c, err
	}
	networks := map[string]bool{}
	for _, p := range all {
		if p.pid == pid || !names(p, data) && !descends(all, p, pid) && !c.inTrees(p.pid) {
			continue
		}
		switch {
		case p.state == 'Z':
			c.Zombies = append(c.Zombies, p.String())
		case p.parent == pid && p.args[0] == sandboxName:
			c.Sandboxes = append(c.Sandboxes, p.String())
		case p.parent == pid:
			c.Helpers = append(c.Helpers, p.String())
		case descends(all, p, pid):
			c.stubs++ // gVisor's processes for those within: how many there are is its own affair
		default:
			c.Orphans = append(c.Orphans, p.String())
		}
		// The helpers share one or two empty ones, as many as there were starts at
		// once when the server was new.
		if p.parent != pid || p.args[0] == sandboxName {
			if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid)); err == nil {
				networks[ns] = true
			}
		}
		c.findTrees(p.pid, pid)
	}
	for ns := range networks {
		c.Networks = append(c.Networks, ns)
	}
	for _, list := range [][]string{c.Sandboxes, c.Helpers, c.Orphans, c.Zombies, c.Networks} {
		slices.Sort(list)
	}
	return c, nil
}

// sandboxName is what gVisor calls the process that is a sandbox's kernel.
const sandboxName = "runsc-sandbox"

// names reports whether p is a process of gVisor's that works in the folder.
func names(p process, data string) bool {
	return strings.HasPrefix(p.args[0], "runsc-") && slices.ContainsFunc(p.args[1:], func(a string) bool { return strings.Contains(a, data) })
}

// descends reports whether p comes from pid.
func descends(all map[int]process, p process, pid int) bool {
	for range 100 {
		if p.parent == pid {
			return true
		}
		parent, ok := all[p.parent]
		if !ok {
			return false
		}
		p = parent
	}
	return false
}

// inTrees reports whether a process is in one of the server's cgroups.
func (c *Census) inTrees(pid int) bool {
	mounts := cgroupMounts()
	for hierarchy, path := range cgroupsOf(pid) {
		at := filepath.Join(mounts[hierarchy], path)
		if slices.ContainsFunc(c.trees, func(tree string) bool { return at == tree || strings.HasPrefix(at, tree+"/") }) {
			return true
		}
	}
	return false
}

// findTrees notes the cgroup folders that the server's sandboxes are below: in
// each hierarchy, the one below the server's own that leads to the process's.
func (c *Census) findTrees(pid, server int) {
	mounts := cgroupMounts()
	own, theirs := cgroupsOf(server), cgroupsOf(pid)
	for hierarchy, path := range theirs {
		mount, known := mounts[hierarchy]
		if !known || path == own[hierarchy] || own[hierarchy] == "" {
			continue
		}
		base := own[hierarchy]
		for base != "/" && !strings.HasPrefix(path, base+"/") {
			base = filepath.Dir(base)
		}
		first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(path, base), "/"), "/")
		tree := filepath.Join(mount, base, first)
		if first != "" && !slices.Contains(c.trees, tree) {
			c.trees = append(c.trees, tree)
		}
	}
	slices.Sort(c.trees)
}

// cgroupMounts maps what /proc/PID/cgroup calls a hierarchy (its controllers,
// empty for version 2) to where it is mounted.
func cgroupMounts() map[string]string {
	mounts := map[string]string{}
	lines, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mounts
	}
	for line := range strings.Lines(string(lines)) {
		left, right, _ := strings.Cut(line, " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if len(l) < 5 || len(r) < 3 {
			continue
		}
		switch r[0] {
		case "cgroup2":
			mounts[""] = l[4]
		case "cgroup":
			var controllers []string
			for o := range strings.SplitSeq(r[2], ",") {
				if o != "rw" && o != "ro" && o != "xattr" && !strings.HasPrefix(o, "release_agent") {
					controllers = append(controllers, o)
				}
			}
			mounts[strings.Join(controllers, ",")] = l[4]
		}
	}
	return mounts
}

func cgroupsOf(pid int) map[string]string {
	groups := map[string]string{}
	lines, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return groups
	}
	for line := range strings.Lines(string(lines)) {
		if parts := strings.SplitN(strings.TrimSpace(line), ":", 3); len(parts) == 3 {
			groups[parts[1]] = parts[2]
		}
	}
	return groups
}

// mountsBelow lists the mounts below dir that process pid sees, but for those of
// the helpers' network namespaces.
func mountsBelow(pid int, dir string) ([]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") && !strings.HasSuffix(fields[4], "/null-netns") {
			found = append(found, fields[4]+" of "+fields[3])
		}
	}
	slices.Sort(found)
	return found, lines.Err()
}

// handles lists the descriptors of a process, but for those whose number says
// nothing: TCP connections, which come and go with callers; files of the store,
// which opens and closes them as it likes; and what gVisor leaves to Go's
// collector to close: pidfds, rings and seqpacket sockets.
func handles(pid int, data string) ([]string, error) {
	uncounted := map[string]bool{"anon_inode:[pidfd]": true, "anon_inode:[io_uring]": true}
	for table, inode := range map[string]int{"tcp": 9, "tcp6": 9, "unix": 6} {
		lines, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(lines)) {
			f := strings.Fields(line)
			if len(f) > inode && (table != "unix" || f[4] == seqpacket) {
				uncounted["socket:["+f[inode]+"]"] = true
			}
		}
	}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		below, inside := strings.CutPrefix(to, data+"/")
		if err != nil || uncounted[to] || inside && remembered(below) {
			continue
		}
		if kind, _, numbered := strings.Cut(to, ":["); numbered && !strings.HasPrefix(to, "anon_inode") {
			to = kind // the number of a pipe or a socket says nothing
		}
		found = append(found, to)
	}
	slices.Sort(found)
	return found, nil
}

// seqpacket is SOCK_SEQPACKET as /proc/PID/net/unix has it.
const seqpacket = "0005"

// countFolders lists the cgroups and the files.
func (c *Census) countFolders(data string) error {
	for _, tree := range c.trees {
		err := filepath.WalkDir(tree, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				c.Cgroups = append(c.Cgroups, path)
			}
			return skipGone(err)
		})
		if err != nil {
			return err
		}
	}
	return filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return skipGone(err)
		}
		below, err := filepath.Rel(data, path)
		if err != nil {
			return err
		}
		if !remembered(below) {
			c.Files = append(c.Files, below)
		}
		return nil
	})
}

// skipGone forgives what vanishes while it is listed.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
