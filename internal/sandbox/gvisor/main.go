package gvisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/cli/maincli"

	"lambent/internal/sandbox/gvisor/filters"
)

// The names gVisor runs the executable under: argv[0]. The last is its helper
// that unmounts /proc within the sandbox's own mount namespace.
const (
	nameSandbox = "runsc-sandbox"
	nameGofer   = "runsc-gofer"
	nameHelper  = "/proc/self/exe"
)

// The driver's own files in a bundle.
const (
	procsList   = "cgroup.procs" // the cgroup.procs files to join, a line each
	totalMemory = "total-memory" // of the instance in bytes, if it is bounded
	complaint   = "complaint"    // written by a process that could not be prepared
)

// exitUnprepared is the exit status of such a process: a sandbox without bounds
// must not run.
const exitUnprepared = 125

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
		// the host's files. By files, not by environment: gVisor clears it.
		if err := prepare(os.Args); err != nil {
			fmt.Fprintln(os.Stderr, err) // /dev/null, unless somebody debugs
			os.Exit(exitUnprepared)
		}
	default:
		return
	}
	registerLedger()
	filters.Register()
	maincli.Main() // ends the process
	os.Exit(0)
}

// prepare makes this process what the bundle says, before it becomes gVisor. A
// failure is left in the bundle for the server to read.
func prepare(args []string) error {
	bundle := bundleOf(args)
	if bundle == "" {
		return fmt.Errorf("prepare sandbox process: no --bundle in %q", args)
	}
	err := errors.Join(closeInherited(args), joinCgroup(bundle), tellMemory(bundle, args))
	if err != nil {
		return errors.Join(err, os.WriteFile(filepath.Join(bundle, complaint), []byte(err.Error()), 0o600))
	}
	return nil
}

// closeInherited closes descriptors that were not meant for this process.
// gVisor's connections to other sandboxes are not close-on-exec; this process
// must hold none, for code that breaks into it would command the others. What
// was meant has the numbers from 3 on, up to the highest in args; what this
// process has opened itself is close-on-exec.
func closeInherited(args []string) error {
	last := 2
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || !strings.HasPrefix(name, "--") || !strings.Contains(name, "fd") {
			continue
		}
		value, _, _ = strings.Cut(value, ":") // --pass-fd=HOST:GUEST
		if n, err := strconv.Atoi(value); err == nil {
			last = max(last, n)
		}
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil || n <= last {
			continue
		}
		// The folder's own descriptor is closed meanwhile: an error is an end.
		if flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(n) // gone in any case
		}
	}
	return nil
}

// joinCgroup moves this process into the groups its bundle lists.
func joinCgroup(bundle string) error {
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
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(firstScore), 0); err != nil {
		return fmt.Errorf("mark as first to be killed for memory: %w", err)
	}
	return nil
}

// tellMemory has the sandbox's kernel report the instance's memory to the code
// inside, instead of the machine's: runtimes size their heaps by it. gVisor would
// take it from a cgroup that it made itself.
func tellMemory(bundle string, args []string) error {
	at := slices.Index(args, "--total-memory")
	if at < 0 || at+1 >= len(args) {
		return nil // a gofer
	}
	b, err := os.ReadFile(filepath.Join(bundle, totalMemory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no bound
	}
	if err != nil {
		return fmt.Errorf("report memory: %w", err)
	}
	args[at+1] = string(b)
	return nil
}

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

// firstScore is what a sandbox's processes are weighed by (proc(5),
// oom_score_adj, of 1000) until gVisor sets what the spec says. It has two
// digits on purpose: gVisor's starter may be reading the old "0\n" meanwhile, by
// two reads, and of a longer number the second would find a digit more.
const firstScore = "99"
