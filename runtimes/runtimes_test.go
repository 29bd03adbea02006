package runtimes_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/runtimetest"
	"lambent/runtimes"
)

// interpreters are where a Debian system has them.
var interpreters = map[lambent.Family]string{lambent.FamilyNode: "/usr/bin/node", lambent.FamilyPython: "/usr/bin/python3"}

// function is a function's code: file names and texts.
type function map[string]string

// start starts the bootstrap of a family and waits until it has booted. What is
// given comes before it on the command line.
func start(t testing.TB, family lambent.Family, before ...string) *runtimetest.Process {
	t.Helper()
	b, ok := runtimes.For(family)
	if !ok {
		t.Fatalf("no bootstrap for %s", family)
	}
	interpreter := interpreters[family]
	if _, err := os.Stat(interpreter); err != nil {
		t.Fatalf("these tests need %s, which make test installs: %v", interpreter, err)
	}
	path := filepath.Join(t.TempDir(), b.File)
	if err := os.WriteFile(path, b.Source(), 0o644); err != nil {
		t.Fatal(err)
	}
	p := runtimetest.Start(t, append(slices.Clone(before), b.Args(interpreter, path)...)...)
	banner, err := p.Booted(t.Context())
	if err != nil {
		t.Fatalf("boot: %v; log: %s", err, p.Log())
	}
	if name, _, _ := strings.Cut(interpreter[len("/usr/bin/"):], "3"); !strings.HasPrefix(banner, name) {
		t.Errorf("banner %q does not start with %s", banner, name)
	}
	return p
}

// assign gives the process a function.
func assign(t testing.TB, p *runtimetest.Process, code function, handler string, env map[string]string) error {
	t.Helper()
	return p.Assign(t.Context(), assignment(t, code, handler, env))
}

func assignment(t testing.TB, code function, handler string, env map[string]string) *runtimeapi.Assignment {
	t.Helper()
	root := t.TempDir()
	for name, text := range code {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{"PATH": "/usr/bin:/bin", "TZ": ":UTC", "LAMBDA_TASK_ROOT": root, "_HANDLER": handler}
	for k, v := range env {
		all[k] = v
	}
	return &runtimeapi.Assignment{
		Handler: handler, Env: all, TaskRoot: root, FunctionName: "fn", Version: "$LATEST",
		FunctionARN: arn, Account: "000000000000", Region: "eu-west-1", MemoryMB: 128,
		LogGroup: "/aws/lambda/fn", LogStream: "2026/01/02/[$LATEST]0123456789abcdef",
	}
}

const arn = "arn:aws:lambda:eu-west-1:000000000000:function:fn"

// ready starts a process, gives it a function and waits until it is initialised.
func ready(t testing.TB, family lambent.Family, code function, handler string, env map[string]string) *runtimetest.Process {
	t.Helper()
	p := start(t, family)
	if err := assign(t, p, code, handler, env); err != nil {
		t.Fatalf("assign: %v; log: %s", err, p.Log())
	}
	return p
}

// event makes an event.
func event(id, payload string) *runtimeapi.Event {
	return &runtimeapi.Event{Event: frame.Event{
		RequestID: id, DeadlineMillis: time.Now().Add(3 * time.Second).UnixMilli(), InvokedARN: arn, Payload: []byte(payload),
	}}
}

// invoke hands the process an event and returns what came of it.
func invoke(t testing.TB, p *runtimetest.Process, e *runtimeapi.Event) (runtimeapi.Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Invoke(ctx, e)
}

func contextWithTimeout(t testing.TB, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// call hands the process an event that must be answered.
func call(t testing.TB, p *runtimetest.Process, payload string) runtimeapi.Answer {
	t.Helper()
	a, err := invoke(t, p, event(requestID, payload))
	if err != nil {
		t.Fatalf("invoke: %v; log: %s", err, p.Log())
	}
	return a
}

const requestID = "11111111-2222-3333-4444-555555555555"

// echoes are the same function in each language.
var echoes = map[lambent.Family]struct {
	code    function
	handler string
}{
	lambent.FamilyNode:   {function{"index.js": `exports.handler = async (event) => event;`}, "index.handler"},
	lambent.FamilyPython: {function{"app.py": "def handler(event, context):\n    return event\n"}, "app.handler"},
}

func TestEchoOfEverySizeComesBack(t *testing.T) {
	for family, f := range echoes {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := ready(t, family, f.code, f.handler, nil)
			for _, size := range []int{0, 1, 4000, 4095, 4096, 8191, 65530, 65536, 65600, 200_000, frame.MaxPayload - 2} {
				want := `"` + strings.Repeat("x", size) + `"`
				if a := call(t, p, want); string(a.Payload) != want || a.ErrorType != "" {
					t.Fatalf("size %d: got %d bytes, error type %q: %.200s", size, len(a.Payload), a.ErrorType, a.Payload)
				}
			}
			for i := range 200 {
				want := fmt.Sprintf(`{"n": %d, "é": "ü€𝄞"}`, i)
				a := call(t, p, want)
				if strings.ReplaceAll(string(a.Payload), " ", "") == strings.ReplaceAll(want, " ", "") {
					continue
				}
				if !strings.Contains(string(a.Payload), `\u00e9`) { // Python before 3.12 escapes, as on AWS
					t.Fatalf("got %s", a.Payload)
				}
			}
		})
	}
}

