package guest_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// fakeHost hands out the events it is given and remembers what it is told.
type fakeHost struct {
	events chan *frame.Event

	mu sync.Mutex
	// +checklocks:mu
	said []string
	// +checklocks:mu
	broken error // what every call fails with
}

func newFakeHost() *fakeHost { return &fakeHost{events: make(chan *frame.Event)} }

func (h *fakeHost) NextEvent() (*frame.Event, error) {
	if e, ok := <-h.events; ok {
		return e, nil
	}
	return nil, io.EOF
}

func (h *fakeHost) say(format string, args ...any) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, fmt.Sprintf(format, args...))
	return h.broken
}

func (h *fakeHost) Ready() error                         { return h.say("ready") }
func (h *fakeHost) InitError(typ string, b []byte) error { return h.say("init error %s %s", typ, b) }
func (h *fakeHost) Respond(id string, b []byte) error    { return h.say("response %s %.100s", id, b) }
func (h *fakeHost) Fail(id, typ string, b []byte) error  { return h.say("error %s %s %s", id, typ, b) }
func (h *fakeHost) Begin(id, typ string) error           { return h.say("begin %s %s", id, typ) }
func (h *fakeHost) Chunk(b []byte) error                 { return h.say("chunk %.100s", b) }
func (h *fakeHost) End(typ string, b []byte) error       { return h.say("end %s %s", typ, b) }

func (h *fakeHost) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.said...)
}

// rig is an API served over real HTTP.
type rig struct {
	*testing.T
	host *fakeHost
	url  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	host := newFakeHost()
	api := guest.NewAPI(host)
	var running sync.WaitGroup
	running.Go(func() {
		if err := api.Run(); err != io.EOF {
			t.Errorf("Run: %v", err)
		}
	})
	srv := httptest.NewServer(api)
	t.Cleanup(func() {
		close(host.events)
		running.Wait()
		srv.Close()
	})
	return &rig{t, host, srv.URL + "/2018-06-01"}
}

type answer struct {
	Status int
	Body   string
}

var ok = answer{202, `{"status":"OK"}` + "\n"}

func (r *rig) do(method, path, body string, header ...string) (answer, http.Header) {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return answer{resp.StatusCode, string(b)}, resp.Header
}

// next asks for the next event, which is given to the host meanwhile.
func (r *rig) next(e *frame.Event) http.Header {
	r.Helper()
	go func() { r.host.events <- e }()
	a, h := r.do("GET", "/runtime/invocation/next", "")
	if a.Status != 200 || a.Body != string(e.Payload) {
		r.Fatalf("next: %+v", a)
	}
	return h
}

func (r *rig) want(got, want answer) {
	r.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		r.Error(diff)
	}
}

func (r *rig) wantHeard(want ...string) {
	r.Helper()
	if diff := cmp.Diff(want, r.host.heard()); diff != "" {
		r.Error(diff)
	}
}

func refused(status int, errorType, message string) answer {
	return answer{status, `{"errorMessage":"` + message + `","errorType":"` + errorType + `"}` + "\n"}
}

func transition(from, to string) answer {
	return refused(403, "InvalidStateTransition", "State transition from "+from+" to "+to+" failed for runtime. Error: State transition is not allowed")
}

var invalidID = refused(400, "InvalidRequestID", "Invalid request ID")

func event(id string) *frame.Event {
	return &frame.Event{RequestID: id, DeadlineMillis: 1700000000123, InvokedARN: "arn:x", Payload: []byte(`{"n":1}`)}
}

