package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"lambent/cmd/lambent/config"
)

// A call that is running when the time to drain is over is ended, and its
// caller told, before the connection closes.
func TestCallsThatOutliveTheDrainAreAnswered(t *testing.T) {
	received, ended := make(chan struct{}), make(chan struct{})
	site := site{endStreams: func() {}, endExecutions: func() { close(ended) }}
	site.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(received)
		select {
		case <-ended: // as an execution does that goes on until the pool ends it
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "the server is shutting down")
		case <-r.Context().Done(): // as a call does that waits for a container
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	ctx, terminate := context.WithCancel(t.Context())
	defer terminate()
	addr, served := make(chan string, 1), make(chan error, 1)
	cfg := config.Config{Listen: "127.0.0.1:0", DrainTimeout: time.Millisecond}
	go func() { served <- serve(ctx, cfg, site, func(a string) { addr <- a }) }()
	answered := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+<-addr, "application/json", nil)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		answered <- fmt.Sprint(resp.StatusCode, " ", string(body), " ", err)
	}()
	<-received
	terminate()
	if got, want := <-answered, "503 the server is shutting down <nil>"; got != want {
		t.Errorf("the caller got %q, want %q", got, want)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestAServerToldToEndWhileItStartsHasNotFailed(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	broken := fmt.Errorf("open the store: %w", context.Canceled)
	if endedEarly(ctx, broken) {
		t.Error("an error without a signal counts as one")
	}
	terminated := errors.New("terminated signal received")
	cancel(terminated)
	for _, err := range []error{broken, fmt.Errorf("start: %w", terminated), errors.Join(broken, nil)} {
		if !endedEarly(ctx, err) {
			t.Errorf("%v counts as a failure", err)
		}
	}
	if endedEarly(ctx, errors.New("disk broken")) || endedEarly(ctx, nil) {
		t.Error("a failure of its own is passed over")
	}
}
