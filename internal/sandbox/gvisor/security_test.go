package gvisor_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
)

// attack is something hostile code tries as a function's user in a container.
// It prints "BREACH …" where it got through; what it prints otherwise must
// contain want.
type attack struct {
	name   string
	python string
	want   string
}

func TestSecurityCodeInsideCannot(t *testing.T) {
	d := openDriver(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("of the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	abstract, err := net.Listen("unix", "@lambent-gvisor-test")
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()

	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512})
	c, other := newContainer(t, i, "c-1"), newContainer(t, i, "c-2")
	code := t.TempDir()
	if err := os.WriteFile(filepath.Join(code, "other.txt"), []byte("other's code"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(code, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := other.Attach(sandbox.TaskDir, code); err != nil {
		t.Fatal(err)
	}
	if out, exit := run(t, other, "/bin/sh", "-c", "echo other > /tmp/other; cat /var/task/other.txt"); exit.Code != 0 || out != "other's code" {
		t.Fatalf("prepare the other container: %q, %+v", out, exit)
	}

	read := func(path string) string {
		return fmt.Sprintf("try: print('BREACH', open(%q).read()[:50])\nexcept OSError as e: print(e.strerror)", path)
	}
	write := func(path string) string {
		return fmt.Sprintf("try: open(%q, 'w').write('x'); print('BREACH')\nexcept OSError as e: print(e.strerror)", path)
	}
	connect := func(family, address string) string {
		return fmt.Sprintf("import socket,time\ns=socket.socket(socket.%s, socket.SOCK_STREAM); s.settimeout(20); t=time.time()\ntry: s.connect(%s); print('BREACH')\nexcept OSError as e: print(e)\nprint('FAST' if time.time()-t < 5 else 'SLOW')", family, address)
	}
	syscall := func(call string) string {
		return "import ctypes,os\nlibc=ctypes.CDLL(None,use_errno=True)\nr=" + call + "\nprint('BREACH' if r==0 else os.strerror(ctypes.get_errno()))"
	}
	attacks := []attack{
		{"read the host's shadow file", read("/etc/shadow"), "No such file"},
		{"read a file of the host's", read(secret), "No such file"},
		{"see the host's homes", "import os\nprint('BREACH' if os.path.exists('/root') or os.path.exists('/home') else 'none')", "none"},
		{"see the other container's /tmp", read("/tmp/other"), "No such file"},
		{"see the other container's code", read("/var/task/other.txt"), "No such file"},
		{"see processes of the host or of the other container", "import os\nps={open(f'/proc/{p}/cmdline').read().split(chr(0))[0] for p in os.listdir('/proc') if p.isdigit()}\nprint('BREACH' if ps-{'/lambent/init','/usr/bin/python3'} else 'own', ps)", "own"},
		{"write to /usr", write("/usr/bin/x"), "Permission denied"},
		{"write to /var/task", write("/var/task/x"), "Permission denied"},
		{"write to /opt", write("/opt/x"), "Permission denied"},
		{"write to /etc", write("/etc/passwd"), ""},
		{"write to the root", write("/x"), "Permission denied"},
		{"replace lambent-init", write("/lambent/init"), ""},
		{"open the descriptors of the first process", "import os\nfor p in ('0','1','2','3'):\n  try: os.open('/proc/1/fd/'+p, os.O_RDWR); print('BREACH')\n  except OSError as e: print(e.strerror)\ntry: print('BREACH', os.listdir('/proc/1/fd'))\nexcept OSError as e: print(e.strerror)", "Permission denied"},
		{"trace the first process", syscall("libc.ptrace(16,1,0,0)"), "Operation not permitted"},
		{"signal the first process", "import os\ntry: os.kill(1,9); print('BREACH')\nexcept OSError as e: print(e.strerror)", "Operation not permitted"},
		{"make a device", "import os\ntry: os.mknod('/tmp/sda', 0o60666, os.makedev(254,0)); open('/tmp/sda','rb').read(1); print('BREACH')\nexcept OSError as e: print(e.strerror)", "Operation not permitted"},
		{"mount", syscall("libc.mount(b'none',b'/tmp',b'tmpfs',0,None)"), "Operation not permitted"},
		{"become root by a new user namespace and mount", syscall("libc.unshare(0x10000000) or libc.mount(b'/',b'/mnt',None,4096,None) or os.system('ls /mnt/root')"), ""},
		{"become root", "import os\ntry: os.setuid(0); print('BREACH')\nexcept OSError as e: print(e.strerror)", "Operation not permitted"},
		{"become root by a setuid program", "import os\nos.system('cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id; /tmp/id -u; su -c id 2>&1; /usr/bin/mount 2>&1 -t tmpfs x /mnt && echo BREACH')", "993"},
		{"load a kernel module", syscall("libc.syscall(175,0,0,0)"), "Operation not permitted"},
		{"open a raw socket", "import socket\nfor a in ((socket.AF_INET,socket.SOCK_RAW,1),(socket.AF_PACKET,socket.SOCK_RAW,0)):\n  try: socket.socket(*a); print('BREACH')\n  except OSError as e: print(e.strerror)", "Operation not permitted"},
		{"connect to the host's loopback", connect("AF_INET", fmt.Sprintf("('127.0.0.1',%d)", port)), "FAST"},
		{"connect to any address", connect("AF_INET", "('192.0.2.1',80)"), "FAST"},
		{"connect to the cloud's metadata", connect("AF_INET", "('169.254.169.254',80)"), "FAST"},
		{"connect by IPv6", connect("AF_INET6", "('2001:db8::1',80)"), "FAST"},
		{"resolve a name", "import socket,time\nt=time.time()\ntry: socket.getaddrinfo('example.com',80); print('BREACH')\nexcept OSError as e: print(e)\nprint('FAST' if time.time()-t<15 else 'SLOW')", "FAST"},
		{"connect to an abstract socket of the host", connect("AF_UNIX", `"\0lambent-gvisor-test"`), "FAST"},
		{"write over the size of /tmp", "b=b'x'*(1<<20)\ntry:\n  with open('/tmp/big','wb') as f:\n    for n in range(80): f.write(b); f.flush()\n  print('BREACH')\nexcept OSError as e: print(e.strerror)\nimport os; os.unlink('/tmp/big')", "No space left"},
		{"open more files than its share", "import os\ntry:\n  for n in range(2000): os.open('/dev/null',0)\n  print('BREACH')\nexcept OSError as e: print(e.strerror)", "Too many open files"},
		{"hold on to capabilities", "print([l for l in open('/proc/self/status') if l.startswith(('Cap','NoNewPrivs'))])", "'CapEff:\\t0000000000000000\\n', 'CapBnd:\\t0000000000000000\\n'"},
		{"see the host in the environment or on its command line", "import os\nprint('BREACH' if os.path.exists('/proc/1/environ') and os.access('/proc/1/environ', os.R_OK) and b'HOST' in open('/proc/1/environ','rb').read() else 'no', os.uname().nodename)", "no sandbox"},
		{"see the host's mounts", "m=open('/proc/self/mountinfo').read(); print('BREACH' if 'lambent-' in m or '/sys/fs/cgroup' in m else 'no'); print(m)", "no"},
		{"open a device of the host", "import os\nfor d in ('/dev/mem','/dev/kmsg','/dev/vda','/dev/sda','/dev/kvm'):\n  try: os.open(d, os.O_RDWR); print('BREACH', d)\n  except OSError as e: print(d, e.strerror)", "/dev/mem"},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			began := time.Now()
			out, exit := run(t, c, "/usr/bin/python3", "-c", a.python)
			t.Logf("%v, %+v: %s", time.Since(began), exit, out)
			if strings.Contains(out, "BREACH") || !strings.Contains(out, a.want) {
				t.Errorf("got through, or another answer than %q", a.want)
			}
		})
	}
	if out, exit := run(t, other, "/bin/cat", "/tmp/other"); out != "other\n" || exit.Code != 0 {
		t.Errorf("the other container is not as it was: %q, %+v", out, exit)
	}
	select {
	case <-i.Done():
		t.Errorf("the instance died: %v", i.Cause())
	default:
	}
}

func TestSecurityRootWithoutCapabilitiesCannotWriteTheHostsFiles(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{})
	c := newContainer(t, i, "c-1")
	if err := c.Attach(sandbox.TaskDir, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/x", "/usr/x", "/usr/bin/env", "/etc/passwd", "/var/task/x", "/opt/x", "/lambent/x", "/etc/ssl/certs/x"} {
		out, exit := runAs(t, c, sandbox.Command{Path: "/bin/sh", Args: []string{"sh", "-c", "echo x >> " + path}})
		if exit.Code == 0 || !strings.Contains(out, "Read-only file system") {
			t.Errorf("%s: %q, %+v", path, out, exit)
		}
	}
}

