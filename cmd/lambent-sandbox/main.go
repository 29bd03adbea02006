// Command lambent-sandbox is the program of which sandboxes consist: gVisor, with
// what lambent has within it. It is embedded in lambent, which starts it.
package main

import (
	"fmt"
	"os"

	"lambent/internal/sandbox/gvisor/runsc"
)

func main() {
	err := runsc.Main()
	fmt.Fprintln(os.Stderr, "lambent-sandbox:", err)
	os.Exit(2)
}
