// Command lambent is the whole platform in one program: the server, its
// command line and, embedded, the programs that every sandbox consists of.
package main

import (
	"context"
	"fmt"
	"os"

	"lambent/cmd/lambent/cli"
	"lambent/internal/judge"
	"lambent/internal/sandbox/gvisor"
)

func main() {
	if judge.IsJudge() {
		if err := judge.Main(); err != nil {
			fmt.Fprintln(os.Stderr, "lambent:", err)
			os.Exit(1)
		}
		return
	}
	err := enterNamespaces(os.Args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lambent:", err)
		os.Exit(2)
	}
	// The driver would hand the standard streams to every container.
	in, out, errOut, err := gvisor.DetachStdio()
	if err != nil {
		fmt.Fprintln(os.Stderr, "lambent:", err)
		os.Exit(2)
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Streams{
		In: in, Out: out, Err: errOut,
		Getenv: os.Getenv, Environ: os.Environ(),
	}, runServer))
}
