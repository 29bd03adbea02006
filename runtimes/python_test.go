package runtimes_test

import (
	"errors"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/runtimetest"
)

// python starts a Python function whose handler is app.handler.
func python(t testing.TB, source string) *runtimetest.Process {
	t.Helper()
	return ready(t, lambent.FamilyPython, function{"app.py": source}, "app.handler", nil)
}

// pythonError is AWS's error JSON of Python.
type pythonError struct {
	ErrorMessage string   `json:"errorMessage"`
	ErrorType    string   `json:"errorType"`
	RequestID    string   `json:"requestId"`
	StackTrace   []string `json:"stackTrace"`
}

func TestPythonHandlerForms(t *testing.T) {
	t.Parallel()
	const source = "def fn(event, context):\n    return 'got it'\n"
	for handler, code := range map[string]function{
		"app.fn":        {"app.py": source},
		"pkg/mod.fn":    {"pkg/mod.py": source},
		"pkg.mod.fn":    {"pkg/__init__.py": "", "pkg/mod.py": source},
		"a/b/mod.fn":    {"a/b/mod.py": source},
		"pkg.fn":        {"pkg/__init__.py": source},
		"dep.fn":        {"dep.py": "import lib.x\ndef fn(event, context):\n    return lib.x.value\n", "lib/__init__.py": "", "lib/x.py": "value = 'got it'\n"},
		"call.fn":       {"call.py": "class C:\n    def __call__(self, event, context):\n        return 'got it'\nfn = C()\n"},
		"bootstrap.fn":  {"bootstrap.py": source},
		"with-dash.fn":  {"with-dash.py": source},
		"dunder.__fn__": {"dunder.py": strings.Replace(source, "fn", "__fn__", 1)},
	} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			p := ready(t, lambent.FamilyPython, code, handler, nil)
			if a := call(t, p, `{}`); string(a.Payload) != `"got it"` {
				t.Errorf("got %q %s; log: %s", a.ErrorType, a.Payload, p.Log())
			}
		})
	}
}

func TestPythonPathHasCodeThenPYTHONPATHThenLayers(t *testing.T) {
	t.Parallel()
	p := ready(t, lambent.FamilyPython, function{"app.py": "import sys\ndef handler(event, context):\n    return sys.path\n"}, "app.handler",
		map[string]string{"PYTHONPATH": "/one:/two"})
	got := decode[[]string](t, call(t, p, `{}`).Payload)
	if len(got) < 5 {
		t.Fatal(got)
	}
	got[0], got[3] = "task root", regexp.MustCompile(`3\.\d+`).ReplaceAllString(got[3], "3.N")
	want := []string{"task root", "/one", "/two", "/opt/python/lib/python3.N/site-packages", "/opt/python"}
	if diff := cmp.Diff(want, got[:5]); diff != "" {
		t.Error(diff)
	}
	for _, dir := range got[5:] {
		if strings.Contains(dir, "dist-packages") || strings.Contains(dir, "site-packages") {
			t.Errorf("the host's packages are on the path: %s", dir)
		}
	}
}

func TestPythonAnswers(t *testing.T) {
	t.Parallel()
	p := python(t, `
import decimal, datetime
def handler(event, context):
    return eval(event)
`)
	for expression, want := range map[string]string{
		`None`: `null`, `{'a': [1, 2.5, True]}`: `{"a": [1, 2.5, true]}`, `b'raw'`: `raw`, `'x'`: `"x"`,
		`decimal.Decimal('12')`: `12`, `decimal.Decimal('1.5')`: `1.5`, `(1, 2)`: `[1, 2]`, `float('nan')`: `NaN`, `decimal.Decimal('nan')`: `NaN`,
	} {
		if a := call(t, p, `"`+expression+`"`); string(a.Payload) != want {
			t.Errorf("%s: got %q %s, want %s", expression, a.ErrorType, a.Payload, want)
		}
	}
}

func TestPythonErrors(t *testing.T) {
	t.Parallel()
	p := python(t, `
class Mine(Exception):
    def __str__(self):
        return "mine"
class Worse(Exception):
    def __str__(self):
        raise ValueError("no text")
def inner(what):
    exec(what)
def handler(event, context):
    inner(event)
`)
	for source, want := range map[string]pythonError{
		`raise ValueError('bad')`: {ErrorType: "ValueError", ErrorMessage: "bad"},
		`{}['missing']`:           {ErrorType: "KeyError", ErrorMessage: "'missing'"},
		`raise Mine()`:            {ErrorType: "Mine", ErrorMessage: "mine"},
		`raise Worse()`:           {ErrorType: "Worse", ErrorMessage: "<exception without a text>"},
		`1/0`:                     {ErrorType: "ZeroDivisionError", ErrorMessage: "division by zero"},
	} {
		a := call(t, p, `"`+source+`"`)
		got := decode[pythonError](t, a.Payload)
		if len(got.StackTrace) < 2 || !strings.Contains(got.StackTrace[0], "app.py\", line 11, in handler") || strings.Contains(strings.Join(got.StackTrace, ""), "bootstrap.py") {
			t.Errorf("%s: stack trace %q", source, got.StackTrace)
		}
		want.RequestID, want.StackTrace = requestID, got.StackTrace
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", source, diff)
		}
		if a.ErrorType != want.ErrorType {
			t.Errorf("the host is told %q", a.ErrorType)
		}
	}
	log := p.AwaitLog(t, "[ERROR] ZeroDivisionError: division by zero\nTraceback (most recent call last):\n\u00a0\u00a0File ")
	if strings.Contains(log, "bootstrap.py") {
		t.Errorf("log is %s", log)
	}
}

