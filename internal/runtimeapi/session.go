package runtimeapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"syscall"
	"time"

	"lambent"
	"lambent/internal/runtimeapi/control"
	"lambent/internal/runtimeapi/frame"
)

// The messages of the wire, for those who only know this package.
type (
	Assignment = frame.Assignment
	User       = frame.User
	Limits     = frame.Limits

	Credentials = frame.Credentials
)

// Event is one event for a runtime. Invoke sets HandedAt.
type Event struct {
	frame.Event

	// Stream takes an answer that the runtime streams. Where it is nil, such an
	// answer is collected and is an Answer like any other.
	Stream Stream

	// HandedAt is when the event had been given to the runtime whole; zero if
	// it never was.
	HandedAt time.Time
}

// Answer is what a runtime made of an event.
type Answer struct {
	Payload   []byte // the caller's own
	ErrorType string // empty for success; otherwise the payload is error JSON
	Streamed  bool   // the event's Stream was given it; Payload is only what it failed with
}

// readBuffer is the size of a session's read buffer: a frame of that size costs
// one system call, a larger one some more. There are thousands of sessions.
const readBuffer = 8 << 10

// smallEvent is up to which size a payload is copied behind its header, so that
// one plain write carries both; larger ones are written from where they are.
const smallEvent = 4 << 10

// Session is a host's end of the conversation with one runtime process.
type Session struct {
	id   lambent.ContainerID
	conn *control.Conn
	fr   *frame.Reader // the reader goroutine's

	answers chan Answer   // at most one, for the Invoke that waits
	pongs   chan struct{} // at most one, for the Ping that waits
	done    chan struct{} // closed when the conversation is over
	reader  sync.WaitGroup
	once    sync.Once // the end of the conversation

	piece []byte // the reader goroutine's: what it reads of streamed answers with

	// writing is the event being written; only the Invoke that moved the session
	// to Running touches it.
	writing []byte

	mu sync.Mutex
	// +checklocks:mu
	state State
	// changed is closed with the next change of state; nil while nobody waits.
	// +checklocks:mu
	changed chan struct{}
	// +checklocks:mu
	opened bool
	// +checklocks:mu
	request string // the id of the event that is or was running
	// +checklocks:mu
	waiting bool // an Invoke waits for the answer
	// +checklocks:mu
	invoking bool // an Invoke has not returned: writing is its
	// +checklocks:mu
	stream streaming
	// +checklocks:mu
	banner string
	// +checklocks:mu
	pinged bool // a PING is not answered yet
	// +checklocks:mu
	initErr *InitError
	// +checklocks:mu
	cause error // why the conversation is over
}

