package host_test

import (
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

// What REPORT tells is what people choose their functions' sizes by: the most
// that was used, not what was left of it at the end, and not the first reading.
func TestTheMostMemoryAnExecutionUsedIsSeenOnASharedInstance(t *testing.T) {
	t.Parallel()
	f := hosttest.New(t, fake.Options{})
	i, err := f.Host.Start(t.Context(), 2048)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if err := i.Assign(lambent.DefaultAccount); err != nil {
		t.Fatal(err)
	}
	fn := hosttest.Function("roomy", "wait done")
	fn.MemoryMB, fn.TimeoutSecs = 1024, 60
	fn.ConfigHash = fn.HashConfig()
	c, err := i.Boot(t.Context(), host.Boot{Runtime: hosttest.Node(), EphemeralMB: 512})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Boot(t.Context(), host.Boot{Runtime: hosttest.Node(), EphemeralMB: 512}); err != nil { // the spare beside it
		t.Fatal(err)
	}
	use := func(mb int64) {
		t.Helper()
		for _, err := range []error{
			f.Driver.SetUsage(i.ID(), sandbox.Usage{MemoryBytes: (mb + 12) << 20}),
			f.Driver.SetContainerMemory(i.ID(), c.ID(), mb<<20),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	use(9)
	if _, err := c.Load(t.Context(), fn, 10*time.Second, host.OnDemand); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Invoke(&host.Event{RequestID: "r", Payload: []byte("{}"), Timeout: time.Minute})
		ended <- err
	}()
	hosttest.Eventually(t, "the memory at the beginning is seen", func() bool { return c.MaxMemoryUsed() >= 9 })
	readings := func() (n int) {
		for _, call := range f.Driver.Calls() {
			if call.Op == fake.OpContainerMemory {
				n++
			}
		}
		return n
	}
	for _, mb := range []int64{700, 702, 704} { // when the last is being read, the one before was seen
		use(mb)
		before := readings()
		hosttest.Eventually(t, "what has grown is read", func() bool { return readings() > before })
	}
	use(20)
	f.Open("done")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := c.MaxMemoryUsed(); got < 702 {
		t.Errorf("the most memory used is %d MB, want the 702 it had for a while", got)
	}
}
