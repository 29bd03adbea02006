package conformance

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// How a handler can fail while it runs: what the caller is told, and that the
// next call works.
func TestHandlersThatFail(t *testing.T) {
	t.Parallel()
	type failure struct {
		name    string
		event   op
		want    lab.FunctionError // "ID" stands for the request's id
		dead    bool              // the container is of no more use
		inTrace string            // is in the first line of the trace
	}
	exit := func(how string) lab.FunctionError {
		return lab.FunctionError{Type: "Runtime.ExitError", Message: "RequestId: ID Error: " + how}
	}
	timeout := lab.FunctionError{Type: "Sandbox.Timedout", Message: "RequestId: ID Error: Task timed out after 2.00 seconds"}
	killed := exit("Runtime exited with error: signal: killed")
	tests := map[string][]failure{
		"node": {
			{name: "throws", event: op{"op": "throw"}, want: lab.FunctionError{Type: "TypeError", Message: "boom"}, inTrace: "TypeError: boom"},
			{name: "rejects", event: op{"op": "reject"}, want: lab.FunctionError{Type: "RangeError", Message: "later"}, inTrace: "RangeError: later"},
			{name: "exits", event: op{"op": "exit", "status": 3}, want: exit("Runtime exited with error: exit status 3"), dead: true},
			{name: "exits with 0", event: op{"op": "exit", "status": 0}, want: exit("Runtime exited without providing a reason"), dead: true},
			{name: "kills itself", event: op{"op": "crash"}, want: killed, dead: true},
			{name: "sleeps too long", event: op{"op": "sleep", "ms": 60_000}, want: timeout, dead: true},
		},
		"python": {
			{name: "throws", event: op{"op": "throw"}, want: lab.FunctionError{Type: "TypeError", Message: "boom", RequestID: "ID"}, inTrace: `File "/var/task/kit.py"`},
			{name: "exits", event: op{"op": "exit", "status": 4}, want: exit("Runtime exited with error: exit status 4"), dead: true},
			{name: "exits with 0", event: op{"op": "exit", "status": 0}, want: exit("Runtime exited without providing a reason"), dead: true},
			{name: "kills itself", event: op{"op": "crash"}, want: killed, dead: true},
			{name: "sleeps too long", event: op{"op": "sleep", "ms": 60_000}, want: timeout, dead: true},
		},
		"go": {
			{name: "returns an error", event: op{"op": "throw"}, want: lab.FunctionError{Type: "customError", Message: "boom"}},
			{name: "panics", event: op{"op": "panic"}, want: lab.FunctionError{Type: "string", Message: "aaah"}, dead: true},
			{name: "exits", event: op{"op": "exit", "status": 5}, want: exit("Runtime exited with error: exit status 5"), dead: true},
			{name: "sleeps too long", event: op{"op": "sleep", "ms": 60_000}, want: timeout, dead: true},
		},
	}
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			f := l.function("fails-" + l.name)
			f.Timeout = 2
			c.Create(t, f)
			for _, test := range tests[l.name] {
				t.Run(test.name, func(t *testing.T) {
					_, before := lab.Do[any](t, c, f.Name, op{"op": "nothing"})
					got, a := c.Fail(t, f.Name, test.event, lab.Tail)
					want := test.want
					want.Message = strings.ReplaceAll(want.Message, "ID", a.RequestID())
					want.RequestID = strings.ReplaceAll(want.RequestID, "ID", a.RequestID())
					trace := strings.Join(got.Trace, "\n")
					if s, ok := got.StackTrace.([]any); ok && len(s) > 0 {
						trace, _ = s[0].(string)
					}
					if !strings.Contains(trace, test.inTrace) {
						t.Errorf("the trace has no %q:\n%s", test.inTrace, trace)
					}
					got.Trace, got.StackTrace = nil, nil
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("the error (-want +got):\n%s", diff)
					}
					lines := tailLines(t, a)
					checkReport(t, lines[len(lines)-1], a.RequestID(), 128)
					if n := strings.Count(strings.Join(lines, "\n"), "START RequestId: "+a.RequestID()); n > 1 {
						t.Errorf("the log has %d START lines", n)
					}

					_, after := lab.Do[any](t, c, f.Name, op{"op": "nothing"})
					if reused := after.ContainerID() == before.ContainerID(); reused == test.dead {
						t.Errorf("the next call's container is the same: %v, want %v", reused, !test.dead)
					}
				})
			}
		})
	}
}

