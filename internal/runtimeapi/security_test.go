package runtimeapi_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
)

func TestSecurityGuestThatBreaksTheProtocolEndsItsSession(t *testing.T) {
	cat := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	response := func(id string) []byte { return frame.AppendFrame(nil, frame.Response, []byte("x"), id) }
	ready := frame.AppendHeader(nil, frame.Ready, 0)
	begin, end := frame.AppendFrame(nil, frame.Begin, nil, "1", ""), frame.AppendFrame(nil, frame.End, nil, "")
	for name, b := range map[string][]byte{
		"wrong request id":          response("other"),
		"empty request id":          response(""),
		"second answer":             cat(response("1"), response("1")),
		"answer after ready":        cat(response("1"), ready, response("1")),
		"second ready":              cat(response("1"), ready, ready),
		"ready while running":       ready,
		"ready with a body":         frame.AppendFrame(nil, frame.Ready, []byte("x")),
		"boot again":                frame.AppendFrame(nil, frame.Booted, nil),
		"init error after init":     frame.AppendFrame(nil, frame.InitError, nil, "E"),
		"the host's own frame":      frame.AppendFrame(nil, frame.Invoke, []byte("x")),
		"stream of another request": frame.AppendFrame(nil, frame.Begin, nil, "other", ""),
		"stream without a type":     frame.AppendFrame(nil, frame.Begin, nil, "1"),
		"stream's start too long":   frame.AppendFrame(nil, frame.Begin, []byte("x"), "1", ""),
		"stream begun twice":        cat(begin, begin),
		"chunk without a start":     frame.AppendFrame(nil, frame.Chunk, []byte("x")),
		"end without a start":       end,
		"chunk after the end":       cat(begin, end, frame.AppendFrame(nil, frame.Chunk, []byte("x"))),
		"answer within a stream":    cat(begin, response("1")),
		"error within a stream":     cat(begin, frame.AppendFrame(nil, frame.Error, nil, "1", "E")),
		"ready within a stream":     cat(begin, ready),
		"stream after an answer":    cat(response("1"), begin),
		"end of no type with text":  cat(begin, frame.AppendFrame(nil, frame.End, []byte("x"), "")),
		"end without a type":        cat(begin, frame.AppendFrame(nil, frame.End, nil)),
		"unknown type":              frame.AppendFrame(nil, 0xff, []byte("x")),
		"no type":                   {0, 0, 0, 0, 0},
		"id longer than the frame":  {3, 0, 0, 0, byte(frame.Response), 200, 'x'},
		"no id":                     {1, 0, 0, 0, byte(frame.Response)},
		"error without a type":      frame.AppendFrame(nil, frame.Error, nil, "1"),
		"exit cut short":            {3, 0, 0, 0, byte(frame.Exit), 0, 0},
		"exit too long":             cat([]byte{7, 0, 0, 0}, frame.AppendExit(nil, frame.ExitStatus{})[4:], []byte{0}),
	} {
		t.Run(name, func(t *testing.T) {
			s, far, g := readySession(t)
			done := invoking(t.Context(), t, s, g, "1", "1")
			write(t, far, b)
			wait(t, s.Done())
			var broke *runtimeapi.ProtocolError
			if !errors.As(s.Err(), &broke) {
				t.Fatalf("Err is %v", s.Err())
			}
			if errors.Is(s.Err(), runtimeapi.ErrClosed) {
				t.Error("a broken protocol looks like a closed connection")
			}
			if o := wait(t, done); o.err != nil && !errors.As(o.err, &broke) {
				t.Errorf("Invoke says %v", o.err)
			}
		})
	}
}

func TestSecurityBannerIsBoundedAndPrintable(t *testing.T) {
	s, far := open(t)
	write(t, far, frame.AppendFrame(nil, frame.Booted, []byte("x\x1b[31m\n\xff")))
	if got, err := s.Booted(t.Context()); err != nil || got != "x?[31m??" {
		t.Errorf("got %q, %v", got, err)
	}
	s, far = open(t)
	write(t, far, binary.LittleEndian.AppendUint32(nil, 1<<31))
	write(t, far, []byte{byte(frame.Booted)})
	wait(t, s.Done())
	var broke *runtimeapi.ProtocolError
	if !errors.As(s.Err(), &broke) {
		t.Errorf("got %v", s.Err())
	}
}
