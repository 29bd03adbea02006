package runtimeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

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
	w := &s.write
	w.buf = frame.AppendEventHead(w.buf[:0], ev)
	if len(ev.Payload) > smallEvent {
		return s.send(ctx, net.Buffers{w.buf, ev.Payload})
	}
	w.buf = append(w.buf, ev.Payload...)
	if w.raw == nil {
		return s.send(ctx, net.Buffers{w.buf})
	}
	w.sent, w.err = 0, nil
	if err := w.raw.Write(w.try); err != nil {
		return s.sendFailed(ctx, err)
	}
	switch {
	case w.err == nil && w.sent == len(w.buf):
		return nil
	case w.err == nil, w.err == syscall.EAGAIN, w.err == syscall.EINTR:
		return s.send(ctx, net.Buffers{w.buf[w.sent:]})
	}
	return s.sendFailed(ctx, w.err)
}

// tryWrite writes once, without waiting.
func (s *Session) tryWrite(fd uintptr) bool {
	n, err := syscall.Write(int(fd), s.write.buf)
	s.write.sent, s.write.err = max(n, 0), err
	return true
}

// send writes all of bufs, for as long as ctx lasts. A frame that could not be
// written whole leaves nothing to talk about: the conversation is over then.
func (s *Session) send(ctx context.Context, bufs net.Buffers) error {
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = s.conn.SetWriteDeadline(time.Unix(1, 0))
		close(late)
	})
	_, err := bufs.WriteTo(s.conn)
	if !stop() && err == nil { // just in time: the next write has a time of its own
		<-late
		err = s.conn.SetWriteDeadline(time.Time{})
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
