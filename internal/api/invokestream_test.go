package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/stream"
)

const streamPath = "/2021-11-15/functions/f/response-streaming-invocations"

// message is one of an event stream.
type message struct {
	headers map[string]string
	payload string
}

// readMessage reads a message and holds it against the encoding.
func readMessage(r io.Reader) (m message, err error) {
	prelude := make([]byte, 12)
	if _, err := io.ReadFull(r, prelude); err != nil {
		return m, err
	}
	size, headers := binary.BigEndian.Uint32(prelude), binary.BigEndian.Uint32(prelude[4:])
	if got, want := binary.BigEndian.Uint32(prelude[8:]), crc32.ChecksumIEEE(prelude[:8]); got != want {
		return m, fmt.Errorf("prelude's checksum %x, want %x", got, want)
	}
	if size < 16+headers || size > 24<<20 {
		return m, fmt.Errorf("%d bytes, of which %d are headers", size, headers)
	}
	rest := make([]byte, size-12)
	if _, err := io.ReadFull(r, rest); err != nil {
		return m, err
	}
	body := rest[:len(rest)-4]
	if got, want := binary.BigEndian.Uint32(rest[len(body):]), crc32.ChecksumIEEE(append(prelude, body...)); got != want {
		return m, fmt.Errorf("message's checksum %x, want %x", got, want)
	}
	m.headers = map[string]string{}
	h := body[:headers]
	for len(h) > 0 {
		name := string(h[1 : 1+h[0]])
		h = h[1+h[0]:]
		if h[0] != 7 {
			return m, fmt.Errorf("header %s is of type %d", name, h[0])
		}
		n := binary.BigEndian.Uint16(h[1:])
		m.headers[name] = string(h[3 : 3+n])
		h = h[3+n:]
	}
	m.payload = string(body[headers:])
	return m, nil
}

// events takes an event stream apart: the payload of its chunks, how many they
// are, and the last event.
func events(t *testing.T, r io.Reader) (payload string, chunks int, last invokeComplete) {
	t.Helper()
	for {
		m, err := readMessage(r)
		if err != nil {
			t.Fatalf("after %d chunks: %v", chunks, err)
		}
		switch typ := m.headers[":event-type"]; typ {
		case "PayloadChunk":
			want := map[string]string{":event-type": typ, ":message-type": "event", ":content-type": "application/octet-stream"}
			if diff := cmp.Diff(want, m.headers); diff != "" {
				t.Error(diff)
			}
			payload += m.payload
			chunks++
		case "InvokeComplete":
			want := map[string]string{":event-type": typ, ":message-type": "event", ":content-type": "application/json"}
			if diff := cmp.Diff(want, m.headers); diff != "" {
				t.Error(diff)
			}
			d := json.NewDecoder(strings.NewReader(m.payload))
			d.DisallowUnknownFields()
			if err := d.Decode(&last); err != nil {
				t.Errorf("%v in %s", err, m.payload)
			}
			if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
				t.Errorf("%d bytes after the last event, %v", len(rest), err)
			}
			return payload, chunks, last
		default:
			t.Fatalf("event %q", m.headers)
		}
	}
}

// streams makes the invoker stream parts, then end as res says.
func (f *fakeInvoker) streams(parts func(s lambent.AnswerStream, start lambent.Start) *lambent.Result) {
	f.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
		res := echo(inv)
		inv.Stream.Begin(res.Start, "text/plain")
		if ended := parts(inv.Stream, res.Start); ended != nil {
			ended.Start = res.Start
			return ended, nil
		}
		res.Streamed, res.Payload = true, nil
		return res, nil
	}
}

