package gvisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
)

// spec numbers instances over all benchmarks of a run.
func benchSpec(n int) sandbox.InstanceSpec {
	return sandbox.InstanceSpec{ID: lambent.InstanceID(fmt.Sprintf("i-%d", n)), Limits: sandbox.Limits{MemoryMB: 1024}}
}

// reportOwn reports gVisor's own memory: what allowanceMB is for.
func reportOwn(b *testing.B, i sandbox.Instance, name string) {
	b.Helper()
	u, err := gvisor.GroupUsage(i)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(u.Anon)/(1<<20), name)
}

func BenchmarkStart(b *testing.B) {
	d := openDriver(b)
	for n := 0; b.Loop(); n++ {
		i, err := d.Start(b.Context(), benchSpec(n))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		reportOwn(b, i, "own-MiB")
		if err := i.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkDestroy(b *testing.B) {
	d := openDriver(b)
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		i, err := d.Start(b.Context(), benchSpec(n))
		if err != nil {
			b.Fatal(err)
		}
		newContainer(b, i, fmt.Sprintf("c-%d", n))
		b.StartTimer()
		if err := i.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewContainer(b *testing.B) {
	d := openDriver(b)
	i := startInstance(b, d, "i-1", sandbox.Limits{})
	for n := 0; b.Loop(); n++ {
		c := newContainer(b, i, fmt.Sprintf("c-%d", n))
		b.StopTimer()
		if err := c.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkContainerUntilNodeIsUp is a container with a Node in an instance that
// runs already.
func BenchmarkContainerUntilNodeIsUp(b *testing.B) {
	d := openDriver(b)
	i := startInstance(b, d, "i-1", sandbox.Limits{})
	for n := 0; b.Loop(); n++ {
		c := newContainer(b, i, fmt.Sprintf("c-%d", n))
		_, r := dialogue(b, c, "/usr/bin/node", "-e", nodeWaiting)
		line(b, r)
		b.StopTimer()
		if err := c.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkContainerMemory reads the memory of eight containers with a waiting
// Node: again and again, ten times a second, and when one of them has taken
// 4 MiB more each time.
func BenchmarkContainerMemory(b *testing.B) {
	for name, c := range map[string]struct {
		pause time.Duration
		grow  bool
	}{"busily": {}, "calm": {pause: 100 * time.Millisecond}, "growing": {pause: 100 * time.Millisecond, grow: true}} {
		b.Run(name, func(b *testing.B) {
			d := openDriver(b)
			i := startInstance(b, d, "i-1", sandbox.Limits{})
			for k := range 8 {
				_, r := dialogue(b, newContainer(b, i, fmt.Sprintf("c-%d", k)), "/usr/bin/node", "-e", nodeWaiting)
				line(b, r)
			}
			conn, r := dialogue(b, newContainer(b, i, "c-grow"), "/usr/bin/python3", "-c",
				"import socket\ns=socket.socket(fileno=3); a=[]\nwhile s.recv(1): a.append(b'x'*(4<<20)); s.sendall(b'ok\\n')")
			for b.Loop() {
				b.StopTimer()
				time.Sleep(c.pause)
				if c.grow {
					fmt.Fprint(conn, "g")
					line(b, r)
				}
				b.StartTimer()
				if _, err := i.ContainerMemory(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIdleNode is what a further waiting Node costs an instance, of eight:
// all the memory of its cgroup that cannot be reclaimed.
func BenchmarkIdleNode(b *testing.B) {
	const nodes = 8
	var dir string
	d := openDriver(b, func(o *gvisor.Options) { dir = o.Dir })
	var own, code, kernel int64
	rounds := 0
	for b.Loop() {
		rounds++
		id := fmt.Sprintf("i-%d", rounds)
		i := startInstance(b, d, id, sandbox.Limits{})
		boot := func(k int) {
			_, r := dialogue(b, newContainer(b, i, fmt.Sprintf("c-%d-%d", rounds, k)), "/usr/bin/node", "-e", nodeWaiting)
			line(b, r)
		}
		boot(0) // what is needed once
		before, err := gvisor.GroupUsage(i)
		if err != nil {
			b.Fatal(err)
		}
		kernelBefore := kernelMemory(b, dir)
		for k := range nodes {
			boot(k + 1)
		}
		after, err := gvisor.GroupUsage(i)
		if err != nil {
			b.Fatal(err)
		}
		own, code, kernel = own+after.Anon-before.Anon, code+after.Shmem-before.Shmem, kernel+kernelMemory(b, dir)-kernelBefore
		b.StopTimer()
		if err := i.Destroy(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	each := float64(rounds*nodes) * (1 << 20)
	b.ReportMetric(float64(own)/each, "own-MiB")
	b.ReportMetric(float64(code)/each, "code-MiB")
	b.ReportMetric(float64(kernel)/each, "kernel-MiB")
	b.ReportMetric(float64(own+code+kernel)/each, "MiB/node")
}

// kernelMemory is what the host's kernel holds for the instances of a driver in
// dir, page tables and the like; 0 where it does not say. A file of version 1.
func kernelMemory(b *testing.B, dir string) (bytes int64) {
	b.Helper()
	for _, g := range groups(b, dir) {
		text, err := os.ReadFile(filepath.Join(g, "memory.kmem.usage_in_bytes"))
		if err != nil {
			continue // another hierarchy, or another version
		}
		if _, err := fmt.Sscan(string(text), &bytes); err != nil {
			b.Fatal(err)
		}
	}
	return bytes
}

// BenchmarkContainersTogether is what containers of one instance cost it.
func BenchmarkContainersTogether(b *testing.B) {
	d := openDriver(b)
	i := startInstance(b, d, "i-1", sandbox.Limits{})
	for n := 0; b.Loop(); n++ {
		_, r := dialogue(b, newContainer(b, i, fmt.Sprintf("c-%d", n)), "/usr/bin/node", "-e", nodeWaiting)
		line(b, r)
	}
	reportOwn(b, i, "own-MiB")
	u, err := i.Usage()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(u.MemoryBytes)/(1<<20), "code-MiB")
}

func BenchmarkExecNodeUntilItIsUp(b *testing.B) {
	d := openDriver(b)
	c := newContainer(b, startInstance(b, d, "i-1", sandbox.Limits{}), "c-1")
	for b.Loop() {
		conn, r := dialogue(b, c, "/usr/bin/node", "-e", nodeWaiting)
		line(b, r)
		b.StopTimer()
		conn.Close()
		b.StartTimer()
	}
}

func BenchmarkSocketRoundTrip(b *testing.B) {
	d := openDriver(b)
	c := newContainer(b, startInstance(b, d, "i-1", sandbox.Limits{}), "c-1")
	conn, r := dialogue(b, c, "/usr/bin/python3", "-c", "import socket\ns=socket.socket(fileno=3)\nwhile True:\n  m=s.recv(100)\n  if not m: break\n  s.sendall(m)")
	for b.Loop() {
		fmt.Fprintln(conn, "ping")
		line(b, r)
	}
}

func BenchmarkSetLimits(b *testing.B) {
	d := openDriver(b)
	i := startInstance(b, d, "i-1", sandbox.Limits{MemoryMB: 256})
	for n := 0; b.Loop(); n++ {
		if err := i.SetLimits(sandbox.Limits{MemoryMB: 256, CPUs: 1 + float64(n%2)}); err != nil {
			b.Fatal(err)
		}
	}
}
