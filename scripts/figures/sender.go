package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sender sends one asynchronous call again and again, each time the same bytes.
// It takes as little as it can of the CPUs that it shares with the server: no
// HTTP client, and of the answer only what says that it is a 202.
type sender struct {
	addr    string
	request []byte
}

// kilobyte is an event of 1 KB.
func kilobyte() []byte {
	const head, tail = `{"hello":"world","pad":"`, `"}`
	return []byte(head + strings.Repeat("x", 1024-len(head)-len(tail)) + tail)
}

func (u user) sender(name string, payload []byte) (*sender, error) {
	req, err := http.NewRequest(http.MethodPost, u.endpoint+"/2015-03-31/functions/"+name+"/invocations", bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Amz-Invocation-Type", "Event")
	u.sign(req)
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	return &sender{req.URL.Host, b.Bytes()}, nil
}

// line is one connection of a sender.
type line struct {
	*sender
	conn   net.Conn
	answer *bufio.Reader
}

func (s *sender) dial() (*line, error) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		return nil, err
	}
	return &line{s, conn, bufio.NewReader(conn)}, nil
}

// send returns when the call is accepted.
func (l *line) send() error {
	if _, err := l.conn.Write(l.request); err != nil {
		return err
	}
	status, err := l.answer.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 202 ")) {
		return fmt.Errorf("an asynchronous call was not accepted: %s", bytes.TrimSpace(status))
	}
	for { // it has no body
		header, err := l.answer.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(header) <= len("\r\n") {
			return nil
		}
	}
}

// flood has so many clients send, each again as soon as it is answered, until
// all of them have sent most calls or the time is over, and gives how long each
// call took, as far as it is wanted.
func (s *sender) flood(ctx context.Context, clients, most int, long time.Duration, timed bool) (took []time.Duration, sent int, failed error) {
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	var callers sync.WaitGroup
	var mu sync.Mutex
	var turns, done atomic.Int64
	for range clients {
		callers.Go(func() {
			mine, err := s.sendOn(ctx, timed, &done, func() bool { return turns.Add(1) <= int64(most) })
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			failed = errors.Join(failed, err)
		})
	}
	callers.Wait()
	return took, int(done.Load()), failed
}

func (s *sender) sendOn(ctx context.Context, timed bool, done *atomic.Int64, mine func() bool) (took []time.Duration, err error) {
	l, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer l.conn.Close()
	for ctx.Err() == nil && mine() {
		begin := time.Now()
		if err := l.send(); err != nil {
			return took, err
		}
		if ctx.Err() != nil {
			break // too late to be counted
		}
		done.Add(1)
		if timed {
			took = append(took, time.Since(begin))
		}
	}
	return took, nil
}
