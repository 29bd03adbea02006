package conformance

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// maxPayload is AWS's 6 MB: of a request's body, and of an answer's.
const maxPayload = 6 * 1024 * 1024

func TestInvoke(t *testing.T) {
	t.Parallel()
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c := newCaller(t)
			f := l.function("invoke-" + l.name)
			f.Memory = 512
			c.Create(t, f)
			t.Run("payloads arrive intact both ways", func(t *testing.T) { payloads(t, c, f.Name) })
			t.Run("6 MB pass, more is refused", func(t *testing.T) { limits(t, c, f.Name) })
			t.Run("state is kept between calls", func(t *testing.T) { keepsState(t, c, f.Name) })
			t.Run("headers", func(t *testing.T) { headers(t, c, f.Name) })
			t.Run("context", func(t *testing.T) { contextOf(t, c, f.Name) })
			t.Run("environment", func(t *testing.T) { environment(t, c, f, l) })
			t.Run("log tail", func(t *testing.T) { logTail(t, c, f.Name) })
			t.Run("dry run", func(t *testing.T) { dryRun(t, c, f.Name) })
			t.Run("simultaneous calls", func(t *testing.T) { simultaneous(t, c, f.Name) })
		})
	}
}

func payloads(t *testing.T, c *lab.Caller, name string) {
	for _, value := range []any{
		nil, true, 0.5, -7.0, "", "hello", "Grüße, 世界 🌍 \u0000\u001f\" \\ /", strings.Repeat("€", 100_000),
		[]any{}, map[string]any{}, []any{1.0, []any{2.0, map[string]any{"drei": nil}}},
		map[string]any{"a": "b", "ключ": []any{"знач"}, "": "empty key"},
	} {
		got, a := lab.Do[any](t, c, name, op{"op": "echo", "value": value})
		if diff := cmp.Diff(value, got); diff != "" {
			t.Errorf("echo (-want +got):\n%.500s\n%.200s", diff, a.Payload)
		}
	}
	if got, a := lab.Do[any](t, c, name, op{"op": "nothing"}); got != nil || string(a.Payload) != "null" {
		t.Errorf("no answer is %q, want null", a.Payload)
	}
	spaced := []byte(" {\r\n\t\"op\" : \"echo\", \"value\" : [ 1 ] }\n")
	if got, _ := lab.Do[[]int](t, c, name, spaced); len(got) != 1 {
		t.Errorf("JSON with space around it is echoed as %v", got)
	}
}

// limits tries the largest event and the largest answer, and one byte more.
func limits(t *testing.T, c *lab.Caller, name string) {
	frame := len(`{"op":"echo","value":""}`)
	largest := strings.Repeat("z", maxPayload-frame)
	if got, _ := lab.Do[string](t, c, name, []byte(`{"op":"echo","value":"`+largest+`"}`)); got != largest {
		t.Errorf("6 MB are echoed as %d bytes", len(got))
	}
	if got, _ := lab.Do[string](t, c, name, op{"op": "big", "bytes": maxPayload - 2}); len(got) != maxPayload-2 {
		t.Errorf("an answer of 6 MB has %d bytes", len(got))
	}

	_, err := c.Call(t.Context(), name, bytes.Repeat([]byte(" "), maxPayload+101))
	wantError[*types.RequestTooLargeException](t, err, "RequestTooLargeException", "Request must be smaller than 6291456 bytes for the InvokeFunction operation")

	got, _ := c.Fail(t, name, op{"op": "big", "bytes": maxPayload + 200})
	want := lab.FunctionError{Type: "Function.ResponseSizeTooLarge", Message: "Response payload size exceeded maximum allowed payload size (6291556 bytes)."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("an answer over 6 MB (-want +got):\n%s", diff)
	}
	if got, _ := lab.Do[string](t, c, name, op{"op": "echo", "value": "still here"}); got != "still here" {
		t.Errorf("the call after an answer too large says %q", got)
	}
}

