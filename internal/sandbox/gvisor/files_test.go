package gvisor_test

import (
	"fmt"
	"os"
	"testing"

	"lambent/internal/sandbox"
)

// gVisor wants descriptors 253 to 255 of the sandbox's process for itself, and
// leaves one of the server's open across exec under the number it has there.
func TestInstancesStartHoweverManyFilesAreOpen(t *testing.T) {
	d := openDriver(t)
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if f.Fd() >= 225 {
			break
		}
	}
	// Each start leaves some descriptors open here, so that the numbers move on
	// past those that gVisor wants.
	for k := range 6 {
		i := startInstance(t, d, fmt.Sprintf("i-files-%d", k), sandbox.Limits{})
		if _, err := i.NewContainer(t.Context(), sandbox.ContainerSpec{ID: "c-files", EphemeralMB: 16}); err != nil {
			t.Errorf("container %d: %v", k, err)
		}
	}
}
