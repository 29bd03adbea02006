package sandboxtest

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"lambent/internal/sandbox"
)

// onHost makes of a suite's command a process of this host, as this user: the
// shell scripts are tried here without any driver.
func onHost(b Behaviour, args ...string) *exec.Cmd {
	c := ShellCommand(b, args...)
	return &exec.Cmd{Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir}
}

func TestShellPlaysTheBehaviours(t *testing.T) {
	t.Run("cat", func(t *testing.T) {
		cmd := onHost(Cat)
		var out, errs bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("a\x00b\n"), &out, &errs
		if err := cmd.Run(); err != nil || out.String() != "a\x00b\n" || errs.String() != "done\n" {
			t.Errorf("%q, %q, %v", &out, &errs, err)
		}
	})
	t.Run("exit", func(t *testing.T) {
		err := onHost(Exit, "42").Run()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 42 {
			t.Error(err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		err := onHost(Signal, "15").Run()
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
			t.Error(err)
		}
	})
	t.Run("sleep", func(t *testing.T) {
		cmd := onHost(Sleep)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("it ended by itself")
		}
	})
	t.Run("report", func(t *testing.T) {
		cmd := onHost(Report, "one", "", "a  b")
		cmd.Env = append(cmd.Env, "X=y z")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := lines(out)
		for k, prefix := range []string{"uid=", "gid=", "groups=", "caps=", "dir=/", "arg=one", "arg=", "arg=a  b"} {
			if k >= len(got) || !strings.HasPrefix(got[k], prefix) {
				t.Errorf("line %d of %q does not begin with %s", k, got, prefix)
			}
		}
		if !slices.Contains(got, "env=X=y z") {
			t.Errorf("no X in %q", got)
		}
	})
}

func TestShellServes(t *testing.T) {
	conn, guest, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cmd := onHost(Serve)
	cmd.ExtraFiles = []*os.File{guest}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guest.Close()
	file := filepath.Join(t.TempDir(), "file")
	s := &server{conn: conn, lines: bufio.NewReader(conn)}
	for _, c := range []struct{ ask, want string }{
		{"echo word", "ok word"},
		{"read " + file, "err cat: " + file + ": No such file or directory"},
		{"write " + file + " some text", "ok"},
		{"read " + file, "ok some text"},
		{"fill " + file + " 1", "ok 1+0 records in"},
		{"fill /dev/full 1", "err dd: error writing '/dev/full': No space left on device"},
		{"eat 4", "ok"},
		{"dance", "err no such command: dance"},
	} {
		if got, err := s.ask(c.ask); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.ask, got, err, c.want)
		}
	}
	if text, err := s.ask("write / x"); err != nil || !strings.HasPrefix(text, "err") {
		t.Errorf("write to a folder: %q, %v", text, err)
	}
	conn.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("at the end of its input: %v", err)
	}
}

func TestUnknownBehaviourFailsWithItsName(t *testing.T) {
	cmd := onHost("dance")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err == nil || !strings.Contains(errs.String(), "dance") {
		t.Errorf("%q, %v", &errs, err)
	}
	if c := ShellCommand(Exit, "1"); c.UID != sandbox.UserID || c.GID != sandbox.GroupID {
		t.Errorf("it runs as %d:%d", c.UID, c.GID)
	}
}
