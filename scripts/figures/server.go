package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a lambent server in a process of its own.
type server struct {
	endpoint   string
	readyAfter time.Duration // from the start of the process until it answered
	cmd        *exec.Cmd
}

// startTimeout is how long the server may take until it is called broken.
const startTimeout = 30 * time.Second

// startServer starts the binary, as it is without any settings, and waits until
// it answers.
func startServer(ctx context.Context, binary, dir string, verbose bool) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "up", "--listen", addr, "--data", dir, "--log-level", "warn")
	if verbose {
		cmd.Args = append(cmd.Args, "--log-level", "debug")
	}
	cmd.Stderr = os.Stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w; build it with make", binary, err)
	}
	s := &server{endpoint: "http://" + addr, cmd: cmd}
	for time.Since(begin) < startTimeout {
		resp, err := http.Get(s.endpoint + "/_lambent/health")
		if err == nil {
			code := resp.StatusCode
			drop(resp.Body)
			if code == http.StatusOK {
				s.readyAfter = time.Since(begin)
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), s.stop())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not answer within %v", binary, startTimeout), s.stop())
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server as an operator would.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("end the server: %w", err)
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the server ended badly: %w", err)
	}
	return nil
}

// poolTimeout is how long a warm instance may take to be there.
const poolTimeout = 30 * time.Second

// waitForPools waits until every pool has as many warm instances as it wants.
func (s *server) waitForPools(ctx context.Context) error {
	for begin := time.Now(); time.Since(begin) < poolTimeout; {
		var pools []struct {
			Target int `json:"target"`
			Ready  int `json:"ready"`
		}
		if err := (user{s.endpoint, operator}).call(ctx, http.MethodGet, "/_lambent/v1/pools", nil, &pools); err != nil {
			return err
		}
		full := len(pools) > 0
		for _, p := range pools {
			full = full && p.Ready >= p.Target
		}
		if full {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return fmt.Errorf("the pools were not filled within %v", poolTimeout)
}

// bareEcho is this program as the bare echo server.
type bareEcho struct {
	url string
	cmd *exec.Cmd
}

func startEcho(ctx context.Context) (*bareEcho, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--echo")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	b := &bareEcho{cmd: cmd}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.stop()
		return nil, fmt.Errorf("start the echo server: %w", err)
	}
	b.url = "http://" + strings.TrimSpace(addr) + "/"
	return b, nil
}

func (b *bareEcho) stop() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // it says killed
}

// residentMB is a process's resident memory, in MiB.
func residentMB(pid int) (int, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			return kb / 1024, err
		}
	}
	return 0, errors.New("the kernel does not tell a process's memory")
}

// machine describes what the figures were measured on.
func machine() string {
	model := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	memory := ""
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			kb, _ := strconv.Atoi(fields[1])
			memory = fmt.Sprintf("%d GiB", (kb+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d × %s, %s, Linux %s, %s, %s", runtime.NumCPU(), model, memory, strings.TrimSpace(string(kernel)),
		runtime.Version(), time.Now().UTC().Format(time.DateOnly))
}

func drop(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, body) // so that the connection is used again
	_ = body.Close()
}

func decode(body io.Reader, out any) error { return json.NewDecoder(body).Decode(out) }
