package sandboxtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lambent/internal/sandbox"
)

// server is the suite's end of a process that behaves as Serve.
type server struct {
	sandbox.Process
	conn  net.Conn
	lines *bufio.Reader
}

// tryServe starts Serve in a container.
func (r *rig) tryServe(c sandbox.Container) (*server, error) {
	conn, guest, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer guest.Close()
	cmd := r.opts.Command(Serve)
	cmd.Files = []*os.File{nil, nil, nil, guest}
	p, err := c.Exec(r.bounded(), cmd)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	r.Cleanup(func() { conn.Close() })
	return &server{Process: p, conn: conn, lines: bufio.NewReader(conn)}, nil
}

// serve starts Serve in a container and waits until it answers.
func (r *rig) serve(c sandbox.Container) *server {
	r.Helper()
	s, err := r.tryServe(c)
	if err != nil {
		r.Fatalf("start a process that serves: %v", err)
	}
	r.wantAnswer(s, "echo ready", "ok ready")
	return s
}

// ask sends a command and gives the line that answers it.
func (s *server) ask(command string) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(s.conn, command); err != nil {
		return "", fmt.Errorf("ask %q: %w", command, err)
	}
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("answer to %q: %w", command, err)
	}
	return strings.TrimSpace(line), nil
}

// wantAnswer asks and compares the whole answer.
func (r *rig) wantAnswer(s *server, command, want string) {
	r.Helper()
	if got, err := s.ask(command); err != nil || got != want {
		r.Errorf("%s: answer %q, error %v; want %q", command, got, err, want)
	}
}

// wantErr asks for what must fail and gives the text of the failure.
func (r *rig) wantErr(s *server, command string) string {
	r.Helper()
	got, err := s.ask(command)
	text, failed := strings.CutPrefix(got, "err")
	if err != nil || !failed {
		r.Errorf("%s: answer %q, error %v; want it to fail inside", command, got, err)
	}
	return text
}

// wantHungUp checks that the other end of the connection is gone.
func (r *rig) wantHungUp(s *server) {
	r.Helper()
	if err := s.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		r.Error(err)
	}
	b, err := s.lines.ReadByte()
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		r.Errorf("the connection outlived the process: read %q, error %v", b, err)
	}
}

// socketPair makes the connection over which a process is talked to.
func socketPair() (ours net.Conn, guest *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "ours")
	defer f.Close() // FileConn makes its own
	guest = os.NewFile(uintptr(fds[1]), "guest")
	if ours, err = net.FileConn(f); err != nil {
		return nil, nil, errors.Join(err, guest.Close())
	}
	return ours, guest, nil
}

// output runs a command to its end and gives what it wrote to descriptor 1.
func (r *rig) output(c sandbox.Container, cmd sandbox.Command) []byte {
	r.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		r.Fatal(err)
	}
	defer read.Close()
	cmd.Files = []*os.File{nil, write}
	p, err := c.Exec(r.bounded(), cmd)
	write.Close()
	if err != nil {
		r.Fatalf("start a process: %v", err)
	}
	out := r.readAll(read)
	r.wantExit(p, sandbox.Exit{})
	return out
}

// readAll reads a pipe to its end.
func (r *rig) readAll(f *os.File) []byte {
	r.Helper()
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		r.Fatal(err)
	}
	out, err := io.ReadAll(f)
	if err != nil {
		r.Errorf("read what a process wrote: %v", err)
	}
	return out
}