func TestNextCarriesEveryHeader(t *testing.T) {
	r := newRig(t)
	e := event("id-1")
	e.TraceID, e.ClientContext, e.CognitoIdentity, e.TenantID = "Root=1-2", `{"client":{}}`, `{"cognitoIdentityId":"x"}`, "blue"
	got := r.next(e)
	for name, want := range map[string]string{
		"Lambda-Runtime-Aws-Request-Id": "id-1", "Lambda-Runtime-Deadline-Ms": "1700000000123",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:x", "Lambda-Runtime-Trace-Id": "Root=1-2",
		"Lambda-Runtime-Client-Context": `{"client":{}}`, "Lambda-Runtime-Cognito-Identity": `{"cognitoIdentityId":"x"}`,
		"Lambda-Runtime-Aws-Tenant-Id": "blue", "Content-Type": "application/json", "Content-Length": "7",
	} {
		if got.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Get(name), want)
		}
	}
}

func TestNextLeavesOutWhatIsNotKnown(t *testing.T) {
	r := newRig(t)
	got := r.next(event("id-1"))
	for _, name := range []string{"Lambda-Runtime-Trace-Id", "Lambda-Runtime-Client-Context", "Lambda-Runtime-Cognito-Identity", "Lambda-Runtime-Aws-Tenant-Id"} {
		if _, there := got[name]; there {
			t.Errorf("%s is there", name)
		}
	}
}

func TestConversationOfSeveralEvents(t *testing.T) {
	r := newRig(t)
	r.next(event("1"))
	a, _ := r.do("POST", "/runtime/invocation/1/response", `{"a":1}`)
	r.want(a, ok)
	r.next(event("2"))
	a, _ = r.do("POST", "/runtime/invocation/2/error", `{"errorMessage":"m"}`, "Lambda-Runtime-Function-Error-Type", "Function.Bad")
	r.want(a, ok)
	r.next(event("3"))
	a, _ = r.do("POST", "/runtime/invocation/3/response", "")
	r.want(a, ok)
	r.wantHeard("ready", `response 1 {"a":1}`, "ready", `error 2 Function.Bad {"errorMessage":"m"}`, "ready", "response 3 ")
}

func TestNextAskedAgainWhileAnEventRunsGivesItAgain(t *testing.T) {
	r := newRig(t)
	r.next(event("1"))
	a, h := r.do("GET", "/runtime/invocation/next", "")
	if a.Body != `{"n":1}` || h.Get("Lambda-Runtime-Aws-Request-Id") != "1" {
		t.Errorf("got %+v", a)
	}
	r.wantHeard("ready")
}

