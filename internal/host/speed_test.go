package host_test

import (
	"sync"
	"testing"
	"time"

	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

// An invocation that lasts is held to its share of the CPU when it has computed,
// not when it has waited: for the network, or for its turn among others.
func TestAnInvocationIsHeldToItsShareForComputingAndNotForWaiting(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	inst, err := f.Host.Start(t.Context(), 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := inst.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	fn := hosttest.Function("patient", "wait gate")
	if err := inst.Assign(fn.Account); err != nil {
		t.Fatal(err)
	}
	c, err := inst.Boot(t.Context(), host.Boot{Runtime: hosttest.Node(), EphemeralMB: fn.EphemeralMB})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load(t.Context(), fn, time.Minute, host.OnDemand); err != nil {
		t.Fatal(err)
	}
	spend := func(cpu time.Duration) {
		if err := f.Driver.SetUsage(inst.ID(), sandbox.Usage{CPUTime: cpu}); err != nil {
			t.Fatal(err)
		}
	}
	held := func() bool {
		limits, err := f.Driver.Limits(inst.ID())
		if err != nil {
			t.Fatal(err)
		}
		return limits[len(limits)-1].CPUs == fn.Key().Size.CPUShare()
	}
	looks := func() (n int) {
		for _, call := range f.Driver.Calls() {
			if call.Op == fake.OpUsage {
				n++
			}
		}
		return n
	}

	spend(time.Millisecond)
	var calls sync.WaitGroup
	calls.Go(func() {
		if _, err := c.Invoke(&host.Event{RequestID: "r", Timeout: time.Minute}); err != nil {
			t.Error(err)
		}
	})
	defer calls.Wait()
	defer f.Open("gate")
	before := looks()
	hosttest.Eventually(t, "the invocation was looked at often", func() bool { return looks() > before+6 })
	if held() {
		t.Error("an invocation that has only waited is held to its share")
	}
	spend(time.Second)
	hosttest.Eventually(t, "an invocation that has computed is held to its share", held)
}