// NewSession makes the session of the container id over conn, which it takes
// over. It does nothing until Open.
func NewSession(id lambent.ContainerID, conn *control.Conn) *Session {
	return &Session{
		id: id, conn: conn, fr: frame.NewReader(conn, readBuffer),
		answers: make(chan Answer, 1), pongs: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Open starts to listen. Close ends that.
func (s *Session) Open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened || s.state == Closed {
		return
	}
	s.opened = true
	s.reader.Go(s.read)
}

// Close ends the conversation and waits until nothing of it is left. The guest
// sees the end of its stream. It may be called more than once.
func (s *Session) Close() error {
	s.end(fmt.Errorf("%w: by the host", ErrClosed))
	s.reader.Wait()
	return nil
}

// Done is closed when the conversation is over; Err then tells why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err tells why the conversation is over, nil while it is not: an *ExitError, a
// *ProtocolError, or otherwise an ErrClosed.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// State tells where the session is.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Booted waits until the runtime is up and waits for code, and returns what it
// says it is, such as "node v22.1.0".
func (s *Session) Booted(ctx context.Context) (banner string, err error) {
	if err := s.await(ctx, "wait for the boot of", func(st State) bool { return st != Started }); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.banner, nil
}

// Ping asks a runtime that waits for code whether it is still there, and waits
// for the answer. One in any other state is left alone: that is no error. Ping is
// called by one goroutine at a time.
func (s *Session) Ping(ctx context.Context) error {
	s.mu.Lock()
	if s.state != Booted {
		cause := s.cause
		s.mu.Unlock()
		return cause
	}
	select {
	case <-s.pongs: // of one that had given up
	default:
	}
	s.pinged = true
	ping := frame.AppendHeader(nil, frame.Ping, 0)
	n, err := s.conn.TryWrite(ping) // under the lock, so that it comes before the assignment
	s.mu.Unlock()
	if err == nil && n < len(ping) {
		err = errors.New("it does not take what it is sent")
	}
	if err != nil {
		return fmt.Errorf("ping container %s: %w", s.id, err)
	}
	select {
	case <-s.pongs:
		return nil
	case <-s.done:
		return fmt.Errorf("ping container %s: %w", s.id, s.Err())
	case <-ctx.Done():
		return fmt.Errorf("ping container %s: %w", s.id, context.Cause(ctx))
	}
}

// Assign gives the runtime its code and waits until it is initialised. A runtime
// that reports it cannot run the code is an *InitError, one that ends is an
// ErrClosed (an *ExitError where the reason is known), and an ErrNotTaken too
// where it never took the assignment whole: nothing of the code's has happened.
func (s *Session) Assign(ctx context.Context, a *Assignment) error {
	msg, err := encodeAssignment(a)
	if err != nil {
		return fmt.Errorf("assign container %s: %w", s.id, err)
	}
	s.mu.Lock()
	if err := s.requireState("assign", Booted); err != nil {
		s.mu.Unlock()
		return err
	}
	s.changeState(Initialising)
	s.mu.Unlock()

	if err := s.send(ctx, msg); err != nil {
		return fmt.Errorf("assign container %s: %w: %w", s.id, ErrNotTaken, err)
	}
	if err := s.await(ctx, "initialise", func(st State) bool { return st != Initialising }); err != nil {
		if errors.Is(s.Err(), syscall.ECONNRESET) { // as in Invoke
			return fmt.Errorf("%w: %w", ErrNotTaken, err)
		}
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.initErr != nil {
		return s.initErr
	}
	return nil
}

// AwaitReady waits until the runtime has asked for the next event.
func (s *Session) AwaitReady(ctx context.Context) error {
	return s.await(ctx, "wait for", func(st State) bool { return st == Ready })
}

// Invoke hands the runtime an event and waits for the answer. If the runtime has
// answered the event before but not yet asked for this one, Invoke waits for
// that first.
//
// It fails with ErrTooLarge, with ErrState (an event is running, or the session
// is not initialised), with what Err tells when the conversation ends first, or
// with ctx's cause. In the last case the runtime goes on with the event; its
// answer is dropped, and only after that can the session be used again.
//
// A Stream that refuses more of an answer ends the session: a *StreamError.
//
// An event that fails with HandedAt zero was never taken by the runtime whole:
// another one can have it.
func (s *Session) Invoke(ctx context.Context, e *Event) (Answer, error) {
	if len(e.Payload) > frame.MaxPayload {
		return Answer{}, &lambent.Error{Op: "invoke", Resource: "container " + string(s.id), Kind: lambent.KindTooLarge,
			Err: fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(e.Payload), frame.MaxPayload)}
	}
	if err := s.claim(ctx, e); err != nil {
		return Answer{}, err
	}
	defer s.unclaim()
	e.Streamed = e.Stream != nil
	if err := s.sendEvent(ctx, e); err != nil {
		return Answer{}, fmt.Errorf("invoke in container %s: %w", s.id, err)
	}
	e.HandedAt = time.Now()
	if e.Stream != nil {
		s.handedOver(e.HandedAt)
	}
	select {
	case a := <-s.answers:
		return a, nil
	case <-s.done:
		select {
		case a := <-s.answers: // it answered, then ended
			return a, nil
		default:
			// A Unix socket whose other end is closed with something unread in it
			// says so, by this error in place of an end of file (unix(7)): the
			// runtime was gone before it had the whole event.
			if errors.Is(s.Err(), syscall.ECONNRESET) && !s.hasBegun() {
				e.HandedAt = time.Time{}
			}
			return Answer{}, fmt.Errorf("invoke in container %s: %w", s.id, s.Err())
		}
	case <-ctx.Done():
		if a, ok := s.abandon(); ok {
			return a, nil
		}
		return Answer{}, fmt.Errorf("invoke in container %s: %w", s.id, context.Cause(ctx))
	}
}

// claim moves the session from Ready to Running, for the caller alone.
func (s *Session) claim(ctx context.Context, e *Event) error {
	for {
		s.mu.Lock()
		if s.state == ResponseSent {
			s.mu.Unlock()
			if err := s.await(ctx, "invoke in", func(st State) bool { return st != ResponseSent }); err != nil {
				return err
			}
			continue
		}
		err := s.requireState("invoke in", Ready)
		if err == nil && s.invoking { // the guest answered before it took the whole event
			err = s.wrongState("invoke in", Running, Ready)
		}
		if err == nil {
			s.changeState(Running)
			s.request, s.waiting, s.invoking = e.RequestID, true, true
			s.stream = streaming{to: e.Stream}
			if e.Stream != nil {
				s.stream.handed = make(chan struct{})
			}
		}
		s.mu.Unlock()
		return err
	}
}

func (s *Session) unclaim() {
	s.mu.Lock()
	s.invoking = false
	s.mu.Unlock()
}

// abandon gives up waiting for the answer, unless it has just come.
func (s *Session) abandon() (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting {
		s.waiting = false
		s.stream.to = nil // what it was not given yet is collected, and dropped with the answer
		return Answer{}, false
	}
	select {
	case a := <-s.answers:
		return a, true
	default:
		return Answer{}, false // the conversation ended meanwhile
	}
}

// await waits until is holds for the state. It fails when the conversation ends
// first, unless is holds for that too and init reported why.
func (s *Session) await(ctx context.Context, op string, is func(State) bool) error {
	for {
		s.mu.Lock()
		st, cause := s.state, s.cause
		if st != Closed && is(st) {
			s.mu.Unlock()
			return nil
		}
		if st == Closed {
			failed := s.initErr
			s.mu.Unlock()
			if failed != nil {
				return failed
			}
			return fmt.Errorf("%s container %s: %w", op, s.id, cause)
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s container %s (%s): %w", op, s.id, st, context.Cause(ctx))
		}
	}
}

// changeState is the only writer of the state. An edge that does not exist is a
// mistake in this package, never the guest's: what a guest sends is checked
// before.
//
// +checklocks:s.mu
func (s *Session) changeState(to State) {
	if !s.state.CanBecome(to) {
		panic(fmt.Sprintf("runtimeapi: session %s cannot go from %s to %s", s.id, s.state, to))
	}
	s.state = to
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// requireState refuses op unless the session is in one of the states.
//
// +checklocks:s.mu
func (s *Session) requireState(op string, states ...State) error {
	if slices.Contains(states, s.state) {
		return nil
	}
	if s.state == Closed {
		return fmt.Errorf("%s container %s: %w", op, s.id, s.cause)
	}
	return s.wrongState(op, s.state, states[0])
}

func (s *Session) wrongState(op string, is, want State) error {
	return fmt.Errorf("%s container %s: it is %s, not %s: %w", op, s.id, is, want, ErrState)
}

// end ends the conversation, with the first cause given.
func (s *Session) end(cause error) {
	s.once.Do(func() {
		s.mu.Lock()
		s.cause = cause
		s.changeState(Closed)
		s.waiting = false
		s.mu.Unlock()
		_ = s.conn.Close() // the peer may be gone already: nothing to do about it
		close(s.done)
	})
}

// Exited tells that the guest's process has ended: what it has said by now is
// heard to the end, however late, and that is the end of the conversation. A
// child that holds its connection is not waited for.
func (s *Session) Exited() { s.conn.EndReading() }

// read is the reader goroutine: it takes what the guest says, until the end.
func (s *Session) read() {
	for {
		t, size, err := s.fr.Next()
		if err == nil {
			err = s.receive(t, size)
		}
		if err != nil {
			s.end(s.whyEnded(t, err))
			return
		}
	}
}

// whyEnded makes the cause of the end out of what reading failed with.
func (s *Session) whyEnded(t frame.Type, err error) error {
	var broke *ProtocolError
	var exit *ExitError
	var full *StreamError
	switch {
	case errors.As(err, &broke), errors.As(err, &exit), errors.As(err, &full):
		return err
	case errors.Is(err, frame.ErrMalformed):
		return &ProtocolError{State: s.State(), Frame: t, Reason: err.Error()}
	case errors.Is(err, io.EOF):
		return ErrClosed
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}
