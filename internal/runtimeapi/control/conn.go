package control

import (
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Conn is the host's end of a control socket. One goroutine may read, one write
// and any close at the same time.
type Conn struct {
	poller   *Poller
	id       int32
	readable chan struct{} // holds one wake-up
	writable chan struct{} // likewise

	drained bool // the reader's: the last read took all there was

	// mu is held shared by who uses fd, and alone by who closes it.
	mu sync.RWMutex
	// +checklocks:mu
	fd int // -1 once closed
	// +checklocks:mu
	hungUp bool // the other end will send no more
	// +checklocks:mu
	hurried bool // writes are not to wait
}

// wake passes on what epoll tells of the connection.
func (c *Conn) wake(events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.mu.Lock()
		c.hungUp = true
		c.mu.Unlock()
		notify(c.writable)
	}
	if events&unix.EPOLLOUT != 0 {
		notify(c.writable)
	}
	if events&^uint32(unix.EPOLLOUT) != 0 {
		notify(c.readable)
	}
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // whoever waits is told already
	}
}

// Read reads what there is, and waits while there is nothing.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, wait, err := c.tryRead(b)
		if !wait {
			return n, err
		}
		<-c.readable
	}
}

// tryRead reads once, or tells to wait. A read that got less than it had room
// for has emptied the socket (epoll(7), question 9): the next one need not look
// before it waits, unless the other end has hung up and no news will come.
func (c *Conn) tryRead(b []byte) (n int, wait bool, err error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return 0, false, net.ErrClosed
	}
	if c.drained && !c.hungUp {
		c.drained = false
		return 0, true, nil
	}
	n, err = retry(unix.Read, c.fd, b)
	switch {
	case err == unix.EAGAIN:
		return 0, true, nil
	case err != nil:
		return 0, false, os.NewSyscallError("read", err)
	case n == 0:
		return 0, false, io.EOF
	}
	c.drained = n < len(b)
	return n, false, nil
}

// TryWrite writes what the socket takes at once, which may be nothing.
func (c *Conn) TryWrite(b []byte) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return 0, net.ErrClosed
	}
	n, err := retry(unix.Write, c.fd, b)
	if err == unix.EAGAIN {
		return 0, nil
	}
	if err != nil {
		return 0, os.NewSyscallError("write", err)
	}
	return n, nil
}

// Write writes all of b, and waits for room. It fails with
// os.ErrDeadlineExceeded where it would have to wait and is not to (Hurry).
func (c *Conn) Write(b []byte) (sent int, err error) {
	waited := false
	defer func() {
		if waited {
			c.await(reading)
		}
	}()
	for {
		n, err := c.TryWrite(b[sent:])
		sent += n
		if err != nil || sent == len(b) {
			return sent, err
		}
		if c.isHurried() {
			return sent, os.ErrDeadlineExceeded
		}
		if n == 0 && waited {
			<-c.writable
		} else if n == 0 {
			waited = true
			if err := c.await(reading | unix.EPOLLOUT); err != nil { // tells at once if there is room by now
				return sent, err
			}
		}
	}
}

// await changes what the poller waits for.
func (c *Conn) await(events uint32) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.fd < 0 {
		return net.ErrClosed
	}
	return c.poller.control(unix.EPOLL_CTL_MOD, c.fd, c.id, events)
}

// Hurry tells whether writes are not to wait for room; one that does then fails.
func (c *Conn) Hurry(on bool) {
	c.mu.Lock()
	c.hurried = on
	c.mu.Unlock()
	notify(c.writable)
}

func (c *Conn) isHurried() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.hurried
}

// EndReading has Read give what has arrived, and then io.EOF, whoever may still
// hold the other end.
func (c *Conn) EndReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd >= 0 {
		_ = unix.Shutdown(c.fd, unix.SHUT_RD) // fails where the other end has gone, which is an end, too
		c.hungUp = true
		notify(c.readable)
	}
}

// Close closes the connection, and wakes whoever reads or writes. It may be
// called more than once.
func (c *Conn) Close() error {
	c.poller.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	notify(c.readable)
	notify(c.writable)
	return err
}

// retry does a system call on b until no signal interrupts it.
func retry(call func(int, []byte) (int, error), fd int, b []byte) (n int, err error) {
	for {
		if n, err = call(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}