func keepsState(t *testing.T, c *lab.Caller, name string) {
	first, a := lab.Do[int](t, c, name, op{"op": "calls"})
	for n := 1; n <= 3; n++ {
		got, b := lab.Do[int](t, c, name, op{"op": "calls"})
		if got != first+n || b.ContainerID() != a.ContainerID() || b.Header.Get("X-Lambent-Start-Kind") != "container_reuse" {
			t.Errorf("call %d counts %d in %s (%s); want %d in %s (container_reuse)", n, got, b.ContainerID(), b.Header.Get("X-Lambent-Start-Kind"), first+n, a.ContainerID())
		}
	}
}

func headers(t *testing.T, c *lab.Caller, name string) {
	before := time.Now()
	_, a := lab.Do[any](t, c, name, op{"op": "nothing"})
	for header, want := range map[string]string{
		"X-Amz-Executed-Version":         "$LATEST",
		"X-Amzn-Remapped-Content-Length": "0",
		"Content-Type":                   "application/json",
		"X-Lambent-Served-Version":       "$LATEST",
		"X-Amz-Function-Error":           "",
		"X-Amz-Log-Result":               "",
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %q, want %q", header, got, want)
		}
	}
	for _, header := range []string{"X-Lambent-Reason", "X-Lambent-Instance-Id", "X-Lambent-Container-Id", "X-Lambent-Start-Kind", "X-Amzn-Trace-Id"} {
		if a.Header.Get(header) == "" {
			t.Errorf("%s is missing", header)
		}
	}
	if !uuidShape.MatchString(a.RequestID()) {
		t.Errorf("x-amzn-RequestId is %q, want a lower-case UUID", a.RequestID())
	}
	received, err1 := time.Parse(time.RFC3339Nano, a.Header.Get("X-Lambent-Received-At"))
	started, err2 := time.Parse(time.RFC3339Nano, a.Header.Get("X-Lambent-Exec-Started-At"))
	if err1 != nil || err2 != nil || received.Before(before.Add(-time.Millisecond)) || started.Before(received) || started.After(time.Now()) {
		t.Errorf("received at %s (%v), started at %s (%v): not in this order after %s", received, err1, started, err2, before)
	}
	if got := aws.ToString(a.ExecutedVersion); got != "$LATEST" || a.StatusCode != http.StatusOK {
		t.Errorf("executed version %q, status %d", got, a.StatusCode)
	}
}

// seenContext is what the kits answer to "context".
type seenContext struct {
	RequestID string `json:"requestId"`
	Name      string `json:"name"`
	Version   string `json:"version"`
	ARN       string `json:"arn"`
	Memory    string `json:"memory"`
	Group     string `json:"group"`
	Stream    string `json:"stream"`
	Remaining int    `json:"remaining"`
	Trace     string `json:"trace"`
	Client    *struct {
		Custom map[string]string `json:"custom"`
		Env    map[string]string `json:"env"`
	} `json:"client"`
}

