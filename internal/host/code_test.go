package host_test

import (
	"testing"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

// A caller whose function has lost its code is not told that there is no such
// function.
func TestCodeThatIsMissingIsNoFunctionThatIsMissing(t *testing.T) {
	t.Parallel()
	f := hosttest.New(t, fake.Options{})
	fn := hosttest.Function("f", "echo")
	lost := f.Hold(fn.Code)
	prepared := make(chan error)
	go func() { prepared <- f.Host.Prepare(t.Context(), fn) }()
	lost(&lambent.Error{Op: "get blob", Kind: lambent.KindNotFound})
	if err := <-prepared; lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("got %v", err)
	}
}
