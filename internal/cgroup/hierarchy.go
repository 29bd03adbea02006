package cgroup

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Version is the version of the kernel's interface a hierarchy speaks.
type Version uint8

// The versions.
const (
	V1 Version = 1
	V2 Version = 2
)

// Controller names what a hierarchy can bound or count, as the kernel does.
type Controller string

// The controllers this package uses.
const (
	Memory  Controller = "memory"
	CPU     Controller = "cpu"
	CPUAcct Controller = "cpuacct" // version 1 only; version 2 counts in "cpu"
	Pids    Controller = "pids"
)

// hierarchy is one mounted tree.
type hierarchy struct {
	version     Version
	controllers []Controller // of the four above; for version 2 what the root offers
	own         string       // the server's own group: an absolute path
	root        bool         // own is the top of what is mounted, if not of all there is
}

// detect reads which hierarchies there are, from the text of
// /proc/self/mountinfo and /proc/self/cgroup (formats: proc_pid_mountinfo(5),
// cgroups(7)). readFile reads a cgroup file of version 2 by its path.
func detect(mountinfo, cgroups []byte, readFile func(string) ([]byte, error)) ([]hierarchy, error) {
	type membership struct {
		controllers []string
		path        string
	}
	var mine []membership
	for line := range strings.Lines(string(cgroups)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("read own cgroup: unexpected line %q", line)
		}
		mine = append(mine, membership{strings.Split(parts[1], ","), parts[2]})
	}
	find := func(options []string, v2 bool) (string, bool) {
		for _, m := range mine {
			if v2 && slices.Equal(m.controllers, []string{""}) {
				return m.path, true
			}
			if !v2 && m.controllers[0] != "" && !slices.ContainsFunc(m.controllers, func(c string) bool { return !slices.Contains(options, c) }) {
				return m.path, true
			}
		}
		return "", false
	}

	var found []hierarchy
	scan := bufio.NewScanner(bytes.NewReader(mountinfo))
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+4 {
			continue
		}
		root, mount, kind := unescape(fields[3]), unescape(fields[4]), fields[dash+1]
		options := strings.Split(fields[dash+3], ",")
		if kind != "cgroup" && kind != "cgroup2" {
			continue
		}
		path, ok := find(options, kind == "cgroup2")
		if !ok {
			continue
		}
		h := hierarchy{own: mount, root: true}
		// The mount may show only a part of the tree (in a container): what
		// is above is neither visible nor ours.
		if rel, err := filepath.Rel(root, path); err == nil && rel != "." && !strings.HasPrefix(rel, "..") {
			h.own, h.root = filepath.Join(mount, rel), false
		}
		known := []Controller{Memory, CPU, CPUAcct, Pids}
		if kind == "cgroup2" {
			if !h.root && filepath.Base(h.own) == serverLeaf {
				h.own = filepath.Dir(h.own) // moved there by an earlier Open
			}
			h.version = V2
			have, err := readFile(filepath.Join(h.own, "cgroup.controllers"))
			if err != nil {
				continue // mounted, but not for us
			}
			options = strings.Fields(string(have))
		} else {
			h.version = V1
		}
		for _, c := range known {
			if slices.Contains(options, string(c)) {
				h.controllers = append(h.controllers, c)
			}
		}
		if h.version == V1 && len(h.controllers) == 0 {
			continue
		}
		if slices.ContainsFunc(found, func(o hierarchy) bool {
			return o.version == h.version && slices.Equal(o.controllers, h.controllers)
		}) {
			continue // the same hierarchy, mounted a second time
		}
		found = append(found, h)
	}
	return found, scan.Err()
}

// unescape undoes the kernel's octal escapes of space, tab, newline and
// backslash in mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// detectHere is detect for this process.
func detectHere() ([]hierarchy, error) {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup hierarchies: %w", err)
	}
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find own cgroup: %w", err)
	}
	return detect(mountinfo, cgroups, os.ReadFile)
}
