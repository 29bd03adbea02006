package conformance

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// These tests are functions that try to get out. They know what a function of
// an attacker's could guess (the data folder, the server's port, the host's
// addresses), and read what they find by its content, not by an error code:
// what counts is that nothing of the host's comes back.

// intruder is a function to try things with.
type intruder struct {
	*lab.Caller
	name string
}

// outcome is what a try to read, list or write came to.
type outcome struct {
	OK    bool   `json:"ok"`
	Value any    `json:"value"`
	Error string `json:"error"`
}

// ran is what a command came to.
type ran struct {
	Status int    `json:"status"`
	Out    string `json:"out"`
	Error  string `json:"error"`
}

func (i intruder) try(t *testing.T, what, path string) outcome {
	t.Helper()
	got, _ := lab.Do[outcome](t, i.Caller, i.name, op{"op": what, "path": path})
	return got
}

func (i intruder) run(t *testing.T, args ...string) ran {
	t.Helper()
	got, _ := lab.Do[ran](t, i.Caller, i.name, op{"op": "run", "args": args})
	return got
}

// list is what a folder holds; nothing where it cannot be read.
func (i intruder) list(t *testing.T, path string) []string {
	t.Helper()
	got := i.try(t, "list", path)
	all, _ := got.Value.([]any)
	var names []string
	for _, v := range all {
		names = append(names, fmt.Sprint(v))
	}
	return names
}

func TestSecurityFunctionsCannotReachTheHost(t *testing.T) {
	t.Parallel()
	for _, l := range []language{node(t), python(t)} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			f := l.function("intruder-" + l.name)
			f.Memory = 512
			c.Create(t, f)
			i := intruder{c, f.Name}
			t.Run("files", func(t *testing.T) { hostFiles(t, i) })
			t.Run("writing", func(t *testing.T) { writing(t, i) })
			t.Run("processes", func(t *testing.T) { hostProcesses(t, i) })
			t.Run("network", func(t *testing.T) { hostNetwork(t, i) })
			t.Run("privileges", func(t *testing.T) { privileges(t, i) })
			t.Run("environment", func(t *testing.T) { hostEnvironment(t, i) })
			t.Run("other functions", func(t *testing.T) { otherFunctions(t, i, l) })
		})
	}
}

func hostFiles(t *testing.T, i intruder) {
	for _, path := range []string{"/etc/shadow", "/etc/gshadow", "/etc/machine-id", "/root/.bashrc", "/root/.ssh/authorized_keys", "/proc/kcore", "/proc/1/environ", "/dev/mem",
		"/dev/sda", "/dev/vda", "/dev/kmsg", "/proc/1/root/etc/shadow", "/proc/self/root/etc/shadow", "/var/task/../../etc/shadow", "/sys/kernel/security", "/etc/resolv.conf.bak",
		filepath.Join(fix.data, "lock"), "/proc/sysrq-trigger", "/proc/keys"} {
		if got := i.try(t, "read", path); got.OK && got.Value != "" {
			t.Errorf("%s can be read: %.100q", path, got.Value)
		}
	}
	for _, path := range []string{fix.data, filepath.Join(fix.data, "jetstream"), "/root", "/home", "/boot", "/run", "/var/lib", "/var/log", "/mnt", "/media", "/srv", "/sys/fs/cgroup", "/lost+found"} {
		if names := i.list(t, path); len(names) > 0 {
			t.Errorf("%s can be listed: %q", path, names)
		}
	}
	if got := i.list(t, "/tmp"); slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, "lambent") }) {
		t.Errorf("/tmp is the host's: %q", got)
	}
	// What names the host has must be nowhere in what is mounted.
	mounts := i.try(t, "read", "/proc/self/mountinfo")
	if !mounts.OK || strings.Contains(fmt.Sprint(mounts.Value), fix.data) {
		t.Errorf("/proc/self/mountinfo shows the data folder, or nothing: %v", mounts)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := i.try(t, "read", "/proc/sys/kernel/hostname"); strings.TrimSpace(fmt.Sprint(got.Value)) == host {
		t.Errorf("the host's name %q is seen", host)
	}
	if got := i.list(t, "/etc"); slices.Contains(got, "shadow") || slices.Contains(got, "ssh") || slices.Contains(got, "sudoers") {
		t.Errorf("/etc is the host's: %q", got)
	}
}

