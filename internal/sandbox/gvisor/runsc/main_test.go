package runsc

import (
	"os"
	"path/filepath"
	"testing"

	"lambent/internal/sandbox/gvisor/handover"
)

func TestBundlesAreFoundInEitherForm(t *testing.T) {
	for want, args := range map[string][]string{
		"/a": {"runsc-sandbox", "--root=/x", "boot", "--bundle=/a", "--io-fds=3", "i-1"},
		"/b": {"runsc-gofer", "gofer", "--bundle", "/b", "i-1"},
		"":   {"runsc-gofer", "gofer", "--bundle"},
	} {
		if got := bundleOf(args); got != want {
			t.Errorf("%v: %q", args, got)
		}
	}
}

func TestTheInstancesMemoryIsReportedWhereItIsBounded(t *testing.T) {
	bundle := t.TempDir()
	args := []string{"runsc-sandbox", "boot", "--total-memory", "99", "i-1"}
	if err := tellMemory(bundle, args); err != nil || args[3] != "99" {
		t.Errorf("without a bound: %v, %v", args, err)
	}
	if err := os.WriteFile(filepath.Join(bundle, handover.TotalMemory), []byte("42"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tellMemory(bundle, args); err != nil || args[3] != "42" {
		t.Errorf("with a bound: %v, %v", args, err)
	}
	if err := tellMemory(bundle, []string{"runsc-gofer", "--total-memory"}); err != nil {
		t.Error(err)
	}
}
