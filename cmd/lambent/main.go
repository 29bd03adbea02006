// Command lambent is the whole platform in one program: the server, its
// command line, and, re-executed by itself, the sandbox every function runs in.
package main

import (
	"context"
	"os"

	"lambent/cmd/lambent/cli"
)

func main() {
	if reexec() {
		return
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		Getenv: os.Getenv,
	}, runServer))
}