func TestNextGivenUpAndAskedAgainLosesNothing(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", r.url+"/runtime/invocation/next", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := http.DefaultClient.Do(req); done <- err }()
	for len(r.host.heard()) == 0 { // until it has asked
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.next(event("1"))
	r.wantHeard("ready")
}

func TestWrongRequestIDIsRefusedBeforeTheState(t *testing.T) {
	r := newRig(t)
	for _, verb := range []string{"response", "error"} {
		a, _ := r.do("POST", "/runtime/invocation/1/"+verb, "x")
		r.want(a, invalidID) // before the first event
	}
	r.next(event("1"))
	for _, id := range []string{"2", "", "1x"} {
		a, _ := r.do("POST", "/runtime/invocation/"+id+"/response", "x")
		r.want(a, invalidID)
	}
	r.wantHeard("ready")
}

func TestCallsTheStateDoesNotAllowAreRefused(t *testing.T) {
	r := newRig(t)
	r.next(event("1"))
	a, _ := r.do("POST", "/runtime/init/error", "{}")
	r.want(a, transition("Running", "InitError"))
	a, _ = r.do("POST", "/runtime/invocation/1/response", "1")
	r.want(a, ok)
	a, _ = r.do("POST", "/runtime/invocation/1/response", "1")
	r.want(a, transition("ResponseSent", "InvocationResponse"))
	a, _ = r.do("POST", "/runtime/invocation/1/error", "1")
	r.want(a, transition("ResponseSent", "InvocationErrorResponse"))
	r.wantHeard("ready", "response 1 1")
}

func TestInitErrorEndsTheConversation(t *testing.T) {
	r := newRig(t)
	a, _ := r.do("POST", "/runtime/init/error", `{"errorMessage":"m"}`, "Lambda-Runtime-Function-Error-Type", "Runtime.NoSuchHandler")
	r.want(a, ok)
	a, _ = r.do("POST", "/runtime/init/error", `{}`)
	r.want(a, transition("InitError", "InitError"))
	a, _ = r.do("GET", "/runtime/invocation/next", "")
	r.want(a, transition("InitError", "Ready"))
	r.wantHeard(`init error Runtime.NoSuchHandler {"errorMessage":"m"}`)
}

func TestErrorTypeIsKeptOnlyInAWSsShape(t *testing.T) {
	for sent, want := range map[string]string{
		"Runtime.ExitError": "Runtime.ExitError", "Function.MyError": "Function.MyError",
		"": "Runtime.Unknown", "errorString": "Runtime.Unknown", "Extension.Crash": "Runtime.Unknown",
		"Runtime.lower": "Runtime.Unknown", "Function.X": "Function.Unknown", "Function.A1": "Function.Unknown", "Function.": "Function.Unknown", "Function": "Function.Unknown",
	} {
		r := newRig(t)
		r.next(event("1"))
		r.do("POST", "/runtime/invocation/1/error", "b", "Lambda-Runtime-Function-Error-Type", sent)
		r.wantHeard("ready", "error 1 "+want+" b")
	}
}

func TestErrorCauseIsNotShownToTheCaller(t *testing.T) {
	const cause = "application/vnd.aws.lambda.error.cause+json"
	for body, want := range map[string]string{
		`{"errorMessage":"m","errorType":"T","stackTrace":["a"],"cause":{"x":1}}`: `{"errorMessage":"m","errorType":"T","stackTrace":["a"]}`,
		`nonsense`: `"Invalid error body"`,
	} {
		r := newRig(t)
		r.next(event("1"))
		r.do("POST", "/runtime/invocation/1/error", body, "Content-Type", cause, "Lambda-Runtime-Function-Error-Type", "Function.T")
		if got := r.host.heard()[1]; got != "error 1 Function.Unknown "+want {
			t.Errorf("got %s", got)
		}
	}
}

func TestBodyOverTheLimitIsRefusedAndToldToTheCaller(t *testing.T) {
	big := strings.Repeat("x", frame.MaxPayload+1)
	told := `error 1 Function.ResponseSizeTooLarge {"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`
	for _, verb := range []string{"response", "error"} {
		r := newRig(t)
		r.next(event("1"))
		a, _ := r.do("POST", "/runtime/invocation/1/"+verb, big)
		r.want(a, refused(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes)."))
		r.next(event("2"))
		r.wantHeard("ready", told, "ready")
	}
	r := newRig(t)
	a, _ := r.do("POST", "/runtime/init/error", big)
	r.want(a, refused(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes)."))
}

// streamed is an event whose caller takes the answer as it comes.
func streamed(id string) *frame.Event {
	e := event(id)
	e.Streamed = true
	return e
}

func TestAnswerInChunksIsCollectedForACallerWhoDoesNotStream(t *testing.T) {
	for _, mode := range []string{"", "streaming"} {
		for want, trailer := range map[string]http.Header{
			"response 1 part one, part two":       nil,
			`error 1 Runtime.StreamError {"m":1}`: {"Lambda-Runtime-Function-Error-Type": {"Runtime.StreamError"}, "Lambda-Runtime-Function-Error-Body": {base64.StdEncoding.EncodeToString([]byte(`{"m":1}`))}},
		} {
			r := newRig(t)
			r.next(event("1"))
			body, w := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/runtime/invocation/1/response", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Lambda-Runtime-Function-Response-Mode", mode)
			req.Trailer = trailer
			go func() {
				_, _ = io.WriteString(w, "part one, ")
				_, _ = io.WriteString(w, "part two")
				_ = w.Close()
			}()
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			r.wantHeard("ready", want)
		}
	}
}

func TestStreamedAnswerIsHandedOnAsItComes(t *testing.T) {
	for name, tt := range map[string]struct {
		trailer http.Header
		want    string
	}{
		"success": {nil, "end  "},
		"error": {http.Header{
			"Lambda-Runtime-Function-Error-Type": {"Runtime.StreamError"},
			"Lambda-Runtime-Function-Error-Body": {base64.StdEncoding.EncodeToString([]byte(`{"m":1}`))},
		}, `end Runtime.StreamError {"m":1}`},
		"error without a body": {http.Header{"Lambda-Runtime-Function-Error-Type": {"oops"}},
			`end Runtime.Unknown {"errorType":"Runtime.Unknown","errorMessage":"The function failed while it streamed its answer."}`},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.next(streamed("1"))
			body, w := io.Pipe()
			req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/runtime/invocation/1/response", body)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "text/plain")
			req.Trailer = tt.trailer
			go func() {
				for _, part := range []string{"part one", "part two"} { // the second only when the first was heard
					_, _ = io.WriteString(w, part)
					for !slices.Contains(r.host.heard(), "chunk "+part) {
						runtime.Gosched()
					}
				}
				_ = w.Close()
			}()
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != 202 {
				t.Errorf("status %d", resp.StatusCode)
			}
			r.wantHeard("ready", "begin 1 text/plain", "chunk part one", "chunk part two", tt.want)
			r.next(event("2"))
		})
	}
}

