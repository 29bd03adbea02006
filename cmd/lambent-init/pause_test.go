package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"lambent/internal/runtimeapi/runtimetest"
)

func TestPauseReapsAndEndsWhenTold(t *testing.T) {
	t.Parallel()
	// The children of the shell become those of what it turns into.
	cmd := exec.Command("/bin/sh", "-c", `true & true & exec "$0" pause`, self(t))
	cmd.Env = []string{actAsInit + "=1", quickRace}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	for t.Context().Err() == nil {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if strings.TrimSpace(string(comm)) != "sh" && len(children) == 0 {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", err)
	}
}

func TestPauseEndsWithItsHost(t *testing.T) {
	t.Parallel()
	p := runtimetest.Start(t, "/usr/bin/env", actAsInit+"=1", quickRace, self(t), "pause")
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if st := p.Wait(); st.ExitCode() != 0 {
		t.Errorf("it ended with %s; log: %s", st, p.Log())
	}
}
