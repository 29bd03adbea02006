package runtimeapi_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
	"lambent/internal/runtimeapi/runtimetest"
)

// patience bounds what a test waits for that should come at once.
const patience = 20 * time.Second

// open makes an opened session and the guest's raw end.
func open(t testing.TB) (*runtimeapi.Session, net.Conn) {
	t.Helper()
	host, far := runtimetest.Conns(t)
	s := runtimeapi.NewSession("c-1", host)
	s.Open()
	t.Cleanup(func() { _ = s.Close() })
	return s, far
}

// bootedSession is a session whose guest has booted.
func bootedSession(t testing.TB) (*runtimeapi.Session, net.Conn) {
	t.Helper()
	s, far := open(t)
	write(t, far, frame.AppendFrame(nil, frame.Booted, []byte("test 1")))
	if banner, err := s.Booted(t.Context()); err != nil || banner != "test 1" {
		t.Fatalf("Booted = %q, %v", banner, err)
	}
	return s, far
}

// readySession is a session whose guest is initialised. The guest's end has read
// the assignment.
func readySession(t testing.TB) (*runtimeapi.Session, net.Conn, *guest.Conn) {
	t.Helper()
	s, far := bootedSession(t)
	g := guest.NewConn(far)
	assigned := make(chan error, 1)
	go func() { assigned <- s.Assign(t.Context(), &runtimeapi.Assignment{Handler: "a.b"}) }()
	if _, err := g.NextAssignment(); err != nil {
		t.Fatal(err)
	}
	if err := g.Ready(); err != nil {
		t.Fatal(err)
	}
	if err := <-assigned; err != nil {
		t.Fatal(err)
	}
	return s, far, g
}

func write(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func event(id, payload string) *runtimeapi.Event {
	return &runtimeapi.Event{Event: frame.Event{RequestID: id, DeadlineMillis: 1, InvokedARN: "arn", Payload: []byte(payload)}}
}

type outcome struct {
	answer runtimeapi.Answer
	err    error
}

// invoking starts Invoke and waits until the guest has the event.
func invoking(ctx context.Context, t testing.TB, s *runtimeapi.Session, g *guest.Conn, id, payload string) <-chan outcome {
	t.Helper()
	done := make(chan outcome, 1)
	go func() {
		a, err := s.Invoke(ctx, event(id, payload))
		done <- outcome{a, err}
	}()
	e, err := g.NextEvent()
	if err != nil {
		t.Fatal(err)
	}
	if e.RequestID != id {
		t.Fatalf("the guest got event %q, not %q", e.RequestID, id)
	}
	return done
}

func wait[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("it did not come")
		panic("unreachable")
	}
}

func TestEverythingTheHostSaysReachesTheGuest(t *testing.T) {
	s, far := bootedSession(t)
	g := guest.NewConn(far)
	sent := &runtimeapi.Assignment{
		Handler: "a.b", Env: map[string]string{"K": "v\n\"ü"}, TaskRoot: "/var/task", FunctionName: "f", Version: "3",
		FunctionARN: "arn", Account: "1", Region: "r", MemoryMB: 128, LogGroup: "g", LogStream: "s",
		Bootstraps: []string{"/var/task/bootstrap"}, User: &runtimeapi.User{UID: 1, GID: 2}, Limits: &runtimeapi.Limits{OpenFiles: 3},
	}
	assigned := make(chan error, 1)
	go func() { assigned <- s.Assign(t.Context(), sent) }()
	got, err := g.NextAssignment()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Error(diff)
	}
	if err := g.Ready(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, assigned); err != nil {
		t.Fatal(err)
	}

	want := &frame.Event{
		RequestID: "id", DeadlineMillis: 1700000000000, InvokedARN: "arn:x", TraceID: "Root=1", ClientContext: `{"a":"\u0001"}` + "\x01",
		CognitoIdentity: `{"b":"ü"}`, TenantID: `te"nant`, Payload: []byte(`{"x":1}`),
	}
	e := &runtimeapi.Event{Event: *want}
	done := make(chan outcome, 1)
	go func() {
		a, err := s.Invoke(t.Context(), e)
		done <- outcome{a, err}
	}()
	gotEvent, err := g.NextEvent()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, gotEvent); diff != "" {
		t.Error(diff)
	}
	if err := g.Respond("id", []byte("yes")); err != nil {
		t.Fatal(err)
	}
	if o := wait(t, done); o.err != nil || string(o.answer.Payload) != "yes" {
		t.Errorf("got %+v", o)
	}
	if e.HandedAt.IsZero() {
		t.Error("the event does not say when it was handed over")
	}
}