func TestPythonAnswerThatIsNotJSONIsAMarshalError(t *testing.T) {
	t.Parallel()
	p := python(t, "def handler(event, context):\n    return {'x': object()} if event else {1, 2}\n")
	for payload, message := range map[string]string{
		`1`: "Unable to marshal response: Object of type object is not JSON serializable",
		`0`: "Unable to marshal response: Object of type set is not JSON serializable",
	} {
		a := call(t, p, payload)
		want := pythonError{ErrorType: "Runtime.MarshalError", ErrorMessage: message, RequestID: requestID, StackTrace: []string{}}
		if diff := cmp.Diff(want, decode[pythonError](t, a.Payload)); diff != "" {
			t.Error(diff)
		}
	}
	if a := call(t, p, `{nonsense`); a.ErrorType != "Runtime.UnmarshalError" {
		t.Errorf("got %q %s", a.ErrorType, a.Payload)
	}
}

func TestPythonInitErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code    function
		handler string
		kind    string
		message string // a regular expression
	}{
		"no module":      {function{"x.py": ""}, "app.handler", "Runtime.ImportModuleError", `^Unable to import module 'app': No module named 'app'$`},
		"no dependency":  {function{"app.py": "import nothing_like_it\n"}, "app.handler", "Runtime.ImportModuleError", `^Unable to import module 'app': No module named 'nothing_like_it'$`},
		"no function":    {function{"app.py": "x = 1\n"}, "app.handler", "Runtime.HandlerNotFound", `^Handler 'handler' missing on module 'app'$`},
		"no dot":         {function{"app.py": ""}, "app", "Runtime.MalformedHandlerName", `^Bad handler 'app': not enough values to unpack \(expected 2, got 1\)$`},
		"built in":       {function{"sys.py": ""}, "sys.exit", "Runtime.BuiltInModuleConflict", `^Cannot use built-in module sys as a handler module$`},
		"syntax error":   {function{"app.py": "def handler(:\n"}, "app.handler", "Runtime.UserCodeSyntaxError", `^Syntax error in module 'app': `},
		"raises at load": {function{"app.py": "raise ValueError('no')\n"}, "app.handler", "ValueError", `^no$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, lambent.FamilyPython)
			err := assign(t, p, tt.code, tt.handler, nil)
			var failed *runtimeapi.InitError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v; log: %s", err, p.Log())
			}
			got := decode[pythonError](t, failed.Body)
			if failed.Type != tt.kind || got.ErrorType != tt.kind || got.RequestID != "" || !regexp.MustCompile(tt.message).MatchString(got.ErrorMessage) {
				t.Errorf("got %s %+v", failed.Type, got)
			}
			if st := p.Wait(); st.ExitCode() != 1 {
				t.Errorf("it ended with %s", st)
			}
			if !strings.Contains(p.Log(), "[ERROR] "+tt.kind+": ") {
				t.Errorf("the log does not tell: %s", p.Log())
			}
		})
	}
}

func TestPythonContextIsComplete(t *testing.T) {
	t.Parallel()
	p := python(t, `
import os
def handler(event, c):
    c.log("logged\n")
    left = c.get_remaining_time_in_millis()
    out = {k: v for k, v in vars(c).items() if isinstance(v, (str, type(None)))}
    out["left"] = 0 < left <= 3000
    out["trace"] = os.environ.get("_X_AMZN_TRACE_ID")
    out["identity"] = [c.identity.cognito_identity_id, c.identity.cognito_identity_pool_id]
    cc = c.client_context
    out["client"] = cc and [cc.custom, cc.env, cc.client.app_title, cc.client.installation_id]
    out["repr"] = repr(c).startswith("LambdaContext([aws_request_id=")
    return out
`)
	e := event(requestID, `{}`)
	e.TraceID, e.TenantID = "Root=1-5759e988-bd862e3fe1be46a994272793", "blue"
	e.ClientContext, e.CognitoIdentity = `{"client":{"app_title":"t"},"custom":{"k":"v"}}`, `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`
	a, err := invoke(t, p, e)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"function_name": "fn", "function_version": "$LATEST", "memory_limit_in_mb": "128", "invoked_function_arn": arn,
		"aws_request_id": requestID, "log_group_name": "/aws/lambda/fn", "log_stream_name": "2026/01/02/[$LATEST]0123456789abcdef",
		"tenant_id": "blue", "trace": "Root=1-5759e988-bd862e3fe1be46a994272793", "left": true, "repr": true,
		"identity": []any{"i", "p"}, "client": []any{map[string]any{"k": "v"}, nil, "t", nil},
	}
	if diff := cmp.Diff(want, decode[map[string]any](t, a.Payload)); diff != "" {
		t.Error(diff)
	}
	for _, key := range []string{"tenant_id", "trace", "client"} {
		want[key] = nil
	}
	want["identity"], want["client_context"] = []any{nil, nil}, nil
	if diff := cmp.Diff(want, decode[map[string]any](t, call(t, p, `{}`).Payload)); diff != "" {
		t.Error(diff)
	}
	p.AwaitLog(t, "logged\nlogged\n")
	e = event(requestID, `{}`)
	e.ClientContext = `{nonsense`
	if a, err := invoke(t, p, e); err != nil || a.ErrorType != "Runtime.LambdaContextUnmarshalError" {
		t.Errorf("got %q %s, %v", a.ErrorType, a.Payload, err)
	}
}

func TestPythonEnvironmentIsWhatWasAssignedAndNothingElse(t *testing.T) {
	t.Parallel()
	p := ready(t, lambent.FamilyPython, function{"app.py": `
import os, subprocess, sys, time
def handler(event, context):
    child = subprocess.run("env; ls -l /proc/self/fd", shell=True, close_fds=False, stdout=subprocess.PIPE).stdout.decode()
    return {"env": dict(os.environ), "cwd": os.getcwd(), "child": child, "zone": time.timezone, "argv": sys.argv, "quit": callable(exit)}
`}, "app.handler", map[string]string{"TZ": "Asia/Tokyo", "MINE": "ü\nx"})
	got := decode[struct {
		Env   map[string]string
		Cwd   string
		Child string
		Zone  int
		Argv  []string
		Quit  bool
	}](t, call(t, p, `{}`).Payload)
	root := got.Env["LAMBDA_TASK_ROOT"]
	want := map[string]string{"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo", "LAMBDA_TASK_ROOT": root, "_HANDLER": "app.handler", "MINE": "ü\nx"}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Error(diff)
	}
	if got.Cwd != root || got.Zone != -9*3600 || !cmp.Equal(got.Argv, []string{""}) || !got.Quit {
		t.Errorf("got %+v", got)
	}
	if strings.Contains(got.Child, "BEFORE_ASSIGN") || !strings.Contains(got.Child, "MINE=ü") {
		t.Errorf("a child sees %s", got.Child)
	}
	if strings.Contains(got.Child, " 3 -> socket:") || !strings.Contains(got.Child, " 3 -> /proc/") {
		t.Errorf("a child has the host's connection: %s", got.Child)
	}
}

func TestPythonLogFormats(t *testing.T) {
	t.Parallel()
	const source = `
import logging, sys
logging.warning("at init")
log = logging.getLogger("mine")
def handler(event, context):
    print("two\nlines")
    log.info("i")
    log.warning("w %s", "x")
    try:
        1/0
    except ZeroDivisionError:
        log.exception("caught")
    log.error("with", extra={"order": 7})
    print("é", end="")
    sys.stderr.write("raw\n")
`
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
	check := func(t *testing.T, env map[string]string, want string) {
		t.Helper()
		p := ready(t, lambent.FamilyPython, function{"app.py": source}, "app.handler", env)
		call(t, p, `{}`)
		got := p.AwaitLog(t, "é") // without a newline it is written at the answer
		if !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	line := func(level, message string) string {
		return `\[` + level + `\]` + "\t" + stamp + "\t" + requestID + "\t" + message + "\n"
	}
	const tail = "raw\né"
	trace := `Traceback \(most recent call last\):\n(.*\n)+ZeroDivisionError: division by zero`
	t.Run("text", func(t *testing.T) {
		check(t, nil, `\[WARNING\]`+"\t"+stamp+"\t\tat init\ntwo\nlines\n"+line("WARNING", "w x")+line("ERROR", "caught\n"+trace)+line("ERROR", "with")+tail)
	})
	t.Run("text from INFO", func(t *testing.T) {
		check(t, map[string]string{"AWS_LAMBDA_LOG_LEVEL": "INFO"}, `\[WARNING\]`+"\t"+stamp+"\t\tat init\ntwo\nlines\n"+line("INFO", "i")+
			line("WARNING", "w x")+line("ERROR", "caught\n"+trace)+line("ERROR", "with")+tail)
	})
	t.Run("JSON", func(t *testing.T) {
		json := func(level, message, logger, id, more string) string {
			return `\{"timestamp": "` + stamp + `", "level": "` + level + `", "message": "` + message + `", "logger": "` + logger + `", "requestId": "` + id + `"` + more + `\}` + "\n"
		}
		check(t, map[string]string{"AWS_LAMBDA_LOG_FORMAT": "JSON"}, json("WARNING", "at init", "root", "", "")+"two\nlines\n"+json("WARNING", "w x", "mine", requestID, "")+
			json("ERROR", "caught", "mine", requestID, `, "stackTrace": \[".*"\], "errorType": "ZeroDivisionError", "errorMessage": "division by zero", "location": ".*app.py:handler:\d+"`)+
			json("ERROR", "with", "mine", requestID, `, "order": 7`)+tail)
	})
}

func TestPythonLogIsCompleteBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	p := python(t, "def handler(event, context):\n    for i in range(2000):\n        print('x' * 100)\n    print('end')\n")
	call(t, p, `{}`)
	if n := strings.Count(p.AwaitLog(t, "end\n"), strings.Repeat("x", 100)+"\n"); n != 2000 {
		t.Errorf("%d lines of 2000", n)
	}
}

func TestPythonStateIsKeptBetweenEvents(t *testing.T) {
	t.Parallel()
	p := python(t, "n = 0\ndef handler(event, context):\n    global n\n    n += 1\n    return n\n")
	for _, want := range []string{"1", "2", "3"} {
		if a := call(t, p, `{}`); string(a.Payload) != want {
			t.Errorf("got %s, want %s", a.Payload, want)
		}
	}
}

func TestPythonWaysToEndTheProcess(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source, log string
		status      int
	}{
		"sys.exit":  {"import sys\ndef handler(event, context):\n    print('partly', end='')\n    sys.exit(3)\n", "partly", 3},
		"exit":      {"def handler(event, context):\n    exit()\n", "", 0},
		"os._exit":  {"import os\ndef handler(event, context):\n    print('whole')\n    os._exit(4)\n", "whole\n", 4},
		"interrupt": {"def handler(event, context):\n    raise KeyboardInterrupt\n", "KeyboardInterrupt\n", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := python(t, tt.source)
			if _, err := invoke(t, p, event(requestID, `{}`)); !errors.Is(err, runtimeapi.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if st := p.Wait(); st.ExitCode() != tt.status {
				t.Errorf("it ended with %s", st)
			}
			if !strings.HasSuffix(p.Log(), tt.log) {
				t.Errorf("log is %q", p.Log())
			}
		})
	}
}

func TestPythonForkedChildDoesNotSpeakToTheHost(t *testing.T) {
	t.Parallel()
	p := python(t, `
import os, signal
def handler(event, context):
    if event == "fork and answer twice":
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)  # the child answers first, and then finds no host
        return pid
    if event == "fork":
        pid = os.fork()
        if pid == 0:
            while True:
                signal.pause()
        return pid
    os._exit(3)
`)
	for range 2 {
		if a := call(t, p, `"fork and answer twice"`); string(a.Payload) == "0" {
			t.Error("the child's answer came through")
		}
	}
	child := decode[int](t, call(t, p, `"fork"`).Payload)
	_, err := invoke(t, p, event(requestID, `"exit"`)) // the child lives on
	if killErr := syscall.Kill(child, syscall.SIGKILL); killErr != nil {
		t.Error(killErr)
	}
	if !errors.Is(err, runtimeapi.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestPythonUserCodeThatClosesItsOutputStillAnswers(t *testing.T) {
	t.Parallel()
	p := python(t, "import sys, json\nsys.stdout.close()\njson.dumps = json.loads = None\ndef handler(event, context):\n    if event: raise ValueError('x')\n    return 1\n")
	if a := call(t, p, `{}`); string(a.Payload) != "1" {
		t.Errorf("got %q %s; log %s", a.ErrorType, a.Payload, p.Log())
	}
	if a := call(t, p, `{"a":1}`); a.ErrorType != "ValueError" {
		t.Errorf("got %q %s; log %s", a.ErrorType, a.Payload, p.Log())
	}
}

func TestSecurityPythonUserCodeOnTheHostsDescriptorHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"garbage": "import os\ndef handler(event, context):\n    os.write(3, b'\\xff' * 5)\n",
		"closed":  "import os\ndef handler(event, context):\n    os.close(3)\n",
		"forged":  "import os\ndef handler(event, context):\n    os.write(3, b'\\x05\\0\\0\\0\\x13\\x01xyz')\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := python(t, source)
			if a, err := invoke(t, p, event(requestID, `{}`)); err == nil {
				t.Fatalf("answered: %+v", a)
			}
			<-p.Done()
		})
	}
}
