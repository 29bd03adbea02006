package gvisor_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
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

func TestTheDriverKeepsTheContract(t *testing.T) {
	dirs := map[sandbox.Driver]string{}
	sandboxtest.Run(t, func(t *testing.T) sandbox.Driver {
		var dir string
		d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
		dirs[d] = dir
		return d
	}, sandboxtest.Options{Left: func(t *testing.T, d sandbox.Driver) string { return left(t, dirs[d]) }})
}

// left tells what a driver in dir has left of its instances.
func left(t testing.TB, dir string) string {
	t.Helper()
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	for _, p := range processes(t) {
		if p.parent == os.Getpid() && p.state == "Z" {
			add("zombie %d", p.pid)
		}
		if strings.Contains(p.command, "--root="+dir+"/") {
			add("process %d: %.60s", p.pid, p.command)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, " "+dir+"/run/i/") {
			add("mount %s", line)
		}
	}
	for _, sub := range []string{"run/i", "run/s", "scratch"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "null-netns" { // shared by all gofers, until Close
				add("file %s/%s", sub, e.Name())
			}
		}
	}
	for _, g := range groups(t, dir) {
		add("cgroup %s", g)
	}
	return strings.Join(found, ", ")
}

// groups lists the cgroups of instances of a driver in dir.
func groups(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && filepath.Base(filepath.Dir(path)) == "lambent-"+gvisor.TreeName(dir) {
			found = append(found, path)
		}
		return nil // gone meanwhile is fine
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

type hostProcess struct {
	pid, parent    int
	state, command string
}

// processes lists the host's processes. proc_pid_stat(5).
func processes(t testing.TB) []hostProcess {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all []hostProcess
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		parent, _ := strconv.Atoi(fields[1])
		command, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		all = append(all, hostProcess{pid, parent, fields[0], strings.ReplaceAll(string(command), "\x00", " ")})
	}
	return all
}

// count is what must be the same before and after.
type count struct{ processes, zombies, mounts, netns, goroutines, descriptors int }

// take counts what the driver in dir and this process hold.
func take(t testing.TB, dir string) count {
	t.Helper()
	runtime.GC() // closes files nobody holds, were there any
	var c count
	spaces := map[string]bool{}
	for _, p := range processes(t) {
		ours := strings.HasPrefix(p.command, "runsc-") && strings.Contains(p.command, "--root="+dir+"/")
		if ours {
			c.processes++
		}
		if p.parent == os.Getpid() && p.state == "Z" {
			c.zombies++
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.pid)); err == nil && ours {
			spaces[ns] = true
		}
	}
	c.netns = len(spaces)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	c.mounts = strings.Count(string(mounts), " "+dir+"/")
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	c.descriptors, c.goroutines = len(fds), runtime.NumGoroutine()
	return c
}

func TestTwentyInstancesHoweverTheyEndLeaveNothing(t *testing.T) {
	var dir string
	d := openDriver(t, func(o *gvisor.Options) { dir = o.Dir })
	life := func(n int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		i, err := d.Start(ctx, sandbox.InstanceSpec{ID: lambent.InstanceID(fmt.Sprintf("i-%d", n)), Limits: sandbox.Limits{MemoryMB: 256, CPUs: 1}})
		if err != nil {
			return err
		}
		var cs []sandbox.Container
		for k := range 2 {
			c, err := i.NewContainer(ctx, sandbox.ContainerSpec{ID: lambent.ContainerID(fmt.Sprintf("c-%d-%d", n, k)), EphemeralMB: 16})
			if err != nil {
				return err
			}
			cs = append(cs, c)
		}
		p, err := cs[0].Exec(ctx, sandboxtest.ShellCommand(sandboxtest.Sleep))
		if err != nil {
			return err
		}
		switch n % 4 {
		case 0: // in order
			if err := cs[0].Destroy(ctx); err != nil {
				return err
			}
		case 1: // the sandbox is killed
			if err := syscall.Kill(i.PID(), syscall.SIGKILL); err != nil {
				return err
			}
			<-i.Done()
			if i.Cause() == nil {
				return fmt.Errorf("instance %d was killed for no cause", n)
			}
		case 2: // the gofers are killed
			for _, h := range processes(t) {
				if strings.HasPrefix(h.command, "runsc-gofer") && strings.Contains(h.command, fmt.Sprintf("c-%d-", n)) {
					if err := syscall.Kill(h.pid, syscall.SIGKILL); err != nil {
						return err
					}
				}
			}
		case 3: // everything is destroyed at once, from several sides
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() { _ = i.Destroy(ctx) })
				all.Go(func() { _ = cs[0].Destroy(ctx) })
			}
			all.Wait()
		}
		if err := i.Destroy(ctx); err != nil {
			return err
		}
		if exit, err := p.Wait(ctx); err != nil || exit.Signal != int(syscall.SIGKILL) {
			return fmt.Errorf("process of instance %d: %+v, %v", n, exit, err)
		}
		return nil
	}
	if err := life(0); err != nil { // what is made once
		t.Fatal(err)
	}
	before := take(t, dir)
	for n := 1; n <= 20; n += 4 {
		var all sync.WaitGroup
		for k := range 4 {
			all.Go(func() {
				if err := life(n + k); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	// A goroutine that has done all its work may still be seen for a moment.
	var after count
	for range 100 {
		if after = take(t, dir); after == before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if after != before {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if l := left(t, dir); l != "" {
		t.Errorf("left: %s", l)
	}
}
