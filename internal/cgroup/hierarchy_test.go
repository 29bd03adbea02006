package cgroup

import (
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDetectFindsWhereEachControllerSits(t *testing.T) {
	const v2only = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
	hybrid := "30 28 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n" +
		"31 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n" +
		"32 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
		"33 30 0:30 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n" +
		"34 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
		"36 30 0:32 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
	all := []Controller{Memory, CPU, Pids}
	for name, c := range map[string]struct {
		mounts, own string
		offered     map[string]string // cgroup.controllers by path
		want        []hierarchy
		wantErr     bool
	}{
		"version 2 alone, in the root": {
			mounts: v2only, own: "0::/\n",
			offered: map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n"},
			want:    []hierarchy{{V2, all, "/sys/fs/cgroup", true}},
		},
		"version 2 alone, in a service": {
			mounts: v2only, own: "0::/system.slice/lambent.service\n",
			offered: map[string]string{"/sys/fs/cgroup/system.slice/lambent.service/cgroup.controllers": "cpu memory pids\n"},
			want:    []hierarchy{{V2, all, "/sys/fs/cgroup/system.slice/lambent.service", false}},
		},
		"version 2 alone, in the leaf an earlier start has made": {
			mounts: v2only, own: "0::/system.slice/lambent.service/lambent-server\n",
			offered: map[string]string{"/sys/fs/cgroup/system.slice/lambent.service/cgroup.controllers": "cpu memory pids\n"},
			want:    []hierarchy{{V2, all, "/sys/fs/cgroup/system.slice/lambent.service", false}},
		},
		"version 2 not readable": {
			mounts: v2only, own: "0::/elsewhere\n", want: nil,
		},
		"version 2 in a container that sees its own part as the root": {
			mounts: "35 24 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n", own: "0::/docker/abc\n",
			offered: map[string]string{"/sys/fs/cgroup/cgroup.controllers": "memory\n"},
			want:    []hierarchy{{V2, []Controller{Memory}, "/sys/fs/cgroup", true}},
		},
		"hybrid": {
			mounts: hybrid, own: "5:pids:/\n4:memory:/a b\n3:cpu,cpuacct:/\n2:name=systemd:/x\n1:name=other:/\n0::/\n",
			offered: map[string]string{"/sys/fs/cgroup/unified/cgroup.controllers": "\n"},
			want: []hierarchy{
				{V2, nil, "/sys/fs/cgroup/unified", true},
				{V1, []Controller{Memory}, "/sys/fs/cgroup/memory/a b", false},
				{V1, []Controller{CPU, CPUAcct}, "/sys/fs/cgroup/cpu,cpuacct", true},
				{V1, []Controller{Pids}, "/sys/fs/cgroup/pids", true},
			},
		},
		"the same hierarchy mounted twice": {
			mounts: "33 30 0:30 / /a rw - cgroup cgroup rw,memory\n34 30 0:30 / /b\\040c rw - cgroup cgroup rw,memory\n", own: "4:memory:/\n",
			want: []hierarchy{{V1, []Controller{Memory}, "/a", true}},
		},
		"a mount point with a space": {
			mounts: "34 30 0:30 / /b\\040c rw - cgroup cgroup rw,memory\n", own: "4:memory:/\n",
			want: []hierarchy{{V1, []Controller{Memory}, "/b c", true}},
		},
		"nothing mounted":        {mounts: "1 1 0:1 / / rw - ext4 /dev/vda rw\n", own: "0::/\n"},
		"an unexpected own file": {mounts: v2only, own: "what\n", wantErr: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := detect([]byte(c.mounts), []byte(c.own), func(path string) ([]byte, error) {
				text, ok := c.offered[path]
				if !ok {
					return nil, fs.ErrNotExist
				}
				return []byte(text), nil
			})
			if (err != nil) != c.wantErr {
				t.Fatalf("error %v", err)
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOpenRefusesNamesThatLeaveTheTree(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b", "a b", "a\n", "ä", string(make([]byte, 65))} {
		if _, err := Open(Options{Name: name}); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	if _, err := Open(Options{Name: "x", Mode: "v3"}); err == nil {
		t.Error("mode v3 was taken")
	}
}

func TestWithoutCgroupsNothingIsBoundedAndThatIsSaid(t *testing.T) {
	tree, err := Open(Options{Name: "x", Mode: ModeNone})
	if err != nil {
		t.Fatal(err)
	}
	if tree.Has(Memory) || tree.Has(CPU) || len(tree.Weaker()) != 1 {
		t.Errorf("%v %v %q", tree.Has(Memory), tree.Has(CPU), tree.Weaker())
	}
	g, err := tree.New("g")
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{"memory": g.SetMemory(1), "cpu": g.SetCPU(1), "pids": g.SetPids(1), "join": g.Join(1),
		"kill": g.Kill(t.Context()), "remove": g.Remove(t.Context()), "close": tree.Close()} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if u, err := g.Usage(); err != nil || u != (Usage{}) {
		t.Errorf("%+v, %v", u, err)
	}
}
