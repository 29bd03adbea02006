// Command lambent is the whole platform in one program: the server, its
// command line, and, re-executed by itself, the sandbox every function runs in.
package main

import (
	"context"
	"fmt"
	"os"

	"lambent/cmd/lambent/cli"
)

func main() {
	in, out, errOut, err := beSandbox()
	if err == nil {
		err = ownMounts(os.Args)
	}
	if err != nil {
		fmt.Fprintln(errOut, "lambent:", err)
		os.Exit(2)
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{
		In: in, Out: out, Err: errOut,
		Getenv: os.Getenv,
	}, runServer))
}
