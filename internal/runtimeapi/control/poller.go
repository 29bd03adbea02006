// Package control is the host's end of the sockets to its runtimes, and how the
// host waits on all of them at once.
//
// It exists for a figure. Go's own network poller waits on every socket for room
// to write as well as for something to read, so a guest that takes an event off
// its socket wakes the host, for nothing: a twentieth of a warm call's time. A
// Poller waits for what can be read, and for room only while a write wants some.
// It is itself waited on by Go's poller, and costs no thread.
package control

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Poller waits on the connections that it made. Safe for use by several
// goroutines.
type Poller struct {
	file   *os.File // an epoll instance (epoll(7))
	raw    syscall.RawConn
	waiter sync.WaitGroup

	mu sync.Mutex
	// +checklocks:mu
	conns map[int32]*Conn // by the id that epoll tells
	// +checklocks:mu
	lastID int32
}

// NewPoller makes a poller. Close it when its connections are closed.
func NewPoller() (_ *Poller, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make a poller of control sockets: %w", err)
		}
	}()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or Go would not wait on it
		return nil, errors.Join(err, unix.Close(fd))
	}
	p := &Poller{file: os.NewFile(uintptr(fd), "control poller"), conns: map[int32]*Conn{}}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	p.waiter.Go(p.wait)
	return p, nil
}

// Close ends the waiting. What is still waited for never comes.
func (p *Poller) Close() error {
	err := p.file.Close()
	p.waiter.Wait()
	return err
}

// wait wakes whoever's socket has news, until Close.
func (p *Poller) wait() {
	var events [64]unix.EpollEvent
	// The error is always Close's.
	_ = p.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events[:], 0)
			if err == unix.EINTR {
				continue
			}
			for _, e := range events[:max(n, 0)] {
				p.mu.Lock()
				c := p.conns[e.Fd]
				p.mu.Unlock()
				if c != nil { // it may have been closed meanwhile
					c.wake(e.Events)
				}
			}
			if n < len(events) {
				return false
			}
		}
	})
}

// Pair makes a connection and the file of its other end, for a process to
// inherit.
func (p *Poller) Pair() (_ *Conn, guest *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a control socket: %w", err)
	}
	guest = os.NewFile(uintptr(fds[1]), "control guest")
	c := &Conn{poller: p, fd: fds[0], readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
	err = unix.SetNonblock(fds[0], true)
	if err == nil {
		err = p.add(c, fds[0])
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a control socket: %w", err), guest.Close(), unix.Close(fds[0]))
	}
	return c, guest, nil
}

// reading is what is waited for always: edges only (epoll(7), EPOLLET).
const reading = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

func (p *Poller) add(c *Conn, fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	c.id = p.lastID
	p.conns[c.id] = c
	err := p.control(unix.EPOLL_CTL_ADD, fd, c.id, reading)
	if err != nil {
		delete(p.conns, c.id)
	}
	return err
}

// remove stops to wait on a connection whose descriptor is about to be closed,
// which takes it off epoll's list too.
func (p *Poller) remove(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c.id)
}

// control changes what is waited for on the descriptor fd of connection id.
func (p *Poller) control(op, fd int, id int32, events uint32) (err error) {
	failed := p.raw.Control(func(epoll uintptr) {
		err = unix.EpollCtl(int(epoll), op, fd, &unix.EpollEvent{Events: events, Fd: id})
	})
	return errors.Join(failed, err)
}
