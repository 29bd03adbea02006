// Package runtimes holds the language bootstraps: the programs that run inside a
// sandbox before the user's code, load it, and speak to the host for it. They
// are plain source, embedded, so that one binary carries them.
//
// A bootstrap inherits the host's connection as file descriptor 3, /dev/null as
// 0 and the log as 1 and 2; what is spoken on 3 is package
// internal/runtimeapi/frame. Files that a function brings with it are at
// /var/task, never beside the bootstrap.
//
// What follows from starting before the function is known, and differs from AWS:
// options that an interpreter reads when it starts (NODE_OPTIONS,
// PYTHONOPTIMIZE, AWS_LAMBDA_EXEC_WRAPPER) have no effect; the heap of Node is
// not sized by the function's memory. No AWS SDK comes with the runtimes. And
// between events a Node process waits in one system call, so its own signal
// handlers run with the next event.
package runtimes

import (
	_ "embed"
	"slices"

	"lambent"
)

// The Node bootstrap is one script in five files, which follow one another.
var (
	//go:embed node/frames.cjs
	nodeFrames string
	//go:embed node/log.cjs
	nodeLog string
	//go:embed node/init.cjs
	nodeInit string
	//go:embed node/stream.cjs
	nodeStream string
	//go:embed node/events.cjs
	nodeEvents string
)

//go:embed python/bootstrap.py
var pythonSource string

// Bootstrap is the program that serves one family of runtimes.
type Bootstrap struct {
	Family lambent.Family
	File   string // the name it is installed under
	source string
	flags  []string // for the interpreter
}

// Bootstraps lists the bootstraps that are source; FamilyProvided has
// cmd/lambent-init instead.
func Bootstraps() []Bootstrap {
	return []Bootstrap{
		// The young generation grows to three times this, in MB. V8 would take 16,
		// which is most of what a function of 128 MB has left.
		{Family: lambent.FamilyNode, File: "bootstrap.cjs", source: nodeFrames + "\n" + nodeLog + "\n" + nodeInit + "\n" + nodeStream + "\n" + nodeEvents, flags: []string{"--max-semi-space-size=8"}},
		// -I: no PYTHON* variable, no user's site, nothing of the bootstrap's own
		// folder on the path. -S: nor the host's site-packages. -B: no bytecode
		// written; there is nowhere to. -X utf8: whatever the locale.
		{Family: lambent.FamilyPython, File: "bootstrap.py", source: pythonSource, flags: []string{"-I", "-S", "-B", "-X", "utf8"}},
	}
}

// For finds the bootstrap of a family.
func For(f lambent.Family) (b Bootstrap, ok bool) {
	all := Bootstraps()
	i := slices.IndexFunc(all, func(b Bootstrap) bool { return b.Family == f })
	if i < 0 {
		return Bootstrap{}, false
	}
	return all[i], true
}

// Awaited is the variable in a bootstrap's environment that says that a call
// waits for it: it does nothing that only prepares for the first function. It is
// gone before the function's code runs.
const Awaited = "LAMBENT_AWAITED"

// Source is the bootstrap's text, the caller's own.
func (b Bootstrap) Source() []byte { return []byte(b.source) }

// Args is the command line that starts the bootstrap installed at path, with the
// interpreter given.
func (b Bootstrap) Args(interpreter, path string) []string {
	return append(append([]string{interpreter}, b.flags...), path)
}
