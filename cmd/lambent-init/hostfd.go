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
	syscall.CloseOnExec(hostFD)
	// Non-blocking, so that Close ends a read that waits.
	if err := syscall.SetNonblock(hostFD, true); err != nil {
		return nil, fmt.Errorf("prepare the host's connection: %w", err)
	}
	return os.NewFile(hostFD, "host"), nil
}
