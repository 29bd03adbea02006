package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// logPipe carries what a container's processes write to stdout and stderr. One
// pipe takes both, so that their order is kept. A goroutine drains it as data
// comes, so a function never waits for its log; and drain empties it at once
// when an invocation ends, so that a line is told apart from those of the next.
type logPipe struct {
	write   *os.File // for the container; closed on our side once handed over
	read    *os.File
	conn    syscall.RawConn
	drained chan struct{} // closed when the reader goroutine has ended

	mu sync.Mutex
	// emit must not block and not keep the line.
	// +checklocks:mu
	emit func(line []byte)
	// +checklocks:mu
	partial []byte // a line not yet ended
	// +checklocks:mu
	buf []byte
}

// The bounds of a container's log.
const (
	maxLogLine = 256 << 10 // AWS's bound for one log event
	pipeBytes  = 1 << 20   // how far a function may run ahead of the reader
)

func newLogPipe(emit func(line []byte)) (*logPipe, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open log pipe: %w", err)
	}
	conn, err := r.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open log pipe: %w", err), r.Close(), w.Close())
	}
	p := &logPipe{write: w, read: r, conn: conn, emit: emit, drained: make(chan struct{}), buf: make([]byte, 16<<10)}
	// Without the larger buffer a chatty function waits more often; it still works.
	_ = conn.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
	go p.run()
	return p, nil
}

// run drains whenever there is something to read, until every write end is
// closed or the read end is.
func (p *logPipe) run() {
	defer close(p.drained)
	for {
		var ended error
		failed := p.conn.Read(func(fd uintptr) (done bool) {
			var more bool
			p.mu.Lock()
			defer p.mu.Unlock()
			more, ended = p.readSome(int(fd), batchBytes)
			return more || ended != nil // else wait for more
		})
		if failed != nil || ended != nil {
			return
		}
	}
}

// batchBytes is how much run takes in at a time: whoever waits for what has been
// written must get in between what is written without end.
const batchBytes = 64 << 10

// readSome reads up to so many bytes. more is false when the pipe is empty;
// ended is io.EOF or the error that ends the pipe.
//
// +checklocks:p.mu
func (p *logPipe) readSome(fd, most int) (more bool, ended error) {
	for got := 0; got < most; {
		n, err := unix.Read(fd, p.buf[:min(len(p.buf), most-got)])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return false, nil
		case err != nil:
			return false, err
		case n == 0:
			return false, io.EOF
		default:
			got += n
			p.take(p.buf[:n])
		}
	}
	return true, nil
}

// take splits into lines.
//
// +checklocks:p.mu
func (p *logPipe) take(b []byte) {
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if room := maxLogLine - len(p.partial); len(line) > room {
			line, rest, ended = b[:room], b[room:], true
		}
		b = rest
		if !ended {
			p.partial = append(p.partial, line...)
			return
		}
		if len(p.partial) > 0 {
			p.partial = append(p.partial, line...)
			line = p.partial
		}
		p.emit(line)
		p.partial = p.partial[:0]
	}
}

// drain takes in all that has been written until now, and no more than that: the
// last line also where it has no end.
func (p *logPipe) drain() {
	_ = p.conn.Control(func(fd uintptr) { // fails once closed, and then there is nothing to read
		p.mu.Lock()
		defer p.mu.Unlock()
		written, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ) // as many as the pipe holds at most
		if err != nil || written == 0 {
			return
		}
		_, _ = p.readSome(int(fd), written)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.partial) > 0 {
		p.emit(p.partial)
		p.partial = p.partial[:0]
	}
}

// close ends the pipe; what was written before is taken in.
func (p *logPipe) close() error {
	p.drain()
	err := errors.Join(ignoreClosed(p.write.Close()), ignoreClosed(p.read.Close()))
	<-p.drained
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
