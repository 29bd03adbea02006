package runtimeapi_test

import (
	"context"
	"errors"
	"syscall"
	"testing"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/guest"
)

func TestPingIsAnsweredByARuntimeThatWaitsForCode(t *testing.T) {
	s, far := bootedSession(t)
	g := guest.NewConn(far)
	got := make(chan error, 1)
	go func() { _, err := g.NextAssignment(); got <- err }()
	for range 3 {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if banner, err := s.Booted(t.Context()); err != nil || banner != "test 1" {
		t.Errorf("it is %q now, %v", banner, err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, runtimeapi.ErrClosed) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("one that is gone: %v", err)
	}
	wait(t, got)
}

func TestPingLeavesARuntimeWithCodeAlone(t *testing.T) {
	s, _, g := readySession(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := invoking(t.Context(), t, s, g, "1", "1")
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Respond("1", nil); err != nil {
		t.Fatal(err)
	}
	wait(t, done)
}

func TestPingOfARuntimeThatIsStuckEndsWithItsContext(t *testing.T) {
	s, _ := bootedSession(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	stuck := errors.New("stuck")
	cancel(stuck)
	if err := s.Ping(ctx); !errors.Is(err, stuck) {
		t.Errorf("got %v", err)
	}
}