func TestStreamedAnswerIsReadNoFasterThanTheHostTakesIt(t *testing.T) {
	host := &stuckHost{fakeHost: newFakeHost(), took: make(chan int), on: make(chan struct{})}
	api := guest.NewAPI(host)
	var running sync.WaitGroup
	running.Go(func() { _ = api.Run() })
	host.events <- streamed("1")
	close(host.events)
	running.Wait()
	get := httptest.NewRequest("GET", "/2018-06-01/runtime/invocation/next", nil)
	api.ServeHTTP(httptest.NewRecorder(), get)

	const size = 10 << 20
	body := &countingReader{r: io.LimitReader(zeros{}, size)}
	post := httptest.NewRequest("POST", "/2018-06-01/runtime/invocation/1/response", body)
	running.Go(func() { api.ServeHTTP(httptest.NewRecorder(), post) })
	first := <-host.took
	if read := body.n.Load(); read > int64(first) {
		t.Errorf("%d bytes were read while the host had not taken %d", read, first)
	}
	close(host.on)
	for got := first; got < size; {
		got += <-host.took
	}
	running.Wait()
}

// stuckHost takes the first part of a streamed answer when it is told to.
type stuckHost struct {
	*fakeHost
	took chan int
	on   chan struct{}
}

func (h *stuckHost) Chunk(b []byte) error {
	h.took <- len(b)
	<-h.on
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

func TestUnknownResponseModeIsRefused(t *testing.T) {
	r := newRig(t)
	r.next(event("1"))
	a, _ := r.do("POST", "/runtime/invocation/1/response", "x", "Lambda-Runtime-Function-Response-Mode", "telepathic")
	r.want(a, refused(400, "InvalidFunctionResponseMode", "Invalid function response mode"))
	if got := r.host.heard()[1]; !strings.HasPrefix(got, "error 1 Runtime.InvalidResponseModeHeader {") {
		t.Errorf("the caller is told %s", got)
	}
	r.next(event("2"))
}

func TestBodyCutShortIsToldToTheCaller(t *testing.T) {
	for _, head := range []string{"Content-Length: 100", "Transfer-Encoding: chunked"} {
		t.Run(head, func(t *testing.T) { testCutShort(t, head, event("1"), "error 1 Runtime.TruncatedResponse {") })
		t.Run(head+", streamed", func(t *testing.T) { testCutShort(t, head, streamed("1"), "end Runtime.TruncatedResponse {") })
	}
}

func testCutShort(t *testing.T, head string, e *frame.Event, want string) {
	r := newRig(t)
	r.next(e)
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/2018-06-01"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\r\nHost: x\r\n"+head+"\r\n\r\n40\r\nonly this")
	_ = conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	r.want(answer{resp.StatusCode, string(b)}, refused(400, "TruncatedHTTPRequest", "HTTP request detected as truncated"))
	if heard := r.host.heard(); !strings.HasPrefix(heard[len(heard)-1], want) {
		t.Errorf("the caller is told %s", heard)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/ping", 200}, {"POST", "/ping", 405}, {"POST", "/runtime/invocation/next", 405}, {"GET", "/runtime/init/error", 405},
		{"GET", "/runtime/invocation/1/response", 405}, {"PUT", "/runtime/invocation/1/error", 405},
		{"GET", "/", 404}, {"GET", "", 404}, {"GET", "/runtime/restore/next", 404}, {"POST", "/runtime/invocation/1", 404},
		{"POST", "/runtime/invocation/1/other", 404}, {"POST", "/runtime/invocation/1/response/2", 404}, {"GET", "/../etc", 404},
	} {
		if a, _ := r.do(tt.method, tt.path, ""); a.Status != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, a.Status, tt.want)
		}
	}
	if a, _ := r.do("GET", "/ping", ""); a.Body != "pong" {
		t.Errorf("ping: %+v", a)
	}
	r.wantHeard()
}

