package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeTree is a tree on plain files that are laid out as the kernel would: what
// is written can be read back, and what would be counted is made up.
func fakeTree(t *testing.T, v Version, controllers []Controller) (*Tree, string) {
	t.Helper()
	own := t.TempDir()
	for _, f := range []string{"cgroup.procs", "cgroup.subtree_control"} {
		put(t, filepath.Join(own, f), "")
	}
	put(t, filepath.Join(own, "lambent-x", "cgroup.subtree_control"), "")
	tree, err := openIn([]hierarchy{{v, controllers, own, true}}, Options{Mode: ModeAuto, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	return tree, own
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestVersion2WritesItsControlFiles(t *testing.T) {
	tree, own := fakeTree(t, V2, []Controller{Memory, CPU, Pids})
	if len(tree.Weaker()) != 0 || !tree.Has(CPUAcct) {
		t.Errorf("weaker %q, counts CPU %v", tree.Weaker(), tree.Has(CPUAcct))
	}
	g, err := tree.New("g")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(own, "lambent-x", "g")
	for _, f := range []string{"memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.max.burst", "pids.max", "cgroup.procs"} {
		put(t, filepath.Join(dir, f), "")
	}
	put(t, filepath.Join(dir, "memory.stat"), "anon 11\nfile 5\nshmem 22\n")
	put(t, filepath.Join(dir, "memory.peak"), "33\n")
	put(t, filepath.Join(dir, "memory.events"), "oom 2\noom_kill 1\noom_group_kill 1\n")
	put(t, filepath.Join(dir, "cpu.stat"), "usage_usec 44\nuser_usec 40\n")
	for _, err := range []error{g.SetMemory(1 << 20), g.SetCPU(0.5), g.SetPids(7), g.Join(99)} {
		if err != nil {
			t.Error(err)
		}
	}
	got := map[string]string{}
	for _, f := range []string{"memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.max.burst", "pids.max", "cgroup.procs"} {
		got[f] = get(t, filepath.Join(dir, f))
	}
	want := map[string]string{"memory.max": "1048576", "memory.swap.max": "0", "memory.oom.group": "1", "cpu.max": "10000 20000",
		"cpu.max.burst": "10000", "pids.max": "7", "cgroup.procs": "99"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	u, err := g.Usage()
	if diff := cmp.Diff(Usage{Anon: 11, Shmem: 22, Peak: 33, CPUTime: 44 * time.Microsecond, OOMKills: 1}, u); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, err := range []error{g.SetMemory(0), g.SetCPU(0), g.SetPids(0)} {
		if err != nil {
			t.Error(err)
		}
	}
	if m, c, p := get(t, filepath.Join(dir, "memory.max")), get(t, filepath.Join(dir, "cpu.max")), get(t, filepath.Join(dir, "pids.max")); !strings.HasPrefix(m, "max") || !strings.HasPrefix(c, "max 20000") || !strings.HasPrefix(p, "max") {
		t.Errorf("no bound is %q, %q, %q", m, c, p)
	}
	if f, err := g.WatchOOM(); f != nil || err != nil {
		t.Errorf("WatchOOM: %v, %v", f, err)
	}
}

func TestVersion2MovesTheServerIntoALeafWhereItsGroupIsNotTheRoot(t *testing.T) {
	own := t.TempDir()
	put(t, filepath.Join(own, "cgroup.procs"), "41\n42\n")
	put(t, filepath.Join(own, "cgroup.subtree_control"), "")
	put(t, filepath.Join(own, serverLeaf, "cgroup.procs"), "")
	put(t, filepath.Join(own, "lambent-x", "cgroup.subtree_control"), "")
	tree, err := openIn([]hierarchy{{V2, []Controller{Memory}, own, false}}, Options{Mode: ModeAuto, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if !tree.Has(Memory) {
		t.Errorf("memory is not bounded: %q", tree.Weaker())
	}
	if got := get(t, filepath.Join(own, serverLeaf, "cgroup.procs")); got != "42" { // the last write: the kernel adds, a file is overwritten
		t.Errorf("moved %q", got)
	}
}

func TestOpenSaysWhatItCannotBound(t *testing.T) {
	own := filepath.Join(t.TempDir(), "gone")
	tree, err := openIn([]hierarchy{{V1, []Controller{Memory}, own, true}}, Options{Mode: ModeAuto, Name: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Has(Memory) || len(tree.Weaker()) != 4 { // the folder, and three bounds
		t.Errorf("%q", tree.Weaker())
	}
	for _, mode := range []Mode{ModeV1, ModeV2} {
		other := V1
		if mode == ModeV1 {
			other = V2
		}
		tree, err := openIn([]hierarchy{{other, []Controller{Memory}, t.TempDir(), true}}, Options{Mode: mode, Name: "x"})
		if err != nil || tree.Has(Memory) {
			t.Errorf("mode %s used a hierarchy of version %d: %v", mode, other, err)
		}
	}
}
