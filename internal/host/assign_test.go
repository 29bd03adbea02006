package host_test

import (
	"errors"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

// A start may reach its instance when that is being destroyed already, as at the
// server's end.
func TestAnInstanceThatIsBeingDestroyedIsGivenToNobody(t *testing.T) {
	t.Parallel()
	f := hosttest.New(t, fake.Options{})
	i, err := f.Host.Start(t.Context(), 1024)
	if err != nil {
		t.Fatal(err)
	}
	f.Driver.Script(fake.Fault{Op: fake.OpDestroy, Delay: 100 * time.Millisecond})
	destroyed := make(chan error)
	go func() { destroyed <- i.Destroy(t.Context()) }()
	hosttest.Eventually(t, "it is being destroyed", func() bool { return f.Driver.Count(fake.OpDestroy) == 1 })
	if err := i.Assign(lambent.DefaultAccount); err == nil {
		t.Error("it is given away while it is destroyed")
	}
	if err := errors.Join(<-destroyed, i.Assign(lambent.DefaultAccount)); err == nil {
		t.Error("it is given away when it is gone")
	}
}
