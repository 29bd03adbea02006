package gvisor_test

import (
	"fmt"
	"os"
	"testing"

	"lambent"
	"lambent/internal/sandbox"
)

// gVisor wants descriptors 253 to 255 of the sandbox's process for itself, and
// leaves one of the server's open across exec under the number it has there.
func TestInstancesStartHoweverManyFilesAreOpen(t *testing.T) {
	d := openDriver(t)
	hold := func() uintptr {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f.Fd()
	}
	for hold() < 230 {
	}
	// One file more each time: whichever of those that a start opens it is, its
	// number passes those that gVisor wants.
	for k := range 25 {
		i, err := d.Start(t.Context(), sandbox.InstanceSpec{ID: lambent.InstanceID(fmt.Sprintf("i-files-%d", k))})
		if err != nil {
			t.Errorf("with about %d files open: %v", 230+k, err)
			continue
		}
		if err := i.Destroy(t.Context()); err != nil {
			t.Error(err)
		}
		hold()
	}
}
