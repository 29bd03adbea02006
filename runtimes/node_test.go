package runtimes_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/runtimetest"
)

// node starts a Node function whose handler is index.handler.
func node(t testing.TB, source string) *runtimetest.Process {
	t.Helper()
	return ready(t, lambent.FamilyNode, function{"index.js": source}, "index.handler", nil)
}

// nodeError is AWS's error JSON of Node.
type nodeError struct {
	ErrorType    string   `json:"errorType"`
	ErrorMessage string   `json:"errorMessage"`
	Trace        []string `json:"trace"`
}

func decode[T any](t testing.TB, b []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}

func TestNodeHandlerForms(t *testing.T) {
	t.Parallel()
	const cjs, esm = `exports.fn = async () => "got it";`, `export const fn = async () => "got it";`
	for handler, code := range map[string]function{
		"index.fn":         {"index.js": cjs},
		"lib/deep.fn":      {"lib/deep.js": cjs},
		"common.fn":        {"common.cjs": cjs, "package.json": `{"type":"module"}`},
		"module.fn":        {"module.mjs": esm},
		"typed.fn":         {"typed.js": esm, "package.json": `{"type":"module"}`},
		"sub/typed.fn":     {"sub/typed.js": cjs, "sub/package.json": `{}`, "package.json": `{"type":"module"}`},
		"nest.a.b.fn":      {"nest.js": `exports.a = {b: {fn: async () => "got it"}};`},
		"lib/nest.a.fn":    {"lib/nest.mjs": `export const a = {fn: async () => "got it"};`},
		"top.fn":           {"top.mjs": `const later = await Promise.resolve("got it"); export const fn = async () => later;`},
		"noext.fn":         {"noext": cjs},
		"folder.fn":        {"folder/index.js": cjs},
		"dep.fn":           {"dep.js": `exports.fn = async () => require("dep").x;`, "node_modules/dep/index.js": `exports.x = "got it";`},
		"esdep.fn":         {"esdep.mjs": `import x from "dep"; export const fn = async () => x;`, "node_modules/dep/index.js": `module.exports = "got it";`},
		"class.instance.m": {"class.js": `class K { static m = async () => "got it" }; exports.instance = K;`},
	} {
		t.Run(handler, func(t *testing.T) {
			t.Parallel()
			p := ready(t, lambent.FamilyNode, code, handler, nil)
			if a := call(t, p, `{}`); string(a.Payload) != `"got it"` {
				t.Errorf("got %q %s; log: %s", a.ErrorType, a.Payload, p.Log())
			}
		})
	}
}

func TestNodeWaysToAnswer(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ source, want string }{
		"async":                   {`exports.handler = async (e) => ({e});`, `{"e":{"k":1}}`},
		"async without a value":   {`exports.handler = async () => {};`, `null`},
		"promise":                 {`exports.handler = () => new Promise((ok) => setTimeout(ok, 1, "later"));`, `"later"`},
		"thenable":                {`exports.handler = () => ({then: (ok) => ok("thenable")});`, `"thenable"`},
		"callback":                {`exports.handler = (e, c, cb) => cb(null, e.k);`, `1`},
		"callback without value":  {`exports.handler = (e, c, cb) => cb();`, `null`},
		"callback later":          {`exports.handler = (e, c, cb) => { setTimeout(() => cb(null, 2), 1); };`, `2`},
		"callback in async":       {`exports.handler = async (e, c, cb) => { cb(null, "cb"); await new Promise((ok) => setTimeout(ok, 5)); return "late"; };`, `"cb"`},
		"callback, loop not done": {`exports.handler = (e, c, cb) => { c.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); cb(null, "now"); };`, `"now"`},
		"callback waits for loop": {`let n = 0; exports.handler = (e, c, cb) => { setTimeout(() => { e.k = 2; }, 5); cb(null, e); };`, `{"k":2}`},
		"first callback counts":   {`exports.handler = (e, c, cb) => { cb(null, 1); cb(null, 2); };`, `1`},
		"never called back":       {`exports.handler = () => {};`, `null`},
		"returned without async":  {`exports.handler = () => "ignored";`, `null`},
		"context.succeed":         {`exports.handler = (e, c) => c.succeed("s");`, `"s"`},
		"context.done":            {`exports.handler = (e, c) => c.done(null, "d");`, `"d"`},
		"not JSON":                {`exports.handler = async () => () => 1;`, `null`},
		"text beyond ASCII":       {`exports.handler = async () => "é€𝄞\u0000";`, "\"é€𝄞\\u0000\""},
		"stream":                  {`exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write("a"); s.write("b"); s.end(); });`, `ab`},
		"stream with prelude": {`exports.handler = awslambda.streamifyResponse(async (e, s) => { s = awslambda.HttpResponseStream.from(s, {statusCode: 200}); s.write("b"); s.end(); });`,
			`{"statusCode":200}` + strings.Repeat("\x00", 8) + `b`},
		"stream by pipeline": {`const {pipeline} = require("stream/promises"), {Readable} = require("stream");
			exports.handler = awslambda.streamifyResponse(async (e, s) => { await pipeline(Readable.from(["x", "y"]), s); });`, `xy`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, tt.source)
			for range 2 { // and it works again
				if a := call(t, p, `{"k":1}`); string(a.Payload) != tt.want || a.ErrorType != "" {
					t.Fatalf("got %q %s, want %s; log: %s", a.ErrorType, a.Payload, tt.want, p.Log())
				}
			}
		})
	}
}

func TestNodeErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source string
		want   nodeError // trace: its first line
	}{
		"thrown":               {`exports.handler = async () => { throw new TypeError("bad"); };`, nodeError{"TypeError", "bad", []string{"TypeError: bad"}}},
		"thrown at once":       {`exports.handler = () => { throw new RangeError("bad"); };`, nodeError{"RangeError", "bad", []string{"RangeError: bad"}}},
		"of a class":           {`class Mine extends Error { constructor(m) { super(m); this.name = "Mine"; } }; exports.handler = async () => { throw new Mine("m"); };`, nodeError{"Mine", "m", []string{"Mine: m"}}},
		"a string":             {`exports.handler = async () => { throw "text"; };`, nodeError{"string", "text", nil}},
		"an object":            {`exports.handler = async () => { throw {a: 1}; };`, nodeError{"object", "[object Object]", nil}},
		"undefined":            {`exports.handler = async () => { throw undefined; };`, nodeError{"string", "handled", nil}},
		"callback":             {`exports.handler = (e, c, cb) => cb(new Error("cb"));`, nodeError{"Error", "cb", []string{"Error: cb"}}},
		"callback with text":   {`exports.handler = (e, c, cb) => cb("cb");`, nodeError{"string", "cb", nil}},
		"context.fail":         {`exports.handler = (e, c) => c.fail(new Error("f"));`, nodeError{"Error", "f", []string{"Error: f"}}},
		"circular":             {`exports.handler = async () => { const a = {}; a.a = a; return a; };`, nodeError{"Error", "Unable to stringify response body", []string{"Error: Unable to stringify response body"}}},
		"big integer":          {`exports.handler = async () => 1n;`, nodeError{"Error", "Unable to stringify response body", []string{"Error: Unable to stringify response body"}}},
		"promise never ends":   {`exports.handler = async () => new Promise(() => {});`, nodeError{"Runtime.NodeJsExit", "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes", nil}},
		"getter that throws":   {`exports.handler = async () => { const e = new Error("x"); Object.defineProperty(e, "message", {get() { throw 1; }}); throw e; };`, nodeError{"handled", "callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack", nil}},
		"stream not ended":     {`exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write("a"); });`, nodeError{"string", "Response stream is not finished.", nil}},
		"stream without async": {`exports.handler = awslambda.streamifyResponse((e, s) => { s.end(); });`, nodeError{"string", "Streaming does not support non-async handlers.", nil}},
		"stream that throws":   {`exports.handler = awslambda.streamifyResponse(async () => { throw new Error("s"); });`, nodeError{"Error", "s", []string{"Error: s"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, tt.source)
			for range 2 { // and it lives on
				a := call(t, p, `{}`)
				got := decode[nodeError](t, a.Payload)
				if len(tt.want.Trace) > 0 {
					if len(got.Trace) < 2 || !strings.Contains(strings.Join(got.Trace, "\n"), "index.js") && name != "circular" && name != "big integer" {
						t.Errorf("trace is %q", got.Trace)
					}
					got.Trace = got.Trace[:1]
				} else {
					got.Trace = nil
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s; log: %s", diff, p.Log())
				}
				if a.ErrorType != got.ErrorType {
					t.Errorf("the host is told %q, the caller %q", a.ErrorType, got.ErrorType)
				}
			}
		})
	}
}

