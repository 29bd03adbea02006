package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// hostFD is the number of the descriptor the host's connection is inherited as.
const hostFD = 3

// errNoHost is a process that was started without a connection.
var errNoHost = errors.New("file descriptor 3 is not a connection to a host")

// openHost takes over the inherited connection and keeps it from every child.
// What the Go runtime itself has opened as 3, when nothing was inherited, is
// neither socket nor pipe.
func openHost() (*os.File, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(hostFD, &st); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoHost, err)
	}
	if kind := st.Mode & syscall.S_IFMT; kind != syscall.S_IFSOCK && kind != syscall.S_IFIFO {
		return nil, errNoHost
	}
	closeOnExec()
	// Non-blocking, so that Close ends a read that waits.
	if err := syscall.SetNonblock(hostFD, true); err != nil {
		return nil, fmt.Errorf("prepare the host's connection: %w", err)
	}
	return os.NewFile(hostFD, "host"), nil
}

// closeRange is the number of the system call close_range, the same on every
// architecture, and closeRangeCloexec its flag (linux/close_range.h).
const (
	closeRange        = 436
	closeRangeCloexec = 1 << 2
)

// closeOnExec keeps every descriptor but 0, 1 and 2 from children: the host's
// connection, and whatever else was inherited by mistake.
func closeOnExec() {
	const first, last = hostFD, 1023 // AWS's own limit of open files
	if _, _, errno := syscall.RawSyscall(closeRange, first, ^uintptr(0), closeRangeCloexec); errno == 0 {
		return
	}
	for fd := first; fd <= last; fd++ {
		syscall.CloseOnExec(fd)
	}
}
