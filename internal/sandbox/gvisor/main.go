package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gvisor.dev/gvisor/runsc/cli/maincli"
)

// The names gVisor runs the executable under: argv[0]. The last is its helper
// that unmounts /proc within the sandbox's own mount namespace.
const (
	nameSandbox = "runsc-sandbox"
	nameGofer   = "runsc-gofer"
	nameHelper  = "/proc/self/exe"
)

// procsList is the file in a bundle that lists the cgroup.procs files to join,
// a line each.
const procsList = "cgroup.procs"

// exitNoCgroup is the exit status where the cgroup cannot be joined: a sandbox
// without bounds must not run.
const exitNoCgroup = 125

// IsSandbox reports whether this process was started to be part of a sandbox, so
// that Main will not return.
func IsSandbox() bool {
	return os.Args[0] == nameHelper || os.Args[0] == nameSandbox || os.Args[0] == nameGofer
}

// Main runs this process as gVisor and does not return if it was started as
// such. main must call it before anything else, with no other goroutine running.
func Main() {
	switch os.Args[0] {
	case nameHelper:
	case nameSandbox, nameGofer:
		// Before anything is allocated, and before gVisor gives up the view of
		// the host's files. Not by environment: gVisor clears it.
		if err := joinCgroup(os.Args); err != nil {
			fmt.Fprintln(os.Stderr, err) // /dev/null, unless somebody debugs
			os.Exit(exitNoCgroup)
		}
	default:
		return
	}
	maincli.Main() // ends the process
	os.Exit(0)
}

// joinCgroup moves this process into the groups its bundle lists. A second run
// of the same command after gVisor executed itself anew finds no bundle: it is
// inside already.
func joinCgroup(args []string) error {
	bundle := bundleOf(args)
	if bundle == "" {
		return fmt.Errorf("join cgroup: no --bundle in %q", args)
	}
	list, err := os.ReadFile(filepath.Join(bundle, procsList))
	if err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	for line := range strings.Lines(string(list)) {
		path := strings.TrimSpace(line)
		if path == "" {
			continue
		}
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	// The kernel prefers these to the server and its neighbours when the whole
	// machine is out of memory. Raising needs no privilege.
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(oomScore), 0); err != nil {
		return fmt.Errorf("mark as first to be killed for memory: %w", err)
	}
	return nil
}

// oomScore is half of the scale from 0 to 1000: sandboxes go before everything
// that did not ask for it.
const oomScore = "500"

// bundleOf finds the --bundle argument, in either form.
func bundleOf(args []string) string {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, "--bundle="); ok {
			return v
		}
		if a == "--bundle" && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// DetachStdio puts /dev/null in the place of os.Stdin, os.Stdout and os.Stderr
// and returns what they were. gVisor hands these three variables to the first
// process of every container; a program that uses this driver calls this first
// and writes to the returned files instead. Descriptors 0, 1 and 2 stay as they
// are, so a panic of the program itself is still seen.
func DetachStdio() (stdin, stdout, stderr *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("detach standard input and output: %w", err)
	}
	stdin, stdout, stderr = os.Stdin, os.Stdout, os.Stderr
	os.Stdin, os.Stdout, os.Stderr = null, null, null
	return stdin, stdout, stderr, nil
}

// stdioDetached reports whether all three are /dev/null.
func stdioDetached() bool {
	null, err := os.Stat(os.DevNull)
	if err != nil {
		return false
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if info, err := f.Stat(); err != nil || !os.SameFile(info, null) {
			return false
		}
	}
	return true
}
