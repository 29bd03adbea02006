package runtimeapi

import (
	"io"
	"time"

	"lambent/internal/runtimeapi/frame"
)

// Stream takes an answer as it comes. Its methods are called by one goroutine,
// the session's, and may still be called shortly after an Invoke that failed has
// returned.
type Stream interface {
	// Begin is called once, before anything is written: with what the runtime
	// calls the type of its answer (printable, may be empty), and with when it
	// had been handed the event. It must not block.
	Begin(contentType string, handedAt time.Time)

	// Write takes the next bytes, which are only lent. It may wait for whoever
	// reads them, but not after stop is closed: then the conversation is over.
	// Meanwhile the runtime is not listened to, and waits too. After an error
	// the session ends.
	Write(b []byte, stop <-chan struct{}) error
}

// streaming is the running event's streamed answer.
type streaming struct {
	to       Stream        // nil: it is collected
	handed   chan struct{} // closed when handedAt is known; nil without to
	handedAt time.Time
	begun    bool // the runtime has sent BEGIN

	collected []byte
	tooLarge  bool // it was more than an answer may hold: collected is empty
}

// pieceSize is how much of a streamed answer is taken from the socket at once.
const pieceSize = 16 << 10

// handedOver lets the answer begin, which may have come already.
func (s *Session) handedOver(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream.handedAt = at
	close(s.stream.handed)
}

func (s *Session) hasBegun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.begun
}

// receiveBegin is the start of a streamed answer.
func (s *Session) receiveBegin() error {
	s.mu.Lock()
	state, request := s.state, s.request
	s.mu.Unlock()
	if state != Running {
		return s.broke(frame.Begin, "no event is running")
	}
	same, err := s.fr.ShortIs(request)
	if err != nil {
		return err
	}
	if !same {
		return s.broke(frame.Begin, "it is not for the running request %s", request)
	}
	contentType, err := s.fr.Short()
	if err != nil {
		return err
	}
	if s.fr.Left() != 0 {
		return s.broke(frame.Begin, "%d bytes too many", s.fr.Left())
	}

	s.mu.Lock()
	if s.state != Running {
		s.mu.Unlock()
		return nil
	}
	s.changeState(Streaming)
	s.stream.begun = true
	to, handed := s.stream.to, s.stream.handed
	s.mu.Unlock()
	if to == nil {
		return nil
	}
	select { // a guest may answer before it has taken the whole event
	case <-handed:
	case <-s.done:
		return nil
	}
	s.mu.Lock()
	at := s.stream.handedAt
	s.mu.Unlock()
	to.Begin(cleanContentType(contentType), at)
	return nil
}

// cleanContentType keeps a content type that can stand in a header.
func cleanContentType(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return ""
		}
	}
	return s
}

// receiveChunk hands on a part of a streamed answer piece by piece: how long the
// guest says it is does not matter.
func (s *Session) receiveChunk() error {
	if err := s.expect(frame.Chunk, Streaming); err != nil {
		return err
	}
	if s.piece == nil {
		s.piece = make([]byte, pieceSize)
	}
	for {
		n, err := s.fr.Read(s.piece)
		if n > 0 {
			if err := s.takePiece(s.piece[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// takePiece hands on, or collects, a piece of a streamed answer.
func (s *Session) takePiece(b []byte) error {
	s.mu.Lock()
	st := &s.stream
	if to := st.to; to != nil {
		s.mu.Unlock()
		if err := to.Write(b, s.done); err != nil {
			return &StreamError{Err: err}
		}
		return nil
	}
	defer s.mu.Unlock()
	switch {
	case st.tooLarge, !s.waiting: // nobody is going to get it
	case len(st.collected)+len(b) > frame.MaxPayload:
		st.collected, st.tooLarge = nil, true
	default:
		st.collected = append(st.collected, b...)
	}
	return nil
}

// receiveEnd is the end of a streamed answer, or what it failed with.
func (s *Session) receiveEnd() error {
	if err := s.expect(frame.End, Streaming); err != nil {
		return err
	}
	s.piece = nil // few runtimes stream, and most wait
	typ, err := s.fr.Short()
	if err != nil {
		return err
	}
	s.mu.Lock()
	a := Answer{Streamed: s.stream.to != nil, Payload: s.stream.collected}
	tooLarge := s.stream.tooLarge
	s.stream.collected = nil
	s.mu.Unlock()
	switch {
	case typ == "" && s.fr.Left() != 0:
		return s.broke(frame.End, "%d bytes of an error without a type", s.fr.Left())
	case typ != "" && s.fr.Left() <= frame.MaxPayload:
		a.ErrorType = cleanType(typ)
		if a.Payload, err = s.fr.Rest(); err != nil {
			return err
		}
	case typ != "" || tooLarge:
		a.ErrorType, a.Payload = TypeResponseTooLarge, tooLargePayload()
		if err := s.fr.Skip(); err != nil {
			return err
		}
	}
	return s.answered(a)
}
