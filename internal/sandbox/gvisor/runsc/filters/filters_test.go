package filters_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The programs are what gVisor's rules say, and not what an older version's said:
// they are compiled anew, as they are for a server (without the race detector,
// which has rules of its own).
func TestTheProgramsAreWhatGVisorCompiles(t *testing.T) {
	name := "programs_" + runtime.GOARCH + ".go"
	kept, err := os.ReadFile(name)
	if err != nil {
		t.Fatalf("%v: run go generate here, on this architecture", err)
	}
	dir := t.TempDir()
	compile := exec.CommandContext(t.Context(), "go", "run", "./compile", dir)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile the programs: %v\n%s", err, text)
	}
	compiled, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(compiled), string(kept)); diff != "" {
		t.Errorf("gVisor compiles other programs than %s has (-compiled +kept); go generate here:\n%s", name, diff)
	}
}