func TestNodeStreamOverTheLimitIsTold(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = awslambda.streamifyResponse(async (n, s) => { for (let i = 0; i < n; i++) s.write(Buffer.alloc(1e6)); s.end(); });`)
	if a := call(t, p, `7`); a.ErrorType != "Function.ResponseSizeTooLarge" {
		t.Errorf("got %q and %d bytes", a.ErrorType, len(a.Payload))
	}
	if a := call(t, p, `6`); a.ErrorType != "" || len(a.Payload) != 6e6 {
		t.Errorf("got %q and %d bytes", a.ErrorType, len(a.Payload))
	}
}

func TestNodeCodeThatFailsWhereNobodyWaitsEndsTheProcess(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		source, kind, message string
		status                int
	}{
		"uncaught exception":  {`exports.handler = () => { setTimeout(() => { throw new Error("late"); }, 1); };`, "Error", "late", 129},
		"unhandled rejection": {`exports.handler = () => { Promise.reject(new Error("lost")); setTimeout(() => {}, 1000); };`, "Runtime.UnhandledPromiseRejection", "Error: lost", 128},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, tt.source)
			a := call(t, p, `{}`)
			if got := decode[nodeError](t, a.Payload); got.ErrorType != tt.kind || got.ErrorMessage != tt.message {
				t.Errorf("got %+v", got)
			}
			if st := p.Wait(); st.ExitCode() != tt.status {
				t.Errorf("it ended with %s", st)
			}
		})
	}
}

func TestNodeInitErrors(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		code    function
		handler string
		kind    string
		message string // a regular expression
	}{
		"no module":            {function{"x.js": ``}, "index.handler", "Runtime.ImportModuleError", `^Error: Cannot find module 'index'`},
		"no dependency":        {function{"index.js": `require("nothing-like-it");`}, "index.handler", "Runtime.ImportModuleError", `^Error: Cannot find module 'nothing-like-it'`},
		"no export":            {function{"index.js": `exports.x = 1;`}, "index.handler", "Runtime.HandlerNotFound", `^index\.handler is undefined or not exported$`},
		"not a function":       {function{"index.js": `exports.handler = 1;`}, "index.handler", "Runtime.HandlerNotFound", `^index\.handler is not a function$`},
		"no dot":               {function{"index.js": ``}, "index", "Runtime.MalformedHandlerName", `^Bad handler$`},
		"out of the root":      {function{"index.js": ``}, "../index.handler", "Runtime.MalformedHandlerName", `is not a valid handler name`},
		"syntax error":         {function{"index.js": `exports.handler = (;`}, "index.handler", "Runtime.UserCodeSyntaxError", `^SyntaxError: Unexpected token`},
		"ES syntax error":      {function{"index.mjs": `export const = 1;`}, "index.handler", "Runtime.UserCodeSyntaxError", `^SyntaxError: `},
		"throws at load":       {function{"index.js": `throw new TypeError("no");`}, "index.handler", "TypeError", `^no$`},
		"rejects at load":      {function{"index.mjs": `await Promise.reject(new RangeError("no"));`}, "index.handler", "RangeError", `^no$`},
		"throws no error":      {function{"index.js": `throw "text";`}, "index.handler", "string", `^text$`},
		"late, at load":        {function{"index.mjs": `setTimeout(() => { throw new Error("late") }, 1); await new Promise((ok) => setTimeout(ok, 5000));`}, "index.handler", "Error", `^late$`},
		"lost, at load":        {function{"index.mjs": `Promise.reject(1); await new Promise((ok) => setTimeout(ok, 5000));`}, "index.handler", "Runtime.UnhandledPromiseRejection", `^1$`},
		"lost, then loaded":    {function{"index.js": `Promise.reject(new Error("async load")); exports.handler = async () => 1;`}, "index.handler", "Runtime.UnhandledPromiseRejection", `^Error: async load$`},
		"lost by an ES module": {function{"index.mjs": `Promise.reject(new Error("async load")); export const handler = async () => 1;`}, "index.handler", "Runtime.UnhandledPromiseRejection", `^Error: async load$`},
		"thrown, then loaded":  {function{"index.js": `process.nextTick(() => { throw new TypeError("soon") }); exports.handler = async () => 1;`}, "index.handler", "TypeError", `^soon$`},
		"unknown stream":       {function{"index.js": `exports.handler = async () => {}; exports.handler[Symbol.for("aws.lambda.runtime.handler.streaming")] = "request";`}, "index.handler", "Runtime.MalformedStreamingHandler", `^Only response streaming is supported\.$`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, lambent.FamilyNode)
			err := assign(t, p, tt.code, tt.handler, nil)
			var failed *runtimeapi.InitError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v; log: %s", err, p.Log())
			}
			got := decode[nodeError](t, failed.Body)
			if failed.Type != tt.kind || got.ErrorType != tt.kind || !regexp.MustCompile(tt.message).MatchString(got.ErrorMessage) {
				t.Errorf("got %s %+v", failed.Type, got)
			}
			if st := p.Wait(); st.ExitCode() == 0 {
				t.Error("it ended as if all was well")
			}
			if !strings.Contains(p.Log(), "\tundefined\tERROR\t") {
				t.Errorf("the log does not tell: %s", p.Log())
			}
		})
	}
}

func TestNodeModuleThatExitsAtLoadIsClosed(t *testing.T) {
	t.Parallel()
	for _, source := range []string{`process.exit(5);`, `process.kill(process.pid, "SIGKILL");`} {
		p := start(t, lambent.FamilyNode)
		if err := assign(t, p, function{"index.js": source}, "index.handler", nil); !errors.Is(err, runtimeapi.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func TestNodeContextIsComplete(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async (e, c) => ({...c, left: c.getRemainingTimeInMillis(), trace: process.env._X_AMZN_TRACE_ID});`)
	e := event(requestID, `{}`)
	e.TraceID, e.TenantID = "Root=1-5759e988-bd862e3fe1be46a994272793", "blue"
	e.ClientContext, e.CognitoIdentity = `{"client":{"app_title":"t"},"Custom":{"k":"v"}}`, `{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}`
	a, err := invoke(t, p, e)
	if err != nil {
		t.Fatal(err)
	}
	got := decode[map[string]any](t, a.Payload)
	if left, _ := got["left"].(float64); left <= 0 || left > 3000 {
		t.Errorf("time left: %v", got["left"])
	}
	delete(got, "left")
	want := map[string]any{
		"functionName": "fn", "functionVersion": "$LATEST", "memoryLimitInMB": "128", "invokedFunctionArn": arn,
		"awsRequestId": requestID, "logGroupName": "/aws/lambda/fn", "logStreamName": "2026/01/02/[$LATEST]0123456789abcdef",
		"callbackWaitsForEmptyEventLoop": true, "tenantId": "blue", "trace": "Root=1-5759e988-bd862e3fe1be46a994272793",
		"clientContext": map[string]any{"client": map[string]any{"app_title": "t"}, "Custom": map[string]any{"k": "v"}},
		"identity":      map[string]any{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = decode[map[string]any](t, call(t, p, `{}`).Payload)
	for _, gone := range []string{"trace", "clientContext", "identity", "tenantId"} {
		if v, there := got[gone]; there {
			t.Errorf("%s of the event before is still there: %v", gone, v)
		}
	}
}

func TestNodeEnvironmentIsWhatWasAssignedAndNothingElse(t *testing.T) {
	t.Parallel()
	p := ready(t, lambent.FamilyNode, function{"index.js": `
		const {execSync} = require("child_process");
		exports.handler = async () => ({
			env: {...process.env}, cwd: process.cwd(), child: execSync("env; ls -l /proc/self/fd").toString(), zone: new Date(0).getTimezoneOffset(),
		});`}, "index.handler", map[string]string{"TZ": "Asia/Tokyo", "MINE": "ü\nx"})
	got := decode[struct {
		Env   map[string]string
		Cwd   string
		Child string
		Zone  int
	}](t, call(t, p, `{}`).Payload)
	root := got.Env["LAMBDA_TASK_ROOT"]
	want := map[string]string{"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo", "LAMBDA_TASK_ROOT": root, "_HANDLER": "index.handler", "MINE": "ü\nx"}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Error(diff)
	}
	if got.Cwd != root || got.Zone != -540 {
		t.Errorf("cwd %s, zone %d", got.Cwd, got.Zone)
	}
	if strings.Contains(got.Child, "BEFORE_ASSIGN") || !strings.Contains(got.Child, "MINE=ü") {
		t.Errorf("a child sees %s", got.Child)
	}
	if strings.Contains(got.Child, " 3 -> socket:") || !strings.Contains(got.Child, " 3 -> /proc/") {
		t.Errorf("a child has the host's connection: %s", got.Child)
	}
}

func TestNodeLogFormats(t *testing.T) {
	t.Parallel()
	const source = `console.log("at init");
		exports.handler = async () => {
			console.log("plain %s", "text", {a: [1]}); console.info("two\nlines"); console.warn("w"); console.error(new Error("e").message);
			console.debug("d"); console.trace("t"); process.stdout.write("raw\n");
		};`
	const stamp = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`
	check := func(t *testing.T, env map[string]string, want string) {
		t.Helper()
		p := ready(t, lambent.FamilyNode, function{"index.js": source}, "index.handler", env)
		call(t, p, `{}`)
		if got := p.AwaitLog(t, "raw\n"); !regexp.MustCompile("^" + want + "$").MatchString(got) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	head := stamp + "\t" + requestID + "\t"
	t.Run("text", func(t *testing.T) {
		check(t, nil, stamp+"\tundefined\tINFO\tat init\n"+head+"INFO\tplain text { a: \\[ 1 \\] }\n"+head+"INFO\ttwo\nlines\n"+
			head+"WARN\tw\n"+head+"ERROR\te\n"+head+"DEBUG\td\n"+head+"TRACE\tt\nraw\n")
	})
	t.Run("text from WARN", func(t *testing.T) {
		check(t, map[string]string{"AWS_LAMBDA_LOG_LEVEL": "warn"}, head+"WARN\tw\n"+head+"ERROR\te\nraw\n")
	})
	t.Run("JSON", func(t *testing.T) {
		line := func(level, message string) string {
			return `{"timestamp":"` + stamp + `","level":"` + level + `","requestId":"` + requestID + `","message":` + message + "}\n"
		}
		check(t, map[string]string{"AWS_LAMBDA_LOG_FORMAT": "JSON"},
			`{"timestamp":"`+stamp+`","level":"INFO","message":"at init"}`+"\n"+line("INFO", `"plain text { a: \[ 1 \] }"`)+line("INFO", `"two\\nlines"`)+
				line("WARN", `"w"`)+line("ERROR", `"e"`)+line("DEBUG", `"d"`)+line("TRACE", `"t"`)+"raw\n")
	})
}

func TestNodeErrorIsLoggedAsAWSDoes(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async () => { const e = new Error("bad"); e.extra = 1; throw e; };`)
	call(t, p, `{}`)
	log := p.AwaitLog(t, "\n")
	_, body, ok := strings.Cut(log, "\t"+requestID+"\tERROR\tInvoke Error \t")
	if !ok {
		t.Fatalf("log is %s", log)
	}
	got := decode[map[string]any](t, []byte(body))
	if got["errorType"] != "Error" || got["errorMessage"] != "bad" || got["extra"] != 1.0 || got["stack"] == nil {
		t.Errorf("got %v", got)
	}
}

func TestNodeLogIsCompleteBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async (e) => { for (let i = 0; i < 2000; i++) console.log("x".repeat(100)); process.stdout.write("end\n"); };`)
	call(t, p, `{}`)
	if n := strings.Count(p.AwaitLog(t, "end\n"), strings.Repeat("x", 100)+"\n"); n != 2000 {
		t.Errorf("%d lines of 2000", n)
	}
}

func TestNodeStateIsKeptBetweenEvents(t *testing.T) {
	t.Parallel()
	p := node(t, `let n = 0; exports.handler = async () => ++n;`)
	for _, want := range []string{"1", "2", "3"} {
		if a := call(t, p, `{}`); string(a.Payload) != want {
			t.Errorf("got %s, want %s", a.Payload, want)
		}
	}
}

func TestNodeWorkLeftOverGoesOnInTheNextEvent(t *testing.T) {
	t.Parallel()
	p := node(t, `let late = 0; exports.handler = async () => { const was = late; setTimeout(() => { late++; }, 1); await new Promise((ok) => setTimeout(ok, 20)); return was; };`)
	call(t, p, `{}`)
	if a := call(t, p, `{}`); string(a.Payload) != "1" {
		t.Errorf("got %s", a.Payload)
	}
}

func TestNodeUserCodeThatPatchesWhatEverybodyUsesStillAnswers(t *testing.T) {
	t.Parallel()
	p := node(t, `JSON.stringify = () => "hijacked"; JSON.parse = () => ({}); Date.now = () => 0; require("fs").writeSync = () => 0; process.exit = () => {};
		exports.handler = async (e) => e;`)
	if a := call(t, p, `{"k":1}`); string(a.Payload) != `{"k":1}` {
		t.Errorf("got %s", a.Payload)
	}
}

func TestSecurityNodeUserCodeOnTheHostsDescriptorHarmsOnlyItself(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{
		"garbage": `exports.handler = async () => { require("fs").writeSync(3, Buffer.from([255,255,255,255,255])); };`,
		"closed":  `exports.handler = async () => { require("fs").closeSync(3); };`,
		"forged":  `exports.handler = async () => { require("fs").writeSync(3, Buffer.from([5,0,0,0,0x13,1,0x78,0x79,0x7a])); };`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, source)
			e := event(requestID, `{}`)
			a, err := p.Invoke(t.Context(), e)
			if err == nil {
				t.Fatalf("answered: %+v", a)
			}
			<-p.Done()
		})
	}
}

// Between events the process stands still, so it cannot notice that a server has
// closed a connection it keeps. It must hear of that before it works on the next
// event, or that event's request goes out on a dead connection.
func TestNodeHearsOfItsSocketsBeforeTheNextEvent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }))
	defer srv.Close()
	p := node(t, `const http = require("http"); const agent = new http.Agent({keepAlive: true});
		exports.handler = async (url) => new Promise((ok, no) => {
			http.get(url, {agent}, (r) => { r.resume(); r.on("end", () => ok(r.req.reusedSocket)); }).on("error", no);
		});`)
	url := `"` + srv.URL + `"`
	if a := call(t, p, url); string(a.Payload) != "false" {
		t.Fatalf("got %q %s", a.ErrorType, a.Payload)
	}
	srv.CloseClientConnections()
	<-time.After(100 * time.Millisecond) // the bootstrap looks after a wait of 5 ms and more
	if a := call(t, p, url); string(a.Payload) != "false" {
		t.Errorf("got %q %s", a.ErrorType, a.Payload)
	}
}

func TestNodePayloadThatIsNotJSONIsTheEventsError(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async () => 1;`)
	if a := call(t, p, `{nonsense`); a.ErrorType != "SyntaxError" {
		t.Errorf("got %q %s", a.ErrorType, a.Payload)
	}
	if a := call(t, p, `1`); string(a.Payload) != `1` {
		t.Errorf("got %s", a.Payload)
	}
}

func TestNodeHandlerThatBlocksIsGivenUpByItsDeadline(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async () => { for (;;); };`)
	ctx, cancel := contextWithTimeout(t, 50*time.Millisecond)
	defer cancel()
	if _, err := p.Invoke(ctx, event(requestID, `{}`)); err == nil {
		t.Error("answered")
	}
}
