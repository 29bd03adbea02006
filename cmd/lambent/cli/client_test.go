package cli

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDeployMakesANewFunctionAndWaitsUntilItCanBeCalled(t *testing.T) {
	f := newFakeServer()
	dir := t.TempDir()
	writeFile(t, dir, "index.mjs", "export const handler = async () => 1")
	code, out, errOut := f.run(t, map[string]string{"AWS_ACCESS_KEY_ID": "123456789012"}, "deploy", dir, "--name", "hello", "--memory", "256", "--env", "A=1,2;3=4", "--env", "B=")
	check(t, "deploy", code, 0, errOut, "guessed from index.mjs: --runtime nodejs22.x --handler index.handler", "hello is new")
	if want := "arn:aws:lambda:us-east-1:000000000000:function:hello\n"; out != want {
		t.Errorf("it printed %q, want %q", out, want)
	}
	if diff := cmp.Diff([]string{"POST /2015-03-31/functions"}, f.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	body := f.bodies[0]
	zip := body["Code"].(map[string]any)["ZipFile"].(string)
	if data, err := base64.StdEncoding.DecodeString(zip); err != nil || !strings.HasPrefix(string(data), "PK") {
		t.Errorf("the code is not a zip in base64: %.20q", zip)
	}
	delete(body, "Code")
	want := map[string]any{
		"FunctionName": "hello", "Runtime": "nodejs22.x", "Handler": "index.handler", "MemorySize": 256.0,
		"Role": "arn:aws:iam::123456789012:role/lambent", "Environment": map[string]any{"Variables": map[string]any{"A": "1,2;3=4", "B": ""}},
	}
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(f.auth, "AWS4-HMAC-SHA256 Credential=123456789012/") || !strings.Contains(f.auth, "/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0000") {
		t.Errorf("Authorization: %s", f.auth)
	}
}

func TestDeployUpdatesOnlyWhatIsGiven(t *testing.T) {
	f := newFakeServer()
	dir := t.TempDir()
	file := writeFile(t, dir, "app.py", "def handler(event, context): pass")
	if code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello"); code != 0 {
		t.Fatal(errOut)
	}
	f.requests, f.bodies = nil, nil
	code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello")
	check(t, "deploy again", code, 0, errOut, "hello is there: new code")
	code, _, errOut = f.run(t, nil, "deploy", file, "--name", "hello", "--timeout", "9", "--handler", "app.handler")
	check(t, "deploy with settings", code, 0, errOut, "hello has new settings: Handler, Timeout", "hello is there: new code")
	want := []string{
		"PUT /2015-03-31/functions/hello/code",
		"PUT /2015-03-31/functions/hello/code", "PUT /2015-03-31/functions/hello/configuration", "PUT /2015-03-31/functions/hello/code",
	}
	if diff := cmp.Diff(want, f.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"Timeout": 9.0, "Handler": "app.handler"}, f.bodies[2]); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestARefusedDeployChangesNothingAndClaimsNothing(t *testing.T) {
	file := writeFile(t, t.TempDir(), "app.py", "def handler(event, context): pass")
	for _, what := range []string{"code", "configuration"} {
		f := newFakeServer()
		if code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello"); code != 0 {
			t.Fatal(errOut)
		}
		f.requests, f.bodies, f.refuse = nil, nil, what
		code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello", "--timeout", "0")
		check(t, "a deploy whose "+what+" is refused", code, 2, errOut, "not taken")
		if strings.Contains(errOut, "new code") || strings.Contains(errOut, "new settings") {
			t.Errorf("%s: it claims:\n%s", what, errOut)
		}
		for k, r := range f.requests {
			if what == "configuration" && strings.HasSuffix(r, "/configuration") && f.bodies[k]["Timeout"] != 0.0 {
				t.Errorf("--timeout 0 was not sent: %v", f.bodies[k])
			}
			if dry := f.bodies[k]["DryRun"] == true; strings.HasSuffix(r, "/code") && !dry {
				t.Errorf("%s: the code was changed: %s", what, f.requests)
			}
		}
		if what == "code" && len(f.requests) != 1 {
			t.Errorf("the settings were changed for code that was refused: %s", f.requests)
		}
	}
}

