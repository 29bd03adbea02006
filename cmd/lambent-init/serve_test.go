package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/runtimetest"
)

// start starts `lambent-init serve` and waits until it has booted.
func start(t *testing.T) *runtimetest.Process {
	t.Helper()
	p := runtimetest.Start(t, "/usr/bin/env", actAsInit+"=1", quickRace, self(t), "serve")
	banner, err := p.Booted(t.Context())
	if err != nil || !strings.HasPrefix(banner, "lambent-init ") {
		t.Fatalf("Booted = %q, %v; log: %s", banner, err, p.Log())
	}
	return p
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// taskRoot is a folder that any user can read.
func taskRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// assignment is a function whose bootstrap is this test binary acting as told.
func assignment(t *testing.T, act string) *runtimeapi.Assignment {
	t.Helper()
	dir := taskRoot(t)
	path := filepath.Join(dir, "bootstrap")
	if err := os.Symlink(self(t), path); err != nil {
		t.Fatal(err)
	}
	return &runtimeapi.Assignment{
		Handler: "any", TaskRoot: dir, Bootstraps: []string{path, "/opt/bootstrap"}, APIAddress: "127.0.0.1:0",
		Env: map[string]string{actAsBootstrap: act, "GORACE": "atexit_sleep_ms=0"},
	}
}

// script is a function whose bootstrap is a shell script.
func script(t *testing.T, text string) *runtimeapi.Assignment {
	t.Helper()
	a := assignment(t, "unused")
	a.Bootstraps[0] += ".sh"
	if err := os.WriteFile(a.Bootstraps[0], []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return a
}

func ready(t *testing.T, a *runtimeapi.Assignment) *runtimetest.Process {
	t.Helper()
	p := start(t)
	if err := p.Assign(t.Context(), a); err != nil {
		t.Fatalf("assign: %v; log: %s", err, p.Log())
	}
	return p
}

func invoke(t *testing.T, p *runtimetest.Process, payload string) (runtimeapi.Answer, error) {
	t.Helper()
	return p.Invoke(t.Context(), &runtimeapi.Event{Event: frame.Event{RequestID: "id", InvokedARN: "arn", Payload: []byte(payload)}})
}

func call(t *testing.T, p *runtimetest.Process, payload string) runtimeapi.Answer {
	t.Helper()
	a, err := invoke(t, p, payload)
	if err != nil {
		t.Fatalf("invoke: %v; log: %s", err, p.Log())
	}
	return a
}

func TestBootstrapAnswersEventAfterEvent(t *testing.T) {
	t.Parallel()
	p := ready(t, assignment(t, "loop"))
	for i, want := range []string{"1: a", "2: b", "3: c"} {
		if a := call(t, p, string(rune('a'+i))); string(a.Payload) != want {
			t.Errorf("got %q %s, want %s", a.ErrorType, a.Payload, want)
		}
	}
	a := call(t, p, "fail")
	if a.ErrorType != "Runtime.Unknown" && a.ErrorType != "Function.Failed" || string(a.Payload) != `{"errorMessage":"failed"}` {
		t.Errorf("got %q %s", a.ErrorType, a.Payload)
	}
	call(t, p, "log")
	if log := p.AwaitLog(t, "to stderr\n"); log != "to stdout\nto stderr\n" {
		t.Errorf("log is %q", log)
	}
}

func TestSecurityBootstrapSeesNothingButItsOwn(t *testing.T) {
	t.Parallel()
	a := assignment(t, "loop")
	p := ready(t, a)
	got := strings.Split(strings.TrimSpace(string(call(t, p, "self").Payload)), "\n")
	for i, line := range got {
		if strings.HasPrefix(line, "env AWS_LAMBDA_RUNTIME_API=127.0.0.1:") {
			got[i] = "env AWS_LAMBDA_RUNTIME_API=127.0.0.1:"
		}
		if strings.HasPrefix(line, "fd 3 ") && line != "fd 3 socket" {
			got[i] = "fd 3 the bootstrap's own" // its first file, such as its poller
		}
	}
	want := []string{
		"cwd " + a.TaskRoot, "env AWS_LAMBDA_RUNTIME_API=127.0.0.1:", "env GORACE=atexit_sleep_ms=0", "env LAMBENT_TEST_BOOTSTRAP=loop",
		"fd 0 /dev/null", "fd 1 pipe", "fd 2 pipe", "fd 3 the bootstrap's own", "leads its group true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSecurityBootstrapRunsAsItsUserWithoutCapabilities(t *testing.T) {
	t.Parallel()
	a := script(t, "#!/bin/sh\nid -u; id -g; id -G; ulimit -n; grep -E '^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '\n")
	a.User = &runtimeapi.User{UID: 65534, GID: 65533}
	a.Limits = &runtimeapi.Limits{OpenFiles: 1000}
	want := "65534\n65533\n65533\n1000\n"
	bound := "0000000000000000"
	if os.Getuid() != 0 {
		want = fmt.Sprintf("%d\n%d\n%d\n1000\n", os.Getuid(), os.Getgid(), os.Getgid())
		bound = capabilityBound(t)
	}
	want += "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t" + bound +
		"\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n0 1 2 3 "
	p := start(t)
	err := p.Assign(t.Context(), a)
	var exit *runtimeapi.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("got %v; log: %s", err, p.Log())
	}
	p.Wait()
	if diff := cmp.Diff(want, p.Log()); diff != "" {
		t.Error(diff)
	}
}

// capabilityBound is this process's own bounding set, which only root can narrow.
func capabilityBound(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "CapBnd:\t")
	bound, _, _ := strings.Cut(rest, "\n")
	return bound
}

func TestInitErrorOfTheBootstrapReachesTheHost(t *testing.T) {
	t.Parallel()
	p := start(t)
	err := p.Assign(t.Context(), assignment(t, "init error"))
	var failed *runtimeapi.InitError
	if !errors.As(err, &failed) || failed.Type != "Runtime.Broken" || string(failed.Body) != `{"errorMessage":"no"}` {
		t.Errorf("got %v", err)
	}
}

func TestBootstrapThatCannotBeStartedIsAnInvalidEntrypoint(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(t *testing.T) (a *runtimeapi.Assignment, want string){
		"missing": func(t *testing.T) (*runtimeapi.Assignment, string) {
			a := assignment(t, "loop")
			a.Bootstraps = []string{"/nowhere/bootstrap", "/opt/nowhere/bootstrap"}
			return a, "Couldn't find valid bootstrap(s): [/nowhere/bootstrap /opt/nowhere/bootstrap]"
		},
		"not executable": func(t *testing.T) (*runtimeapi.Assignment, string) {
			a := script(t, "x")
			a.Bootstraps = a.Bootstraps[:1]
			if err := os.Chmod(a.Bootstraps[0], 0o644); err != nil {
				t.Fatal(err)
			}
			return a, "Couldn't find valid bootstrap(s): [" + a.Bootstraps[0] + "]"
		},
		"not a program": func(t *testing.T) (*runtimeapi.Assignment, string) {
			a := script(t, "just text")
			return a, "fork/exec " + a.Bootstraps[0] + ": exec format error"
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, message := set(t)
			p := start(t)
			err := p.Assign(t.Context(), a)
			var failed *runtimeapi.InitError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v; log: %s", err, p.Log())
			}
			want := `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: 7 Error: ` + message + `"}`
			if got := string(failed.Payload("7")); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
			p.Wait()
		})
	}
}