func TestAnswerOverTheLimitIsToldAndTheProcessGoesOn(t *testing.T) {
	codes := map[lambent.Family]function{
		lambent.FamilyNode:   {"index.js": `exports.handler = async (event) => 'x'.repeat(event.n);`},
		lambent.FamilyPython: {"index.py": "def handler(event, context):\n    return 'x' * event['n']\n"},
	}
	for family, code := range codes {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := ready(t, family, code, "index.handler", nil)
			a := call(t, p, `{"n": 20000000}`)
			want := `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`
			if string(a.Payload) != want || a.ErrorType != "Function.ResponseSizeTooLarge" {
				t.Errorf("got %q %s", a.ErrorType, a.Payload)
			}
			for _, n := range []int{frame.MaxPayload - 2, frame.MaxPayload - 1} {
				a := call(t, p, fmt.Sprintf(`{"n": %d}`, n))
				if over := a.ErrorType != ""; over != (n+2 > frame.MaxPayload) {
					t.Errorf("%d bytes: %q", n+2, a.ErrorType)
				}
			}
			if a := call(t, p, `{"n": 2}`); string(a.Payload) != `"xx"` {
				t.Errorf("after: %s", a.Payload)
			}
		})
	}
}

func TestProcessThatNobodyNeedsEndsWithItsConnection(t *testing.T) {
	for family := range interpreters {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := start(t, family)
			_ = p.Close()
			if st := p.Wait(); st.ExitCode() != 0 {
				t.Errorf("it ended with %s; log: %s", st, p.Log())
			}
		})
	}
}

func TestProcessThatDiesInTheMiddleOfAnEventIsClosed(t *testing.T) {
	codes := map[lambent.Family]function{
		lambent.FamilyNode:   {"index.js": `exports.handler = async () => process.exit(7);`},
		lambent.FamilyPython: {"index.py": "import sys\ndef handler(event, context):\n    sys.exit(7)\n"},
	}
	for family, code := range codes {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := ready(t, family, code, "index.handler", nil)
			_, err := invoke(t, p, event(requestID, `{}`))
			if !errors.Is(err, runtimeapi.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if st := p.Wait(); st.ExitCode() != 7 {
				t.Errorf("it ended with %s; log: %s", st, p.Log())
			}
		})
	}
}

func TestSecurityProcessThatIsRootBecomesTheUserItIsTold(t *testing.T) {
	codes := map[lambent.Family]function{
		lambent.FamilyNode:   {"index.js": `exports.handler = async () => [process.getuid(), process.geteuid(), process.getgid(), process.getgroups()];`},
		lambent.FamilyPython: {"index.py": "import os\ndef handler(event, context):\n    return [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]\n"},
	}
	want := "[65534,65534,65533,[]]"
	if os.Getuid() != 0 { // it keeps the user it has
		groups, err := os.Getgroups()
		if err != nil {
			t.Fatal(err)
		}
		want = strings.ReplaceAll(fmt.Sprintf("[%d,%d,%d,%v]", os.Getuid(), os.Geteuid(), os.Getgid(), groups), " ", ",")
	}
	for family, code := range codes {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := start(t, family)
			a := assignment(t, code, "index.handler", nil)
			a.User = &runtimeapi.User{UID: 65534, GID: 65533}
			for _, dir := range []string{a.TaskRoot, filepath.Dir(a.TaskRoot)} { // for anybody to read
				if err := os.Chmod(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Assign(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(string(call(t, p, `{}`).Payload), " ", ""); got != want && got != strings.Replace(want, "[]", "[65533]", 1) {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestARuntimeThatWaitsForCodeAnswersWhetherItIsThere(t *testing.T) {
	for family, echo := range echoes {
		t.Run(string(family), func(t *testing.T) {
			p := start(t, family)
			for range 3 {
				ctx, cancel := contextWithTimeout(t, 20*time.Second)
				if err := p.Ping(ctx); err != nil {
					t.Fatal(err)
				}
				cancel()
			}
			if err := assign(t, p, echo.code, echo.handler, nil); err != nil {
				t.Fatal(err)
			}
			if a, err := invoke(t, p, event("1", `7`)); err != nil || string(a.Payload) != `7` {
				t.Errorf("then it answers %s, %v", a.Payload, err)
			}
		})
	}
}

// One that a call waits for has prepared nothing: it serves all the same, and its
// function sees nothing of it.
func TestARuntimeThatIsAwaitedServes(t *testing.T) {
	t.Parallel()
	for family, code := range map[lambent.Family]function{
		lambent.FamilyNode:   {"index.mjs": `export const handler = async (event) => ({event, env: process.env});`},
		lambent.FamilyPython: {"index.py": "import os\ndef handler(event, context):\n    return {'event': event, 'env': dict(os.environ)}\n"},
	} {
		t.Run(string(family), func(t *testing.T) {
			t.Parallel()
			p := start(t, family, "/usr/bin/env", runtimes.Awaited+"=1")
			if err := assign(t, p, code, "index.handler", nil); err != nil {
				t.Fatalf("%v; log: %s", err, p.Log())
			}
			for _, want := range []string{"first", "second"} {
				got := decode[struct {
					Event string
					Env   map[string]string
				}](t, call(t, p, `"`+want+`"`).Payload)
				if _, seen := got.Env[runtimes.Awaited]; seen || got.Event != want {
					t.Errorf("%+v, want the event %q and no %s", got, want, runtimes.Awaited)
				}
			}
		})
	}
}
