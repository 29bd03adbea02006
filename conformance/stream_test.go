package conformance

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"lambent/conformance/lab"
)

// streamKit is testdata/kit/stream.mjs as a function.
func streamKit(t *testing.T, name string) lab.Function {
	t.Helper()
	code, err := os.ReadFile(filepath.Join("testdata", "kit", "stream.mjs"))
	if err != nil {
		t.Fatal(err)
	}
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.mjs", string(code))}
}

// streamed is an answer that is read as it comes.
type streamed struct {
	t      *testing.T
	header http.Header
	*lambda.InvokeWithResponseStreamEventStream
	complete *types.InvokeWithResponseStreamCompleteEvent // once it has come
}

func invokeStream(t *testing.T, c *lab.Caller, name string, event any) *streamed {
	t.Helper()
	payload, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	out, err := alone(c).InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: &name, Payload: payload, LogType: types.LogTypeTail})
	if err != nil {
		t.Fatalf("stream from %s: %v", name, err)
	}
	s := &streamed{t: t, InvokeWithResponseStreamEventStream: out.GetStream()}
	t.Cleanup(func() { _ = s.Close() })
	if raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response); ok {
		s.header = raw.Header
	}
	if out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != "$LATEST" {
		t.Errorf("status %d, version %q", out.StatusCode, aws.ToString(out.ExecutedVersion))
	}
	return s
}

// next is the next part of the answer; false when it has ended.
func (s *streamed) next() (part string, more bool) {
	s.t.Helper()
	switch event := (<-s.Events()).(type) {
	case *types.InvokeWithResponseStreamResponseEventMemberPayloadChunk:
		return string(event.Value.Payload), true
	case *types.InvokeWithResponseStreamResponseEventMemberInvokeComplete:
		s.complete = &event.Value
		return "", false
	default:
		s.t.Fatalf("an event %T, %v", event, s.Err())
		return "", false
	}
}

// rest reads to the end.
func (s *streamed) rest() (answer string) {
	s.t.Helper()
	for {
		part, more := s.next()
		if !more {
			return answer
		}
		answer += part
	}
}

// failure is the error the answer ended with; its type is empty for none.
func (s *streamed) failure() (e lab.FunctionError) {
	s.t.Helper()
	code, details := aws.ToString(s.complete.ErrorCode), aws.ToString(s.complete.ErrorDetails)
	if (code != "") != (details != "") || code != "" && code != "Unhandled" {
		s.t.Errorf("error code %q with details %q", code, details)
	}
	if details != "" {
		if err := json.Unmarshal([]byte(details), &e); err != nil {
			s.t.Errorf("details %q: %v", details, err)
		}
	}
	return e
}

func (s *streamed) log() string {
	s.t.Helper()
	log, err := base64.StdEncoding.DecodeString(aws.ToString(s.complete.LogResult))
	if err != nil {
		s.t.Error(err)
	}
	return string(log)
}

// alone is the caller's client for one stream: the SDK reads all streams of a
// client with one buffer, so that two of them race for it.
func alone(c *lab.Caller) *lambda.Client { return lambda.New(c.Options()) }

func TestEveryFunctionAnswersThroughTheStreamingDoor(t *testing.T) {
	t.Parallel()
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			c.Create(t, l.function("whole-"+l.name))
			s := invokeStream(t, c, "whole-"+l.name, op{"op": "echo", "value": "hello"})
			if got := s.rest(); got != `"hello"` || s.failure().Type != "" || !strings.Contains(s.log(), "REPORT RequestId: "+s.header.Get("X-Amzn-Requestid")) {
				t.Errorf("answer %q, failure %+v, log %q", got, s.failure(), s.log())
			}
			for _, h := range []string{"X-Lambent-Reason", "X-Lambent-Instance-Id", "X-Lambent-Container-Id", "X-Lambent-Start-Kind", "X-Lambent-Received-At", "X-Lambent-Exec-Started-At"} {
				if s.header.Get(h) == "" {
					t.Errorf("%s is missing", h)
				}
			}
			s = invokeStream(t, c, "whole-"+l.name, op{"op": "big", "bytes": 3_000_000})
			if got := s.rest(); len(got) != 3_000_002 || s.failure().Type != "" {
				t.Errorf("3 MB are %d bytes, %+v", len(got), s.failure())
			}
			s = invokeStream(t, c, "whole-"+l.name, op{"op": "throw"})
			if got := s.rest(); got != "" || s.failure().Message != "boom" {
				t.Errorf("answer %q, failure %+v", got, s.failure())
			}
			s = invokeStream(t, c, "whole-"+l.name, op{"op": "exit", "status": 3})
			if got := s.rest(); got != "" || s.failure().Type != "Runtime.ExitError" {
				t.Errorf("answer %q, failure %+v", got, s.failure())
			}
		})
	}
}

