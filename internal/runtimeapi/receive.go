package runtimeapi

import (
	"fmt"
	"strings"
	"syscall"

	"lambent/internal/runtimeapi/frame"
)

// receive acts on one frame of the guest, whose body of size bytes is still to
// be read. Nothing in the frame is trusted. An error ends the session.
func (s *Session) receive(t frame.Type, size int64) error {
	switch t {
	case frame.Booted:
		return s.receiveBooted(size)
	case frame.Ready:
		return s.receiveReady(size)
	case frame.InitError:
		return s.receiveInitError()
	case frame.Response, frame.Error:
		return s.receiveAnswer(t)
	case frame.Exit:
		return s.receiveExit()
	case frame.Begin:
		return s.receiveBegin()
	case frame.Chunk:
		return s.receiveChunk()
	case frame.End:
		return s.receiveEnd()
	}
	return s.broke(t, "not a frame a runtime sends")
}

// broke makes the error of a guest that broke the protocol.
func (s *Session) broke(t frame.Type, format string, args ...any) error {
	return &ProtocolError{State: s.State(), Frame: t, Reason: fmt.Sprintf(format, args...)}
}

// expect refuses a frame that the state does not allow.
func (s *Session) expect(t frame.Type, want State) error {
	if s.State() != want {
		return s.broke(t, "it may come only while %s", want)
	}
	return nil
}

func (s *Session) receiveBooted(size int64) error {
	if s.ponged() {
		return nil // what it says of itself is known
	}
	if err := s.expect(frame.Booted, Started); err != nil {
		return err
	}
	if size > frame.MaxBanner {
		return s.broke(frame.Booted, "%d bytes of text, at most %d are allowed", size, frame.MaxBanner)
	}
	text, err := s.fr.Rest()
	if err != nil {
		return err
	}
	printable := func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Started { // Close came between
		return nil
	}
	s.banner = strings.Map(printable, string(text))
	s.changeState(Booted)
	return nil
}

// ponged takes BOOTED as the answer to a PING, if there is one to answer.
func (s *Session) ponged() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pinged {
		return false
	}
	s.pinged = false
	s.pongs <- struct{}{} // has room: it is emptied before each PING
	return true
}

// receiveReady is init done, or the next event asked for.
func (s *Session) receiveReady(size int64) error {
	if size != 0 {
		return s.broke(frame.Ready, "it has a body of %d bytes", size)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case Initialising, ResponseSent:
		s.changeState(Ready)
	case Closed:
	default:
		return &ProtocolError{State: s.state, Frame: frame.Ready, Reason: "it may come only while initialising or after an answer"}
	}
	return nil
}

func (s *Session) receiveInitError() error {
	if err := s.expect(frame.InitError, Initialising); err != nil {
		return err
	}
	typ, err := s.fr.Short()
	if err != nil {
		return err
	}
	failed := &InitError{Type: cleanType(typ)}
	if s.fr.Left() > frame.MaxPayload {
		failed.Type, failed.Body = TypeResponseTooLarge, tooLargePayload()
		err = s.fr.Skip()
	} else {
		failed.Body, err = s.fr.Rest()
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == Initialising {
		s.initErr = failed
		s.changeState(InitFailed)
	}
	return nil
}

// receiveAnswer takes RESPONSE and ERROR. An answer over the limit is read and
// dropped, so that the session goes on, and the caller is told in its place.
func (s *Session) receiveAnswer(t frame.Type) error {
	s.mu.Lock()
	state, request := s.state, s.request
	s.mu.Unlock()
	if state != Running {
		return s.broke(t, "no event is running")
	}
	same, err := s.fr.ShortIs(request)
	if err != nil {
		return err
	}
	if !same {
		return s.broke(t, "it is not for the running request %s", request)
	}
	var a Answer
	if t == frame.Error {
		typ, err := s.fr.Short()
		if err != nil {
			return err
		}
		a.ErrorType = cleanType(typ)
	}
	if s.fr.Left() > frame.MaxPayload {
		a = Answer{ErrorType: TypeResponseTooLarge, Payload: tooLargePayload()}
		err = s.fr.Skip()
	} else {
		a.Payload, err = s.fr.Rest()
	}
	if err != nil {
		return err
	}
	return s.answered(a)
}

// answered ends the event that runs, with its answer.
func (s *Session) answered(a Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != Running && s.state != Streaming {
		return nil
	}
	s.changeState(ResponseSent)
	if s.fr.BufferedReady() { // most runtimes ask for the next in the same breath
		if _, _, err := s.fr.Next(); err != nil {
			return err
		}
		s.changeState(Ready)
	}
	if s.waiting {
		s.waiting = false
		s.answers <- a // has room: only a waiting Invoke is sent to, once
	}
	return nil
}

// receiveExit is the last word of a supervisor: its process has ended.
func (s *Session) receiveExit() error {
	st, err := s.fr.ExitStatus()
	if err != nil {
		return err
	}
	if s.fr.Left() != 0 {
		return s.broke(frame.Exit, "%d bytes too many", s.fr.Left())
	}
	return &ExitError{Code: st.Code, Signal: syscall.Signal(st.Signal)}
}
