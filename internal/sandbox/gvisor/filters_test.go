package gvisor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor"
)

// gVisor says in its own log where a process's filter came from: the sandbox's
// kernel, its gofer's and a container's gofer's all find theirs compiled.
func TestSandboxesFindTheirSeccompFiltersCompiled(t *testing.T) {
	logs := t.TempDir()
	d := openDriver(t, func(o *gvisor.Options) { o.DebugDir = logs })
	newContainer(t, startInstance(t, d, "filtered", sandbox.Limits{}), "guest")
	files, err := filepath.Glob(filepath.Join(logs, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var found int
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found += strings.Count(string(text), "Loaded precompiled seccomp instructions")
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "No precompiled program found") {
				t.Errorf("%s: %s", filepath.Base(f), line)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d of 3 processes found their filter compiled", found)
	}
}
