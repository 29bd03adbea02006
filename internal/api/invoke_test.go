package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

const invokePath = functionsPath + "/f/invocations"

func TestInvokeAnswersWithThePayloadAndEveryHeader(t *testing.T) {
	d := newDoor(t)
	got := d.do(t, "POST", invokePath, `{"a":1}`)
	if got.status != 200 || got.raw != `{"a":1}` {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	want := map[string]string{
		"Content-Type": "application/json", "Content-Length": "7", "X-Amzn-Remapped-Content-Length": "0", "X-Amz-Executed-Version": "$LATEST",
		"X-Lambent-Start-Kind": "container_reuse", "X-Lambent-Reason": "an idle container was there", "X-Lambent-Instance-Id": "i-1",
		"X-Lambent-Container-Id": "c-1", "X-Lambent-Served-Version": "$LATEST", "X-Lambent-Served-Code-Sha256": "old=",
		"X-Lambent-Requested-Version": "$LATEST", "X-Lambent-Requested-Code-Sha256": "new=", "X-Lambent-Received-At": "2026-11-21T03:00:00Z",
		"X-Lambent-Exec-Started-At": "2026-11-21T03:00:00.001Z",
	}
	have := map[string]string{}
	for k, v := range got.header {
		if len(v) != 1 {
			t.Errorf("%s has %d values", k, len(v))
		}
		have[k] = v[0]
	}
	id, trace := have[headerRequestID], have[headerTraceID]
	delete(have, headerRequestID)
	delete(have, headerTraceID)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	if lambent.RequestID(id) != d.invoker.last.RequestID || len(id) != 36 || strings.ToLower(id) != id {
		t.Errorf("request id %q, the invocation's %q", id, d.invoker.last.RequestID)
	}
	if trace != d.invoker.last.TraceID || !strings.HasPrefix(trace, "Root=1-6") || !strings.HasSuffix(trace, ";Sampled=0") {
		t.Errorf("trace id %q, the invocation's %q", trace, d.invoker.last.TraceID)
	}
}

func TestInvokeHandsOnWhatTheCallerSent(t *testing.T) {
	d := newDoor(t)
	clientContext := base64.StdEncoding.EncodeToString([]byte(` {"client":{}}`))
	got := d.do(t, "POST", invokePath+"?Qualifier=live", `"x"`, "X-Amz-Log-Type", "Tail", "X-Amz-Client-Context", clientContext,
		"X-Amzn-Trace-Id", "Root=1-2-3", "X-Amz-Invocation-Type", "RequestResponse", "Authorization", "AWS4-HMAC-SHA256 Credential=123456789012/x/y")
	want := &lambent.Invocation{RequestID: d.invoker.last.RequestID, Account: "123456789012", Function: "f", Qualifier: "live", Payload: []byte(`"x"`),
		ReceivedAt: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC), ClientContext: ` {"client":{}}`, TraceID: "Root=1-2-3", WantLogTail: true}
	if diff := cmp.Diff(want, d.invoker.last); diff != "" {
		t.Error(diff)
	}
	if log, err := base64.StdEncoding.DecodeString(got.header.Get("X-Amz-Log-Result")); err != nil || string(log) != "START\nEND\n" {
		t.Errorf("log result %q, %v", log, err)
	}
}

func TestInvokeFunctionErrorIs200(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
		res := echo(inv)
		res.Payload, res.FunctionError = []byte(`{"errorType":"Error"}`), "Unhandled"
		return res, nil
	}
	got := d.do(t, "POST", invokePath, "")
	if got.status != 200 || got.header.Get("X-Amz-Function-Error") != "Unhandled" || got.raw != `{"errorType":"Error"}` {
		t.Errorf("%d %v %s", got.status, got.header, got.raw)
	}
	if len(d.invoker.last.Payload) != 0 {
		t.Errorf("no payload became %q", d.invoker.last.Payload)
	}
}

func TestInvokeWithoutAResultIsOurFault(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(*lambent.Invocation) (*lambent.Result, error) { return nil, nil }
	d.do(t, "POST", invokePath, "").wantError(t, 500, "ServiceException")
}

func TestInvokeSendsTheEndOfTheLogOnly(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
		res := echo(inv)
		res.LogTail = []byte(strings.Repeat("a", 5000) + "end")
		return res, nil
	}
	got := d.do(t, "POST", invokePath, "", "X-Amz-Log-Type", "Tail")
	log, err := base64.StdEncoding.DecodeString(got.header.Get("X-Amz-Log-Result"))
	if err != nil || len(log) != maxLogTail || !strings.HasSuffix(string(log), "aend") {
		t.Errorf("%d bytes of log, %v", len(log), err)
	}
	if got = d.do(t, "POST", invokePath, "", "X-Amz-Log-Type", "None"); got.header.Values("X-Amz-Log-Result") != nil {
		t.Error("a log nobody asked for")
	}
}

