package runtimes_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/runtimetest"
)

// parts takes a streamed answer; its reader is the test.
type parts struct {
	begun chan string
	part  chan string
}

func (p *parts) Begin(contentType string, _ time.Time) { p.begun <- contentType }

func (p *parts) Write(b []byte, stop <-chan struct{}) error {
	select {
	case p.part <- string(b):
		return nil
	case <-stop:
		return errors.New("stopped")
	}
}

// answered is how a streamed call ended.
type answered struct {
	runtimeapi.Answer
	err error
}

// stream calls a function and lets the test read the answer.
func stream(t *testing.T, p *runtimetest.Process, payload string) (*parts, <-chan answered) {
	t.Helper()
	s := &parts{make(chan string, 1), make(chan string)}
	e := event(requestID, payload)
	e.Stream = s
	done := make(chan answered, 1)
	go func() {
		a, err := p.Invoke(t.Context(), e)
		done <- answered{a, err}
	}()
	return s, done
}

// read reads until want has come, and nothing else.
func (s *parts) read(t *testing.T, p *runtimetest.Process, want string) {
	t.Helper()
	for got := ""; got != want; {
		select {
		case part := <-s.part:
			got += part
		case <-time.After(20 * time.Second):
			t.Fatalf("only %.100q came of %.100q; log: %s", got, want, p.Log())
		}
		if !strings.HasPrefix(want, got) {
			t.Fatalf("%.100q came, not %.100q", got, want)
		}
	}
}

func (s *parts) end(t *testing.T, p *runtimetest.Process, done <-chan answered) answered {
	t.Helper()
	select {
	case a := <-done:
		return a
	case part := <-s.part:
		t.Fatalf("%.100q came at the end", part)
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; log: %s", p.Log())
	}
	panic("unreachable")
}

// gate is a web server that functions ask to go on.
func gate(t *testing.T) (url string, asked <-chan struct{}, open chan<- struct{}) {
	t.Helper()
	in, out := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case in <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		select {
		case <-out:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, in, out
}

const ask = `const ask = (url) => new Promise((ok, no) => require("http").get(url, {agent: false}, (r) => { r.resume(); r.on("end", ok); }).on("error", no));
`

func TestNodeStreamIsSentAsItIsWritten(t *testing.T) {
	t.Parallel()
	url, asked, open := gate(t)
	p := node(t, ask+`exports.handler = awslambda.streamifyResponse(async (url, s) => {
		s.setContentType("text/plain");
		s.write("one"); await ask(url); s.write("two"); await ask(url); s.end("three");
	});`)
	for range 2 {
		s, done := stream(t, p, `"`+url+`"`)
		if typ := <-s.begun; typ != "text/plain" {
			t.Errorf("content type %q", typ)
		}
		s.read(t, p, "one")
		<-asked // it was read before the function was let go on
		open <- struct{}{}
		s.read(t, p, "two")
		<-asked
		open <- struct{}{}
		s.read(t, p, "three")
		if a := s.end(t, p, done); a.err != nil || a.ErrorType != "" || !a.Streamed {
			t.Errorf("%+v; log: %s", a, p.Log())
		}
	}
}

func TestNodeStreamForms(t *testing.T) {
	t.Parallel()
	nul := strings.Repeat("\x00", 8)
	for name, tt := range map[string]struct{ body, contentType, want string }{
		"nothing":             {`s.end();`, "application/octet-stream", ""},
		"only end":            {`s.end("x");`, "application/octet-stream", "x"},
		"objects become JSON": {`s.write({a: 1}); s.write([null]); s.end();`, "application/octet-stream", `{"a":1}[null]`},
		"bytes":               {`s.write(new Uint8Array([65, 66])); s.end(Buffer.from("C"));`, "application/octet-stream", "ABC"},
		"encoding":            {`s.write("QUI=", "base64"); s.end("43", "hex");`, "application/octet-stream", "ABC"},
		"empty writes":        {`s.write(""); s.write("a"); s.write(""); s.end();`, "application/octet-stream", "a"},
		"corked":              {`s.cork(); s.write("a"); s.write("b"); s.uncork(); s.end();`, "application/octet-stream", "ab"},
		"prelude": {`s = awslambda.HttpResponseStream.from(s, {statusCode: 201, headers: {a: "b"}}); s.write("body"); s.end();`,
			"application/vnd.awslambda.http-integration-response", `{"statusCode":201,"headers":{"a":"b"}}` + nul + "body"},
		"prelude, only end": {`awslambda.HttpResponseStream.from(s, {statusCode: 204}).end("x");`,
			"application/vnd.awslambda.http-integration-response", `{"statusCode":204}` + nul + "x"},
		"prelude by pipeline": {`s = awslambda.HttpResponseStream.from(s, {}); await require("stream/promises").pipeline(require("stream").Readable.from(["x", "y"]), s);`,
			"application/vnd.awslambda.http-integration-response", "{}" + nul + "xy"},
		"piped and not waited for": {`require("stream").Readable.from(["x", "y"]).pipe(s);`, "application/octet-stream", "xy"},
		"gzip": {`const z = require("zlib"); const g = z.createGzip(); const end = require("stream/promises").pipeline(g, z.createGunzip(), s); g.end("zipped"); await end;`,
			"application/octet-stream", "zipped"},
		"write's callback":       {`await new Promise((ok) => s.write("a", ok)); await new Promise((ok) => s.end("b", ok));`, "application/octet-stream", "ab"},
		"callbacks":              {`await new Promise((ok) => s.end(ok));`, "application/octet-stream", ""},
		"content type, too late": {`s.write("a"); try { s.setContentType("x"); } catch (e) { s.write(e.name + ": " + e.message); } s.end();`, "application/octet-stream", "aRuntime.InvalidStreamingOperation: Cannot set content-type, too late."},
		"odd content type":       {`s.setContentType("é".repeat(300)); s.end("a");`, "", "a"},
		"writes on after 6 MB":   {`for (let i = 0; i < 70; i++) if (!s.write(Buffer.alloc(100000, "x"))) await new Promise((ok) => s.once("drain", ok)); s.end();`, "application/octet-stream", strings.Repeat("x", 7e6)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, `exports.handler = awslambda.streamifyResponse(async (e, s) => { `+tt.body+` });`)
			for range 2 { // and it works again
				s, done := stream(t, p, `{}`)
				if typ := <-s.begun; typ != tt.contentType {
					t.Errorf("content type %q", typ)
				}
				s.read(t, p, tt.want)
				if a := s.end(t, p, done); a.err != nil || a.ErrorType != "" || !a.Streamed {
					t.Fatalf("%+v; log: %s", a, p.Log())
				}
			}
		})
	}
}

