package conformance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// abuse is something a function does that must hurt nobody but itself.
type abuse struct {
	name    string
	event   op
	timeout int32
	memory  int32 // and with it the CPU; 0 is the least there is
	check   func(t *testing.T, a *lab.Answer, failure lab.FunctionError)
}

func isExit(message string) func(*testing.T, *lab.Answer, lab.FunctionError) {
	return func(t *testing.T, a *lab.Answer, failure lab.FunctionError) {
		t.Helper()
		if want := "RequestId: " + a.RequestID() + " Error: " + message; failure.Type != "Runtime.ExitError" || !strings.HasPrefix(failure.Message, want) {
			t.Errorf("%s: %q, want Runtime.ExitError: %q", failure.Type, failure.Message, want)
		}
	}
}

func isTimeout(t *testing.T, a *lab.Answer, failure lab.FunctionError) {
	t.Helper()
	if want := "RequestId: " + a.RequestID() + " Error: Task timed out after 2.00 seconds"; failure.Type != "Sandbox.Timedout" || failure.Message != want {
		t.Errorf("%s: %q, want Sandbox.Timedout: %q", failure.Type, failure.Message, want)
	}
}

func answers(want string) func(*testing.T, *lab.Answer, lab.FunctionError) {
	return func(t *testing.T, a *lab.Answer, _ lab.FunctionError) {
		t.Helper()
		if a.FunctionError != nil || string(a.Payload) != want {
			t.Errorf("the answer is %.300s, want %s", a.Payload, want)
		}
	}
}

// anyShape: whatever it says, it says it in AWS's words.
func anyShape(t *testing.T, a *lab.Answer, failure lab.FunctionError) {
	t.Helper()
	if a.FunctionError != nil && (failure.Type == "" || failure.Message == "") {
		t.Errorf("the error has no type or no message: %.300s", a.Payload)
	}
}

func abuses() []abuse {
	return []abuse{
		{"exits", op{"op": "exit", "status": 1}, 5, 0, isExit("Runtime exited with error: exit status 1")},
		{"kills itself", op{"op": "crash"}, 5, 0, isExit("Runtime exited with error: signal: killed")},
		{"closes its connection to the host", op{"op": "closeHost"}, 5, 0, isExit("Runtime exited")},
		{"talks garbage to the host", op{"op": "garbage"}, 5, 0, isExit("Runtime exited")},
		{"spins past its timeout", op{"op": "spin"}, 2, 0, isTimeout},
		{"ignores SIGTERM", op{"op": "stubborn"}, 2, 0, isTimeout},
		{"takes all memory", op{"op": "eat"}, 30, 0, isExit("Runtime exited with error: signal: killed")},
		{"forks until it may not", op{"op": "fork"}, 20, 1024, anyShape},
		{"fills /tmp", op{"op": "fill"}, 60, 1024, func(t *testing.T, a *lab.Answer, _ lab.FunctionError) {
			t.Helper()
			if !strings.Contains(string(a.Payload), `"ENOSPC"`) {
				t.Errorf("filling /tmp ends with %.300s, want ENOSPC", a.Payload)
			}
		}},
		{"writes 100 MB of log", op{"op": "flood", "bytes": 100 << 20}, 60, 1024, answers(fmt.Sprint(100 << 20))},
		{"throws", op{"op": "throw"}, 5, 0, anyShape},
		{"answers too much", op{"op": "big", "bytes": 7 << 20}, 5, 0, func(t *testing.T, _ *lab.Answer, failure lab.FunctionError) {
			t.Helper()
			if failure.Type != "Function.ResponseSizeTooLarge" {
				t.Errorf("the error is %s", failure.Type)
			}
		}},
	}
}

// Whatever a function does, its caller gets AWS's shape, the next call works, and
// once it is deleted nothing is left of it: no process, mount, cgroup, network
// namespace, descriptor or file.
func TestAbuseLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	t.Logf("before: %s", before)
	if len(before.Sandboxes) == 0 || len(before.Cgroups) == 0 || len(before.Mounts) == 0 || len(before.Networks) == 0 {
		t.Fatalf("the census misses something: %s", before)
	}
	if len(before.Zombies)+len(before.Orphans) != 0 {
		t.Errorf("a fresh server has zombies or orphans: %q, %q", before.Zombies, before.Orphans)
	}

	var wg sync.WaitGroup
	for _, l := range []language{node(t), python(t)} {
		c := s.Caller(t, fix.accounts.Next())
		wg.Go(func() {
			for n, a := range abuses() {
				t.Run(l.name+" "+a.name, func(t *testing.T) {
					f := l.function(fmt.Sprintf("abuse-%s-%d", l.name, n))
					f.Timeout, f.Memory = a.timeout, a.memory
					c.Create(t, f)
					endure(t, c, f.Name, a)
				})
			}
		})
	}
	wg.Wait()
	loads(t, s)
	lab.AwaitCensus(t, s, before)
	awaitNoCode(t, s)
}