// Code that cannot be loaded: what the caller is told, and that mending the
// function mends its calls.
func TestCodeThatDoesNotLoad(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, handler string
		runtime       types.Runtime
		zip           []byte
		wantType      string
		wantMessage   string // a pattern
	}{
		{"node, no such export", "index.nope", types.RuntimeNodejs22x, lab.File("index.js", "exports.handler = async () => 1"),
			"Runtime.HandlerNotFound", `^index\.nope is undefined or not exported$`},
		{"node, export is no function", "index.handler", types.RuntimeNodejs22x, lab.File("index.js", "exports.handler = 7"),
			"Runtime.HandlerNotFound", `^index\.handler is not a function$`},
		{"node, no such file", "other.handler", types.RuntimeNodejs22x, lab.File("index.js", ""),
			"Runtime.ImportModuleError", `^Error: Cannot find module 'other'`},
		{"node, missing import", "index.handler", types.RuntimeNodejs22x, lab.File("index.js", "require('left-pad')"),
			"Runtime.ImportModuleError", `^Error: Cannot find module 'left-pad'`},
		{"node, syntax error", "index.handler", types.RuntimeNodejs22x, lab.File("index.js", "exports.handler = ("),
			"Runtime.UserCodeSyntaxError", `^SyntaxError: `},
		{"node, throws", "index.handler", types.RuntimeNodejs22x, lab.File("index.js", "throw new Error('at load')"),
			"Error", `^at load$`},
		{"node, malformed handler", "index", types.RuntimeNodejs22x, lab.File("index.js", ""),
			"Runtime.MalformedHandlerName", `^Bad handler$`},
		{"node, exits", "index.handler", types.RuntimeNodejs22x, lab.File("index.js", "process.exit(9)"),
			"Runtime.ExitError", `^RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 9$`},
		{"python, no such function", "app.nope", types.RuntimePython313, lab.File("app.py", ""),
			"Runtime.HandlerNotFound", `^Handler 'nope' missing on module 'app'$`},
		{"python, no such file", "other.handler", types.RuntimePython313, lab.File("app.py", ""),
			"Runtime.ImportModuleError", `^Unable to import module 'other': No module named 'other'$`},
		{"python, missing import", "app.handler", types.RuntimePython313, lab.File("app.py", "import left_pad"),
			"Runtime.ImportModuleError", `^Unable to import module 'app': No module named 'left_pad'$`},
		{"python, syntax error", "app.handler", types.RuntimePython313, lab.File("app.py", "def handler(:"),
			"Runtime.UserCodeSyntaxError", `^Syntax error in module 'app': `},
		{"python, throws", "app.handler", types.RuntimePython313, lab.File("app.py", "raise ValueError('at load')"),
			"ValueError", `^at load$`},
		{"python, malformed handler", "app", types.RuntimePython313, lab.File("app.py", ""),
			"Runtime.MalformedHandlerName", `^Bad handler 'app': not enough values to unpack \(expected 2, got 1\)$`},
		{"python, exits", "app.handler", types.RuntimePython313, lab.File("app.py", "import sys; sys.exit(9)"),
			"Runtime.ExitError", `^RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 9$`},
		{"provided, no bootstrap", "x", types.RuntimeProvidedal2023, lab.File("readme", ""),
			"Runtime.InvalidEntrypoint", `^RequestId: [0-9a-f-]{36} Error: Couldn't find valid bootstrap\(s\): \[/var/task/bootstrap /opt/bootstrap\]$`},
		{"provided, not executable", "x", types.RuntimeProvidedal2023, lab.File("bootstrap", "#!/bin/sh\n"),
			"Runtime.InvalidEntrypoint", ``},
		{"provided, exits", "x", types.RuntimeProvidedal2023, lab.Zip(lab.Entry{Name: "bootstrap", Mode: 0o755, Data: []byte("#!/bin/sh\nexit 9\n")}),
			"Runtime.ExitError", `^RequestId: [0-9a-f-]{36} Error: Runtime exited with error: exit status 9$`},
	}
	c := newCaller(t)
	for n, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := "load-" + strings.Repeat("x", n)
			c.Create(t, lab.Function{Name: name, Runtime: test.runtime, Handler: test.handler, Zip: test.zip})
			for range 2 { // the second failure is the same as the first
				got, a := c.Fail(t, name, op{})
				if got.Type != test.wantType || !regexp.MustCompile(test.wantMessage).MatchString(got.Message) {
					t.Errorf("%s: %q, want %s: %s", got.Type, got.Message, test.wantType, test.wantMessage)
				}
				if a.Header.Get("X-Amz-Executed-Version") != "$LATEST" {
					t.Errorf("X-Amz-Executed-Version is %q", a.Header.Get("X-Amz-Executed-Version"))
				}
			}
		})
	}
}