// running reports whether a function of the caller's is in the middle of an
// execution.
func running(t *testing.T, c *lab.Caller, name string) bool {
	t.Helper()
	containers, err := c.Server.Containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, cc := range containers {
		if cc.Account == c.Account && cc.Function == name && cc.State == "busy" {
			return true
		}
	}
	return false
}

func TestStreamsFirstPartComesWhileTheFunctionRunsOn(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	f := streamKit(t, "endless")
	f.Timeout = 2
	c.Create(t, f)
	g := golang(t).function("endless-go")
	g.Timeout = 2
	c.Create(t, g)
	lines := make([]string, 1000)
	for i := range lines {
		lines[i] = fmt.Sprintf("part %d\n", i)
	}
	for name, event := range map[string]op{"endless": {"op": "endless"}, "endless-go": {"op": "stream", "lines": lines, "ms": 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := invokeStream(t, c, name, event)
			if part, _ := s.next(); !strings.HasPrefix(part, "part 0\n") {
				t.Fatalf("the first part is %q", part)
			}
			if !running(t, c, name) {
				t.Error("the function has ended before its first part came")
			}
			if rest := s.rest(); !strings.Contains(rest, "part 20\n") || s.failure().Type != "Sandbox.Timedout" ||
				s.failure().Message != "RequestId: "+s.header.Get("X-Amzn-Requestid")+" Error: Task timed out after 2.00 seconds" {
				t.Errorf("%q, failure %+v", rest, s.failure())
			}
			if !strings.Contains(s.log(), "Task timed out after 2.00 seconds") || !strings.Contains(s.log(), "Status: timeout") {
				t.Errorf("log %q", s.log())
			}
		})
	}
}

func TestStreamThatFails(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, streamKit(t, "fails"))
	c.Create(t, golang(t).function("fails-go"))
	for _, tt := range []struct {
		function string
		event    op
		came     string
		kind     []string // one of these
	}{
		{"fails", op{"op": "throw"}, "", []string{"TypeError"}},
		{"fails", op{"op": "late"}, "part 0\n", []string{"RangeError"}},
		{"fails", op{"op": "uncaught"}, "part 0\n", []string{"Error"}},
		{"fails", op{"op": "exit", "status": 3}, "part 0\n", []string{"Runtime.ExitError"}},
		{"fails", op{"op": "crash"}, "part 0\n", []string{"Runtime.ExitError"}},
		{"fails-go", op{"op": "stream", "lines": []string{"part 0\n"}, "value": "fail"}, "part 0\n", []string{"customError"}},
		// What is seen first is the connection that breaks, or the process that ends.
		{"fails-go", op{"op": "stream", "lines": []string{"part 0\n"}, "ms": 50, "status": 3}, "part 0\n", []string{"Runtime.ExitError", "Runtime.TruncatedResponse"}},
	} {
		s := invokeStream(t, c, tt.function, tt.event)
		got := s.rest()
		found := false
		for _, kind := range tt.kind {
			found = found || s.failure().Type == kind
		}
		if got != tt.came || !found {
			t.Errorf("%v: %q, failure %+v", tt.event, got, s.failure())
		}
		if log := s.log(); !strings.Contains(log, "Status: error") {
			t.Errorf("%v: log %q", tt.event, log)
		}
	}
	if s := invokeStream(t, c, "fails", op{"op": "parts", "parts": 2}); s.rest() != "part 0\npart 1\n" {
		t.Error("it does not answer any more")
	}
}

func TestStreamingFunctionThatIsOnlyInvokedAnswersWhole(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, streamKit(t, "invoked"))
	c.Create(t, golang(t).function("invoked-go"))
	for function, event := range map[string]op{"invoked": {"op": "parts", "parts": 2, "ms": 1}, "invoked-go": {"op": "stream", "lines": []string{"part 0\n", "part 1\n"}}} {
		a, err := c.Call(t.Context(), function, event)
		if err != nil || string(a.Payload) != "part 0\npart 1\n" || a.FunctionError != nil {
			t.Errorf("%s: %v, %+v", function, err, a)
		}
	}
	if a, err := c.Call(t.Context(), "invoked", op{"op": "prelude"}); err != nil || string(a.Payload) != `{"statusCode":201,"headers":{"X-A":"b"}}`+strings.Repeat("\x00", 8)+`{"body":1}` {
		t.Errorf("with a prelude: %v, %q", err, a.Payload)
	}
	if got, _ := c.Fail(t, "invoked", op{"op": "much", "bytes": maxPayload + 200}); got.Type != "Function.ResponseSizeTooLarge" {
		t.Errorf("over 6 MB: %+v", got)
	}
	if got, _ := c.Fail(t, "invoked-go", op{"op": "stream", "lines": []string{strings.Repeat("x", 4_000_000), strings.Repeat("x", 1_000_000)}, "value": "fail"}); got.Message != "boom" {
		t.Errorf("that fails at its end: %+v", got)
	}
}