func writing(t *testing.T, i intruder) {
	for _, path := range []string{"/var/task/new", "/usr/new", "/usr/bin/env", "/etc/new", "/etc/passwd", "/bin/new", "/lib/new", "/opt/new", "/var/runtime/new", "/new", "/var/new",
		"/proc/sys/kernel/core_pattern", "/dev/new", "/proc/1/oom_score_adj"} {
		if got := i.try(t, "write", path); got.OK {
			t.Errorf("%s can be written", path)
		}
	}
	if got := i.try(t, "write", "/tmp/mine"); !got.OK {
		t.Errorf("/tmp cannot be written: %s", got.Error)
	}
	if got := i.try(t, "write", "/dev/null"); !got.OK {
		t.Errorf("/dev/null cannot be written: %s", got.Error)
	}
}

// hostProcesses: all that can be seen are the sandbox's own.
func hostProcesses(t *testing.T, i intruder) {
	marker := fmt.Sprintf("%s up --listen", fix.bin)
	seen := 0
	for _, name := range i.list(t, "/proc") {
		if strings.Trim(name, "0123456789") != "" {
			continue
		}
		seen++
		got := i.try(t, "read", "/proc/"+name+"/cmdline")
		line := strings.ReplaceAll(fmt.Sprint(got.Value), "\x00", " ")
		if strings.Contains(line, marker) || strings.Contains(line, "runsc") || strings.Contains(line, "go test") || strings.Contains(line, "conformance.test") {
			t.Errorf("process %s of the host is seen: %s", name, line)
		}
	}
	if seen == 0 || seen > 10 {
		t.Errorf("%d processes are seen, want the sandbox's few", seen)
	}
	for _, pid := range []int{os.Getpid(), os.Getppid()} {
		if got := i.run(t, "/bin/kill", "-0", fmt.Sprint(pid)); got.Status == 0 && seen < pid {
			t.Errorf("process %d of the host can be signalled", pid)
		}
	}
}

// hostNetwork: no address answers, not even by refusing a connection that
// somebody listens for.
func hostNetwork(t *testing.T, i intruder) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	server := i.Server.Addr()
	_, portText, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscan(portText, &port); err != nil {
		t.Fatal(err)
	}
	// A listener on all of the host's addresses must hear nothing.
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan net.Addr, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(heard)
				return
			}
			heard <- conn.RemoteAddr()
			conn.Close()
		}
	}()
	open := l.Addr().(*net.TCPAddr).Port

	hosts := []string{"127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "192.0.2.1", "10.0.0.1"}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() {
			hosts = append(hosts, ip.IP.String())
		}
	}
	for _, host := range hosts {
		for _, p := range []int{port, open} {
			got, _ := lab.Do[string](t, i.Caller, i.name, op{"op": "connect", "host": host, "port": p, "ms": 300})
			if got == "connected" {
				t.Errorf("%s port %d can be reached", host, p)
			}
		}
	}
	l.Close()
	for from := range heard {
		t.Errorf("a connection came from %s", from)
	}
	links := i.try(t, "read", "/proc/net/dev")
	for line := range strings.Lines(fmt.Sprint(links.Value)) {
		if name, _, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) != "lo" {
			t.Errorf("there is a network device %q", strings.TrimSpace(name))
		}
	}
}