func TestInitIsLimitedAndRunOnceMore(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--init-timeout", "500ms", "--pool-provided", "0", "--pool-nodejs", "0")
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, lab.Function{Name: "slow", Runtime: types.RuntimePython313, Handler: "app.handler", Timeout: 2,
		Zip: lab.File("app.py", "import time\ntime.sleep(30)\ndef handler(e, c): return 1\n")})
	got, _ := c.Fail(t, "slow", nil)
	if got.Type != "Sandbox.Timedout" || !strings.HasSuffix(got.Message, "Error: Task timed out after 2.00 seconds") {
		t.Errorf("an init without end is told as %s: %s", got.Type, got.Message)
	}
	c.Create(t, lab.Function{Name: "late", Runtime: types.RuntimePython313, Handler: "app.handler", Timeout: 5,
		Zip: lab.File("app.py", "import time\ntime.sleep(1)\ndef handler(e, c): return 'late'\n")})
	if got, _ := lab.Do[string](t, c, "late", nil); got != "late" {
		t.Errorf("an init over its limit, but within the function's timeout, answers %q", got)
	}
}

func TestAWSErrorsByHand(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	notFound := string(quoted(t, "Function not found: "+c.ARN("absent")))
	r := c.HTTP(t, http.MethodGet, "/2015-03-31/functions/absent", nil)
	checkError(t, r, http.StatusNotFound, "ResourceNotFoundException", `{"Type":"User","Message":`+notFound+`}`)
	r = c.HTTP(t, http.MethodGet, "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A"+c.Account+"%3Afunction%3Aabsent", nil)
	checkError(t, r, http.StatusNotFound, "ResourceNotFoundException", `{"Type":"User","Message":`+notFound+`}`)
	r = c.HTTP(t, http.MethodGet, "/2015-03-31/functions/absent/", nil)
	checkError(t, r, http.StatusNotFound, "ResourceNotFoundException", `{"Type":"User","Message":`+notFound+`}`)

	r = c.HTTP(t, http.MethodPost, "/2015-03-31/functions", []byte(`{"FunctionName":`))
	if r.Status != http.StatusBadRequest || r.Header.Get("X-Amzn-Errortype") != "SerializationException" {
		t.Errorf("broken JSON: %d %s %s", r.Status, r.Header.Get("X-Amzn-Errortype"), r.Body)
	}
	r = c.HTTP(t, http.MethodPost, "/2015-03-31/functions", []byte(`{"FunctionName":7}`))
	checkError(t, r, http.StatusBadRequest, "SerializationException", `{"message":"NUMBER_VALUE can not be converted to a String"}`)
	r = c.HTTP(t, http.MethodGet, "/2015-03-31/nowhere", nil)
	if r.Status != http.StatusNotFound || r.Header.Get("X-Amzn-Errortype") != "UnknownOperationException" {
		t.Errorf("an unknown path: %d %s %s", r.Status, r.Header.Get("X-Amzn-Errortype"), r.Body)
	}
}

func decodeFailure(t *testing.T, a *lab.Answer) lab.FunctionError {
	t.Helper()
	var f lab.FunctionError
	if err := json.Unmarshal(a.Payload, &f); err != nil {
		t.Fatalf("the error %.200q: %v", a.Payload, err)
	}
	return f
}