// awaitNoCode waits until the unpacked code of functions that are gone is gone,
// too: it is kept for a minute, for calls that were accepted before.
func awaitNoCode(t *testing.T, s *lab.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*lab.Patience)
	defer cancel()
	if err := lab.Until(ctx, func() error {
		left, err := os.ReadDir(filepath.Join(s.Data, "host", "code"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d packages are still unpacked", len(left))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// endure lets a function abuse the platform twice, and has it work in between.
func endure(t *testing.T, c *lab.Caller, name string, a abuse) {
	for range 2 {
		got, err := c.Call(t.Context(), name, a.event)
		if err != nil {
			t.Fatalf("the platform is at fault: %v", err)
		}
		var failure lab.FunctionError
		if got.FunctionError != nil {
			failure = decodeFailure(t, got)
		}
		a.check(t, got, failure)
		if value, _ := lab.Do[string](t, c, name, op{"op": "echo", "value": "alive"}); value != "alive" {
			t.Errorf("the next call answers %q", value)
		}
	}
}

// warmUp does once what costs a server something once: connections, caches.
func warmUp(t *testing.T, s *lab.Server) {
	t.Helper()
	c := s.Caller(t, fix.accounts.Next())
	for _, l := range languages(t) {
		c.Create(t, l.function("warm-"+l.name))
		lab.Do[any](t, c, "warm-"+l.name, op{"op": "nothing"})
		c.Delete(t, "warm-"+l.name)
	}
	s.AwaitSettled(t)
}

// loads has code fail before it is ever called.
func loads(t *testing.T, s *lab.Server) {
	c := s.Caller(t, fix.accounts.Next())
	for name, f := range map[string]lab.Function{
		"no handler":     {Runtime: types.RuntimeNodejs22x, Handler: "index.nope", Zip: lab.File("index.js", "")},
		"throws at load": {Runtime: types.RuntimePython313, Handler: "app.handler", Zip: lab.File("app.py", "raise ValueError('x')")},
		"exits at load":  {Runtime: types.RuntimePython313, Handler: "app.handler", Zip: lab.File("app.py", "import os; os._exit(3)")},
		"no bootstrap":   {Runtime: types.RuntimeProvidedal2, Handler: "x", Zip: lab.File("x", "")},
		"bootstrap that forks and ends": {Runtime: types.RuntimeProvidedal2, Handler: "x",
			Zip: lab.Zip(lab.Entry{Name: "bootstrap", Mode: 0o755, Data: []byte("#!/bin/sh\nfor i in 1 2 3 4 5; do sleep 1000 & done\nexit 1\n")})},
	} {
		t.Run(name, func(t *testing.T) {
			f.Name = strings.ReplaceAll(name, " ", "-")
			c.Create(t, f)
			for range 3 {
				c.Fail(t, f.Name, nil)
			}
		})
	}
}

// Functions that are used and forgotten cost nothing after the idle time-out,
// without being deleted.
func TestIdleContainersGoAwayWhole(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--idle-timeout", "300ms")
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	c := s.Caller(t, fix.accounts.Next())
	var first *lab.Answer
	for _, l := range languages(t) {
		c.Create(t, l.function("idle-"+l.name))
		_, first = lab.Do[any](t, c, "idle-"+l.name, op{"op": "calls"})
	}
	lab.Eventually(t, "wait for the idle time-out", s.Settled)
	if calls, again := lab.Do[int](t, c, "idle-go", op{"op": "calls"}); calls != 1 || again.ContainerID() == first.ContainerID() {
		t.Errorf("after the idle time-out the call is the container's %d.", calls)
	}
	for _, l := range languages(t) {
		c.Delete(t, "idle-"+l.name)
	}
	lab.AwaitCensus(t, s, before)
}

// A sandbox that is killed from outside, idle or at work, costs its function one
// answer at most, and leaves nothing.
func TestKilledSandboxIsReplaced(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	c := s.Caller(t, fix.accounts.Next())
	for _, l := range []language{node(t), golang(t)} {
		name := "killed-" + l.name
		c.Create(t, l.function(name))
		_, first := lab.Do[any](t, c, name, op{"op": "nothing"})
		killSandbox(t, s, name, "idle")
		calls, second := lab.Do[int](t, c, name, op{"op": "calls"})
		if calls != 1 || second.ContainerID() == first.ContainerID() {
			t.Errorf("%s: the call after the kill is number %d of container %s, killed was %s", l.name, calls, second.ContainerID(), first.ContainerID())
		}

		done := make(chan string, 1)
		go func() {
			a, err := c.Call(t.Context(), name, op{"op": "sleep", "ms": 9000})
			if err != nil {
				done <- err.Error()
				return
			}
			done <- string(a.Payload)
		}()
		lab.Eventually(t, "wait for the function to say that it sleeps", func() error {
			if r := c.HTTP(t, http.MethodGet, "/_lambent/v1/functions/"+name+"/logs", nil); !strings.Contains(string(r.Body), "sleeping") {
				return fmt.Errorf("the log is %d %s", r.Status, r.Body)
			}
			return nil
		})
		killSandbox(t, s, name, "busy")
		if answer := <-done; !strings.HasPrefix(answer, `{"errorType":"Runtime.ExitError"`) || !strings.Contains(answer, "Error: Runtime exited with error: signal: killed") {
			t.Errorf("%s: the call whose sandbox is killed ends with %s", l.name, answer)
		}
		if calls, _ := lab.Do[int](t, c, name, op{"op": "calls"}); calls != 1 {
			t.Errorf("%s: after the kill the call is number %d", l.name, calls)
		}
		c.Delete(t, name)
	}
	lab.AwaitCensus(t, s, before)
}

// killSandbox waits until a function has a container in a state, and kills the
// process that is the kernel of its sandbox.
func killSandbox(t *testing.T, s *lab.Server, function, state string) {
	t.Helper()
	lab.Eventually(t, "find the sandbox to kill", func() error {
		containers, err := s.Containers()
		if err != nil {
			return err
		}
		for _, c := range containers {
			if c.Function == function && c.State == state {
				return syscall.Kill(c.PID, syscall.SIGKILL)
			}
		}
		return fmt.Errorf("%s has no %s container among %+v", function, state, containers)
	})
}
