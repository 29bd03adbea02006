package gvisor

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/sandbox"
)

// process is a started process. A goroutine of its own waits for it from the
// start, since gVisor keeps what it knows of a process until somebody has asked.
type process struct {
	guest *guest
	pid   int
	ended chan struct{}
	exit  sandbox.Exit // set before ended is closed
}

var _ sandbox.Process = (*process)(nil)

// follow waits for a started process. Called while g.work is held.
func (g *guest) follow(pid int) *process {
	p := &process{guest: g, pid: pid, ended: make(chan struct{})}
	box := g.box.Sandbox
	g.instance.driver.work.Add(1)
	go func() {
		defer g.instance.driver.work.Done()
		defer close(p.ended)
		status, err := box.WaitPID(string(g.id), int32(pid))
		switch {
		case err != nil: // the sandbox is gone, or the container is
			p.exit.Signal = int(unix.SIGKILL)
		case status.Signaled():
			p.exit.Signal = int(status.Signal())
		default:
			p.exit.Code = status.ExitStatus()
		}
	}()
	return p
}

// PID implements sandbox.Process.
func (p *process) PID() int { return p.pid }

// Wait implements sandbox.Process.
func (p *process) Wait(ctx context.Context) (sandbox.Exit, error) {
	select {
	case <-p.ended:
		return p.exit, nil
	default:
	}
	select {
	case <-p.ended:
		return p.exit, nil
	case <-ctx.Done():
		return sandbox.Exit{}, &lambent.Error{Op: "wait for process in container", Resource: string(p.guest.id),
			Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
	}
}

// openPidfd gets a handle of a process that stays its own when the id is used
// again. The handle is for the runtime's poller, so that waiting takes no thread.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open handle of process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// waitPidfd blocks until the process has ended; it is not reaped by that.
func waitPidfd(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for process: %w", err)
	}
	var pollErr error
	err = conn.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			pollErr = err
			return n > 0 || err != nil
		}
	})
	if err = errors.Join(err, pollErr); err != nil {
		return fmt.Errorf("wait for process: %w", err)
	}
	return nil
}

// killPidfd kills a process; one that has ended is fine.
func killPidfd(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("kill process: %w", err)
	}
	var killErr error
	err = conn.Control(func(fd uintptr) { killErr = unix.PidfdSendSignal(int(fd), unix.SIGKILL, nil, 0) })
	if errors.Is(killErr, unix.ESRCH) {
		killErr = nil
	}
	if err = errors.Join(err, killErr); err != nil {
		return fmt.Errorf("kill process: %w", err)
	}
	return nil
}