func TestInvokeDryRunAsksForTheFunctionOnly(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	if got := d.do(t, "POST", invokePath, `{}`, "X-Amz-Invocation-Type", "DryRun"); got.status != 204 || got.raw != "" {
		t.Errorf("%d %s", got.status, got.raw)
	}
	d.do(t, "POST", functionsPath+"/none/invocations", `{}`, "X-Amz-Invocation-Type", "DryRun").wantError(t, 404, "ResourceNotFoundException")
	if d.invoker.last != nil {
		t.Error("a dry run was invoked")
	}
}

func TestInvokeRefuses(t *testing.T) {
	const notJSON = "Could not parse request body into json: Could not parse payload into json: "
	tests := []struct {
		name    string
		path    string
		body    string
		headers []string
		status  int
		kind    string
		message string
	}{
		{"invocation and log type", invokePath, `{}`, []string{"X-Amz-Invocation-Type", "Later", "X-Amz-Log-Type", "Head"}, 400, "ValidationException",
			"2 validation errors detected: Value 'Later' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]; Value 'Head' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]"},
		{"no JSON", invokePath, `nope`, nil, 400, "InvalidRequestContentException",
			notJSON + "Unrecognized token 'nope': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')\n at [Source: (byte[])\"nope\"; line: 1, column: 5]"},
		{"cut short", invokePath, `{"a":`, nil, 400, "InvalidRequestContentException",
			notJSON + "Unexpected end-of-input within/between Object entries\n at [Source: (byte[])\"{\"a\":\"; line: 1, column: 6]"},
		{"nothing but space", invokePath, " ", nil, 400, "InvalidRequestContentException",
			notJSON + "No content to map due to end-of-input\n at [Source: (byte[])\" \"; line: 1, column: 2]"},
		{"two documents", invokePath, "1 \n2", nil, 400, "InvalidRequestContentException",
			notJSON + "Unexpected character ('2' (code 50)): Expected space separating root-level values\n at [Source: (byte[])\"1 \n2\"; line: 2, column: 2]"},
		{"no UTF-8", invokePath, "\"\x87\"", nil, 400, "InvalidRequestContentException",
			notJSON + "Invalid UTF-8 start byte 0x87\n at [Source: (byte[])\"\"\uFFFD\"\"; line: 1, column: 3]"},
		{"context no base64", invokePath, `{}`, []string{"X-Amz-Client-Context", "{}"}, 400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."},
		{"context no object", invokePath, `{}`, []string{"X-Amz-Client-Context", "MQ=="}, 400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."},
		{"context too long", invokePath, `{}`, []string{"X-Amz-Client-Context", strings.Repeat("A", 3584)}, 400, "InvalidRequestContentException", "Client context must be at most 3583 bytes of Base64."},
		{"empty name", functionsPath + "//invocations", `{}`, nil, 400, "ValidationException",
			"2 validation errors detected: Value '' at 'functionName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + namespacedFunctionNamePattern},
		{"too large", invokePath, `"` + strings.Repeat("x", maxInvokeBody-1) + `"`, nil, 413, "RequestTooLargeException",
			"Request must be smaller than 6291456 bytes for the InvokeFunction operation"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t)
			if m := d.do(t, "POST", tt.path, tt.body, tt.headers...).wantError(t, tt.status, tt.kind); m != tt.message {
				t.Errorf("message\n%q\nwant\n%q", m, tt.message)
			}
			if d.invoker.last != nil {
				t.Error("a refused request was invoked")
			}
		})
	}
}

func TestInvokeTakesTheLargestPayload(t *testing.T) {
	d := newDoor(t)
	body := `"` + strings.Repeat("x", maxInvokeBody-2) + `"`
	if got := d.do(t, "POST", invokePath, body); got.status != 200 || got.raw != body {
		t.Errorf("%d with %d bytes", got.status, len(got.raw))
	}
}

// chunked hides the length of a body, as a chunked request does.
type chunked struct{ io.Reader }

func TestInvokeReadsBodiesOfUnknownLength(t *testing.T) {
	d := newDoor(t)
	body := `"` + strings.Repeat("x", 300_000) + `"`
	r := httptest.NewRequest("POST", invokePath, chunked{strings.NewReader(body)})
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if rec.Code != 200 || rec.Body.String() != body {
		t.Errorf("%d with %d bytes", rec.Code, rec.Body.Len())
	}
	r = httptest.NewRequest("POST", invokePath, chunked{strings.NewReader(strings.Repeat(" ", maxInvokeBody+1))})
	rec = httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if rec.Code != 413 {
		t.Errorf("a body without end: %d", rec.Code)
	}
}

func TestInvokeBodyThatBreaksOffIsTheCallersFault(t *testing.T) {
	d := newDoor(t)
	r := httptest.NewRequest("POST", invokePath, io.MultiReader(strings.NewReader(`{"a`), brokenReader{}))
	r.ContentLength = 10
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if rec.Code != 400 {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestSecurityBodiesInMemoryAreBounded(t *testing.T) {
	d := newDoor(t, func(o *Options) { o.BodyBudget = 100_000 })
	body := `"` + strings.Repeat("x", 200_000) + `"`
	got := d.do(t, "POST", invokePath, body)
	if got.wantError(t, 429, "TooManyRequestsException"); got.body["Reason"] != "CallerRateLimitExceeded" || got.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", got.header, got.raw)
	}
	for range 10 { // what one request took is there for the next
		if got := d.do(t, "POST", invokePath, body[:50_000]+`"`); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.raw)
		}
	}
	if n := d.bodies.inFlight(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

func TestSecurityClaimedLengthCostsNothing(t *testing.T) {
	d := newDoor(t)
	seen := int64(0)
	r := httptest.NewRequest("POST", invokePath, readerFunc(func([]byte) (int, error) {
		seen = d.bodies.inFlight()
		return 0, io.ErrUnexpectedEOF
	}))
	r.ContentLength = maxInvokeBody
	d.ServeHTTP(httptest.NewRecorder(), r)
	if seen > firstBuffer {
		t.Errorf("%d bytes were taken for a claim", seen)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestInvokeHeadersCannotBeForgedFromBelow(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
		res := echo(inv)
		res.Start.Reason = "one\r\nSet-Cookie: two \u00e9" + strings.Repeat("x", 5000)
		return res, nil
	}
	got := d.do(t, "POST", invokePath, "", "X-Amzn-Trace-Id", "Root=1\x01")
	reason := got.header.Get("X-Lambent-Reason")
	if !strings.HasPrefix(reason, "one??Set-Cookie: two ?xxx") || len(reason) != maxHeaderText {
		t.Errorf("reason %q", reason)
	}
	if trace := got.header.Get("X-Amzn-Trace-Id"); !printable(trace) || strings.Contains(trace, "Root=1\x01") {
		t.Errorf("trace %q", trace)
	}
}

func TestErrorsFromBelowBecomeAWSExceptions(t *testing.T) {
	secret := errors.New("dial /var/lib/secret.sock: refused")
	tests := []struct {
		name   string
		err    error
		status int
		kind   string
		body   map[string]any
	}{
		{"unknown", secret, 500, "ServiceException", map[string]any{"Type": "Service", "message": "An error occurred and the request cannot be processed."}},
		{"internal", &lambent.Error{Message: "secret", Err: secret}, 500, "ServiceException", map[string]any{"Type": "Service", "message": "An error occurred and the request cannot be processed."}},
		{"not found", &lambent.Error{Kind: lambent.KindNotFound, Message: "m"}, 404, "ResourceNotFoundException", map[string]any{"Type": "User", "Message": "m"}},
		{"throttled", &lambent.Error{Kind: lambent.KindThrottled, Reason: "ConcurrentInvocationLimitExceeded"}, 429, "TooManyRequestsException",
			map[string]any{"Type": "User", "Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}},
		{"denied", &lambent.Error{Kind: lambent.KindDenied, Message: "m"}, 403, "AccessDeniedException", map[string]any{"message": "m"}},
		{"exists", &lambent.Error{Kind: lambent.KindExists, Message: "m"}, 409, "ResourceConflictException", map[string]any{"Type": "User", "message": "m"}},
		{"cut off", fmt.Errorf("wait: %w", context.Canceled), 503, "ServiceUnavailableException", map[string]any{"message": "The service is unavailable for now. Try again."}},
		{"unavailable", &lambent.Error{Kind: lambent.KindUnavailable, Message: "m"}, 503, "ServiceUnavailableException", map[string]any{"message": "m"}},
		{"media type", &lambent.Error{Kind: lambent.KindMediaType, Message: "m"}, 415, "UnsupportedMediaTypeException", map[string]any{"Type": "User", "message": "m"}},
		{"named", &lambent.Error{Kind: lambent.KindInvalid, Reason: "CodeStorageExceededException", Message: "m"}, 400, "CodeStorageExceededException", map[string]any{"Type": "User", "message": "m"}},
		{"a kind to come", &lambent.Error{Kind: 200, Message: "m"}, 500, "ServiceException", map[string]any{"Type": "Service", "message": "An error occurred and the request cannot be processed."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			d := newDoor(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			d.invoker.answer = func(*lambent.Invocation) (*lambent.Result, error) { return nil, tt.err }
			got := d.do(t, "POST", invokePath, "")
			got.wantError(t, tt.status, tt.kind)
			if diff := cmp.Diff(tt.body, got.body); diff != "" {
				t.Error(diff)
			}
			if logged := log.Len() > 0; logged != (tt.status == 500) {
				t.Errorf("logged: %q", log.String())
			}
		})
	}
}

func TestSecurityAFullDiskIsToldToTheOperatorNotToTheCaller(t *testing.T) {
	var log bytes.Buffer
	d := newDoor(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	d.functions.err = &lambent.Error{Op: "put blob", Kind: lambent.KindUnavailable, Message: "The storage is full.", Err: errors.New("/srv/data has 12 bytes free")}
	got := d.create(t, "f")
	if m := got.wantError(t, 503, "ServiceUnavailableException"); m != "The storage is full." || strings.Contains(got.raw, "/srv") {
		t.Errorf("the caller is told %s", got.raw)
	}
	if !strings.Contains(log.String(), "/srv/data has 12 bytes free") {
		t.Errorf("the operator is told %q", log.String())
	}
}
