package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// apiAddress is where the Runtime API is served unless the assignment says
// otherwise; AWS's own is 127.0.0.1:9001 too.
const apiAddress = "127.0.0.1:9001"

// lastRequests is how long requests that are under way when the bootstrap ends
// may take to be finished.
const lastRequests = time.Second

// awaited is the variable that says that a call waits for this process: it does
// nothing beforehand (runtimes.Awaited).
const awaited = "LAMBENT_AWAITED"

// serve speaks to the host, and for it to a bootstrap: it waits for the code,
// starts the bootstrap, serves it the Runtime API, and says at the end how it
// ended. The status returned is the bootstrap's.
func serve() (status int, err error) {
	file, err := openHost()
	if err != nil {
		return 0, err
	}
	host := guest.NewConn(file)
	defer host.Close()
	l := newLauncher()
	defer l.close()
	if os.Getenv(awaited) == "" {
		_ = rehearse(l) // a function that cannot be started is told of when there is one
	}
	if err := host.Booted("lambent-init " + runtime.Version()); err != nil {
		return 0, err
	}
	a, err := host.NextAssignment()
	if err == io.EOF {
		return exitOK, nil // never needed
	}
	if err != nil {
		return 0, err
	}

	listener, err := listen(a.APIAddress)
	if err != nil {
		return 0, err
	}
	api := guest.NewAPI(host)
	api.SetCredentials(a.Credentials)
	server := &http.Server{Handler: api, ErrorLog: log.New(io.Discard, "", 0)}
	var background sync.WaitGroup
	defer background.Wait()
	defer server.Close()
	background.Go(func() { _ = server.Serve(listener) }) // ends with Close

	pid, err := l.start(a, listener.Addr().String())
	if err != nil {
		return exitFault, reportNoBootstrap(host, a, err)
	}

	// The host going away, or a signal, ends the bootstrap; the bootstrap's end
	// ends everything else.
	background.Go(func() {
		_ = api.Run() // whatever ended it: there are no more events
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	background.Go(func() {
		for sig := range signals {
			_ = syscall.Kill(-pid, sig.(syscall.Signal))
		}
	})
	st := await(pid)
	signal.Stop(signals)
	close(signals)

	ctx, cancel := context.WithTimeout(context.Background(), lastRequests)
	defer cancel()
	_ = server.Shutdown(ctx) // what is not finished by then is not going to be
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	_ = host.Exit(st) // a host that is gone does not need to know
	_ = host.Close()
	if st.Signal != 0 {
		return 128 + st.Signal, nil
	}
	return st.Code, nil
}

// listen opens the Runtime API's port. Containers of one account may share a
// sandbox and its loopback: whoever finds the usual port taken gets another,
// and learns it from AWS_LAMBDA_RUNTIME_API.
func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = apiAddress
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("serve the Runtime API on %s: %w", addr, err)
	}
	return l, nil
}

// await reaps children until the one of the pid has ended, and tells how.
func await(pid int) frame.ExitStatus {
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // ECHILD: somebody else reaped it
			return frame.ExitStatus{Code: exitFault}
		case got == pid && ws.Signaled():
			return frame.ExitStatus{Signal: int(ws.Signal())}
		case got == pid && ws.Exited():
			return frame.ExitStatus{Code: ws.ExitStatus()}
		}
	}
}
