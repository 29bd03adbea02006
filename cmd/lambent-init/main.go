// Command lambent-init is what lambent puts into a sandbox beside the user's
// code. It is static and small, and it has three modes:
//
//	lambent-init pause   the first process of a sandbox: reaps, and ends with its host
//	lambent-init serve   runs a `provided` bootstrap and serves it the Runtime API
//	lambent-init credentials   serves a function's credentials beside its runtime
//
// The second tries itself out before there is a bootstrap, and starts itself as one
// (rehearse). In both, file descriptor 3 is the connection to the host, where there is one.
package main

import (
	"fmt"
	"os"
	"runtime"

	"lambent/internal/runtimeapi/guest"
)

// The exit statuses of lambent-init itself. `serve` otherwise ends as its
// bootstrap did.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	// One event at a time needs one processor; waking further threads for it is
	// what costs most inside a sandbox.
	runtime.GOMAXPROCS(1)
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "usage: lambent-init pause|serve|credentials")
		return exitUsage
	}
	switch args[0] {
	case "pause":
		return pause()
	case "credentials":
		host, err := openHost()
		if err == nil {
			err = guest.ServeCredentials(host)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "lambent-init credentials:", err)
			return exitFault
		}
		return exitOK
	case "rehearse":
		if rehearsed() != nil {
			return exitFault
		}
		return exitOK
	case "serve":
		status, err := serve()
		if err != nil {
			fmt.Fprintln(os.Stderr, "lambent-init serve:", err)
			return exitFault
		}
		return status
	}
	fmt.Fprintf(os.Stderr, "lambent-init: unknown mode %q; modes are pause, serve and credentials\n", args[0])
	return exitUsage
}