func TestHostThatIsGoneIsAServerError(t *testing.T) {
	r := newRig(t)
	r.next(event("1"))
	r.host.mu.Lock()
	r.host.broken = errors.New("gone")
	r.host.mu.Unlock()
	a, _ := r.do("POST", "/runtime/invocation/1/response", "x")
	r.want(a, refused(500, "InternalServerError", "Internal Server Error"))
	a, _ = r.do("GET", "/runtime/invocation/next", "")
	r.want(a, refused(500, "InternalServerError", "Internal Server Error"))
}

// FuzzRoutes sends anything to the API in any state. It may refuse, but it may
// not panic, and the host must never be told two answers for one event.
func FuzzRoutes(f *testing.F) {
	f.Add("POST", "/2018-06-01/runtime/invocation/1/response", "{}", "streaming", "Function.X", "application/json", true)
	f.Add("POST", "/2018-06-01/runtime/invocation/1/error", "{}", "", "Function.X", "application/vnd.aws.lambda.error.cause+json", true)
	f.Add("POST", "/2018-06-01/runtime/init/error", "", "", "", "", false)
	f.Add("GET", "/2018-06-01/runtime/invocation//response", "", "x", "\x00", "", false)
	f.Fuzz(func(t *testing.T, method, path, body, mode, errorType, contentType string, streamed bool) {
		host := newFakeHost()
		api := guest.NewAPI(host)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = api.Run()
		}()
		send := func(method, path string) int {
			req := httptest.NewRequest("GET", "/", strings.NewReader(body))
			req.Method, req.URL.Path, req.ContentLength = method, path, int64(len(body))
			req.Header.Set("Lambda-Runtime-Function-Response-Mode", mode)
			req.Header.Set("Lambda-Runtime-Function-Error-Type", errorType)
			req.Header.Set("Content-Type", contentType)
			ctx, cancel := context.WithCancel(req.Context())
			cancel() // next does not wait
			w := httptest.NewRecorder()
			api.ServeHTTP(w, req.WithContext(ctx))
			return w.Code
		}
		send(method, path)
		host.events <- &frame.Event{RequestID: "1", Payload: []byte("{}"), Streamed: streamed}
		close(host.events)
		<-done
		for range 3 { // with a context that has ended, next may take the event or not
			send("GET", "/2018-06-01/runtime/invocation/next")
		}
		send(method, path)
		send(method, path)
		answers := 0
		for _, said := range host.heard() {
			if strings.HasPrefix(said, "response ") || strings.HasPrefix(said, "error ") || strings.HasPrefix(said, "begin ") {
				answers++
			}
		}
		if answers > 1 {
			t.Errorf("one event was answered %d times: %q", answers, host.heard())
		}
	})
}
