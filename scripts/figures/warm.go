package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// serveEcho is what warm calls are compared with: the least a Go HTTP server
// does. It prints its address and serves until it is killed.
func serveEcho() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body) // the caller sees what is missing
		}
	}))
}

// nodeServer is the function's handler behind the HTTP server of Node.
const nodeServer = `
const handler = async (event) => event;
require('http').createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', async () => {
    const answer = JSON.stringify(await handler(JSON.parse(Buffer.concat(parts))));
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(answer);
  });
}).listen(0, '127.0.0.1', function () { console.log('127.0.0.1:' + this.address().port); });
`

// bare is a server without lambent, in a process of its own.
type bare struct {
	url   string
	cmd   *exec.Cmd
	times []time.Duration
}

// startBare starts a server that prints its address.
func startBare(ctx context.Context, program string, args ...string) (*bare, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a server to compare with: %w", err)
	}
	b := &bare{cmd: cmd}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("start a server to compare with, %s: %w", program, err)
	}
	b.url = "http://" + strings.TrimSpace(addr) + "/"
	return b, nil
}

func (b *bare) stop() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // it says killed
}

func (b *bare) timedPost(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, bytes.NewReader(event))
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(answer, event) {
		return 0, fmt.Errorf("the server to compare with answered %s", answer)
	}
	return time.Since(begin), nil
}

// measureEcho compares calls of a Node echo through the whole platform with calls
// of the same handler, and of a Go echo, without it, in turns so that all see the
// same noise.
func (b *bench) measureEcho(ctx context.Context, s *server) (rows []figure, err error) {
	progress("warm calls of one client: %d", b.calls)
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	golang, err := startBare(ctx, self, "--echo")
	if err != nil {
		return nil, err
	}
	defer golang.stop()
	others := []*bare{golang}
	if program, err := exec.LookPath("node"); err == nil {
		javascript, err := startBare(ctx, program, "-e", nodeServer)
		if err != nil {
			return nil, err
		}
		defer javascript.stop()
		others = append(others, javascript)
	}
	u := s.user(900)
	const name, warmUp, turn = "echo", 300, 100
	if err := u.deploy(ctx, name, node()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.remove(ctx, name)) }()
	var through []time.Duration
	for len(through) < warmUp+b.calls {
		for range turn {
			took, err := u.timedInvoke(ctx, name)
			if err != nil {
				return nil, err
			}
			through = append(through, took)
		}
		for _, other := range others {
			for range turn {
				took, err := other.timedPost(ctx)
				if err != nil {
					return nil, err
				}
				other.times = append(other.times, took)
			}
		}
	}
	through = through[warmUp:]
	rows = append(rows, times("bare Go HTTP echo in the same run", golang.times[warmUp:], goal{}))
	if len(others) > 1 {
		rows = append(rows, times("the same handler behind a bare `node` HTTP server, without lambent", others[1].times[warmUp:], goal{}))
	} else {
		rows = append(rows, figure{name: "the same handler behind a bare `node` HTTP server, without lambent", value: "no `node` on the PATH"})
	}
	ratio := float64(percentile(through, 50)) / float64(percentile(golang.times[warmUp:], 50))
	return append(rows,
		times("warm call of a Node echo through HTTP API and gVisor, one client", through, goal{450 * time.Microsecond, 3 * ms}),
		figure{"ratio of its p50 to the Go echo's", fmt.Sprintf("%.1f×", ratio), "≤ 3.5×", ratio > 3.5}), nil
}

// measureThroughput tells how many warm calls 16 clients get through, once the
// containers that they brought about, and the warm instances in place of those
// taken, have booted.
func measureThroughput(ctx context.Context, s *server) (rows []figure, err error) {
	const clients, warmUp, long = 16, 2 * time.Second, 4 * time.Second
	progress("warm calls of %d clients", clients)
	if err := s.settle(ctx, 0); err != nil {
		return nil, err
	}
	u := s.user(901)
	const name = "echo"
	if err := u.deploy(ctx, name, node()); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.remove(ctx, name)) }()
	if _, err := u.crowd(ctx, name, clients, warmUp); err != nil {
		return nil, err
	}
	if err := s.calm(ctx); err != nil {
		return nil, err
	}
	all, err := u.crowd(ctx, name, clients, long)
	if err != nil {
		return nil, err
	}
	rate := float64(len(all)) / long.Seconds()
	f := times(fmt.Sprintf("the same, %d clients", clients), all, goal{})
	f.value = fmt.Sprintf("%.0f calls/s; %s", rate, f.value)
	f.goal, f.missed = "≥ 2500 calls/s", rate < 2500
	return []figure{f}, nil
}

// crowd has so many clients call a function, each again as soon as it is answered,
// and gives how long the calls took that were answered in the time.
func (u user) crowd(ctx context.Context, name string, clients int, long time.Duration) (all []time.Duration, failed error) {
	var callers sync.WaitGroup
	var mu sync.Mutex
	to := time.Now().Add(long)
	for range clients {
		callers.Go(func() {
			var mine []time.Duration
			var err error
			for err == nil && time.Now().Before(to) {
				var took time.Duration
				if took, err = u.timedInvoke(ctx, name); err == nil && time.Now().Before(to) {
					mine = append(mine, took)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
			failed = errors.Join(failed, err)
		})
	}
	callers.Wait()
	return all, failed
}

// keepConnections lets so many clients keep their connections.
func keepConnections(clients int) {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.MaxIdleConnsPerHost = clients
	}
}
