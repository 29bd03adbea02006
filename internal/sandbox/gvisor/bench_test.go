package gvisor_test

import (
	"fmt"
	"testing"

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
