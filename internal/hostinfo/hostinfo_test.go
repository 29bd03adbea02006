package hostinfo

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// fakeMachine is a Probe of a machine that exists only here.
type fakeMachine struct {
	links    map[string]string // path → where it leads; a file leads to itself
	files    map[string]string
	versions map[string]string
	writable []string
}

const elf = "\x7fELF…"

func (m fakeMachine) Glob(pattern string) []string {
	var found []string
	for name := range m.links {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

func (m fakeMachine) Resolve(name string) (string, error) {
	if to := m.links[name]; to != "" {
		return to, nil
	}
	return "", fs.ErrNotExist
}

func (m fakeMachine) Head(name string, n int) ([]byte, error) {
	text, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return []byte(text[:min(n, len(text))]), nil
}

func (m fakeMachine) Version(_ context.Context, name string) (string, error) {
	if v, ok := m.versions[name]; ok {
		return v, nil
	}
	return "", errors.New("cannot be run")
}

func (m fakeMachine) Writable(name string) bool { return slices.Contains(m.writable, name) }

func TestFindRuntimesTakesSystemFoldersOnlyAndSaysWhyItRefuses(t *testing.T) {
	m := fakeMachine{
		links: map[string]string{
			"/usr/bin/node":            "/usr/bin/node",
			"/usr/bin/nodejs":          "/usr/bin/node",
			"/usr/bin/node-gyp":        "/usr/share/node-gyp",
			"/usr/local/bin/node":      "/usr/local/lib/nodejs/bin/node",
			"/usr/bin/python3":         "/usr/bin/python3.11",
			"/usr/bin/python3.11":      "/usr/bin/python3.11",
			"/usr/bin/python3-config":  "/usr/bin/python3-config",
			"/usr/local/bin/python3":   "/root/.pyenv/versions/3.13.0/bin/python3.13",
			"/usr/local/bin/python3.8": "/usr/local/bin/python3.8",
			"/opt/py/bin/python3.13":   "/opt/py/bin/python3.13",
			"/opt/sh/bin/node":         "/opt/sh/bin/node",
			"/opt/gone/bin/node":       "",
			"/opt/odd/bin/node":        "/opt/odd/bin/node",
			"/opt/same/bin/python3":    "/opt/same/bin/python3",
		},
		files: map[string]string{
			"/usr/bin/node": elf, "/usr/local/lib/nodejs/bin/node": elf, "/usr/bin/python3.11": elf, "/usr/local/bin/python3.8": elf,
			"/opt/py/bin/python3.13": elf, "/opt/sh/bin/node": "#!/bin/sh\n", "/opt/odd/bin/node": elf, "/opt/same/bin/python3": elf,
			"/root/.pyenv/versions/3.13.0/bin/python3.13": elf,
		},
		versions: map[string]string{
			"/usr/bin/node": "v20.20.2", "/usr/local/lib/nodejs/bin/node": "v22.1.0", "/usr/bin/python3.11": "Python 3.11.7",
			"/usr/local/bin/python3.8": "Python 3.8.20", "/opt/py/bin/python3.13": "Python 3.13.1", "/opt/odd/bin/node": "hello",
			"/opt/same/bin/python3": "Python 3.11.7", "/root/.pyenv/versions/3.13.0/bin/python3.13": "Python 3.13.0",
		},
	}
	found, refused := FindRuntimes(t.Context(), m)
	want := []Installed{
		{lambent.FamilyNode, "22.1.0", "/usr/local/lib/nodejs/bin/node", "/usr", ""},
		{lambent.FamilyNode, "20.20.2", "/usr/bin/node", "/usr", ""},
		{lambent.FamilyPython, "3.13.1", "/opt/py/bin/python3.13", "/opt/py", ""},
		{lambent.FamilyPython, "3.11.7", "/usr/bin/python3.11", "/usr", ""},
	}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	wantRefused := []Refused{
		{"/opt/gone/bin/node", "its link leads nowhere: file does not exist"},
		{"/opt/odd/bin/node", `it told no version but "hello"`},
		{"/opt/sh/bin/node", "it is a script, which may lead anywhere: install the program itself"},
		{"/usr/local/bin/python3", "it is really /root/.pyenv/versions/3.13.0/bin/python3.13, outside of /usr and /opt: install it there"},
		{"/usr/local/bin/python3.8", "3.8.20 is too old: 3.9 is the oldest that is supported"},
	}
	if diff := cmp.Diff(wantRefused, refused); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

func TestMatchPrefersTheSameVersionThenNewerThenOlder(t *testing.T) {
	all := []Installed{
		{Family: lambent.FamilyNode, Version: "24.2.0"},
		{Family: lambent.FamilyNode, Version: "20.20.2"},
		{Family: lambent.FamilyPython, Version: "3.13.1"},
		{Family: lambent.FamilyPython, Version: "3.11.7"},
		{Family: lambent.FamilyPython, Version: "3.9.2"},
	}
	for _, tc := range []struct {
		runtime   lambent.Runtime
		installed []Installed
		version   string
		exact, ok bool
	}{
		{"nodejs20.x", all, "20.20.2", true, true},
		{"nodejs22.x", all, "24.2.0", false, true},
		{"nodejs18.x", all, "20.20.2", false, true},
		{"nodejs24.x", all, "24.2.0", true, true},
		{"nodejs24.x", all[1:], "20.20.2", false, true},
		{"python3.11", all, "3.11.7", true, true},
		{"python3.12", all, "3.13.1", false, true},
		{"python3.10", all, "3.11.7", false, true},
		{"python3.14", all, "3.13.1", false, true},
		{"python3.9", all, "3.9.2", true, true},
		{"python3.12", all[:2], "", false, false},
		{"provided.al2023", nil, "", true, true},
		{"java21", all, "", false, false},
	} {
		got, exact, ok := Match(tc.runtime, tc.installed)
		if got.Version != tc.version || exact != tc.exact || ok != tc.ok {
			t.Errorf("Match(%s) = %q, %v, %v, want %q, %v, %v", tc.runtime, got.Version, exact, ok, tc.version, tc.exact, tc.ok)
		}
	}
}

const v1Mounts = `30 29 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
`

const v2Mount = "35 29 0:31 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

func TestFindCgroups(t *testing.T) {
	for name, tc := range map[string]struct {
		machine fakeMachine
		want    Cgroups
		missing []string
	}{
		"v1": {
			fakeMachine{files: map[string]string{"/proc/self/mountinfo": v1Mounts}, writable: []string{"/sys/fs/cgroup/memory"}},
			Cgroups{LayoutV1, []string{"cpu", "cpuacct", "memory", "pids"}, true, "/sys/fs/cgroup/memory"}, nil,
		},
		"hybrid counts what v1 has": {
			fakeMachine{files: map[string]string{"/proc/self/mountinfo": v1Mounts + "36 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"}},
			Cgroups{LayoutHybrid, []string{"cpu", "cpuacct", "memory", "pids"}, false, "/sys/fs/cgroup/memory"}, nil,
		},
		"v2 as root": {
			fakeMachine{files: map[string]string{"/proc/self/mountinfo": v2Mount, "/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n"},
				writable: []string{"/sys/fs/cgroup"}},
			Cgroups{LayoutV2, []string{"cpu", "cpuset", "io", "memory", "pids"}, true, "/sys/fs/cgroup"}, nil,
		},
		"v2 delegated to a user": {
			fakeMachine{files: map[string]string{"/proc/self/mountinfo": v2Mount, "/sys/fs/cgroup/cgroup.controllers": "memory pids\n",
				"/proc/self/cgroup": "0::/user.slice/x.scope\n"}, writable: []string{"/sys/fs/cgroup/user.slice/x.scope"}},
			Cgroups{LayoutV2, []string{"memory", "pids"}, true, "/sys/fs/cgroup/user.slice/x.scope"}, []string{"cpu"},
		},
		"none": {
			fakeMachine{files: map[string]string{"/proc/self/mountinfo": "1 1 0:1 / / rw - ext4 /dev/vda rw\nnonsense - \n"}},
			Cgroups{Layout: LayoutNone}, []string{"cpu", "memory", "pids"},
		},
		"no proc": {fakeMachine{}, Cgroups{Layout: LayoutNone}, []string{"cpu", "memory", "pids"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := FindCgroups(tc.machine)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("FindCgroups (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.missing, got.Missing()); diff != "" {
				t.Errorf("Missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMemoryReadsMebibytes(t *testing.T) {
	m := fakeMachine{files: map[string]string{"/proc/meminfo": "MemTotal:       2048000 kB\nMemFree: 1 kB\nMemAvailable:   1024000 kB\nHugePages_Total: 0\n"}}
	if total, available := Memory(m); total != 2000 || available != 1000 {
		t.Errorf("Memory = %d, %d, want 2000, 1000", total, available)
	}
	if total, available := Memory(fakeMachine{}); total != 0 || available != 0 {
		t.Errorf("Memory without /proc = %d, %d, want 0, 0", total, available)
	}
}

func TestUserNamespacesNamesTheSwitchThatForbidsThem(t *testing.T) {
	on := map[string]string{"/proc/sys/user/max_user_namespaces": "63000\n"}
	with := func(file, text string) map[string]string {
		return map[string]string{"/proc/sys/user/max_user_namespaces": "63000\n", file: text}
	}
	for name, tc := range map[string]struct {
		files map[string]string
		ok    bool
		why   string
	}{
		"allowed":           {on, true, ""},
		"none in kernel":    {nil, false, "the kernel has no user namespaces"},
		"bound of zero":     {with("/proc/sys/user/max_user_namespaces", "0\n"), false, "user.max_user_namespaces is 0"},
		"debian's switch":   {with("/proc/sys/kernel/unprivileged_userns_clone", "0\n"), false, "kernel.unprivileged_userns_clone is 0"},
		"apparmor's switch": {with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"), false, "kernel.apparmor_restrict_unprivileged_userns is 1"},
		"apparmor allows":   {with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "0\n"), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if ok, why := UserNamespaces(fakeMachine{files: tc.files}); ok != tc.ok || why != tc.why {
				t.Errorf("UserNamespaces = %v, %q, want %v, %q", ok, why, tc.ok, tc.why)
			}
		})
	}
}

func TestSystemProbeAnswersForTheMachineItRunsOn(t *testing.T) {
	var s System
	if files := s.Glob("/proc/self/sta*"); len(files) < 2 {
		t.Errorf("Glob found %v, want stat and status", files)
	}
	if _, err := s.Resolve("/proc/self/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of a missing file: %v, want fs.ErrNotExist", err)
	}
	if b, err := s.Head("/proc/self/exe", 4); err != nil || string(b) != "\x7fELF" {
		t.Errorf("Head of this program = %q, %v", b, err)
	}
	if out, err := s.Version(t.Context(), "/proc/self/nothing"); err == nil {
		t.Errorf("Version of a missing program = %q, want an error", out)
	}
	if out, err := s.Version(t.Context(), "/bin/cat"); err != nil || out == "" {
		t.Errorf("Version of cat = %q, %v", out, err)
	}
	dir := t.TempDir()
	if !s.Writable(dir) || s.Writable(dir+"/nothing") {
		t.Error("Writable must hold for an own folder and not for a missing one")
	}
	if total, available := Memory(s); total <= 0 || available <= 0 {
		t.Errorf("Memory = %d, %d, want both positive", total, available)
	}
}
