package hostinfo

import (
	"bufio"
	"bytes"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Layout is how control groups are mounted.
type Layout string

// The layouts. Hybrid has its controllers under v1 and an empty v2 tree beside
// them, so it is used like v1.
const (
	LayoutNone   Layout = "none"
	LayoutV1     Layout = "v1"
	LayoutV2     Layout = "v2"
	LayoutHybrid Layout = "hybrid"
)

// Cgroups is what the machine's control groups can do for this process.
type Cgroups struct {
	Layout      Layout
	Controllers []string // sorted
	Writable    bool     // groups for memory and CPU can be made
	Where       string   // the folder Writable was judged by
}

// neededControllers are those that limits on instances are kept with.
var neededControllers = [...]string{"cpu", "memory", "pids"}

// Missing lists the controllers that limits need and that are not there.
func (c Cgroups) Missing() []string {
	var missing []string
	for _, n := range neededControllers {
		if !slices.Contains(c.Controllers, n) {
			missing = append(missing, n)
		}
	}
	return missing
}

// readLimit bounds what is read of files below /proc and /sys.
const readLimit = 1 << 20

// FindCgroups reads /proc/self/mountinfo and what it leads to.
func FindCgroups(p Probe) Cgroups {
	info, err := p.Head("/proc/self/mountinfo", readLimit)
	if err != nil {
		return Cgroups{Layout: LayoutNone}
	}
	mounts := cgroupMounts(info)
	c := Cgroups{Layout: LayoutNone}
	unified := ""
	memory := ""
	for _, m := range mounts {
		if m.v2 {
			unified = m.folder
			continue
		}
		for _, option := range m.options {
			if !strings.HasPrefix(option, "name=") && knownController(option) {
				c.Layout = LayoutV1
				c.Controllers = append(c.Controllers, option)
			}
			if option == "memory" {
				memory = m.folder
			}
		}
	}
	switch {
	case c.Layout == LayoutV1:
		c.Where = memory
		if unified != "" {
			c.Layout = LayoutHybrid
		}
	case unified != "":
		c.Layout = LayoutV2
		// An error reads as no controllers, which is what it means.
		text, _ := p.Head(path.Join(unified, "cgroup.controllers"), readLimit)
		c.Controllers = strings.Fields(string(text))
		c.Where = unified
		if !p.Writable(unified) {
			// Without root, a group may have been delegated to this user.
			if own := ownGroup(p); own != "" {
				c.Where = path.Join(unified, own)
			}
		}
	}
	slices.Sort(c.Controllers)
	c.Controllers = slices.Compact(c.Controllers)
	c.Writable = c.Where != "" && p.Writable(c.Where)
	return c
}

func knownController(option string) bool {
	switch option {
	case "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls", "net_prio", "hugetlb", "perf_event", "rdma", "misc":
		return true
	}
	return false
}

type cgroupMount struct {
	folder  string
	v2      bool
	options []string // of the filesystem: v1 names its controllers there
}

// cgroupMounts reads the lines of type cgroup and cgroup2 of a mountinfo file
// (proc_pid_mountinfo(5)): "36 35 98:0 /root /folder rw,noatime shared:1 - TYPE SOURCE OPTIONS".
func cgroupMounts(info []byte) []cgroupMount {
	var mounts []cgroupMount
	lines := bufio.NewScanner(bytes.NewReader(info))
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, rest := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(rest) < 3 {
			continue
		}
		switch rest[0] {
		case "cgroup":
			mounts = append(mounts, cgroupMount{folder: fields[4], options: strings.Split(rest[2], ",")})
		case "cgroup2":
			mounts = append(mounts, cgroupMount{folder: fields[4], v2: true})
		}
	}
	return mounts
}

// ownGroup is this process's group in the unified tree, as /proc/self/cgroup has
// it ("0::/user.slice/…"), or "".
func ownGroup(p Probe) string {
	text, err := p.Head("/proc/self/cgroup", readLimit)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return group
		}
	}
	return ""
}

// Memory is the machine's memory in MiB: all of it, and what can be had without
// swapping. Both are 0 where the kernel does not tell.
func Memory(p Probe) (totalMB, availableMB int) {
	text, err := p.Head("/proc/meminfo", readLimit)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // "MemTotal:  24689764 kB"
		if len(fields) < 2 {
			continue
		}
		kb, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			totalMB = kb / 1024
		case "MemAvailable:":
			availableMB = kb / 1024
		}
	}
	return totalMB, availableMB
}

// UserNamespaces reports whether a process without privileges may make user
// namespaces, which running without root needs. why says what forbids it.
func UserNamespaces(p Probe) (ok bool, why string) {
	switches := []struct{ file, forbids, why string }{
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces is 0"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns is 1"},
	}
	for i, s := range switches {
		text, err := p.Head(s.file, readLimit)
		if err != nil {
			if i == 0 {
				return false, "the kernel has no user namespaces"
			}
			continue // a switch that other kernels do not have
		}
		if strings.TrimSpace(string(text)) == s.forbids {
			return false, s.why
		}
	}
	return true, ""
}
