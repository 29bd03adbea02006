// Package runtimetest helps tests of both ends of a runtime's conversation: a
// real socket pair, and real processes at the other end of it.
package runtimetest

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/control"
)

// Pair makes a connected pair of stream sockets: the host's end as a connection,
// the guest's as a file to be inherited. Both are closed with the test.
func Pair(t testing.TB) (host *control.Conn, guest *os.File) {
	t.Helper()
	poller, err := control.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	host, guest, err = poller.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = guest.Close()
		if err := errors.Join(host.Close(), poller.Close()); err != nil {
			t.Error(err)
		}
	})
	return host, guest
}

// Conns makes a pair whose ends are both connections.
func Conns(t testing.TB) (host *control.Conn, guest net.Conn) {
	t.Helper()
	host, file := Pair(t)
	guest, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	t.Cleanup(func() { _ = guest.Close() })
	return host, guest
}

// Process is a real runtime process with its session.
type Process struct {
	*runtimeapi.Session
	Cmd *exec.Cmd

	log    logBuffer
	waited chan struct{}
}

// Start runs the command with the guest's end as descriptor 3 and opens the
// session of the other end. Process and session end with the test.
func Start(t testing.TB, argv ...string) *Process {
	t.Helper()
	conn, file := Pair(t)
	cmd := exec.Command(argv[0], argv[1:]...)
	p := &Process{Session: runtimeapi.NewSession("c-test", conn), Cmd: cmd, waited: make(chan struct{})}
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = []string{"PATH=/usr/bin:/bin", "BEFORE_ASSIGN=1"}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	go func() { // waited for below
		_ = cmd.Wait()
		close(p.waited)
	}()
	p.Open()
	t.Cleanup(func() {
		_ = p.Close()
		_ = cmd.Process.Kill()
		<-p.waited
	})
	return p
}

// Wait waits for the end of the process and returns how it ended.
func (p *Process) Wait() *os.ProcessState {
	<-p.waited
	return p.Cmd.ProcessState
}

// Log is what the process has written so far.
func (p *Process) Log() string { return p.log.String() }

// AwaitLog waits until the process has written the text, and returns all it has
// written until then.
func (p *Process) AwaitLog(t testing.TB, text string) string {
	t.Helper()
	for {
		log, grown := p.log.watch()
		if strings.Contains(log, text) {
			return log
		}
		select {
		case <-grown:
		case <-time.After(patience):
			t.Fatalf("the log does not hold %q:\n%s", text, log)
		}
	}
}

// patience bounds what a test waits for that should come at once.
const patience = 20 * time.Second

// logBuffer is a bytes.Buffer that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	// +checklocks:mu
	b bytes.Buffer
	// +checklocks:mu
	grown chan struct{} // closed with the next write; nil while nobody waits
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown != nil {
		close(l.grown)
		l.grown = nil
	}
	return l.b.Write(p)
}

// watch returns what was written and what tells of more.
func (l *logBuffer) watch() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grown == nil {
		l.grown = make(chan struct{})
	}
	return l.b.String(), l.grown
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
