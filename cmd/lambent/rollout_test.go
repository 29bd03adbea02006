package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"lambent"
)

func TestCodeThatCannotBeHadIsTriedAgainWhereThatMayHelp(t *testing.T) {
	down, bad := errors.New("the store is down"), &lambent.Error{Op: "unpack", Kind: lambent.KindInvalid}
	for _, tc := range []struct {
		fails []error
		want  error
		tries int
	}{
		{nil, nil, 1},
		{[]error{down}, nil, 2},
		{[]error{down, down}, nil, 3},
		{[]error{down, down, down, down}, down, 3},
		{[]error{bad}, bad, 1},
		{[]error{down, bad}, bad, 2},
	} {
		tries := 0
		prepare := preparing(func(context.Context, *lambent.Function) error {
			tries++
			if tries <= len(tc.fails) {
				return tc.fails[tries-1]
			}
			return nil
		}, []time.Duration{1, 1}, slog.New(slog.DiscardHandler))
		if err := prepare(t.Context(), &lambent.Function{}); err != tc.want || tries != tc.tries {
			t.Errorf("failing with %v: %v after %d tries", tc.fails, err, tries)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	prepare := preparing(func(context.Context, *lambent.Function) error { cancel(); return down }, []time.Duration{time.Hour}, slog.New(slog.DiscardHandler))
	if err := prepare(ctx, &lambent.Function{}); err != down {
		t.Errorf("told to end: %v", err)
	}
}
