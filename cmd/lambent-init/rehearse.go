package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// rehearsalTime is how long a rehearsal may take on a busy machine.
const rehearsalTime = 5 * time.Second

// rehearse goes the whole way of a first function before there is one: from an
// assignment over the start of a program, which is this one again, and an event
// that it fetches and answers, to its end. What the first function would otherwise
// wait for is then in memory: the code of this process, and in gVisor's kernel an
// address space to start a program in. A rehearsal that fails has cost time and
// nothing else.
func rehearse(l *launcher) error {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	stage := os.NewFile(uintptr(pair[0]), "rehearsing host")
	defer stage.Close()
	host := guest.NewConn(os.NewFile(uintptr(pair[1]), "rehearsed host"))
	defer host.Close()
	if err := stage.SetDeadline(time.Now().Add(rehearsalTime)); err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	if _, err := stage.Write(frame.AppendFrame(nil, frame.Assign, []byte(`{"taskRoot":"/","env":{"A":"B"}}`))); err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	a, err := host.NextAssignment()
	if err != nil {
		return err
	}
	a.Command, a.TaskRoot = []string{self, "rehearse"}, "/"
	for _, variable := range os.Environ() { // its own: it is the same program
		name, value, _ := strings.Cut(variable, "=")
		a.Env[name] = value
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("rehearse: %w", err)
	}
	api := guest.NewAPI(host)
	server := &http.Server{Handler: api, ErrorLog: log.New(io.Discard, "", 0)}
	var background sync.WaitGroup
	defer background.Wait()
	defer host.Close()
	defer server.Close()
	background.Go(func() { _ = server.Serve(listener) }) // ends with Close
	background.Go(func() { _ = api.Run() })              // ends with host

	pid, err := l.start(a, listener.Addr().String())
	if err != nil {
		return err
	}
	defer await(pid)
	if err := play(stage); err != nil {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		return err
	}
	return nil
}

// play is the host's part: an event when the program is ready, and its answer.
func play(stage *os.File) error {
	r := frame.NewReader(stage, 4<<10)
	e := &frame.Event{RequestID: rehearsalID, DeadlineMillis: 1, InvokedARN: rehearsalID, Payload: []byte(`{"a":1}`)}
	event := append(frame.AppendEventHead(nil, e), e.Payload...)
	for _, want := range []frame.Type{frame.Ready, frame.Response} {
		t, _, err := r.Next()
		if err != nil {
			return fmt.Errorf("rehearse: wait for %s: %w", want, err)
		}
		if t != want {
			return fmt.Errorf("rehearse: wait for %s: got %s", want, t)
		}
		if want == frame.Ready {
			if _, err := stage.Write(event); err != nil {
				return fmt.Errorf("rehearse: hand over an event: %w", err)
			}
		}
	}
	return nil
}

// rehearsalID is the id of the event of a rehearsal.
const rehearsalID = "rehearsal"

// rehearsed is the program that a rehearsal starts: it answers one event.
func rehearsed() error {
	conn, err := net.Dial("tcp", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for _, request := range []string{
		"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /2018-06-01/runtime/invocation/" + rehearsalID + "/response HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
	} {
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			return err
		}
	}
	return nil
}
