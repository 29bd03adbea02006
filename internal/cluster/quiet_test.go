package cluster

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/nats-io/nats-server/v2/server/pse"
)

// quietTest has a child be quiet and see whether it is. The engine's timer reads
// the variable without a lock, which is a race only in name: it comes a second
// after the process began, and finds a string that was set at once. So the race
// detector of the child, which is of the same build, is not asked.
const quietTest = "LAMBENT_TEST_QUIET"

func beQuiet() error {
	var cpu float64
	var rss, vss int64
	if err := pse.ProcUsage(&cpu, &rss, &vss); err != nil || sampledFile == "" {
		return errors.New("the engine does not read what it did: has it changed?")
	}
	Quiet()
	if err := pse.ProcUsage(&cpu, &rss, &vss); err == nil {
		return errors.New("the engine still reads a file")
	}
	return nil
}

func TestQuietTakesTheSampledFileAway(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), quietTest+"=1", "GORACE=exitcode=0 atexit_sleep_ms=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