func TestSecondBootstrapIsUsedWhereTheFirstIsMissing(t *testing.T) {
	t.Parallel()
	a := assignment(t, "loop")
	a.Bootstraps = []string{"/nowhere/bootstrap", a.Bootstraps[0]}
	if got := call(t, ready(t, a), "x"); string(got.Payload) != "1: x" {
		t.Errorf("got %s", got.Payload)
	}
}

func TestExitOfTheBootstrapIsToldWithItsReason(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		act, payload, want string
		status             int
	}{
		{"exit", "", "Runtime exited with error: exit status 3", 3},
		{"kill", "", "Runtime exited with error: signal: killed", 128 + int(syscall.SIGKILL)},
		{"loop", "exit", "Runtime exited with error: exit status 4", 4},
		{"loop", "kill", "Runtime exited with error: signal: killed", 128 + int(syscall.SIGKILL)},
	} {
		p := start(t)
		err := p.Assign(t.Context(), assignment(t, tt.act))
		if tt.payload != "" {
			if err != nil {
				t.Fatal(err)
			}
			_, err = invoke(t, p, tt.payload)
		}
		var exit *runtimeapi.ExitError
		if !errors.As(err, &exit) || exit.Error() != tt.want {
			t.Errorf("%s %s: got %v", tt.act, tt.payload, err)
		}
		if st := p.Wait(); st.ExitCode() != tt.status {
			t.Errorf("%s %s: lambent-init ended with %s", tt.act, tt.payload, st)
		}
	}
}

func TestHostThatGoesAwayTakesTheBootstrapAndItsChildrenWithIt(t *testing.T) {
	t.Parallel()
	p := ready(t, assignment(t, "loop"))
	var child int
	if _, err := fmt.Sscan(string(call(t, p, "child").Payload), &child); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p.Wait()
	untilGone(t, child)
}

