package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for something that must happen. It is long
// because nothing is learned from a slow machine, only from a wrong answer.
const Patience = 60 * time.Second

// Binary finds the server's executable: $CONFORMANCE_BIN, or what `make` builds in
// the repository this module is part of.
func Binary(ctx context.Context) (string, error) {
	if bin := os.Getenv("CONFORMANCE_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("find the repository: this file's path is unknown; set CONFORMANCE_BIN")
	}
	root := filepath.Join(filepath.Dir(file), "..", "..")
	cmd := exec.CommandContext(ctx, "make", "-C", root, "build")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(root, "bin", "lambent"), nil
}

// Config is how a server is started.
type Config struct {
	Bin   string
	Data  string   // its data folder; made if need be
	Flags []string // beyond --listen, --data and --log-format
}

// Server is a running `lambent up`. Safe for use by several goroutines.
type Server struct {
	Config
	URL string // http://127.0.0.1:PORT

	cmd    *exec.Cmd
	exited chan struct{} // closed once the process was waited for and its log read
	err    error         // of the wait; valid once exited is closed

	mu sync.Mutex
	// +checklocks:mu
	log bytes.Buffer
	// +checklocks:mu
	meant bool // the process was told to end
}

// Start starts a server on a free port and waits until it is healthy. The error
// carries the server's log.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	args := append([]string{"up", "--listen", "127.0.0.1:0", "--data", cfg.Data, "--log-format", "json"}, cfg.Flags...)
	s := &Server{Config: cfg, cmd: exec.Command(cfg.Bin, args...), exited: make(chan struct{})}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // tests that run out of time leave no server
	s.cmd.Env = Environment()
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	endpoint := make(chan string, 1)
	go func() {
		defer close(s.exited)
		s.readLog(stderr, endpoint)
		s.err = s.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	select {
	case s.URL = <-endpoint:
	case <-s.exited:
		return nil, fmt.Errorf("the server ended instead of serving: %w\n%s", s.err, s.Log())
	case <-ctx.Done():
		s.Kill()
		return nil, fmt.Errorf("the server did not say that it serves: %w\n%s", ctx.Err(), s.Log())
	}
	if err := s.awaitHealth(ctx); err != nil {
		s.Kill()
		return nil, fmt.Errorf("%w\n%s", err, s.Log())
	}
	return s, nil
}

// Environment is what servers are started in: this process's, with a secret that
// none of their processes may hold, and without what is these tests' own and the
// server would refuse.
func Environment() []string {
	out := []string{"CONFORMANCE_SECRET=" + Secret}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "LAMBENT_") {
			out = append(out, pair)
		}
	}
	return out
}

// Secret is in the server's environment, for functions to look for in vain.
const Secret = "s3cr3t-of-the-server"

// readLog keeps the log and finds in it where the server listens.
func (s *Server) readLog(r io.Reader, endpoint chan<- string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		s.mu.Lock()
		s.log.Write(lines.Bytes())
		s.log.WriteByte('\n')
		s.mu.Unlock()
		var line struct {
			Endpoint string `json:"endpoint"`
		}
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Endpoint != "" {
			select {
			case endpoint <- line.Endpoint:
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long for the scanner must not block the server
}

func (s *Server) awaitHealth(ctx context.Context) error {
	return Until(ctx, func() error {
		resp, err := http.Get(s.URL + "/_lambent/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(`"status":"ok"`)) {
			return fmt.Errorf("health answers %s: %s", resp.Status, body)
		}
		return nil
	})
}

// PID is the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Addr is host:port of the server.
func (s *Server) Addr() string { return strings.TrimPrefix(s.URL, "http://") }

// Log is what the server has logged so far.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Terminate sends SIGTERM.
func (s *Server) Terminate() error {
	s.meanEnd()
	return s.cmd.Process.Signal(syscall.SIGTERM)
}

// meanEnd notes that the process is told to end, and reports whether it was
// before.
func (s *Server) meanEnd() (before bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.meant = s.meant, true
	return before
}

// Kill ends the server as `kill -9` does and waits until it is gone.
func (s *Server) Kill() {
	s.meanEnd()
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.exited
}

// Exited is closed when the server's process has ended.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Stop ends the server with SIGTERM. Anything but exit status 0 within Patience
// is an error that carries the log.
func (s *Server) Stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("the server had ended before it was told to: %v\n%s", s.err, s.Log())
	default:
	}
	if err := s.Terminate(); err != nil {
		return fmt.Errorf("terminate the server: %w", err)
	}
	select {
	case <-s.exited:
	case <-time.After(Patience):
		s.Kill()
		return fmt.Errorf("the server did not end within %v of SIGTERM\n%s", Patience, s.Log())
	}
	if s.err != nil {
		return fmt.Errorf("the server ended with %w after SIGTERM, want exit status 0\n%s", s.err, s.Log())
	}
	return nil
}

// Run starts a server for one test and stops it at the test's end, which fails
// if the server does not end well. A test may stop or kill it before.
func Run(tb testing.TB, cfg Config) *Server {
	tb.Helper()
	if cfg.Data == "" {
		cfg.Data = tb.TempDir()
	}
	s, err := Start(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if s.meanEnd() {
			return // the test has ended it
		}
		if err := s.Stop(); err != nil {
			tb.Error(err)
		}
		if tb.Failed() {
			tb.Logf("the server's log:\n%s", s.Log())
		}
	})
	return s
}

// Until calls try until it succeeds; when ctx ends first, the last failure is
// the error.
func Until(ctx context.Context, try func() error) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", err)
		}
	}
}

// Eventually is Until within Patience, for tests.
func Eventually(tb testing.TB, what string, try func() error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	defer cancel()
	if err := Until(ctx, try); err != nil {
		tb.Fatalf("%s: %v", what, err)
	}
}