func TestAnswersOfOtherServersAreNoSuccess(t *testing.T) {
	for body, status := range map[string]int{"": 200, "null": 200, "[]": 200, "{}": 200, "<html>": 200, "ok": 204} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		for _, args := range [][]string{{"rm", "f"}, {"invoke", "f"}, {"invoke", "f", "--async"}, {"ps"}, {"ls"}, {"logs", "f"}} {
			code, out, errOut := run(t.Context(), nil, map[string]string{"AWS_ENDPOINT_URL": srv.URL}, nil, args...)
			if code != 2 || out != "" || !strings.Contains(errOut, "is not a lambent server") {
				t.Errorf("%v from a server that answers %d %q: %d %q %q", args, status, body, code, out, errOut)
			}
		}
		srv.Close()
	}
	// Another of AWS's kind, which answers 200 to all.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Amzn-Requestid", "r") }))
	defer srv.Close()
	for _, args := range [][]string{{"rm", "f"}, {"invoke", "f"}} {
		if code, out, errOut := run(t.Context(), nil, map[string]string{"AWS_ENDPOINT_URL": srv.URL}, nil, args...); code != 2 || out != "" {
			t.Errorf("%v: %d %q %q", args, code, out, errOut)
		}
	}
}

func TestEventsAreReadToTheirBound(t *testing.T) {
	f := newFakeServer()
	f.invoke = func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }
	code, _, errOut := f.run(t, nil, "invoke", "f", "--payload", "@/dev/zero")
	check(t, "an event without an end", code, 2, errOut, "the event in /dev/zero is larger than an event may be")
	srv := httptest.NewServer(f)
	defer srv.Close()
	for _, from := range []string{"-", "@-"} {
		code, out, errOut := run(t.Context(), strings.NewReader(`{"from":1}`), map[string]string{"AWS_ENDPOINT_URL": srv.URL}, nil, "invoke", "f", "--payload", from)
		if code != 0 || out != "{\"from\":1}\n" {
			t.Errorf("--payload %s: %d %q %q", from, code, out, errOut)
		}
	}
}

func TestDeployTellsWhyAFunctionFailedAndNewCodeMendsIt(t *testing.T) {
	f := newFakeServer()
	f.becomes = "Failed"
	file := writeFile(t, t.TempDir(), "app.py", "def handler(event, context): pass")
	code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello")
	check(t, "deploy", code, 2, errOut, "deploy hello: the function is Failed: it was told to")
	code, _, errOut = f.run(t, nil, "deploy", file, "--name", "hello")
	check(t, "deploy again", code, 0, errOut, "new code")
}

func TestDeploySaysWhatToDoWhereItCannotGuess(t *testing.T) {
	f := newFakeServer()
	file := writeFile(t, t.TempDir(), "notes.txt", "hello")
	code, _, errOut := f.run(t, nil, "deploy", file, "--name", "hello")
	check(t, "deploy", code, 2, errOut, "say what it is with --runtime and --handler")
	code, _, errOut = f.run(t, nil, "deploy", file, "--name", "hello", "--runtime", "nodejs20.x", "--handler", "a.b")
	check(t, "deploy with both", code, 0, errOut)
}

