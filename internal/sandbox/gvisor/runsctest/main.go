// Command runsctest is the executable that the driver's tests run as gVisor.
// The test's own binary would not do: built with the race detector, gVisor's
// system call filter kills it.
package main

import (
	"fmt"
	"os"

	"lambent/internal/sandbox/gvisor"
)

func main() {
	gvisor.Main()
	fmt.Fprintln(os.Stderr, "runsctest: started under no name of gVisor's")
	os.Exit(2)
}
