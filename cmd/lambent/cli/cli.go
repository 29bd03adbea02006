// Package cli is lambent's command line: one file a command. All commands but
// up and quickstart are HTTP clients of a running server; the server itself is
// handed in by main, so that this package knows nothing of what it is made of.
//
// Exit statuses: 0; 1 where what was asked about is at fault (invoke: the
// function failed; doctor: this machine lacks something; quickstart: a sample
// answered wrong); 2 where the command could not do its work.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/alecthomas/kong"

	"lambent/cmd/lambent/config"
)

// Streams is what a command has of the process it runs in.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Getenv   func(string) string
	Environ  []string // NAME=VALUE: all of it, to find misspelt settings in
}

// Serve runs the platform until ctx is done, then drains it and returns nil. It
// calls ready once, with the address it serves on.
type Serve func(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(addr string)) error

// The exit statuses.
const (
	statusOK      = 0
	statusFault   = 1
	statusTrouble = 2
)

// errFault is returned by a command that did its work and has already shown
// that what it was asked about is at fault.
var errFault = errors.New("at fault")

type commands struct {
	Up         upCommand         `cmd:"" help:"Run the server."`
	Quickstart quickstartCommand `cmd:"" help:"Start the platform, deploy the samples, call each cold and warm, and show what happened."`
	Deploy     deployCommand     `cmd:"" help:"Make a function of a folder, or give it new code."`
	Invoke     invokeCommand     `cmd:"" help:"Call a function and print its answer."`
	Logs       logsCommand       `cmd:"" help:"Print a function's log."`
	Ls         lsCommand         `cmd:"" help:"List functions."`
	Rm         rmCommand         `cmd:"" help:"Delete functions."`
	Ps         psCommand         `cmd:"" help:"Show pools, instances, containers and executions; -w: live."`
	Failures   failuresCommand   `cmd:"" help:"List, show, edit, redrive and delete requests that were not processed."`
	Account    accountCommand    `cmd:"" help:"Make, list and remove accounts."`
	Key        keyCommand        `cmd:"" help:"Make, list and revoke access keys."`
	Role       roleCommand       `cmd:"" help:"Make, list and remove the roles of functions."`
	Doctor     doctorCommand     `cmd:"" help:"Say what this machine can do, and what to do about what it cannot."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
}

const description = `lambent runs AWS Lambda functions on your own machine, each account's code in sandboxes of its own.

Start it, deploy a folder, call it:

    lambent up &
    lambent deploy ./hello --name hello
    lambent invoke hello --payload '{"name":"you"}'

The aws command and AWS's SDKs reach it by AWS_ENDPOINT_URL=http://127.0.0.1:4566; what is not there yet answers
with an error that says so.
"lambent COMMAND --help" shows examples of each command; "lambent doctor" what this machine can do.`

// Main runs the command line args (without the program's name) and returns the
// exit status. Errors have been written to streams.Err.
func Main(ctx context.Context, args []string, streams Streams, serve Serve) int {
	exited := -1
	var c commands
	c.Up.Plugins = kong.Plugins{newConfigFlags()}
	c.Quickstart.Plugins = kong.Plugins{newConfigFlags()}
	parser, err := kong.New(&c,
		kong.Name("lambent"),
		kong.Description(description),
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(code int) { exited = code }), // kong's --help would leave the process
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(streams, serve),
	)
	if err != nil {
		fmt.Fprintln(streams.Err, "lambent: build the command line:", err)
		return statusTrouble
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err == nil {
		err = parsed.Run()
	} else if perr := (*kong.ParseError)(nil); errors.As(err, &perr) {
		err = fmt.Errorf("%w\n%s", err, hint(perr))
	}
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, errFault):
		return statusFault
	}
	fmt.Fprintln(streams.Err, "lambent:", err)
	return statusTrouble
}

// hint says where to read on about a command line that could not be read.
func hint(err *kong.ParseError) string {
	if err.Context != nil {
		if cmd := err.Context.Selected(); cmd != nil {
			return fmt.Sprintf("see: lambent %s --help", strings.TrimPrefix(cmd.FullPath(), "lambent "))
		}
	}
	return "see: lambent --help"
}
