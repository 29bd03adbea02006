package runtimeapi_test

import (
	"testing"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/frame"
)

// FuzzHostileGuest lets a guest say anything at any point of the conversation.
// Whatever it says, no call may hang once the guest is gone, and nothing may
// panic.
func FuzzHostileGuest(f *testing.F) {
	booted := frame.AppendFrame(nil, frame.Booted, []byte("x"))
	ready := frame.AppendHeader(nil, frame.Ready, 0)
	f.Add([]byte{}, []byte{}, []byte{})
	f.Add(booted, ready, frame.AppendFrame(nil, frame.Response, []byte("{}"), "1"))
	f.Add(booted, ready, frame.AppendFrame(nil, frame.Error, []byte("{}"), "1", "E"))
	f.Add(booted, frame.AppendFrame(nil, frame.InitError, []byte("{}"), "E"), []byte{})
	f.Add(booted, ready, frame.AppendExit(nil, frame.ExitStatus{Signal: 9}))
	f.Add(booted, ready, []byte{0xff, 0xff, 0xff, 0xff, byte(frame.Response), 1, '1'})
	f.Fuzz(func(t *testing.T, boot, initialise, answer []byte) {
		s, far := open(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := s.Booted(t.Context()); err != nil {
				return
			}
			if s.Assign(t.Context(), &runtimeapi.Assignment{}) != nil {
				return
			}
			a, err := s.Invoke(t.Context(), event("1", "{}"))
			if err == nil && len(a.Payload) > frame.MaxPayload {
				t.Error("an answer over the limit")
			}
		}()
		for _, b := range [][]byte{boot, initialise, answer} {
			if _, err := far.Write(b); err != nil {
				break // the host has hung up: it may
			}
		}
		_ = far.Close()
		<-done
		<-s.Done()
		if s.Err() == nil {
			t.Error("over without a reason")
		}
	})
}