func contextOf(t *testing.T, c *lab.Caller, name string) {
	client := `{"custom":{"colour":"blue"},"env":{"locale":"de"}}`
	got, a := lab.Do[seenContext](t, c, c.ARN(name)+":$LATEST", op{"op": "context"}, func(in *lambda.InvokeInput) {
		in.ClientContext = aws.String(base64.StdEncoding.EncodeToString([]byte(client)))
	})
	if got.Client == nil || got.Client.Custom["colour"] != "blue" || got.Client.Env["locale"] != "de" {
		t.Errorf("the client context arrives as %+v", got.Client)
	}
	if got.Remaining <= 0 || got.Remaining > 10_000 {
		t.Errorf("%d ms remain of 10 s", got.Remaining)
	}
	if !strings.HasPrefix(got.Trace, "Root=1-") {
		t.Errorf("_X_AMZN_TRACE_ID is %q", got.Trace)
	}
	if !logStreamShape.MatchString(got.Stream) {
		t.Errorf("the log stream is %q, want YYYY/MM/DD/[$LATEST]32 hexadecimal digits", got.Stream)
	}
	want := seenContext{RequestID: a.RequestID(), Name: name, Version: "$LATEST", ARN: c.ARN(name) + ":$LATEST", Memory: "512", Group: "/aws/lambda/" + name,
		Stream: got.Stream, Remaining: got.Remaining, Trace: got.Trace, Client: got.Client}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
	plain, _ := lab.Do[seenContext](t, c, name, op{"op": "context"})
	if plain.Client != nil || plain.ARN != c.ARN(name) {
		t.Errorf("called plainly, the client context is %+v and the ARN %s", plain.Client, plain.ARN)
	}

	_, err := c.Call(t.Context(), name, nil, func(in *lambda.InvokeInput) { in.ClientContext = aws.String("not base64!") })
	wantError[*types.InvalidRequestContentException](t, err, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.")
}

func environment(t *testing.T, c *lab.Caller, f lab.Function, l language) {
	got, _ := lab.Do[map[string]string](t, c, f.Name, op{"op": "env"})
	want := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/" + f.Name, "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
		"AWS_REGION": lab.Region, "AWS_DEFAULT_REGION": lab.Region, "_HANDLER": f.Handler,
		"LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime", "TZ": ":UTC", "LANG": "en_US.UTF-8",
	}
	if l.name != "go" {
		want["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + string(f.Runtime)
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s=%q, want %q", k, got[k], v)
		}
	}
	if l.name == "go" && got["AWS_EXECUTION_ENV"] != "" {
		t.Errorf("AWS_EXECUTION_ENV=%q for a custom runtime, AWS sets none", got["AWS_EXECUTION_ENV"])
	}
	for _, k := range []string{"PATH", "LD_LIBRARY_PATH", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API"} {
		if got[k] == "" {
			t.Errorf("%s is missing", k)
		}
	}
	for k, v := range got {
		if strings.HasPrefix(k, "LAMBENT") || strings.Contains(v, lab.Secret) {
			t.Errorf("%s=%q of the server's environment is seen by the function", k, v)
		}
	}
}

func logTail(t *testing.T, c *lab.Caller, name string) {
	_, a := lab.Do[any](t, c, name, op{"op": "log", "lines": []string{"first", "second: grün"}}, lab.Tail)
	lines := tailLines(t, a)
	if len(lines) != 5 {
		t.Fatalf("the log is %d lines, want START, two, END, REPORT:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	if want := "START RequestId: " + a.RequestID() + " Version: $LATEST"; lines[0] != want {
		t.Errorf("%q, want %q", lines[0], want)
	}
	if !strings.HasSuffix(lines[1], "first") || !strings.HasSuffix(lines[2], "second: grün") {
		t.Errorf("the function's lines are %q and %q", lines[1], lines[2])
	}
	if want := "END RequestId: " + a.RequestID(); lines[3] != want {
		t.Errorf("%q, want %q", lines[3], want)
	}
	checkReport(t, lines[4], a.RequestID(), 512)

	_, a = lab.Do[any](t, c, name, op{"op": "log", "lines": []string{strings.Repeat("a", 9000)}}, lab.Tail)
	if log, err := base64.StdEncoding.DecodeString(aws.ToString(a.LogResult)); err != nil || len(log) != 4096 {
		t.Errorf("of a long log %d bytes are given (%v), want the last 4096", len(log), err)
	}
}

// tailLines decodes LogResult, which asks for well-formed base64 and a newline
// at the end.
func tailLines(t *testing.T, a *lab.Answer) []string {
	t.Helper()
	log, err := base64.StdEncoding.DecodeString(aws.ToString(a.LogResult))
	if err != nil || !bytes.HasSuffix(log, []byte("\n")) {
		t.Fatalf("the log tail is %q (%v)", log, err)
	}
	return strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
}

func dryRun(t *testing.T, c *lab.Caller, name string) {
	before, _ := lab.Do[int](t, c, name, op{"op": "calls"})
	dry := func(in *lambda.InvokeInput) { in.InvocationType = types.InvocationTypeDryRun }
	a, err := c.Call(t.Context(), name, op{"op": "calls"}, dry)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusNoContent || len(a.Payload) != 0 {
		t.Errorf("a dry run answers %d with %q, want 204 with nothing", a.StatusCode, a.Payload)
	}
	if after, _ := lab.Do[int](t, c, name, op{"op": "calls"}); after != before+1 {
		t.Errorf("a dry run ran: %d calls before, %d after", before, after)
	}
	_, err = c.Call(t.Context(), "absent", nil, dry)
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN("absent"))
}