func TestSecurityAProcessCannotHaveMoreThreadsThanItsShare(t *testing.T) {
	d := openDriver(t)
	c := newContainer(t, startInstance(t, d, "i-1", sandbox.Limits{}), "c-1")
	out, _ := run(t, c, "/usr/bin/python3", "-c", `
import threading, os
threading.stack_size(65536)
n = 0
try:
  while n < 1500:
    threading.Thread(target=threading.Event().wait, daemon=True).start(); n += 1
  print("BREACH", flush=True)
except RuntimeError: print("stopped", 500 < n < 1024, flush=True)
os._exit(0)`)
	if want := "stopped True\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestSecurityAForkBombHarmsOnlyItsInstance(t *testing.T) {
	d := openDriver(t)
	bad := startInstance(t, d, "i-bad", sandbox.Limits{MemoryMB: 128})
	good := startInstance(t, d, "i-good", sandbox.Limits{MemoryMB: 128})
	bomb, peaceful := newContainer(t, bad, "c-bad"), newContainer(t, good, "c-good")
	if _, exit := run(t, bomb, "/usr/bin/python3", "-c", "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"); exit.Signal != 9 {
		t.Errorf("the bomb ended with %+v", exit)
	}
	<-bad.Done()
	t.Log(bad.Cause())
	if out, exit := run(t, peaceful, "/bin/echo", "here"); out != "here\n" || exit.Code != 0 {
		t.Errorf("the neighbour answers %q, %+v", out, exit)
	}
}

