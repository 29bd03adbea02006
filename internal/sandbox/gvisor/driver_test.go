package gvisor_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
	"lambent/internal/sandbox/sandboxtest"
)

// run runs a command in a container as a function's user and gives back what it
// wrote and how it ended.
func run(t testing.TB, c sandbox.Container, args ...string) (string, sandbox.Exit) {
	t.Helper()
	return runAs(t, c, sandbox.Command{Path: args[0], Args: args, UID: sandbox.UserID, GID: sandbox.GroupID})
}

func runAs(t testing.TB, c sandbox.Container, cmd sandbox.Command) (string, sandbox.Exit) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Files = []*os.File{nil, w, w}
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp"}
	}
	p, err := c.Exec(t.Context(), cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), exit
}

// dialogue starts a command with a socket on descriptor 3 and gives the other
// end.
func dialogue(t testing.TB, c sandbox.Container, args ...string) (net.Conn, *bufio.Reader) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_, err = c.Exec(t.Context(), sandbox.Command{
		Path: args[0], Args: args, Env: []string{"PATH=/usr/bin:/bin"}, UID: sandbox.UserID, GID: sandbox.GroupID,
		Files: []*os.File{nil, nil, nil, theirs},
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func line(t testing.TB, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("after %q: %v", s, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// nodeWaiting is a runtime that says "up" and then loads code when told.
const nodeWaiting = `
const net = require('net'); const s = new net.Socket({fd: 3, readable: true, writable: true});
s.on('data', () => { try { s.write(require('/var/task/index.js').hello + '\n') } catch (e) { s.write(e.message.split('\n')[0] + '\n') } });
s.write('up\n');`

func TestARunningNodeLoadsCodeThatIsAttachedLater(t *testing.T) {
	d := openDriver(t)
	c := newContainer(t, startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512}), "c-1")
	conn, r := dialogue(t, c, "/usr/bin/node", "-e", nodeWaiting)
	if got := line(t, r); got != "up" {
		t.Fatal(got)
	}
	code := t.TempDir()
	if err := os.WriteFile(filepath.Join(code, "index.js"), []byte("exports.hello = 'from attached code'"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(code, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.Attach(sandbox.TaskDir, code); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(conn, "load")
	if got := line(t, r); got != "from attached code" {
		t.Error(got)
	}
}

func TestAllProcessesOfASandboxAreInItsGroupAndTheFirstToBeKilled(t *testing.T) {
	var dir string
	d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512})
	for _, id := range []string{"c-1", "c-2"} {
		_, r := dialogue(t, newContainer(t, i, id), "/usr/bin/node", "-e", nodeWaiting)
		line(t, r)
	}
	// The sandbox's process, all below it, and the gofers.
	var family []hostProcess
	all := processes(t)
	for grown := true; grown; {
		grown = false
		for _, p := range all {
			isOurs := strings.HasPrefix(p.command, "runsc-") && strings.Contains(p.command, "--root="+dir+"/")
			isChild := slices.ContainsFunc(family, func(f hostProcess) bool { return f.pid == p.parent })
			if (isOurs || isChild) && !slices.ContainsFunc(family, func(f hostProcess) bool { return f.pid == p.pid }) {
				family, grown = append(family, p), true
			}
		}
	}
	if len(family) < 6 { // sandbox, three gofers, a stub for each of four programs at least
		t.Errorf("only %d processes: %v", len(family), family)
	}
	for _, p := range family {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.pid)); err != nil || string(b) != "500\n" && string(b) != "99\n" {
			t.Errorf("when memory runs out, process %d (%.40s) is weighed by %q, %v", p.pid, p.command, b, err)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.pid))
		if err != nil {
			t.Error(err)
			continue
		}
		for l := range strings.Lines(string(b)) {
			if slices.ContainsFunc([]string{":memory:", ":cpu:", ":cpuacct:", ":pids:", ":cpu,cpuacct:"}, func(c string) bool { return strings.Contains(l, c) }) &&
				!strings.HasSuffix(l, "/lambent-"+gvisor.TreeName(dir)+"/i-1\n") {
				t.Errorf("process %d (%.40s) is in %s", p.pid, p.command, l)
			}
		}
	}
}

func TestUsageCountsTheCodesMemoryOnly(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512})
	conn, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/node", "-e", `
