package fake

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent/internal/sandbox"
)

// process implements sandbox.Process: a program that runs in a goroutine.
type process struct {
	c      *container
	pid    int
	guest  *Guest
	ctx    context.Context
	cancel context.CancelCauseFunc
	memory atomic.Int64
	over   chan struct{} // closed when exit is valid and the files are closed

	mu sync.Mutex
	// +checklocks:mu
	exit *sandbox.Exit // nil while it runs; the first to set it decides
}

func newProcess(c *container, pid int, cmd sandbox.Command, files []*os.File) *process {
	p := &process{c: c, pid: pid, over: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.guest = &Guest{PID: pid, Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, UID: cmd.UID, GID: cmd.GID,
		KeepPrivileges: cmd.KeepPrivileges, Files: files, process: p}
	return p
}

// PID implements sandbox.Process.
func (p *process) PID() int { return p.pid }

// Wait implements sandbox.Process.
func (p *process) Wait(ctx context.Context) (sandbox.Exit, error) {
	select {
	case <-p.over:
	default:
		select {
		case <-p.over:
		case <-ctx.Done():
			return sandbox.Exit{}, fmt.Errorf("wait for process %d of container %s: it still runs: %w", p.pid, p.c.id, ctx.Err())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.exit, nil
}

// run is the goroutine of the process.
func (p *process) run(program Program) {
	code := 0
	defer func() { // also when the program ends its goroutine, as a failing test does
		p.end(sandbox.Exit{Code: code & 0xff, Signal: int(p.guest.signal.Load())}, os.ErrProcessDone)
		p.c.i.useMemory(-p.memory.Swap(0))
		p.c.ended(p)
	}()
	code = program(p.ctx, p.guest)
}

// kill ends the process as SIGKILL would. The program may take its time to
// return; its files are closed and its exit is known at once.
func (p *process) kill() {
	p.end(sandbox.Exit{Signal: int(syscall.SIGKILL)}, ErrKilled)
}

// end sets how the process ended, once, closes its files and cancels its
// context.
func (p *process) end(exit sandbox.Exit, cause error) {
	if exit.Signal != 0 {
		exit.Code = 0
	}
	p.mu.Lock()
	first := p.exit == nil
	if first {
		p.exit = &exit
	}
	p.mu.Unlock()
	p.cancel(cause)
	closeFiles(p.guest.Files)
	if first {
		close(p.over)
	}
}

// dupFiles gives a program descriptors of its own: at least the three standard
// ones, /dev/null where a file is nil.
func dupFiles(files []*os.File) (_ []*os.File, err error) {
	dups := make([]*os.File, 0, max(3, len(files)))
	defer func() {
		if err != nil {
			closeFiles(dups)
		}
	}()
	for k := range max(3, len(files)) {
		var f *os.File
		if k < len(files) && files[k] != nil {
			f, err = dup(files[k])
		} else {
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("descriptor %d: %w", k, err)
		}
		dups = append(dups, f)
	}
	return dups, nil
}

// dup makes a second descriptor of a file. A program that blocks in reading one
// must wake when the process is killed, which Go does only for descriptors in
// non-blocking mode. The mode belongs to what both descriptors share, so it is
// changed only for sockets, whose handed-over end no caller uses itself; a pipe
// is opened anew; what else blocks (a terminal) is left as it is.
func dup(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var (
		fd     int
		dupErr error
	)
	if err := raw.Control(func(from uintptr) { fd, dupErr = dupNonblock(int(from)) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("dup", dupErr)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func dupNonblock(from int) (int, error) {
	flags, err := unix.FcntlInt(uintptr(from), unix.F_GETFL, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return -1, err
	}
	if flags&unix.O_NONBLOCK == 0 && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		name := fmt.Sprintf("/proc/self/fd/%d", from)
		if fd, err := unix.Open(name, flags&unix.O_ACCMODE|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
			return fd, nil
		} // a pipe whose other end is gone does not block
	}
	fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if flags&unix.O_NONBLOCK == 0 && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// closeFiles closes what is not closed yet.
func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // an error says that it was closed before
	}
}