// simultaneous calls get their own answers, and no container ever runs two at
// once: where two calls had the same one, the second began after the first's end.
func simultaneous(t *testing.T, c *lab.Caller, name string) {
	const callers, took = 4, 1500 * time.Millisecond
	var wg sync.WaitGroup
	answers := make([]*lab.Answer, callers)
	errs := make([]error, callers)
	for n := range callers {
		wg.Go(func() {
			answers[n], errs[n] = c.Call(t.Context(), name, op{"op": "sleep", "ms": took.Milliseconds()})
		})
	}
	wg.Wait()
	starts := map[string][]time.Time{} // of each container
	for n, a := range answers {
		if errs[n] != nil || a.FunctionError != nil || string(a.Payload) != `"slept"` {
			t.Fatalf("call %d: %v, %+v", n, errs[n], a)
		}
		start, err := time.Parse(time.RFC3339Nano, a.Header.Get("X-Lambent-Exec-Started-At"))
		if err != nil {
			t.Fatal(err)
		}
		starts[a.ContainerID()] = append(starts[a.ContainerID()], start)
	}
	if len(starts) < 2 {
		t.Errorf("%d calls at once had one container", callers)
	}
	for id, times := range starts {
		slices.SortFunc(times, time.Time.Compare)
		for n := 1; n < len(times); n++ {
			if gap := times[n].Sub(times[n-1]); gap < took-10*time.Millisecond { // the sandbox's clock is another one
				t.Errorf("container %s began two executions within %v, each takes %v", id, gap, took)
			}
		}
	}
}

func TestInvokeRefusesWhatIsNotAnEvent(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, python(t).function("strict"))
	for _, bad := range []string{"{", "nope", `{"a":}`, `{"a":1} x`, "\xff", `"open`, "01"} {
		_, err := c.Call(t.Context(), "strict", []byte(bad))
		wantError[*types.InvalidRequestContentException](t, err, "InvalidRequestContentException", "")
		if err != nil && !strings.Contains(err.Error(), "Could not parse request body into json: Could not parse payload into json: ") {
			t.Errorf("%q is refused with %v", bad, err)
		}
	}
	// Wrong values that the SDK would not send.
	for header, want := range map[string]string{
		"X-Amz-Invocation-Type": "1 validation error detected: Value 'Maybe' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]",
		"X-Amz-Log-Type":        "1 validation error detected: Value 'Maybe' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]",
	} {
		r := c.HTTP(t, http.MethodPost, "/2015-03-31/functions/strict/invocations", []byte("{}"), header, "Maybe")
		checkError(t, r, http.StatusBadRequest, "ValidationException", fmt.Sprintf(`{"message":%s}`, quoted(t, want)))
	}
	r := c.HTTP(t, http.MethodPost, "/2015-03-31/functions/strict/invocations", nil)
	if r.Status != http.StatusOK {
		t.Errorf("an empty payload is refused: %d %s", r.Status, r.Body)
	}
}

// checkError holds an answer by hand against the whole shape of AWS's errors.
// The body is compared as JSON.
func checkError(t *testing.T, r lab.Reply, status int, name, body string) {
	t.Helper()
	if r.Status != status || r.Header.Get("X-Amzn-Errortype") != name {
		t.Errorf("%d %s, want %d %s; body %.500s", r.Status, r.Header.Get("X-Amzn-Errortype"), status, name, r.Body)
		return
	}
	if !uuidShape.MatchString(r.Header.Get("X-Amzn-Requestid")) || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s comes with x-amzn-RequestId %q and Content-Type %q", name, r.Header.Get("X-Amzn-Requestid"), r.Header.Get("Content-Type"))
	}
	var got, want any
	if err := json.Unmarshal(r.Body, &got); err != nil {
		t.Errorf("%s has a body that is no JSON: %q", name, r.Body)
	}
	if err := json.Unmarshal([]byte(body), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s's body (-want +got):\n%s", name, diff)
	}
}

func quoted(t *testing.T, s string) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
