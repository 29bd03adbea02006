package cgroup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// These tests use this machine's own cgroups, of whatever version each
// controller sits on, and so need root.

// kernelTree opens a tree of this test's own.
func kernelTree(t testing.TB) *Tree {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("cgroups can be tried by root only: run the tests as root")
	}
	tree, err := Open(Options{Name: fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano())})
	if err != nil {
		t.Fatal(err)
	}
	if w := tree.Weaker(); len(w) > 0 {
		t.Log(tree, w)
	}
	t.Cleanup(func() {
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		for _, d := range tree.dirs {
			if exists(d.path) {
				t.Errorf("%s is left", d.path)
			}
		}
	})
	return tree
}

func newGroup(t testing.TB, tree *Tree, name string) *Group {
	t.Helper()
	g, err := tree.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := g.Kill(ctx); err != nil {
			t.Error(err)
		}
		if err := g.Remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return g
}

// startIn starts a shell script in g; it begins when it is in.
func startIn(t testing.TB, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "read go; "+script)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := g.Join(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestMemoryOverItsBoundIsKilledAndCounted(t *testing.T) {
	g := newGroup(t, kernelTree(t), "g")
	if err := g.SetMemory(16 << 20); err != nil {
		t.Fatal(err)
	}
	events, err := g.WatchOOM()
	if err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, g, "exec dd if=/dev/zero of=/dev/null bs=64M count=1")
	if events != nil {
		defer events.Close()
		if n, err := events.Read(make([]byte, 8)); n != 8 || err != nil {
			t.Errorf("event: %d bytes, %v", n, err)
		}
		if starved, err := g.Starved(); !starved || err != nil {
			t.Errorf("starved %v, %v", starved, err)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process ended in peace")
	}
	u, err := g.Usage()
	if err != nil || u.OOMKills == 0 || (u.Peak != 0 && (u.Peak < 8<<20 || u.Peak > 17<<20)) {
		t.Errorf("%+v, %v", u, err)
	}
	if kills, err := g.OOMKills(); err != nil || kills != u.OOMKills {
		t.Errorf("%d kills, %v", kills, err)
	}
}

func TestAGroupIsNotStarvedWhenOnlyTheOneAboveIsOutOfMemory(t *testing.T) {
	tree := kernelTree(t)
	eater, bystander := newGroup(t, tree, "eater"), newGroup(t, tree, "bystander")
	for _, g := range []*Group{eater, bystander} {
		if err := g.SetMemory(1 << 30); err != nil {
			t.Fatal(err)
		}
	}
	above := &Group{name: "above", tree: tree, dirs: nil}
	for _, d := range tree.dirs {
		above.dirs = append(above.dirs, d.path)
	}
	if err := above.SetMemory(32 << 20); err != nil {
		t.Fatal(err)
	}
	watch, err := bystander.WatchOOM()
	if err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, eater, "exec dd if=/dev/zero of=/dev/null bs=64M count=1")
	if watch != nil { // version 1 tells all below
		defer watch.Close()
		if _, err := watch.Read(make([]byte, 8)); err != nil {
			t.Error(err)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the eater ended in peace")
	}
	for g, want := range map[*Group]bool{eater: true, bystander: false} {
		if got, err := g.Starved(); got != want || err != nil {
			t.Errorf("%s: starved %v, %v", g.name, got, err)
		}
	}
}

func TestMemoryBoundCanBeRaisedAndLowered(t *testing.T) {
	g := newGroup(t, kernelTree(t), "g")
	for _, bytes := range []int64{64 << 20, 128 << 20, 32 << 20, 0, 64 << 20} {
		if err := g.SetMemory(bytes); err != nil {
			t.Errorf("%d: %v", bytes, err)
		}
	}
}

func TestCPUBoundHoldsInAnyOrderOfChanges(t *testing.T) {
	g := newGroup(t, kernelTree(t), "g")
	for _, cpus := range []float64{1, 0.01, 4, 0.5, 0, 2, 0.001, 0.1} {
		if err := g.SetCPU(cpus); err != nil {
			t.Fatalf("%v CPUs: %v", cpus, err)
		}
	}
	if err := g.SetCPU(-1); err == nil {
		t.Error("a negative bound was taken")
	}
	began := time.Now()
	cmd := startIn(t, g, "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done") // some 100 ms of CPU time
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	elapsed := time.Since(began)
	u, err := g.Usage()
	// The kernel's promise: a tenth of the time that went by, and two periods'
	// share that were saved up.
	if bound := elapsed/10 + 2*period; err != nil || u.CPUTime > bound || u.CPUTime == 0 {
		t.Errorf("used %v of %v: %v", u.CPUTime, elapsed, err)
	}
}

func TestProcessesOverTheirBoundCannotBeForked(t *testing.T) {
	tree := kernelTree(t)
	if !tree.Has(Pids) {
		t.Fatalf("no pids controller: %v", tree.Weaker())
	}
	g := newGroup(t, tree, "g")
	if err := g.SetPids(3); err != nil {
		t.Fatal(err)
	}
	cmd := startIn(t, g, "sleep 60 & sleep 60 & sleep 60 & sleep 60 & wait")
	if err := cmd.Wait(); err == nil {
		t.Error("four children were forked where there is room for two")
	}
}

func TestKillEndsEverythingAndRemoveLeavesNothing(t *testing.T) {
	tree := kernelTree(t)
	g := newGroup(t, tree, "g")
	cmd := startIn(t, g, "(while :; do (sleep 60 &) ; sleep 0.01; done) & exec sleep 60")
	for {
		pids, err := g.Pids()
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) > 10 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := g.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // our child; the others' parent is gone, and init reaps them
	if err := g.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	for _, d := range g.dirs {
		if exists(d) {
			t.Errorf("%s is left", d)
		}
	}
	if err := g.Remove(t.Context()); err != nil {
		t.Errorf("removing twice: %v", err)
	}
}

func TestKillRefusesToKillItself(t *testing.T) {
	tree, own := fakeTree(t, V1, []Controller{Memory})
	g, err := tree.New("g")
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(own, "lambent-x", "g", "cgroup.procs"), fmt.Sprintln(os.Getpid()))
	if err := g.Kill(t.Context()); err == nil || !strings.Contains(err.Error(), "this one") {
		t.Error(err)
	}
}

func TestSweepRemovesWhatAnEarlierProcessLeft(t *testing.T) {
	tree := kernelTree(t)
	for _, name := range []string{"a", "b", "c"} {
		g, err := tree.New(name)
		if err != nil {
			t.Fatal(err)
		}
		startIn(t, g, "exec sleep 60")
	}
	if _, err := tree.New("a"); err == nil {
		t.Error("a group was made twice")
	}
	again := &Tree{dirs: tree.dirs, by: tree.by}
	// The killed are this process's children and stay zombies, which leave their
	// groups all the same.
	if n, err := again.Sweep(t.Context()); n != 3 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := again.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("swept %d, %v the second time", n, err)
	}
}

func BenchmarkSetCPU(b *testing.B) {
	g := newGroup(b, kernelTree(b), "g")
	for n := range b.N {
		if err := g.SetCPU(0.5 + float64(n%2)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetMemory(b *testing.B) {
	g := newGroup(b, kernelTree(b), "g")
	for n := range b.N {
		if err := g.SetMemory(int64(128+n%2) << 20); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUsage(b *testing.B) {
	g := newGroup(b, kernelTree(b), "g")
	for range b.N {
		if _, err := g.Usage(); err != nil {
			b.Fatal(err)
		}
	}
}