func privileges(t *testing.T, i intruder) {
	status := i.try(t, "read", "/proc/self/status")
	fields := map[string]string{}
	for line := range strings.Lines(fmt.Sprint(status.Value)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			fields[k] = strings.TrimSpace(v)
		}
	}
	for _, k := range []string{"Uid", "Gid"} {
		if ids := strings.Fields(fields[k]); len(ids) == 0 || slices.Contains(ids, "0") {
			t.Errorf("%s is %q, want nobody who is 0", k, fields[k])
		}
	}
	for k, v := range fields {
		if strings.HasPrefix(k, "Cap") && k != "CapBnd" && strings.Trim(v, "0") != "" {
			t.Errorf("%s is %s, want none", k, v)
		}
	}
	if strings.Trim(fields["CapEff"], "0") != "" || fields["CapEff"] == "" {
		t.Errorf("CapEff is %q", fields["CapEff"])
	}
	if got := i.run(t, "/usr/bin/id", "-u"); strings.TrimSpace(got.Out) == "0" || got.Status != 0 {
		t.Errorf("id -u says %q, status %d", got.Out, got.Status)
	}
	for _, args := range [][]string{
		{"/bin/mount", "-t", "tmpfs", "none", "/tmp"},
		{"/bin/mount", "--bind", "/etc", "/tmp"},
		{"/bin/mknod", "/tmp/sda", "b", "8", "0"},
		{"/bin/chown", "0:0", "/tmp"},
		{"/usr/bin/nsenter", "-t", "1", "-m", "true"},
		{"/usr/sbin/chroot", "/tmp", "/bin/true"},
		{"/bin/su", "-c", "true"},
		{"/bin/kill", "-9", "1"},
	} {
		if got := i.run(t, args...); got.Status == 0 && got.Error == "" {
			t.Errorf("%q succeeds: %s", args, got.Out)
		}
	}
	// What it may make of itself in namespaces of its own must not lead out.
	i.run(t, "/usr/bin/unshare", "-Urm", "/bin/sh", "-c", "mount -t proc proc /proc; mount -t tmpfs none /usr; echo x >/usr/x")
	if got := i.list(t, "/usr"); slices.Contains(got, "x") || !slices.Contains(got, "bin") {
		t.Errorf("/usr was changed from a namespace: %q", got)
	}
	// Setuid programs give nothing.
	script := `import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
r = {n: f() for n, f in {
  "setuid": lambda: libc.setuid(0), "setgid": lambda: libc.setgid(0), "ptrace": lambda: libc.ptrace(16, 1, 0, 0),
  "mount": lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0), "umount": lambda: libc.umount2(b"/proc", 2), "chroot": lambda: libc.chroot(b"/tmp"),
  "reboot": lambda: libc.reboot(0x1234567), "swapon": lambda: libc.swapon(b"/tmp/x", 0), "sethostname": lambda: libc.sethostname(b"x", 1),
  "init_module": lambda: libc.syscall(175, 0, 0, b""), "raw socket": lambda: libc.socket(2, 3, 1), "packet socket": lambda: libc.socket(17, 3, 768)}.items()}
print(",".join(sorted(k for k, v in r.items() if v != -1)))`
	if got := i.run(t, "/usr/bin/python3", "-c", script); strings.TrimSpace(got.Out) != "" || got.Status != 0 {
		t.Errorf("system calls that must fail succeed: %s (status %d)", got.Out, got.Status)
	}
}

func hostEnvironment(t *testing.T, i intruder) {
	env, _ := lab.Do[map[string]string](t, i.Caller, i.name, op{"op": "env"})
	for _, pair := range os.Environ() {
		k, v, _ := strings.Cut(pair, "=")
		if _, same := env[k]; same && v != "" && env[k] == v && len(v) > 3 && !strings.Contains(k, "LANG") && k != "HOME" && k != "TZ" && k != "PATH" {
			t.Errorf("%s=%s is the server's", k, v)
		}
	}
	for _, pid := range i.list(t, "/proc") {
		if strings.Trim(pid, "0123456789") != "" {
			continue
		}
		if got := i.try(t, "read", "/proc/"+pid+"/environ"); strings.Contains(fmt.Sprint(got.Value), lab.Secret) {
			t.Errorf("the server's environment is seen in process %s", pid)
		}
	}
}