func echo(w http.ResponseWriter, r *http.Request) {
	header(w, "X-Amzn-Requestid", "id-1", "X-Lambent-Start-Kind", "warm_pool", "X-Lambent-Reason", "a warm one was there",
		"X-Lambent-Instance-Id", "i-1", "X-Lambent-Container-Id", "c-1", "X-Lambent-Served-Version", "$LATEST",
		"X-Lambent-Received-At", "2026-01-02T03:04:05.000Z", "X-Lambent-Exec-Started-At", "2026-01-02T03:04:05.0085Z")
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		header(w, "X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte("START\n\x1b[31mred\n")))
	}
	if r.Header.Get("X-Amz-Invocation-Type") == "Event" {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	write(w, "%s", body)
}

func TestInvokePrintsTheAnswerAndNothingElseOnStandardOutput(t *testing.T) {
	f := newFakeServer()
	f.invoke = echo
	event := writeFile(t, t.TempDir(), "event.json", `{"from":"file"}`)
	for _, tc := range []struct {
		args    []string
		out     string
		request string
		err     []string
	}{
		{[]string{"--payload", `{"a":1}`}, "{\"a\":1}\n", "/invocations", nil},
		{[]string{"-p", "@" + event}, "{\"from\":\"file\"}\n", "/invocations", nil},
		{[]string{"-q", "live one"}, "\n", "/invocations?Qualifier=live+one", nil},
		{[]string{"-p", "1", "--log"}, "1\n", "/invocations", []string{"START\n", `\x1b[31mred`}},
		{[]string{"-p", "1", "-v"}, "1\n", "/invocations", []string{
			"request     id-1", "start       warm_pool (a warm one was there)", "instance    i-1", "container   c-1", "version     $LATEST", "started in  8.50 ms", "answered in",
		}},
		{[]string{"-p", "1", "--async"}, "", "/invocations", []string{"accepted, request id-1"}},
	} {
		f.requests = nil
		code, out, errOut := f.run(t, nil, append([]string{"invoke", "hello"}, tc.args...)...)
		check(t, "invoke "+strings.Join(tc.args, " "), code, 0, errOut, tc.err...)
		if out != tc.out {
			t.Errorf("invoke %v printed %q, want %q", tc.args, out, tc.out)
		}
		if diff := cmp.Diff([]string{"POST /2015-03-31/functions/hello" + tc.request}, f.requests); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	}
}

func TestInvokeTellsFunctionErrorsFromPlatformErrorsByItsExitStatus(t *testing.T) {
	f := newFakeServer()
	f.invoke = func(w http.ResponseWriter, _ *http.Request) {
		header(w, "X-Amz-Function-Error", "Unhandled", "X-Amzn-Requestid", "id-2")
		write(w, `{"errorType":"Error","errorMessage":"no"}`)
	}
	code, out, errOut := f.run(t, nil, "invoke", "hello")
	check(t, "a function error", code, 1, errOut, "the function failed (Unhandled)", "lambent logs hello --request-id id-2")
	if want := "{\"errorType\":\"Error\",\"errorMessage\":\"no\"}\n"; out != want {
		t.Errorf("it printed %q, want %q", out, want)
	}

	f.invoke = func(w http.ResponseWriter, _ *http.Request) {
		header(w, "X-Amzn-Errortype", "ResourceNotFoundException:http://internal.amazon.com/")
		w.WriteHeader(http.StatusNotFound)
		write(w, `{"Type":"User","Message":"Function not found: arn"}`)
	}
	code, _, errOut = f.run(t, nil, "invoke", "hello")
	check(t, "a platform error", code, 2, errOut, "invoke hello: ResourceNotFoundException: Function not found: arn (HTTP 404)", "see: lambent ls")

	f.invoke = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		write(w, "<h1>\x1bsome\nproxy</h1>")
	}
	code, _, errOut = f.run(t, nil, "invoke", "hello")
	check(t, "another server", code, 2, errOut, "Bad Gateway: <h1>\\x1bsome\nproxy</h1> (HTTP 502)")
}

func TestInvokeReadsTheEventFromStandardInput(t *testing.T) {
	got, err := readPayload("-", strings.NewReader(`{"x":1}`))
	if err != nil || string(got) != `{"x":1}` {
		t.Errorf("readPayload = %q, %v", got, err)
	}
}

func TestNamesAreEscapedInPaths(t *testing.T) {
	if got, want := functionPath("a:live/../x", "/code"), "/2015-03-31/functions/a:live%2F..%2Fx/code"; got != want {
		t.Errorf("functionPath = %s, want %s", got, want)
	}
}

func TestLsListsAllPages(t *testing.T) {
	f := newFakeServer()
	f.pageSize = 2
	code, out, errOut := f.run(t, nil, "ls")
	check(t, "ls of nothing", code, 0, errOut, "account 000000000000 has no functions", "lambent deploy")
	if out != "" {
		t.Errorf("ls of nothing printed %q", out)
	}
	for _, n := range []string{"a", "b", "c"} {
		f.functions[n] = map[string]any{"FunctionName": n, "Runtime": "nodejs22.x", "Handler": "index.handler", "MemorySize": 128, "Timeout": 3,
			"CodeSize": 12345, "LastModified": "2026-01-01T00:00:00.000+0000"}
	}
	f.functions["c"]["Runtime"] = ""
	code, out, errOut = f.run(t, nil, "ls")
	check(t, "ls", code, 0, errOut)
	want := `FUNCTION  RUNTIME     HANDLER        MEMORY  TIMEOUT  CODE     MODIFIED
a         nodejs22.x  index.handler  128 MB  3 s      12.3 KB  2026-01-01T00:00:00.000+0000
b         nodejs22.x  index.handler  128 MB  3 s      12.3 KB  2026-01-01T00:00:00.000+0000
c         -           index.handler  128 MB  3 s      12.3 KB  2026-01-01T00:00:00.000+0000
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("ls (-want +got):\n%s", diff)
	}
	if _, out, _ := f.run(t, nil, "ls", "-q"); out != "a\nb\nc\n" {
		t.Errorf("ls -q printed %q", out)
	}
}

func TestRmDeletesTheOthersWhereOneIsNotThere(t *testing.T) {
	f := newFakeServer()
	f.functions["a"], f.functions["c"] = map[string]any{}, map[string]any{}
	code, out, errOut := f.run(t, nil, "rm", "a", "b", "c")
	check(t, "rm", code, 2, errOut, "delete b: ResourceNotFoundException")
	if out != "a\nc\n" || len(f.functions) != 0 {
		t.Errorf("rm printed %q and left %v", out, f.functions)
	}
}