const net = require('net'); const s = new net.Socket({fd: 3, readable: true, writable: true}); let b;
s.on('data', () => { b = Buffer.alloc(100 << 20, 1); s.write('taken\n') }); s.write('up\n');`)
	line(t, r)
	before, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(conn, "take")
	line(t, r)
	after, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("before %+v, after %+v", before, after)
	if got := (after.MemoryBytes - before.MemoryBytes) >> 20; got < 95 || got > 115 {
		t.Errorf("100 MiB taken, %d MiB counted", got)
	}
	if before.MemoryBytes>>20 > 120 {
		t.Errorf("a waiting Node counts %d MiB", before.MemoryBytes>>20)
	}
	if after.CPUTime <= before.CPUTime || after.OOMKills != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
}

func TestWhatIsWrittenToTmpTakesNoMemory(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 64})
	c, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-1", EphemeralMB: 512})
	if err != nil {
		t.Fatal(err)
	}
	if out, exit := run(t, c, "/bin/dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=400"); exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("%s, %+v, %v", out, exit, i.Cause())
	}
	u, err := i.Usage()
	if err != nil || u.MemoryBytes > 32<<20 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestACPULimitHoldsAtOnce(t *testing.T) {
	d := openDriver(t)
	if !d.Capabilities().CPULimits {
		t.Fatalf("CPU time cannot be bounded here: %v", d.Capabilities().Weaker)
	}
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 256})
	conn, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/python3", "-c", `
