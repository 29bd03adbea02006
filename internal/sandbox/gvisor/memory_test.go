package gvisor_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
	"lambent/internal/sandbox/sandboxtest"
)

// memoryMB reads the memory of one container, a moment after the last time: gVisor
// looks no oftener than a hundred times a second.
func memoryMB(t testing.TB, i sandbox.Instance, id lambent.ContainerID) int64 {
	t.Helper()
	m, err := i.ContainerMemory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m[id] >> 20
}

// taker takes memory step by step: each line it reads is the next step.
const taker = `
import socket, os, mmap
s = socket.socket(fileno=3)
def step(name):
  s.sendall(name.encode() + b"\n"); s.recv(100)
step("up")
b = bytearray(b'x' * (60<<20)); step("heap +60")
del b; step("freed +0")
f = os.memfd_create("x"); os.write(f, b'x' * (60<<20)); step("memory file +60")
os.close(f); step("closed +0")
m = mmap.mmap(-1, 200<<20); step("mapped, not touched +0")
for n in range(0, 200<<20, 8192): m[n] = 1
step("every second page +100")
if os.fork() == 0:
  b = bytearray(b'x' * (60<<20)); step("child +160")
  os._exit(0)
os.wait(); step("child gone +100")
m.close(); step("unmapped +0")
f = open("/usr/bin/python3", "rb"); x = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); x[:]; x.close(); step("file of the host read +0")
g = open("/tmp/x", "wb"); g.write(b'x' * (50<<20)); g.flush(); step("/tmp written +0")
`

