package main

import (
	"os"

	"lambent/internal/cluster"
	"lambent/internal/sandbox/gvisor"
)

// beSandbox ends here, as gVisor, where the sandbox driver started this process
// to be part of a sandbox. Otherwise it takes the standard streams away from the
// driver, which would hand them to every container, and returns them.
func beSandbox() (stdin, stdout, stderr *os.File, err error) {
	if gvisor.IsSandbox() {
		cluster.Quiet()
		gvisor.Main()
	}
	return gvisor.DetachStdio()
}
