package host_test

import (
	"context"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

// A container that failed is busy until it is stopped, and its instance may be
// gone before: to bound that would fail, fifty times a second.
func TestAContainerThatFailedIsNotHeldToLimitsAnyMore(t *testing.T) {
	t.Parallel()
	f := hosttest.New(t, fake.Options{})
	start := func(fn *lambent.Function) (*host.Instance, *host.Container) {
		t.Helper()
		i, err := f.Host.Start(t.Context(), 2048)
		if err == nil {
			t.Cleanup(func() {
				if err := i.Destroy(context.Background()); err != nil {
					t.Error(err)
				}
			})
			err = i.Assign(lambent.DefaultAccount)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := i.Boot(t.Context(), host.Boot{Runtime: hosttest.Node(), EphemeralMB: 512})
		if err == nil {
			_, err = c.Load(t.Context(), fn, 10*time.Second, host.OnDemand)
		}
		if err != nil {
			t.Fatal(err)
		}
		return i, c
	}
	bounded := func(i *host.Instance) bool {
		t.Helper()
		limits, err := f.Driver.Limits(i.ID())
		if err != nil {
			t.Fatal(err)
		}
		return limits[len(limits)-1].CPUs > 0
	}
	event := &host.Event{RequestID: "r", Payload: []byte("{}"), Timeout: time.Minute}

	failed, c := start(hosttest.Function("failing", "exit 1"))
	if _, err := c.Invoke(event); err == nil {
		t.Fatal("a runtime that ended has answered")
	}
	// Another one, as a clock: when it is held, the watch has also looked at the
	// one that failed, long enough after its beginning.
	works, other := start(hosttest.Function("working", "wait done"))
	ended := make(chan error, 1)
	go func() { _, err := other.Invoke(event); ended <- err }()
	hosttest.Eventually(t, "the invocation that goes on is held to its share", func() bool { return bounded(works) })
	f.Open("done")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if bounded(failed) {
		t.Error("the instance of the container that failed was bounded anew")
	}
}
