package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"

	"lambent/internal/runtimeapi/frame"
)

// encodeAssignment makes the ASSIGN frame.
func encodeAssignment(a *Assignment) ([]byte, error) {
	body, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encode the assignment: %w", err)
	}
	return frame.AppendFrame(nil, frame.Assign, body), nil
}

// emptyEvent is what a runtime gets where the caller sent nothing: AWS hands the
// function an empty object.
var emptyEvent = []byte("{}")

// sendEvent writes the EVENT frame, by one system call and without any machinery
// where the socket takes it at once, which it does unless the guest does not
// read.
func (s *Session) sendEvent(ctx context.Context, e *Event) error {
	ev := &e.Event
	if len(ev.Payload) == 0 {
		filled := e.Event
		filled.Payload = emptyEvent
		ev = &filled
	}
	s.writing = frame.AppendEventHead(s.writing[:0], ev)
	if len(ev.Payload) > smallEvent {
		return s.send(ctx, s.writing, ev.Payload)
	}
	s.writing = append(s.writing, ev.Payload...)
	sent, err := s.conn.TryWrite(s.writing)
	switch {
	case err != nil:
		return s.sendFailed(ctx, err)
	case sent < len(s.writing):
		return s.send(ctx, s.writing[sent:])
	}
	return nil
}

// send writes all of bufs, for as long as ctx lasts. A frame that could not be
// written whole leaves nothing to talk about: the conversation is over then.
func (s *Session) send(ctx context.Context, bufs ...[]byte) (err error) {
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		s.conn.Hurry(true)
		close(late)
	})
	for _, b := range bufs {
		if _, err = s.conn.Write(b); err != nil {
			break
		}
	}
	if !stop() && err == nil { // just in time: the next write has a time of its own
		<-late
		s.conn.Hurry(false)
	}
	if err != nil {
		return s.sendFailed(ctx, err)
	}
	return nil
}

// sendFailed ends the conversation after a failed write. A guest that is gone is
// heard out first: its last words tell why.
func (s *Session) sendFailed(ctx context.Context, err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		s.end(fmt.Errorf("%w: the runtime did not take a message in time", ErrClosed))
		return context.Cause(ctx)
	}
	s.end(fmt.Errorf("%w: %w", ErrClosed, err))
	return s.Err()
}