func TestEventStreamMessageIsAWSs(t *testing.T) {
	// The bytes were made by aws-sdk-go-v2/aws/protocol/eventstream v1.7.26.
	const want = "AAAAXQAAAEozqHydCzpldmVudC10eXBlBwAMUGF5bG9hZENodW5rDTpjb250ZW50LXR5cGUHAAh0ZXh0L29kZA06bWVzc2FnZS10eXBlBwAFZXZlbnRhYmNsdCPI"
	got := base64.StdEncoding.EncodeToString(appendEvent(nil, "PayloadChunk", "text/odd", []byte("abc")))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func FuzzEventStreamMessage(f *testing.F) {
	f.Add("PayloadChunk", "application/octet-stream", []byte("abc"))
	f.Fuzz(func(t *testing.T, eventType, contentType string, payload []byte) {
		if len(eventType) > 1000 || len(contentType) > 1000 {
			return
		}
		m, err := readMessage(bytes.NewReader(appendEvent([]byte("before"), eventType, contentType, payload)[len("before"):]))
		if err != nil || m.payload != string(payload) || m.headers[":event-type"] != eventType || m.headers[":content-type"] != contentType {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestStreamedAnswerComesEventByEvent(t *testing.T) {
	d := newDoor(t)
	read := make(chan struct{})
	d.invoker.streams(func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		for _, part := range []string{"one", "two", "three"} {
			if err := s.Write([]byte(part), nil); err != nil {
				t.Error(err)
			}
			<-read // the caller has it before the next is written
		}
		return nil
	})
	srv := httptest.NewServer(d)
	defer srv.Close()
	resp, err := http.Post(srv.URL+streamPath, "application/json", strings.NewReader(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, want := range []string{"one", "two", "three"} {
		if m, err := readMessage(resp.Body); err != nil || m.payload != want {
			t.Fatalf("%+v, %v", m, err)
		}
		read <- struct{}{}
	}
	if _, chunks, last := events(t, resp.Body); chunks != 0 || last != (invokeComplete{}) {
		t.Errorf("%d chunks, %+v", chunks, last)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/vnd.amazon.eventstream", "X-Amz-Executed-Version": "$LATEST", "X-Amzn-RequestId": string(d.invoker.last.RequestID),
		"X-Amzn-Trace-Id": d.invoker.last.TraceID, "X-Lambent-Start-Kind": "container_reuse", "X-Lambent-Reason": "an idle container was there",
		"X-Lambent-Instance-Id": "i-1", "X-Lambent-Container-Id": "c-1", "X-Lambent-Served-Version": "$LATEST",
		"X-Lambent-Served-Code-Sha256": "old=", "X-Lambent-Requested-Version": "$LATEST", "X-Lambent-Requested-Code-Sha256": "new=",
		"X-Lambent-Received-At": "2026-11-21T03:00:00Z", "X-Lambent-Exec-Started-At": "2026-11-21T03:00:00.001Z", "X-Amz-Function-Error": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := string(d.invoker.last.Payload); got != `{"a":1}` || resp.StatusCode != 200 {
		t.Errorf("the function got %s, the caller %d", got, resp.StatusCode)
	}
}

func TestWholeAnswerComesInChunks(t *testing.T) {
	for _, size := range []int{0, 1, stream.BufferSize, stream.BufferSize + 1, 3 << 20} {
		d := newDoor(t)
		d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
			res := echo(inv)
			res.Payload = bytes.Repeat([]byte("x"), size)
			return res, nil
		}
		got := d.do(t, "POST", streamPath, "{}", "X-Amz-Log-Type", "Tail")
		payload, chunks, last := events(t, strings.NewReader(got.raw))
		if got.status != 200 || len(payload) != size || chunks != (size+stream.BufferSize-1)/stream.BufferSize {
			t.Errorf("%d: %d bytes in %d chunks, want %d", got.status, len(payload), chunks, size)
		}
		if log, err := base64.StdEncoding.DecodeString(last.LogResult); err != nil || string(log) != "START\nEND\n" || last.ErrorCode != "" || last.ErrorDetails != "" {
			t.Errorf("the last event: %+v, %v", last, err)
		}
	}
}

func TestFunctionErrorIsToldInTheLastEvent(t *testing.T) {
	failed := &lambent.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Oops"}`), Outcome: lambent.OutcomeFunctionError}
	d := newDoor(t)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) { return failed, nil }
	got := d.do(t, "POST", streamPath, "")
	if payload, chunks, last := events(t, strings.NewReader(got.raw)); payload != "" || chunks != 0 || last != (invokeComplete{ErrorCode: "Unhandled", ErrorDetails: `{"errorType":"Oops"}`}) {
		t.Errorf("before the first byte: %q, %+v", payload, last)
	}
	d.invoker.streams(func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		if err := s.Write([]byte("part"), nil); err != nil {
			t.Error(err)
		}
		return failed
	})
	got = d.do(t, "POST", streamPath, "")
	if payload, _, last := events(t, strings.NewReader(got.raw)); got.status != 200 || payload != "part" || last.ErrorCode != "Unhandled" || last.ErrorDetails != `{"errorType":"Oops"}` || last.LogResult != "" {
		t.Errorf("in mid-stream: %q, %+v", payload, last)
	}
}

func TestStreamingErrorsBeforeTheFirstByteAreTheAPIs(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(*lambent.Invocation) (*lambent.Result, error) {
		return nil, &lambent.Error{Kind: lambent.KindThrottled, Reason: "ConcurrentInvocationLimitExceeded", Message: "Rate Exceeded."}
	}
	d.do(t, "POST", streamPath, "").wantError(t, 429, "TooManyRequestsException")
	d.invoker.answer = nil
	d.do(t, "POST", streamPath, "{nonsense").wantError(t, 400, "InvalidRequestContentException")
	d.do(t, "POST", streamPath, strings.Repeat(" ", maxInvokeBody+1)).wantError(t, 413, "RequestTooLargeException")
	message := d.do(t, "POST", streamPath, "", "X-Amz-Invocation-Type", "Event").wantError(t, 400, "ValidationException")
	if want := "1 validation error detected: Value 'Event' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [RequestResponse, DryRun]"; message != want {
		t.Errorf("got  %s\nwant %s", message, want)
	}
	d.do(t, "POST", streamPath, "", "X-Amz-Invocation-Type", "DryRun").wantError(t, 404, "ResourceNotFoundException")
	d.create(t, "f")
	if got := d.do(t, "POST", streamPath, "", "X-Amz-Invocation-Type", "DryRun"); got.status != 204 || got.raw != "" {
		t.Errorf("dry run: %d %s", got.status, got.raw)
	}
}

func TestPlatformsErrorInMidStreamEndsTheStreamAndTellsNothing(t *testing.T) {
	d := newDoor(t)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
		inv.Stream.Begin(lambent.Start{}, "")
		return nil, errors.New("secret trouble")
	}
	got := d.do(t, "POST", streamPath, "")
	if _, _, last := events(t, strings.NewReader(got.raw)); last.ErrorCode != "ServiceException" || strings.Contains(got.raw, "secret") {
		t.Errorf("the last event: %+v", last)
	}
}

// stuck streams without end until its function is ended, a time after it began.
func stuck(after time.Duration) func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
	return func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		stop := make(chan struct{})
		time.AfterFunc(after, func() { close(stop) })
		for s.Write(make([]byte, 1<<20), stop) == nil {
		}
		return &lambent.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorType":"Sandbox.Timedout"}`), Outcome: lambent.OutcomeTimedOut}
	}
}

func TestSecurityCallerWhoDoesNotReadIsLeftOnceTheFunctionHasEnded(t *testing.T) {
	d := newDoor(t)
	d.invoker.streams(stuck(3 * time.Second))
	synctest.Test(t, func(t *testing.T) {
		c := d.dial(t)()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", streamPath)
		time.Sleep(3*time.Second + bodyWindow - time.Millisecond)
		synctest.Wait()
		if d.bodies.inFlight() == 0 {
			t.Error("it is left already")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := d.bodies.inFlight(); n != 0 {
			t.Errorf("it is not left: %d bytes are taken", n)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Error(err)
		}
	})
}

func TestCallerWhoReadsSteadilyGetsAllAndWhyItEnded(t *testing.T) {
	d := newDoor(t)
	d.invoker.streams(stuck(3 * time.Second))
	synctest.Test(t, func(t *testing.T) {
		c := d.dial(t)()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", streamPath)
		slow := readerFunc(func(b []byte) (int, error) { // 16 KiB in 2 s
			time.Sleep(2 * time.Second)
			return c.Read(b)
		})
		resp, err := http.ReadResponse(bufio.NewReaderSize(slow, 16<<10), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, last := events(t, resp.Body); last.ErrorCode != "Unhandled" || last.ErrorDetails != `{"errorType":"Sandbox.Timedout"}` {
			t.Errorf("the last event: %+v", last)
		}
	})
}

// dial sends a request whose answer the test reads as slowly as it likes.
func dial(t *testing.T, srv *httptest.Server) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	tcp := conn.(*net.TCPConn)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", streamPath)
	return tcp, bufio.NewReader(conn)
}

func TestCallerWhoGoesAwayLeavesTheFunctionAlone(t *testing.T) {
	d := newDoor(t)
	begun, all := make(chan struct{}), make(chan error, 1)
	d.invoker.streams(func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		close(begun)
		err := error(nil)
		for range 1000 {
			err = errors.Join(err, s.Write(make([]byte, 64<<10), nil))
		}
		all <- err
		return nil
	})
	srv := httptest.NewServer(d)
	defer srv.Close()
	conn, r := dial(t, srv)
	<-begun
	if _, err := r.ReadByte(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-all:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the function waits for a caller who has gone")
	}
}

func TestCallerWhoReadsSlowlyMakesTheFunctionWait(t *testing.T) {
	const parts, size = 1000, 64 << 10 // more than all sockets hold
	d := newDoor(t)
	written := make(chan struct{})
	d.invoker.streams(func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		defer close(written)
		for range parts {
			if err := s.Write(make([]byte, size), nil); err != nil {
				t.Error(err)
			}
		}
		return nil
	})
	d.streaming = stream.Limits{}
	srv := httptest.NewServer(d)
	defer srv.Close()
	_, r := dial(t, srv)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case <-written:
		t.Error("it was written though nobody reads")
	default:
	}
	came := 0
	for {
		m, err := readMessage(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if m.headers[":event-type"] == "InvokeComplete" {
			break
		}
		came += len(m.payload)
	}
	if <-written; came != parts*size {
		t.Errorf("%d bytes came", came)
	}
}

func TestConnectionServesOnAfterAStream(t *testing.T) {
	d := newDoor(t)
	d.invoker.streams(func(s lambent.AnswerStream, _ lambent.Start) *lambent.Result {
		_ = s.Write([]byte("part"), nil)
		return nil
	})
	srv := httptest.NewServer(d)
	defer srv.Close()
	conn, r := dial(t, srv)
	for range 3 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if payload, _, _ := events(t, resp.Body); payload != "part" {
			t.Errorf("got %q", payload)
		}
		_ = resp.Body.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", streamPath)
	}
}