func TestSecurityAMemoryBombKillsOnlyItsInstance(t *testing.T) {
	d := openDriver(t)
	if !d.Capabilities().MemoryLimits {
		t.Fatalf("memory cannot be bounded here: %v", d.Capabilities().Weaker)
	}
	bad := startInstance(t, d, "i-bad", sandbox.Limits{MemoryMB: 128})
	good := startInstance(t, d, "i-good", sandbox.Limits{MemoryMB: 128})
	bomb, peaceful := newContainer(t, bad, "c-bad"), newContainer(t, good, "c-good")
	out, exit := run(t, bomb, "/usr/bin/python3", "-c", "b=[]\nwhile True: b.append(bytearray(b'x'*(1<<20)))")
	t.Logf("%q %+v", out, exit)
	if exit == (sandbox.Exit{}) {
		t.Error("the bomb ended in peace")
	}
	<-bad.Done()
	t.Log(bad.Cause())
	if e, ok := bad.Cause().(*lambent.Error); !ok || e.Reason != "OutOfMemory" {
		t.Errorf("cause is %v, want out of memory", bad.Cause())
	}
	if out, exit := run(t, peaceful, "/bin/echo", "here"); out != "here\n" || exit.Code != 0 {
		t.Errorf("the neighbour answers %q, %+v", out, exit)
	}
}

func TestSecurityASandboxHoldsNoneOfTheServersConnections(t *testing.T) {
	var dir string
	d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	// Two victims with processes that are waited for: connections that stay open.
	for _, n := range []string{"1", "2"} {
		_, r := dialogue(t, newContainer(t, startInstance(t, d, "i-"+n, sandbox.Limits{}), "c-"+n), "/usr/bin/node", "-e", nodeWaiting)
		line(t, r)
	}
	newContainer(t, startInstance(t, d, "i-3", sandbox.Limits{}), "c-3")
	sockets := func(pid int) map[string]bool {
		held := map[string]bool{}
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
			if strings.HasPrefix(to, "socket:") {
				held[to] = true
			}
		}
		return held
	}
	ours := sockets(os.Getpid())
	if len(ours) < 4 { // a connection and a dialogue for each victim
		t.Fatalf("the server holds only %v", ours)
	}
	holders := map[string][]string{}
	for _, p := range processes(t) {
		if !strings.HasPrefix(p.command, "runsc-") || !strings.Contains(p.command, "--root="+dir+"/") {
			continue
		}
		words := strings.Fields(p.command)
		name := words[0] + " " + words[len(words)-1]
		for s := range sockets(p.pid) {
			if ours[s] {
				t.Errorf("%s holds %s of the server's", name, s)
			}
			if strings.HasPrefix(name, "runsc-sandbox") {
				holders[s] = append(holders[s], name)
			}
		}
	}
	for s, names := range holders {
		if len(names) > 1 {
			t.Errorf("%s is held by %v", s, names)
		}
	}
}

func TestCodeInsideSeesTheInstancesMemoryNotTheMachines(t *testing.T) {
	d := openDriver(t)
	c := newContainer(t, startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 300}), "c-1")
	if out, _ := run(t, c, "/usr/bin/head", "-n1", "/proc/meminfo"); strings.Join(strings.Fields(out), " ") != "MemTotal: 307200 kB" {
		t.Error(out)
	}
	if out, _ := run(t, c, "/usr/bin/node", "-p", "os.totalmem() >> 20"); out != "300\n" {
		t.Errorf("Node sees %s MiB", out)
	}
}

func TestAStartThatFailsSaysWhy(t *testing.T) {
	script := filepath.Join(t.TempDir(), "runsc")
	text := `#!/bin/sh
for a; do case "$a" in --bundle=*) b="${a#--bundle=}";; esac; [ "$last" = --bundle ] && b="$a"; last="$a"; done
echo "no such luck" > "$b/complaint"; exit 1`
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	defer func() { openDriver(t) }() // gVisor has one executable in a process: put it back
	d := openDriver(t, func(o *gvisor.Options) { o.Sandbox = script })
	_, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: "i-1"})
	if err == nil || !strings.Contains(err.Error(), "no such luck") || lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("%v", err)
	}
}