func TestErrorAnswerKeepsTypeAndBody(t *testing.T) {
	s, _, g := readySession(t)
	for _, tt := range []struct{ sent, want string }{
		{"TypeError", "TypeError"}, {"Function.Unknown", "Function.Unknown"},
		{"", "Runtime.Unknown"}, {"a b", "Runtime.Unknown"}, {"x\r\ny", "Runtime.Unknown"}, {strings.Repeat("x", 129), "Runtime.Unknown"},
	} {
		done := invoking(t.Context(), t, s, g, "id", "1")
		if err := errors.Join(g.Fail("id", tt.sent, []byte(`{"m":1}`)), g.Ready()); err != nil {
			t.Fatal(err)
		}
		o := wait(t, done)
		want := outcome{answer: runtimeapi.Answer{Payload: []byte(`{"m":1}`), ErrorType: tt.want}}
		if diff := cmp.Diff(want, o, cmp.AllowUnexported(outcome{})); diff != "" {
			t.Errorf("type %q: %s", tt.sent, diff)
		}
	}
}

func TestInvokeWaitsUntilTheRuntimeAsksForTheNextEvent(t *testing.T) {
	s, _, g := readySession(t)
	first := invoking(t.Context(), t, s, g, "1", "1")
	if err := g.Respond("1", []byte("one")); err != nil {
		t.Fatal(err)
	}
	if o := wait(t, first); string(o.answer.Payload) != "one" {
		t.Fatalf("got %+v", o)
	}
	if st := s.State(); st != runtimeapi.ResponseSent {
		t.Fatalf("state is %s", st)
	}
	second := make(chan outcome, 1)
	go func() {
		a, err := s.Invoke(t.Context(), event("2", "2"))
		second <- outcome{a, err}
	}()
	if err := g.Ready(); err != nil {
		t.Fatal(err)
	}
	if e, err := g.NextEvent(); err != nil || e.RequestID != "2" {
		t.Fatalf("got %+v, %v", e, err)
	}
	if err := g.Respond("2", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if o := wait(t, second); o.err != nil || string(o.answer.Payload) != "two" {
		t.Errorf("got %+v", o)
	}
}

func TestAnswerAndReadyInOneWriteLeaveTheSessionReady(t *testing.T) {
	s, far, g := readySession(t)
	for range 100 {
		done := invoking(t.Context(), t, s, g, "1", "1")
		write(t, far, frame.AppendHeader(frame.AppendFrame(nil, frame.Response, []byte("one"), "1"), frame.Ready, 0))
		if o := wait(t, done); o.err != nil {
			t.Fatal(o.err)
		}
		if st := s.State(); st != runtimeapi.Ready {
			t.Fatalf("state is %s when Invoke has returned", st)
		}
	}
}

func TestEmptyPayloadReachesTheRuntimeAsEmptyObject(t *testing.T) {
	s, _, g := readySession(t)
	go func() { _, _ = s.Invoke(t.Context(), event("1", "")) }()
	if e, err := g.NextEvent(); err != nil || string(e.Payload) != "{}" {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestEventOverTheLimitIsRefusedBeforeItIsSent(t *testing.T) {
	s, _, _ := readySession(t)
	_, err := s.Invoke(t.Context(), event("1", strings.Repeat("x", frame.MaxPayload+1)))
	if !errors.Is(err, runtimeapi.ErrTooLarge) || lambent.KindOf(err) != lambent.KindTooLarge {
		t.Errorf("got %v", err)
	}
	if st := s.State(); st != runtimeapi.Ready {
		t.Errorf("state is %s", st)
	}
}

func TestConnectionClosedByTheGuestSurfacesAtOnce(t *testing.T) {
	tests := map[string]func(t *testing.T) (end func() error, got <-chan error, s *runtimeapi.Session){
		"before boot": func(t *testing.T) (func() error, <-chan error, *runtimeapi.Session) {
			s, far := open(t)
			got := make(chan error, 1)
			go func() { _, err := s.Booted(t.Context()); got <- err }()
			return far.Close, got, s
		},
		"during init": func(t *testing.T) (func() error, <-chan error, *runtimeapi.Session) {
			s, far := bootedSession(t)
			got := make(chan error, 1)
			go func() { got <- s.Assign(t.Context(), &runtimeapi.Assignment{}) }()
			return far.Close, got, s
		},
		"during an event": func(t *testing.T) (func() error, <-chan error, *runtimeapi.Session) {
			s, far, g := readySession(t)
			done := invoking(t.Context(), t, s, g, "1", "1")
			got := make(chan error, 1)
			go func() { got <- (<-done).err }()
			return far.Close, got, s
		},
		"in the middle of an answer": func(t *testing.T) (func() error, <-chan error, *runtimeapi.Session) {
			s, far, g := readySession(t)
			done := invoking(t.Context(), t, s, g, "1", "1")
			write(t, far, frame.AppendFrame(nil, frame.Response, make([]byte, 100_000), "1")[:50_000])
			got := make(chan error, 1)
			go func() { got <- (<-done).err }()
			return far.Close, got, s
		},
		"before the event could be written": func(t *testing.T) (func() error, <-chan error, *runtimeapi.Session) {
			s, far, _ := readySession(t)
			got := make(chan error, 1)
			return func() error {
				err := far.Close()
				_, invokeErr := s.Invoke(t.Context(), event("1", "1"))
				got <- invokeErr
				return err
			}, got, s
		},
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			end, got, s := set(t)
			if err := end(); err != nil {
				t.Fatal(err)
			}
			err := wait(t, got)
			var broke *runtimeapi.ProtocolError
			if !errors.Is(err, runtimeapi.ErrClosed) || errors.As(err, &broke) {
				t.Errorf("got %v", err)
			}
			wait(t, s.Done())
			if !errors.Is(s.Err(), runtimeapi.ErrClosed) {
				t.Errorf("Err is %v", s.Err())
			}
			if st := s.State(); st != runtimeapi.Closed {
				t.Errorf("state is %s", st)
			}
		})
	}
}

func TestExitOfASupervisedProcessIsToldWithItsReason(t *testing.T) {
	for _, tt := range []struct {
		status frame.ExitStatus
		want   string
	}{
		{frame.ExitStatus{Code: 1}, "Runtime exited with error: exit status 1"},
		{frame.ExitStatus{}, "Runtime exited without providing a reason"},
		{frame.ExitStatus{Signal: int(syscall.SIGKILL)}, "Runtime exited with error: signal: killed"},
	} {
		s, _, g := readySession(t)
		done := invoking(t.Context(), t, s, g, "1", "1")
		if err := errors.Join(g.Exit(tt.status), g.Close()); err != nil {
			t.Fatal(err)
		}
		err := wait(t, done).err
		var exit *runtimeapi.ExitError
		if !errors.As(err, &exit) || !errors.Is(err, runtimeapi.ErrClosed) {
			t.Fatalf("got %v", err)
		}
		want := `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: 1 Error: ` + tt.want + `"}`
		if got := string(exit.Payload("1")); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAnswerBeforeTheEndStillCounts(t *testing.T) {
	for range 50 {
		s, far, g := readySession(t)
		done := invoking(t.Context(), t, s, g, "1", "1")
		b := frame.AppendFrame(nil, frame.Response, []byte("last words"), "1")
		write(t, far, frame.AppendExit(b, frame.ExitStatus{Code: 3}))
		_ = far.Close()
		if o := wait(t, done); o.err != nil || string(o.answer.Payload) != "last words" {
			t.Fatalf("got %+v", o)
		}
		wait(t, s.Done())
	}
}

func TestInitErrorIsReportedAndEndsNothingElse(t *testing.T) {
	s, far := bootedSession(t)
	g := guest.NewConn(far)
	got := make(chan error, 1)
	go func() { got <- s.Assign(t.Context(), &runtimeapi.Assignment{}) }()
	if _, err := g.NextAssignment(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.InitError("Runtime.ImportModuleError", []byte(`{"a":1}`)), g.Close()); err != nil {
		t.Fatal(err)
	}
	var failed *runtimeapi.InitError
	if err := wait(t, got); !errors.As(err, &failed) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(&runtimeapi.InitError{Type: "Runtime.ImportModuleError", Body: []byte(`{"a":1}`)}, failed); diff != "" {
		t.Error(diff)
	}
	if got := string(failed.Payload("1")); got != `{"a":1}` {
		t.Errorf("the caller is told %s", got)
	}
}

func TestInvalidEntrypointIsToldAsThePlatformsOwnError(t *testing.T) {
	for body, want := range map[string]string{
		`{"errorMessage":"Couldn't find valid bootstrap(s): [/a /b]"}`: `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: 1 Error: Couldn't find valid bootstrap(s): [/a /b]"}`,
		`nonsense`: `{"errorType":"Runtime.InvalidEntrypoint","errorMessage":"RequestId: 1 Error: the runtime's entry point is missing"}`,
	} {
		e := &runtimeapi.InitError{Type: runtimeapi.TypeInvalidEntrypoint, Body: []byte(body)}
		if got := string(e.Payload("1")); got != want {
			t.Errorf("got %s", got)
		}
	}
}

func TestAnswerOverTheLimitIsReplacedAndTheSessionGoesOn(t *testing.T) {
	for _, kind := range []frame.Type{frame.Response, frame.Error} {
		t.Run(kind.String(), func(t *testing.T) {
			s, far, g := readySession(t)
			done := invoking(t.Context(), t, s, g, "1", "1")
			shorts := []string{"1"}
			if kind == frame.Error {
				shorts = append(shorts, "E")
			}
			write(t, far, frame.AppendHeader(frame.AppendFrame(nil, kind, make([]byte, frame.MaxPayload+1), shorts...), frame.Ready, 0))
			o := wait(t, done)
			want := `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`
			if o.err != nil || o.answer.ErrorType != runtimeapi.TypeResponseTooLarge || string(o.answer.Payload) != want {
				t.Fatalf("got %q %.200s, %v", o.answer.ErrorType, o.answer.Payload, o.err)
			}
			again := invoking(t.Context(), t, s, g, "2", "2")
			if err := g.Respond("2", []byte("two")); err != nil {
				t.Fatal(err)
			}
			if o := wait(t, again); string(o.answer.Payload) != "two" {
				t.Errorf("got %+v", o)
			}
		})
	}
}

func TestGivingUpLeavesTheSessionUsableOnceTheRuntimeHasFinished(t *testing.T) {
	s, _, g := readySession(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := invoking(ctx, t, s, g, "1", "1")
	timedOut := errors.New("timed out")
	cancel(timedOut)
	if o := wait(t, done); !errors.Is(o.err, timedOut) {
		t.Fatalf("got %+v", o)
	}
	if _, err := s.Invoke(t.Context(), event("2", "2")); !errors.Is(err, runtimeapi.ErrState) {
		t.Fatalf("while it still runs: %v", err)
	}
	if err := errors.Join(g.Respond("1", []byte("late")), g.Ready()); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := invoking(t.Context(), t, s, g, "2", "2")
	if err := g.Respond("2", []byte("two")); err != nil {
		t.Fatal(err)
	}
	if o := wait(t, again); o.err != nil || string(o.answer.Payload) != "two" {
		t.Errorf("got %+v", o)
	}
}

func TestContextThatEndsBeforeTheEventIsWrittenLeavesTheSessionUsable(t *testing.T) {
	s, _, g := readySession(t)
	for _, size := range []int{1, 100_000} { // written at once, and by the way that can wait
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e := event("1", strings.Repeat("x", size))
		if _, err := s.Invoke(ctx, e); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		if e.HandedAt.IsZero() {
			if s.State() != runtimeapi.Closed {
				t.Fatalf("never handed over, but the session is %s", s.State())
			}
			s, _, g = readySession(t) // it was half written
			continue
		}
		if _, err := g.NextEvent(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Respond("1", nil), g.Ready()); err != nil {
			t.Fatal(err)
		}
		if err := s.AwaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		done := invoking(t.Context(), t, s, g, "2", strings.Repeat("x", size))
		if err := errors.Join(g.Respond("2", []byte("two")), g.Ready()); err != nil {
			t.Fatal(err)
		}
		if o := wait(t, done); o.err != nil || string(o.answer.Payload) != "two" {
			t.Fatalf("got %+v", o)
		}
		if err := s.AwaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGuestThatDoesNotReadIsGivenUpInTime(t *testing.T) {
	s, _, _ := readySession(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan outcome, 1)
	go func() {
		a, err := s.Invoke(ctx, event("1", strings.Repeat("x", frame.MaxPayload)))
		done <- outcome{a, err}
	}()
	timedOut := errors.New("timed out")
	cancel(timedOut)
	if o := wait(t, done); !errors.Is(o.err, timedOut) {
		t.Fatalf("got %v", o.err)
	}
	if err := s.Err(); !errors.Is(err, runtimeapi.ErrClosed) {
		t.Errorf("half an event was written, but the session is not over: %v", err)
	}
}

func TestCloseEndsWhoeverWaits(t *testing.T) {
	s, _, g := readySession(t)
	done := invoking(t.Context(), t, s, g, "1", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if o := wait(t, done); !errors.Is(o.err, runtimeapi.ErrClosed) {
		t.Errorf("got %+v", o)
	}
	if _, err := g.NextEvent(); err != io.EOF {
		t.Errorf("the guest sees %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestCloseAtAnyMomentEndsEverything(t *testing.T) {
	for i := range 100 {
		s, far, g := readySession(t)
		guestDone := make(chan struct{})
		go func() { echo(g, far); close(guestDone) }()
		got := make(chan error, 1)
		go func() {
			for {
				if a, err := s.Invoke(t.Context(), event("1", "payload")); err != nil {
					got <- err
					return
				} else if string(a.Payload) != "payload" {
					t.Errorf("got %+v", a)
				}
			}
		}()
		for range i {
			runtime.Gosched()
		}
		_ = s.Close()
		if err := wait(t, got); !errors.Is(err, runtimeapi.ErrClosed) {
			t.Fatalf("got %v", err)
		}
		wait(t, guestDone)
	}
}

func TestSessionThatWasNeverOpenedCanBeClosed(t *testing.T) {
	host, _ := runtimetest.Conns(t)
	s := runtimeapi.NewSession("c-1", host)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Open()
	if _, err := s.Booted(t.Context()); !errors.Is(err, runtimeapi.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestCallsOutOfOrderAreRefused(t *testing.T) {
	s, _ := open(t)
	if err := s.Assign(t.Context(), &runtimeapi.Assignment{}); !errors.Is(err, runtimeapi.ErrState) {
		t.Errorf("assigned before boot: %v", err)
	}
	if _, err := s.Invoke(t.Context(), event("1", "1")); !errors.Is(err, runtimeapi.ErrState) {
		t.Errorf("invoked before boot: %v", err)
	}
	s, _, _ = readySession(t)
	if err := s.Assign(t.Context(), &runtimeapi.Assignment{}); !errors.Is(err, runtimeapi.ErrState) {
		t.Errorf("assigned twice: %v", err)
	}
}

func TestInvokeAllocatesOnlyTheAnswer(t *testing.T) {
	s, far, _ := readySession(t)
	answer := frame.AppendHeader(frame.AppendFrame(nil, frame.Response, []byte(`{"some":"answer"}`), "1"), frame.Ready, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			if _, err := far.Read(buf); err != nil {
				return
			}
			if _, err := far.Write(answer); err != nil {
				return
			}
		}
	}()
	e := event("1", `{"some":"event"}`)
	allocs := testing.AllocsPerRun(200, func() {
		if _, err := s.Invoke(t.Context(), e); err != nil {
			t.Error(err)
		}
	})
	if allocs > 1 {
		t.Errorf("%v allocations a call", allocs)
	}
	_ = s.Close()
	<-done
}
