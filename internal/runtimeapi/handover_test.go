package runtimeapi_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"lambent/internal/runtimeapi"
)

func TestEventIsNotHandedOverToAGuestThatEndsWithItUnread(t *testing.T) {
	for name, payload := range map[string]string{"a small event": "{}", "a large event": strings.Repeat("x", 100_000)} {
		for part, size := range map[string]int{"hardly any of it read": 0, "some of it read": 20} {
			t.Run(name+", "+part, func(t *testing.T) {
				s, far, _ := readySession(t)
				e := event("1", payload)
				done := make(chan error, 1)
				go func() {
					_, err := s.Invoke(t.Context(), e)
					done <- err
				}()
				if _, err := io.ReadFull(far, make([]byte, 1+size)); err != nil { // it is surely there
					t.Fatal(err)
				}
				if err := far.Close(); err != nil {
					t.Fatal(err)
				}
				if err := wait(t, done); !errors.Is(err, runtimeapi.ErrClosed) || !e.HandedAt.IsZero() {
					t.Errorf("%v, handed over at %v", err, e.HandedAt)
				}
			})
		}
	}
}

func TestEventIsHandedOverToAGuestThatEndsAfterReadingIt(t *testing.T) {
	s, far, g := readySession(t)
	e := event("1", "{}")
	done := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), e)
		done <- err
	}()
	if _, err := g.NextEvent(); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, done); !errors.Is(err, runtimeapi.ErrClosed) || e.HandedAt.IsZero() {
		t.Errorf("%v, handed over at %v", err, e.HandedAt)
	}
}