// untilGone waits until a process is gone, or only not reaped by a parent that
// is not ours.
func untilGone(t *testing.T, pid int) {
	t.Helper()
	for t.Context().Err() == nil {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		if _, state, ok := strings.Cut(string(b), ") "); ok && strings.HasPrefix(state, "Z") {
			return
		}
	}
}

func TestPortThatIsTakenIsReplacedByAnother(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	a := assignment(t, "loop")
	a.APIAddress = taken.Addr().String()
	if got := call(t, ready(t, a), "x"); string(got.Payload) != "1: x" {
		t.Errorf("got %s", got.Payload)
	}
}

func TestTerminationReachesTheBootstrap(t *testing.T) {
	t.Parallel()
	p := ready(t, assignment(t, "loop"))
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if st := p.Wait(); st.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("it ended with %s", st)
	}
	<-p.Done()
	if got := p.Err().Error(); got != "Runtime exited with error: signal: terminated" {
		t.Errorf("got %s", got)
	}
}

func TestServeThatIsNeverNeededEndsWell(t *testing.T) {
	t.Parallel()
	p := start(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if st := p.Wait(); st.ExitCode() != 0 || p.Log() != "" {
		t.Errorf("it ended with %s; log: %s", st, p.Log())
	}
}

// initCommand is lambent-init without a host.
func initCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	cmd.Env = []string{actAsInit + "=1", quickRace}
	return cmd
}

func TestWrongUseIsExplained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitUsage, "usage: lambent-init pause|serve|credentials\n"},
		{[]string{"dance"}, exitUsage, "lambent-init: unknown mode \"dance\"; modes are pause, serve and credentials\n"},
		{[]string{"credentials"}, exitFault, "lambent-init credentials: file descriptor 3 is not a connection to a host\n"},
		{[]string{"serve"}, exitFault, "lambent-init serve: file descriptor 3 is not a connection to a host\n"},
	} {
		out, err := initCommand(t, tt.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != tt.status || !strings.HasPrefix(string(out), strings.TrimSuffix(tt.want, "\n")) {
			t.Errorf("%v: %v, %q", tt.args, err, out)
		}
	}
}

func TestTheFunctionsCredentialsAreServedToItsSDK(t *testing.T) {
	t.Parallel()
	a := assignment(t, "loop")
	a.Credentials = &runtimeapi.Credentials{AccessKeyID: "ASIA", SecretAccessKey: "s", SessionToken: "t", Authorization: "token"}
	got := call(t, ready(t, a), "credentials")
	if want := `{"AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t"}`; string(got.Payload) != want {
		t.Errorf("got %q %s, want %s", got.ErrorType, got.Payload, want)
	}
}

func TestCommandOfAnImageIsStartedWithItsArguments(t *testing.T) {
	for _, how := range []string{"by its path", "by a relative path", "by its name"} {
		a := script(t, "#!/bin/sh\necho \"$0 $1 in $PWD\"\nexit 7\n")
		path := a.Bootstraps[0]
		a.Bootstraps = nil
		switch how {
		case "by its path":
			a.Command = []string{path, "app.handler"}
		case "by a relative path":
			a.Command = []string{"./" + filepath.Base(path), "app.handler"}
		case "by its name":
			a.Command = []string{filepath.Base(path), "app.handler"}
			a.Env["PATH"] = "/nowhere:" + filepath.Dir(path)
		}
		p := start(t)
		var exit *runtimeapi.ExitError
		if err := p.Assign(t.Context(), a); !errors.As(err, &exit) || exit.Code != 7 {
			t.Errorf("%s: Assign = %v; log %s", how, err, p.Log())
		}
		if log := p.Log(); !strings.Contains(log, "app.handler in "+a.TaskRoot) {
			t.Errorf("%s: it says %q", how, log)
		}
	}
}

func TestCommandThatCannotBeStartedIsTold(t *testing.T) {
	for _, test := range []struct {
		command    []string
		dir        string
		kind, text string
	}{
		{[]string{"/none"}, "", "Runtime.InvalidEntrypoint", "fork/exec /none: no such file or directory"},
		{[]string{"none"}, "", "Runtime.InvalidEntrypoint", `exec: \"none\": executable file not found in $PATH`},
		{[]string{"/bin/sh"}, "/none", "Runtime.InvalidWorkingDir", "chdir /none: no such file or directory"},
	} {
		a := script(t, "")
		a.Bootstraps, a.Command = nil, test.command
		if test.dir != "" {
			a.TaskRoot = test.dir
		}
		p := start(t)
		var failed *runtimeapi.InitError
		if err := p.Assign(t.Context(), a); !errors.As(err, &failed) || failed.Type != test.kind || !strings.Contains(string(failed.Payload("")), test.text) {
			t.Errorf("%v: %v; log %s", test.command, err, p.Log())
		}
	}
}