import socket, time
s = socket.socket(fileno=3); s.sendall(b"up\n"); s.recv(100)
t = time.monotonic()
while time.monotonic() - t < 1: pass
s.sendall(b"done\n")`)
	line(t, r)
	if err := i.SetLimits(sandbox.Limits{MemoryMB: 256, CPUs: 0.1}); err != nil {
		t.Fatal(err)
	}
	before, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(conn, "go")
	line(t, r)
	after, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel's promise, not a measure of this machine: a tenth of the time,
	// and once what was saved up.
	if used := after.CPUTime - before.CPUTime; used > 400*time.Millisecond {
		t.Errorf("a second of spinning at a tenth of a CPU used %v", used)
	}
}

// victimEnv tells TestMain to be a server that is to be killed, in that folder.
const victimEnv = "LAMBENT_TEST_VICTIM"

// victim starts two instances and says so, then waits to be killed.
func victim(dir string) int {
	d, err := gvisor.New(gvisor.Options{Dir: dir, Sandbox: os.Getenv("LAMBENT_TEST_SANDBOX"), Init: os.Getenv("LAMBENT_TEST_INIT")})
	if err == nil {
		err = d.Open(context.Background())
	}
	for n := range 2 {
		if err != nil {
			break
		}
		var i sandbox.Instance
		if i, err = d.Start(context.Background(), sandbox.InstanceSpec{ID: lambent.InstanceID(fmt.Sprintf("i-%d", n))}); err != nil {
			break
		}
		var c sandbox.Container
		if c, err = i.NewContainer(context.Background(), sandbox.ContainerSpec{ID: lambent.ContainerID(fmt.Sprintf("c-%d", n)), EphemeralMB: 1}); err != nil {
			break
		}
		if err = c.Attach(sandbox.TaskDir, "/usr/share"); err != nil {
			break
		}
		if _, err = c.Exec(context.Background(), sandboxtest.ShellCommand(sandboxtest.Sleep)); err != nil {
			break
		}
		var memory map[lambent.ContainerID]int64
		if memory, err = i.ContainerMemory(context.Background()); err == nil && len(memory) != 1 {
			err = fmt.Errorf("the memory of one container is %v", memory)
		}
	}
	fmt.Println("up", err)
	select {}
}

// inside counts gVisor's processes of a driver in dir.
func inside(t testing.TB, dir string) (n int) {
	t.Helper()
	for _, p := range processes(t) {
		if strings.HasPrefix(p.command, "runsc-") && strings.Contains(p.command, "--root="+dir+"/") {
			n++
		}
	}
	return n
}

func TestSandboxesEndWithAServerThatIsKilledAndTheNextOneCleansUp(t *testing.T) {
	dir, err := os.MkdirTemp("", "lambent-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), victimEnv+"="+dir, "LAMBENT_TEST_SANDBOX="+built.sandbox, "LAMBENT_TEST_INIT="+built.init)
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := line(t, bufio.NewReader(out)); got != "up <nil>" {
		t.Fatal(got)
	}
	if inside(t, dir) < 6 {
		t.Errorf("only %d processes of two instances", inside(t, dir))
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	for deadline := time.Now().Add(30 * time.Second); inside(t, dir) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes have outlived their server", inside(t, dir))
		}
	}

	d, err := gvisor.New(gvisor.Options{Dir: dir, Sandbox: built.sandbox, Init: built.init})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Sweep(t.Context()); n != 2 || err != nil {
		t.Errorf("Sweep: %d, %v", n, err)
	}
	if l := left(t, dir); l != "" {
		t.Errorf("left: %s", l)
	}
	i, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: "i-0"}) // an id of the first server's
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(mounts), dir) {
		t.Errorf("Close left mounts")
	}
}

func TestItRunsInAUserNamespaceOfAUserWithoutRights(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "lambent-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("/proc/self/exe") // whose folder that user may not enter
	server.Env = append(os.Environ(), victimEnv+"="+dir, "LAMBENT_TEST_SANDBOX="+built.sandbox, "LAMBENT_TEST_INIT="+built.init)
	server.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: nobody, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: nobody, Size: 1}},
		Credential:  &syscall.Credential{},
	}
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if got := line(t, bufio.NewReader(out)); got != "up <nil>" {
		t.Error(got)
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	for deadline := time.Now().Add(30 * time.Second); inside(t, dir) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d processes have outlived their server", inside(t, dir))
		}
	}
}

func TestAFolderIsForOneServer(t *testing.T) {
	var dir string
	openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	d, err := gvisor.New(gvisor.Options{Dir: dir, Sandbox: built.sandbox, Init: built.init})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Open(t.Context()); lambent.KindOf(err) != lambent.KindUnavailable || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// The names of gVisor's sockets are short, however deep the folder is.
func TestADeepFolderWorks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	d, err := gvisor.New(gvisor.Options{Dir: dir, Sandbox: built.sandbox, Init: built.init})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	i, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: "i-12345678901234567"})
	if err != nil {
		t.Fatal(err)
	}
	state := "/run/lambent-" + gvisor.TreeName(dir)
	if entries, err := os.ReadDir(state); err != nil || len(entries) == 0 {
		t.Errorf("nothing of gVisor's is in %s: %v", state, err)
	}
	if err := i.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Close left %s: %v", state, err)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, o := range map[string]gvisor.Options{
		"no folder":            {},
		"a relative folder":    {Dir: "data"},
		"the root":             {Dir: "/"},
		"an unclean folder":    {Dir: "/tmp/../x"},
		"a relative extra one": {Dir: "/tmp/x", ReadOnly: []string{"usr"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := gvisor.New(o); lambent.KindOf(err) != lambent.KindInvalid {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestHostileIDsAndPathsAreRefused(t *testing.T) {
	d := openDriver(t)
	for _, id := range []string{"", ".", "..", "a/b", "../x", "a b", "a\n", "-root", strings.Repeat("x", 65)} {
		if _, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: lambent.InstanceID(id)}); lambent.KindOf(err) != lambent.KindInvalid {
			t.Errorf("instance %q: %v", id, err)
		}
	}
	i := startInstance(t, d, "i-1", sandbox.Limits{})
	for _, id := range []string{"", "..", "a/b", "i-1"} {
		if _, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: lambent.ContainerID(id), EphemeralMB: 1}); lambent.KindOf(err) != lambent.KindInvalid {
			t.Errorf("container %q: %v", id, err)
		}
	}
	for _, m := range []sandbox.Mount{{Source: "/usr", Target: "/"}, {Source: "/usr", Target: "/usr"}, {Source: "/usr", Target: "/var/../etc"},
		{Source: "usr", Target: "/mnt/x"}, {Source: "/bin", Target: "/mnt/x"}, {Source: "/etc/passwd", Target: "/mnt/x"}} {
		_, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-1", EphemeralMB: 1, Mounts: []sandbox.Mount{m}})
		if lambent.KindOf(err) != lambent.KindInvalid {
			t.Errorf("mount %v: %v", m, err)
		}
	}
	c := newContainer(t, i, "c-2")
	for _, target := range []string{"/", "/etc", "/var/task/x", "/var/task/", "/tmp"} {
		if err := c.Attach(target, "/usr/share"); lambent.KindOf(err) != lambent.KindInvalid {
			t.Errorf("attach to %s: %v", target, err)
		}
	}
}

func TestDetachStdioTellsApart(t *testing.T) {
	in, out, errs := os.Stdin, os.Stdout, os.Stderr
	defer func() { os.Stdin, os.Stdout, os.Stderr = in, out, errs }()
	gin, gout, gerr, err := gvisor.DetachStdio()
	if err != nil || gin != in || gout != out || gerr != errs {
		t.Fatalf("%v %v %v %v", gin, gout, gerr, err)
	}
	if os.Stdout.Name() != os.DevNull {
		t.Errorf("standard output is %s", os.Stdout.Name())
	}
}
