package conformance

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"lambent/conformance/lab"
)

// What the server's processes inherit is no secret of whoever started it: the
// ones beside a sandbox are what a function that broke out of it would be in.
func TestSecurityNoProcessOfTheServerHoldsTheEnvironmentItWasStartedIn(t *testing.T) {
	t.Parallel()
	s := newServer(t, noPools...)
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, node(t).function("any"))
	lab.Do[any](t, c, "any", op{"op": "env"})
	environments, err := lab.Environments(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(environments) < 3 {
		t.Errorf("only %d processes with an instance running", len(environments))
	}
	for process, environment := range environments {
		for _, pair := range environment {
			if strings.Contains(pair, lab.Secret) {
				t.Errorf("%s holds %s", process, pair)
			}
		}
	}
}

func TestTerminationWhileStartingIsNoFailure(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(fix.bin, append([]string{"up", "--listen", "127.0.0.1:0", "--data", newData(t)}, noPools...)...)
	cmd.Env = lab.Environment()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	lines := bufio.NewReader(stderr)
	line, err := lines.ReadString('\n') // of what it finds, long before it serves
	if err == nil {
		err = cmd.Process.Signal(syscall.SIGTERM)
	}
	if err != nil {
		t.Error(err)
	}
	log.WriteString(line)
	if _, err := io.Copy(&log, lines); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil || strings.Contains(log.String(), "context canceled") || strings.Contains(log.String(), "is not used") {
		t.Errorf("%v; the log:\n%s", err, log.String())
	}
}
