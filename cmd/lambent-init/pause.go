package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"
)

// pause is the first process of a sandbox: it adopts and reaps what others leave
// behind, until it is told to end or until the host's connection ends, which
// means that the server is gone and the sandbox must go too.
func pause() int {
	host, err := openHost()
	gone := make(chan struct{})
	if err == nil {
		go func() { // ends with the process
			_, _ = io.Copy(io.Discard, host)
			close(gone)
		}()
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for {
		reap()
		select {
		case sig := <-signals:
			if sig != syscall.SIGCHLD {
				return exitOK
			}
		case <-gone:
			return exitOK
		}
	}
}

// reap takes every child that has ended.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
	}
}