func TestMemoryOfAContainerIsWhatItsProcessesHold(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 1024})
	conn, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/python3", "-c", taker)
	if got := line(t, r); got != "up" {
		t.Fatal(got)
	}
	before := memoryMB(t, i, "c-1")
	const slack = 16 // MiB: copies, freed pages that are kept, a child's copies of pages it writes to
	for range 11 {
		fmt.Fprintln(conn, "next")
		name, plus, _ := strings.Cut(line(t, r), "+")
		var want int64
		if _, err := fmt.Sscan(plus, &want); err != nil {
			t.Fatal(name, plus, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		for {
			got := memoryMB(t, i, "c-1") - before
			if got >= want-2 && got <= want+slack {
				t.Logf("%s: %d MiB more", name, got)
				break
			}
			select {
			case <-time.After(20 * time.Millisecond):
				continue
			case <-ctx.Done():
				t.Errorf("%s: %d MiB more, want %d", name, got, want)
			}
			break
		}
		cancel()
	}
}

func TestASandboxThatDoesNotAnswerIsAnErrorAndNotNothing(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{})
	_, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/python3", "-c", taker)
	line(t, r)
	if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	if err := syscall.Kill(i.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { // with the driver's own bound
			if m, err := i.ContainerMemory(context.WithoutCancel(t.Context())); lambent.KindOf(err) != lambent.KindUnavailable || m != nil {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
	all.Wait()
	if err := syscall.Kill(i.PID(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("it goes on, and tells %v, %v", m, err)
	}
	if err := syscall.Kill(i.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if m, err := i.ContainerMemory(ended); err == nil {
		t.Errorf("%v", m)
	}
	if err := i.Destroy(t.Context()); err != nil { // and is not held up by the question
		t.Error(err)
	}
}

func TestSecurityCodeThatUsesUpTheCPUShareCannotKeepMemoryFromBeingTold(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 1024})
	_, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/python3", "-c", `
import os, socket
s = socket.socket(fileno=3)
for n in range(40):
  if os.fork() == 0:
    while True: pass
s.sendall(b"up\n"); s.recv(1)`)
	line(t, r)
	bound := sandbox.Limits{MemoryMB: 1024, CPUs: 0.1}
	if err := i.SetLimits(bound); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 1 {
			t.Errorf("%v, %v", m, err)
		}
	}
	before, err := i.Usage() // and the bound is in force again
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	after, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	if used := after.CPUTime - before.CPUTime; d.Capabilities().CPULimits && used > 500*time.Millisecond {
		t.Errorf("a second at a tenth of a CPU used %v", used)
	}
}

func TestSecurityCodeInsideCannotLeaveItsAccount(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 512})
	// As root of a user namespace of its own it mounts groups, makes one, and tries
	// to move to it, or out of its own.
	conn, r := dialogue(t, newContainer(t, i, "c-1"), "/usr/bin/python3", "-c", `
import ctypes, os, socket
s = socket.socket(fileno=3)
libc = ctypes.CDLL(None, use_errno=True)
found = []
if libc.unshare(0x10000000 | 0x00020000) == 0: # user and mount namespace
  for kind, data in ((b"cgroup", b"memory"), (b"cgroup", b"all"), (b"cgroup", b"pids"), (b"cgroup", b"cpuset,memory"), (b"cgroup", b"memory,name=x"), (b"cgroup2", None)):
    os.makedirs("/tmp/m", exist_ok=True)
    if libc.mount(b"none", b"/tmp/m", kind, 0, data) != 0: continue
    if kind == b"cgroup": found.append("mounted %s" % data)
    for what in ("mkdir", "cgroup.procs", "tasks", "memory.max", "pids.max", "cgroup.subtree_control", "cgroup.kill"):
      try:
        if what == "mkdir": os.mkdir("/tmp/m/mine")
        else: open("/tmp/m/" + what, "w").write("+memory" if "subtree" in what else "1")
        found.append(what)
      except OSError: pass
    libc.umount2(b"/tmp/m", 2)
for p in ("/lambent/own", "/lambent/own/cgroup"):
  try: found.append(str(os.listdir(p)))
  except OSError: pass
s.sendall(("BREACH " + ",".join(found) if found else "none").encode() + b"\n"); s.recv(100)
b = bytearray(b'x' * (60<<20))
s.sendall(b"taken\n"); s.recv(100)
`)
	if got := line(t, r); got != "none" {
		t.Error(got)
	}
	before := memoryMB(t, i, "c-1")
	fmt.Fprintln(conn, "go")
	line(t, r)
	for deadline := time.Now().Add(time.Minute); memoryMB(t, i, "c-1") < before+58; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("60 MiB taken, %d seen", memoryMB(t, i, "c-1")-before)
		}
	}
}

// crowd has as many threads as it may, ignores signals, and says how many; then
// goes on trying.
const crowd = `
import threading, signal, socket, os
s = socket.socket(fileno=3)
for n in range(1, 65):
  try: signal.signal(n, signal.SIG_IGN)
  except (OSError, ValueError): pass
threading.stack_size(65536)
n = 0
try:
  while n < 3000:
    threading.Thread(target=threading.Event().wait, daemon=True).start(); n += 1
except RuntimeError: pass
s.sendall(b"%d\n" % n)
while True:
  try:
    if os.fork() == 0: os._exit(0)
  except OSError: pass
`

func TestAContainerAtItsProcessLimitHarmsNoSiblingAndIsDestroyed(t *testing.T) {
	var dir string
	d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 1024})
	sibling := newContainer(t, i, "c-sibling")
	life := func(n int) {
		id := lambent.ContainerID(fmt.Sprintf("c-%d", n))
		c := newContainer(t, i, string(id))
		conn, r := dialogue(t, c, "/usr/bin/python3", "-c", crowd)
		defer conn.Close()
		var threads int
		if _, err := fmt.Sscan(line(t, r), &threads); err != nil || threads < 500 || threads >= 1024 {
			t.Errorf("it has %d threads, %v", threads, err)
		}
		if out, exit := run(t, sibling, "/bin/sh", "-c", "for k in 1 2 3 4 5 6 7 8; do /bin/true & done; wait; echo here"); out != "here\n" || exit.Code != 0 {
			t.Errorf("the sibling: %q, %+v", out, exit)
		}
		if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 2 || m["c-sibling"] > 32<<20 {
			t.Errorf("%v, %v", m, err)
		}
		if err := c.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
		if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 1 {
			t.Errorf("%v, %v", m, err)
		}
	}
	life(0)
	before := take(t, dir)
	for n := range 3 {
		life(n + 1)
	}
	wantSame(t, dir, before)
}

// wantSame waits for the count to be as before: what has done all its work may
// still be seen for a moment.
func wantSame(t *testing.T, dir string, before count) {
	t.Helper()
	var after count
	for range 200 {
		if after = take(t, dir); after == before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("before %+v, after %+v", before, after)
}

func TestTenContainersMadeAndDestroyedFiveTimesLeaveNothingInTheirInstance(t *testing.T) {
	var dir string
	d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	i := startInstance(t, d, "i-1", sandbox.Limits{MemoryMB: 1024})
	sibling := newContainer(t, i, "c-sibling")
	conn, r := dialogue(t, sibling, "/usr/bin/node", "-e", nodeWaiting)
	line(t, r)
	round := func(n int) {
		var all sync.WaitGroup
		for k := range 10 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				c, err := i.NewContainer(ctx, sandbox.ContainerSpec{ID: lambent.ContainerID(fmt.Sprintf("c-%d-%d", n, k)), EphemeralMB: 16})
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					if _, err := c.Exec(ctx, sandboxtest.ShellCommand(sandboxtest.Sleep)); err != nil {
						t.Error(err)
					}
				}
				if err := c.Attach(sandbox.TaskDir, "/usr/share"); err != nil {
					t.Error(err)
				}
				if err := c.Destroy(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	round(0) // what is made once
	before, files := take(t, dir), left(t, dir)
	u, err := i.Usage()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		round(n + 1)
	}
	wantSame(t, dir, before)
	if now := left(t, dir); len(now) != len(files) { // the instance's own and the sibling's
		t.Errorf("left before: %s\nand after: %s", files, now)
	}
	if m, err := i.ContainerMemory(t.Context()); err != nil || len(m) != 1 {
		t.Errorf("%v, %v", m, err)
	}
	if now, err := i.Usage(); err != nil || now.MemoryBytes > u.MemoryBytes+16<<20 {
		t.Errorf("memory %d MiB before, %d after, %v", u.MemoryBytes>>20, now.MemoryBytes>>20, err)
	}
	fmt.Fprintln(conn, "load")
	if got := line(t, r); !strings.HasPrefix(got, "Cannot find module") {
		t.Errorf("the sibling says %q", got)
	}
}