func TestFunctionGoesOnWithoutTheCallerOfItsStream(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, streamKit(t, "left"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := alone(c).InvokeWithResponseStream(ctx, &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("left"), Payload: []byte(`{"op":"parts","parts":30,"ms":10}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := (<-out.GetStream().Events()).(*types.InvokeWithResponseStreamResponseEventMemberPayloadChunk); !ok {
		t.Fatal("no part came")
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	if err := out.GetStream().Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	lab.Eventually(t, "the execution to end well", func() error {
		executions, err := c.Server.Executions("account=" + c.Account)
		if err != nil {
			return err
		}
		for _, e := range executions {
			if e.RequestID == id && e.Status == "success" {
				return nil
			}
		}
		return fmt.Errorf("not among %+v", executions)
	})
	if s := invokeStream(t, c, "left", op{"op": "ended"}); s.rest() != "1" {
		t.Error("the function was not let finish, or its container was thrown away")
	}
}

func TestStreamLimitsAreKept(t *testing.T) {
	t.Parallel()
	const most = 10_000_000
	s := newServer(t, "--streaming-bytes", strconv.Itoa(most), "--streaming-rate", "0")
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, streamKit(t, "much"))
	st := invokeStream(t, c, "much", op{"op": "much", "bytes": most})
	if got := st.rest(); len(got) != most || st.failure().Type != "" {
		t.Errorf("%d bytes, %+v", len(got), st.failure())
	}
	st = invokeStream(t, c, "much", op{"op": "much", "bytes": most + 1})
	want := fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", most)
	if got := st.rest(); len(got) != most || st.failure().Type != "Function.ResponseSizeTooLarge" || st.failure().Message != want {
		t.Errorf("%d bytes, %+v", len(got), st.failure())
	}

	// Callers who do not read cost the server nothing much, and end with their
	// functions' time.
	f := streamKit(t, "stuck")
	f.Timeout = 3
	c.Create(t, f)
	before := residentKB(t, s)
	var calls sync.WaitGroup
	for range 12 {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		body := `{"op":"much","bytes":9000000}`
		fmt.Fprintf(conn, "POST /2021-11-15/functions/stuck/response-streaming-invocations HTTP/1.1\r\nHost: localhost\r\n"+
			"Authorization: AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0\r\nContent-Length: %d\r\n\r\n%s", c.Account, len(body), body)
		calls.Go(func() {
			resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil) // and nothing beyond
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%v, %+v", err, resp)
			}
		})
	}
	calls.Wait()
	if grown := residentKB(t, s) - before; grown > 24<<10 {
		t.Errorf("12 callers who do not read cost the server %d KB", grown)
	}
	lab.Eventually(t, "the executions to be timed out, or to be over", func() error {
		executions, err := s.Executions("account=" + c.Account + "&function=stuck")
		if err == nil && len(executions) != 12 {
			err = fmt.Errorf("%d have ended", len(executions))
		}
		return err
	})
}

// residentKB is the memory of the server's process.
func residentKB(t *testing.T, s *lab.Server) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal(errors.New("the server's memory is not told"))
	return 0
}

func TestStreamingErrorsBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	_, err := c.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("nope")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN("nope"))
	c.Create(t, streamKit(t, "there"))
	_, err = c.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("there"), Payload: []byte("{nonsense")})
	wantError[*types.InvalidRequestContentException](t, err, "InvalidRequestContentException", "")
	_, err = c.InvokeWithResponseStream(t.Context(), &lambda.InvokeWithResponseStreamInput{FunctionName: aws.String("there"), InvocationType: "Event"})
	wantCode(t, err, "ValidationException", "1 validation error detected: Value 'Event' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [RequestResponse, DryRun]")
	r := c.HTTP(t, http.MethodPost, "/2021-11-15/functions/there/response-streaming-invocations", nil, "X-Amz-Invocation-Type", "DryRun")
	if r.Status != http.StatusNoContent || len(r.Body) != 0 {
		t.Errorf("a dry run answers %d %s", r.Status, r.Body)
	}
}