func TestNodeStreamThatFailsIsTold(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body, came, kind, message string
		streamed                  bool
	}{
		"before the first byte": {`throw new TypeError("early");`, "", "TypeError", "early", false},
		"in mid-stream":         {`await new Promise((ok) => s.write("part", ok)); throw new RangeError("late");`, "part", "RangeError", "late", true},
		"after its end":         {`await new Promise((ok) => s.end("all", ok)); throw new Error("after");`, "all", "Error", "after", true},
		"destroyed":             {`await new Promise((ok) => s.write("part", ok)); s.destroy(new Error("broken"));`, "part", "Error", "broken", true},
		"destroyed silently":    {`await new Promise((ok) => s.write("part", ok)); s.destroy();`, "part", "string", "Response stream is not finished.", true},
		"source of a pipeline": {`const {Readable} = require("stream"); await require("stream/promises").pipeline(Readable.from((async function* () { yield "part"; await new Promise((ok) => setTimeout(ok, 20)); throw new Error("source"); })()), s);`,
			"part", "Error", "source", true},
		"never ended":    {`await new Promise((ok) => s.write("part", ok));`, "part", "string", "Response stream is not finished.", true},
		"never returned": {`await new Promise((ok) => s.write("part", ok)); await new Promise(() => {});`, "part", "Runtime.NodeJsExit", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, `exports.handler = awslambda.streamifyResponse(async (e, s) => { if (e.ok) { s.end("ok"); return; } `+tt.body+` });`)
			s, done := stream(t, p, `{}`)
			if tt.came != "" {
				<-s.begun
				s.read(t, p, tt.came)
			}
			a := s.end(t, p, done)
			got := decode[nodeError](t, a.Payload)
			if a.err != nil || a.Streamed != tt.streamed && tt.streamed || got.ErrorType != tt.kind || a.ErrorType != tt.kind || tt.message != "" && got.ErrorMessage != tt.message {
				t.Errorf("%+v %s; log: %s", a, a.Payload, p.Log())
			}
			s, done = stream(t, p, `{"ok":true}`) // and the process is sound
			<-s.begun
			s.read(t, p, "ok")
			if a := s.end(t, p, done); a.err != nil || a.ErrorType != "" {
				t.Errorf("the next event: %+v", a)
			}
		})
	}
}

func TestNodeStreamOfAProcessThatEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body, kind string
		status     int
	}{
		"uncaught exception":  {`setTimeout(() => { throw new Error("late"); }, 1); await new Promise((ok) => setTimeout(ok, 1000));`, "Error", 129},
		"unhandled rejection": {`Promise.reject(new Error("late")); await new Promise((ok) => setTimeout(ok, 1000));`, "Runtime.UnhandledPromiseRejection", 128},
		"exit":                {`process.exit(3);`, "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, `exports.handler = awslambda.streamifyResponse(async (e, s) => { await new Promise((ok) => s.write("part", ok)); `+tt.body+` });`)
			s, done := stream(t, p, `{}`)
			s.read(t, p, "part")
			a := s.end(t, p, done)
			if a.ErrorType != tt.kind || (a.err != nil) != (tt.kind == "") {
				t.Errorf("%+v; log: %s", a, p.Log())
			}
			if st := p.Wait(); st.ExitCode() != tt.status {
				t.Errorf("it ended with %s", st)
			}
		})
	}
}

// A caller who does not read makes the function's writes wait, and nothing else
// of it.
func TestNodeGoesOnWhileItsCallerDoesNotRead(t *testing.T) {
	t.Parallel()
	url, asked, open := gate(t)
	p := node(t, ask+`exports.handler = awslambda.streamifyResponse(async (url, s) => {
		let drained = 0;
		s.on("drain", () => drained++);
		if (s.write("x".repeat(4e6))) throw new Error("the stream takes it all");
		for (let i = 0; i < 3; i++) await ask(url);
		if (drained > 0) throw new Error("it was sent though nobody reads");
		await new Promise((ok) => s.end(ok));
	});`)
	s, done := stream(t, p, `"`+url+`"`)
	<-s.begun
	for range 3 {
		<-asked
		open <- struct{}{}
	}
	s.read(t, p, strings.Repeat("x", 4e6))
	if a := s.end(t, p, done); a.err != nil || a.ErrorType != "" {
		t.Errorf("%+v %s; log: %s", a, a.Payload, p.Log())
	}
}

func TestNodeFailsInOrderWhileItsCallerDoesNotRead(t *testing.T) {
	t.Parallel()
	const much = 1e6
	for name, body := range map[string]string{
		"by the handler":           `throw new Error("late");`,
		"by an uncaught exception": `setTimeout(() => { throw new Error("late"); }); await new Promise(() => {});`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := node(t, fmt.Sprintf(`exports.handler = awslambda.streamifyResponse(async (e, s) => { s.write("x".repeat(%d)); %s });`, int(much), body))
			s, done := stream(t, p, `{}`)
			p.AwaitLog(t, "late") // it has failed, and nothing was read
			s.read(t, p, strings.Repeat("x", much))
			if a := s.end(t, p, done); a.err != nil || a.ErrorType != "Error" {
				t.Errorf("%+v; log: %s", a, p.Log())
			}
		})
	}
}

func TestNodeGlobalAwslambda(t *testing.T) {
	t.Parallel()
	p := node(t, `exports.handler = async () => {
		const fn = async () => {};
		return [Object.keys(awslambda).sort(), awslambda.streamifyResponse(fn, {highWaterMark: "1024"}) === fn,
			fn[Symbol.for("aws.lambda.runtime.handler.streaming")], fn[Symbol.for("aws.lambda.runtime.handler.streaming.highWaterMark")], typeof awslambda.HttpResponseStream.from];
	};`)
	if a := call(t, p, `{}`); string(a.Payload) != `[["HttpResponseStream","streamifyResponse"],true,"response",1024,"function"]` {
		t.Errorf("got %s %s", a.ErrorType, a.Payload)
	}
	p = node(t, `exports.handler = awslambda.streamifyResponse(async (e, s) => { s.end(String(s.writableHighWaterMark)); }, {highWaterMark: 4096});`)
	if a := call(t, p, `{}`); string(a.Payload) != "4096" {
		t.Errorf("got %s %s", a.ErrorType, a.Payload)
	}
}
