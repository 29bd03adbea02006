package gvisor_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"lambent/internal/sandbox"
)

// run runs a command in a container as a function's user and gives back what it
// wrote and how it ended.
func run(t testing.TB, c sandbox.Container, args ...string) (string, sandbox.Exit) {
	t.Helper()
	return runAs(t, c, sandbox.Command{Path: args[0], Args: args, UID: sandbox.UserID, GID: sandbox.GroupID})
}

func runAs(t testing.TB, c sandbox.Container, cmd sandbox.Command) (string, sandbox.Exit) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Files = []*os.File{nil, w, w}
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/tmp"}
	}
	p, err := c.Exec(t.Context(), cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), exit
}

func TestAProcessRunsAsTheFunctionsUser(t *testing.T) {
	d := openDriver(t)
	i := startInstance(t, d, "i-1", sandbox.Limits{})
	c := newContainer(t, i, "c-1")
	out, exit := run(t, c, "/bin/sh", "-c", "id; echo $HOME; ulimit -n; ls /; exit 3")
	if exit != (sandbox.Exit{Code: 3}) {
		t.Errorf("exit %+v", exit)
	}
	for _, want := range []string{"uid=993(sbx_user1051) gid=990(sbx_user1051)", "/tmp\n", "1024\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	t.Log(out)
}
