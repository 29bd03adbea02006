package runtimeapi_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// reader is a Stream whose reader takes a piece only when the test does.
type reader struct {
	begun  chan string // the content type
	pieces chan string

	mu sync.Mutex
	// +checklocks:mu
	handedAt time.Time
	// +checklocks:mu
	refuse error // what Write fails with
}

func newReader() *reader { return &reader{begun: make(chan string, 2), pieces: make(chan string)} }

func (r *reader) Begin(contentType string, at time.Time) {
	r.mu.Lock()
	r.handedAt = at
	r.mu.Unlock()
	r.begun <- contentType
}

func (r *reader) Write(b []byte, stop <-chan struct{}) error {
	r.mu.Lock()
	refuse := r.refuse
	r.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	select {
	case r.pieces <- string(b):
		return nil
	case <-stop:
		return errors.New("stopped")
	}
}

// streaming starts an Invoke whose answer r takes, and waits until the guest has
// the event.
func streaming(t testing.TB, s *runtimeapi.Session, g *guest.Conn, r runtimeapi.Stream, id string) (*runtimeapi.Event, <-chan outcome) {
	t.Helper()
	e := event(id, "{}")
	e.Stream = r
	done := make(chan outcome, 1)
	go func() {
		a, err := s.Invoke(t.Context(), e)
		done <- outcome{a, err}
	}()
	if _, err := g.NextEvent(); err != nil {
		t.Fatal(err)
	}
	return e, done
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestStreamedAnswerComesPartByPart(t *testing.T) {
	s, _, g := readySession(t)
	for _, id := range []string{"1", "2"} {
		r := newReader()
		e, done := streaming(t, s, g, r, id)
		must(t, g.Begin(id, "text/plain"))
		if got := wait(t, r.begun); got != "text/plain" {
			t.Errorf("content type %q", got)
		}
		// Each part is there before the next is written.
		for _, part := range []string{"one", "two", "three"} {
			must(t, g.Chunk([]byte(part)))
			if got := wait(t, r.pieces); got != part {
				t.Fatalf("got %q, want %q", got, part)
			}
		}
		if s.State() != runtimeapi.Streaming {
			t.Errorf("state %s", s.State())
		}
		must(t, g.Chunk(nil), g.End("", nil), g.Ready())
		if o := wait(t, done); o.err != nil || o.answer.ErrorType != "" || !o.answer.Streamed || o.answer.Payload != nil {
			t.Errorf("answer %+v", o)
		}
		r.mu.Lock()
		if r.handedAt.IsZero() || !r.handedAt.Equal(e.HandedAt) {
			t.Errorf("the stream was told %v, the event %v", r.handedAt, e.HandedAt)
		}
		r.mu.Unlock()
	}
}

func TestStreamedAnswerMayEndWithAnError(t *testing.T) {
	s, _, g := readySession(t)
	r := newReader()
	_, done := streaming(t, s, g, r, "1")
	must(t, g.Begin("1", ""), g.Chunk([]byte("part")))
	wait(t, r.pieces)
	must(t, g.End("Oops", []byte(`{"a":1}`)), g.Ready())
	if o := wait(t, done); o.err != nil || o.answer.ErrorType != "Oops" || string(o.answer.Payload) != `{"a":1}` || !o.answer.Streamed {
		t.Errorf("answer %+v", o)
	}
	must(t, s.AwaitReady(t.Context()))
}

func TestStreamedAnswerNobodyStreamsIsCollected(t *testing.T) {
	s, _, g := readySession(t)
	for _, tt := range []struct {
		part           string
		parts          int
		errorType      string
		want, wantType string
	}{
		{"abc", 3, "", "abcabcabc", ""},
		{"", 0, "", "", ""},
		{"abc", 1, "Oops", "{}", "Oops"},
		{strings.Repeat("x", 1<<20), 7, "", "Function.ResponseSizeTooLarge", "Function.ResponseSizeTooLarge"},
		{strings.Repeat("x", frame.MaxPayload), 1, "", strings.Repeat("x", frame.MaxPayload), ""},
	} {
		done := invoking(t.Context(), t, s, g, "1", "{}")
		must(t, g.Begin("1", "text/plain"))
		for range tt.parts {
			must(t, g.Chunk([]byte(tt.part)))
		}
		body := ""
		if tt.errorType != "" {
			body = "{}"
		}
		must(t, g.End(tt.errorType, []byte(body)), g.Ready())
		o := wait(t, done)
		if o.err != nil || o.answer.ErrorType != tt.wantType || !strings.Contains(string(o.answer.Payload), tt.want) || o.answer.Streamed {
			t.Errorf("%d times %.5s: %d bytes, %q, %v", tt.parts, tt.part, len(o.answer.Payload), o.answer.ErrorType, o.err)
		}
	}
}

func TestRuntimeWaitsForASlowReaderAndNobodyElseDoes(t *testing.T) {
	s, _, g := readySession(t)
	r := newReader()
	_, done := streaming(t, s, g, r, "1")
	must(t, g.Begin("1", ""))
	const size = 8 << 20
	sent := make(chan error, 1)
	go func() { sent <- g.Chunk(make([]byte, size)) }()
	got := len(wait(t, r.pieces))
	select {
	case err := <-sent:
		t.Fatalf("%d bytes went out though %d were taken, %v", size, got, err)
	default:
	}
	for got < size {
		got += len(wait(t, r.pieces))
	}
	must(t, wait(t, sent), g.End("", nil))
	if o := wait(t, done); o.err != nil {
		t.Error(o.err)
	}
}

func TestCloseEndsAStreamWhoseReaderDoesNotRead(t *testing.T) {
	s, _, g := readySession(t)
	r := newReader()
	_, done := streaming(t, s, g, r, "1")
	must(t, g.Begin("1", ""), g.Chunk([]byte("part")))
	wait(t, r.begun)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	must(t, wait(t, closed))
	if o := wait(t, done); !errors.Is(o.err, runtimeapi.ErrClosed) {
		t.Errorf("got %+v", o)
	}
}

func TestStreamThatTakesNoMoreEndsTheSession(t *testing.T) {
	s, _, g := readySession(t)
	full := errors.New("full")
	r := newReader()
	r.mu.Lock()
	r.refuse = full
	r.mu.Unlock()
	_, done := streaming(t, s, g, r, "1")
	must(t, g.Begin("1", ""), g.Chunk([]byte("part")))
	o := wait(t, done)
	if se, ok := errors.AsType[*runtimeapi.StreamError](o.err); !ok || !errors.Is(se, full) || errors.Is(o.err, runtimeapi.ErrClosed) {
		t.Errorf("got %v", o.err)
	}
}

func TestRuntimeThatEndsWhileItStreamsHasHadTheEvent(t *testing.T) {
	for name, payload := range map[string]string{"whole": "{}", "partly unread": strings.Repeat("x", 100_000)} {
		t.Run(name, func(t *testing.T) {
			s, far, g := readySession(t)
			r := newReader()
			e := event("1", payload)
			e.Stream = r
			done := make(chan error, 1)
			go func() {
				_, err := s.Invoke(t.Context(), e)
				done <- err
			}()
			if payload == "{}" {
				if _, err := g.NextEvent(); err != nil {
					t.Fatal(err)
				}
			} else if _, err := io.ReadFull(far, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			must(t, g.Begin("1", ""))
			wait(t, r.begun)
			must(t, far.Close())
			if err := wait(t, done); !errors.Is(err, runtimeapi.ErrClosed) || e.HandedAt.IsZero() {
				t.Errorf("%v, handed over at %v", err, e.HandedAt)
			}
		})
	}
}

func TestGivingUpOnAStreamLeavesTheSessionUsable(t *testing.T) {
	s, _, g := readySession(t)
	r := newReader()
	ctx, cancel := context.WithCancelCause(t.Context())
	e := event("1", "{}")
	e.Stream = r
	done := make(chan error, 1)
	go func() {
		_, err := s.Invoke(ctx, e)
		done <- err
	}()
	if _, err := g.NextEvent(); err != nil {
		t.Fatal(err)
	}
	must(t, g.Begin("1", ""))
	wait(t, r.begun)
	enough := errors.New("enough")
	cancel(enough)
	if err := wait(t, done); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	must(t, g.Chunk(make([]byte, 1<<20)), g.End("", nil), g.Ready(), s.AwaitReady(t.Context()))
	again := invoking(t.Context(), t, s, g, "2", "{}")
	must(t, g.Respond("2", []byte("2")))
	if o := wait(t, again); o.err != nil || string(o.answer.Payload) != "2" {
		t.Errorf("the next event: %+v", o)
	}
}

func TestContentTypeOfAStreamIsPrintable(t *testing.T) {
	s, _, g := readySession(t)
	r := newReader()
	streaming(t, s, g, r, "1")
	must(t, g.Begin("1", "text/plain\r\nX-Evil: 1"))
	if got := wait(t, r.begun); got != "" {
		t.Errorf("got %q", got)
	}
}

// eater is a Stream that takes everything and checks the order of its calls.
type eater struct {
	t     *testing.T
	mu    sync.Mutex
	begun bool
}

func (e *eater) Begin(contentType string, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.begun || at.IsZero() || strings.ContainsAny(contentType, "\r\n\x00") {
		e.t.Errorf("begun again: %v; handed over at %v; of type %q", e.begun, at, contentType)
	}
	e.begun = true
}

func (e *eater) Write(b []byte, _ <-chan struct{}) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.begun || len(b) == 0 {
		e.t.Errorf("%d bytes; begun: %v", len(b), e.begun)
	}
	return nil
}

// FuzzHostileStream lets a guest answer with anything where an answer may be
// streamed, once to somebody who streams it and once to somebody who does not.
func FuzzHostileStream(f *testing.F) {
	begin := frame.AppendFrame(nil, frame.Begin, nil, "1", "text/plain")
	chunk := frame.AppendFrame(nil, frame.Chunk, []byte("part"))
	end := frame.AppendFrame(nil, frame.End, nil, "")
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	f.Add(cat(begin, chunk, chunk, end), true)
	f.Add(cat(begin, chunk, frame.AppendFrame(nil, frame.End, []byte("{}"), "E"), frame.AppendHeader(nil, frame.Ready, 0)), false)
	f.Add(cat(begin, []byte{0xff, 0xff, 0xff, 0xff, byte(frame.Chunk), 'x'}), true)
	f.Add(cat(begin, begin), true)
	f.Add(cat(begin, frame.AppendFrame(nil, frame.Response, nil, "1")), false)
	f.Add(cat(chunk, end), true)
	f.Fuzz(func(t *testing.T, said []byte, streamed bool) {
		s, far := open(t)
		g := guest.NewConn(far)
		e := event("1", "{}")
		if streamed {
			e.Stream = &eater{t: t}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := s.Booted(t.Context()); err != nil || s.Assign(t.Context(), &runtimeapi.Assignment{}) != nil {
				t.Error("it was not to fail yet")
				return
			}
			a, err := s.Invoke(t.Context(), e)
			if err == nil && (len(a.Payload) > frame.MaxPayload || a.Streamed && a.ErrorType == "" && len(a.Payload) > 0) {
				t.Errorf("%d bytes, %q", len(a.Payload), a.ErrorType)
			}
		}()
		must(t, g.Booted("x"))
		if _, err := g.NextAssignment(); err != nil {
			t.Fatal(err)
		}
		must(t, g.Ready())
		if _, err := g.NextEvent(); err != nil {
			t.Fatal(err)
		}
		_, _ = far.Write(said) // the host may have hung up
		_ = far.Close()
		wait(t, done)
		wait(t, s.Done())
	})
}