// otherFunctions: neither another account's function nor another one of the
// same account is seen, by its files or by what it left in /tmp.
func otherFunctions(t *testing.T, i intruder, l language) {
	const secret = "secret-of-another-function"
	for _, other := range []*lab.Caller{newCaller(t), i.Caller} {
		f := l.function("neighbour-" + l.name)
		f.Zip = lab.Zip(lab.Entry{Name: "index.js", Data: []byte(`const fs = require('fs'); fs.writeFileSync('/tmp/left', '` + secret + `'); exports.handler = async () => 1`)},
			lab.Entry{Name: "kit.py", Data: []byte("open('/tmp/left', 'w').write('" + secret + "')\ndef handler(e, c): return 1\n")},
			lab.Entry{Name: "secret-file", Data: []byte(secret)})
		other.Create(t, f)
		if got, _ := lab.Do[int](t, other, f.Name, nil); got != 1 {
			t.Fatalf("the neighbour answers %d", got)
		}
		if got := i.try(t, "read", "/tmp/left"); got.OK {
			t.Errorf("a file of another function's is in /tmp: %v", got.Value)
		}
		if got := i.try(t, "read", "/var/task/secret-file"); got.OK {
			t.Errorf("another function's code is in /var/task: %v", got.Value)
		}
		found := i.run(t, "/usr/bin/find", "/", "-xdev", "-name", "secret-file", "-not", "-path", "/proc/*")
		if strings.Contains(found.Out, "secret-file") && !strings.Contains(found.Out, "Permission denied") {
			t.Errorf("another function's code is at %s", found.Out)
		}
	}
	want := []string{"index.mjs"}
	if l.name == "python" {
		want = []string{"kit.py"}
	}
	got := slices.DeleteFunc(i.list(t, "/var/task"), func(n string) bool { return n == "__pycache__" })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("/var/task (-want +got):\n%s", diff)
	}
}

// An instance serves one account in all its life, and never two, however their
// calls are mixed; and what one account has, another does not see.
func TestSecurityAccountsNeverShareAnInstance(t *testing.T) {
	t.Parallel()
	const rounds = 15
	callers := []*lab.Caller{newCaller(t), newCaller(t), newCaller(t)}
	owners := map[string]string{} // of instances
	for n, c := range callers {
		for _, l := range []language{node(t), python(t)} { // the same names for all
			f := l.function("mixed-" + l.name)
			f.Env = map[string]string{"OWNER": fmt.Sprint("caller ", n)}
			c.Create(t, f)
		}
	}
	for round := range rounds {
		for n, c := range callers {
			for _, name := range []string{"mixed-node", "mixed-python"} {
				env, a := lab.Do[map[string]string](t, c, name, op{"op": "env"})
				if env["OWNER"] != fmt.Sprint("caller ", n) {
					t.Fatalf("round %d: %s of caller %d is the one of %s", round, name, n, env["OWNER"])
				}
				instance := a.Header.Get("X-Lambent-Instance-Id")
				if owner, known := owners[instance]; known && owner != c.Account {
					t.Fatalf("round %d: instance %s served %s and %s", round, instance, owner, c.Account)
				}
				owners[instance] = c.Account
			}
		}
	}
	instances, err := callers[0].Server.Instances()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		if owner, known := owners[i.InstanceID]; known && i.Account != owner {
			t.Errorf("instance %s is said to be of account %q, it served %s", i.InstanceID, i.Account, owner)
		}
	}
	if len(owners) < len(callers) {
		t.Errorf("%d accounts were served by %d instances", len(callers), len(owners))
	}
}
