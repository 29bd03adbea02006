// Package runsc is what runs as gVisor: the main of the processes of which a
// sandbox consists, and what of lambent runs within them. They are a program of
// their own (cmd/lambent-sandbox), because each of them pays for what is linked
// into it, several times during a start: the server's libraries would double that,
// and would be there for code that breaks into one.
package runsc

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
	"gvisor.dev/gvisor/runsc/cli"
	"gvisor.dev/gvisor/runsc/cmd"
	"gvisor.dev/gvisor/runsc/cmd/sentry/sentrycmd"
	"gvisor.dev/gvisor/runsc/cmd/util"

	"lambent/internal/sandbox/gvisor/handover"
	"lambent/internal/sandbox/gvisor/runsc/filters"
)

// exitUnprepared is the exit status of a process that could not be prepared: a
// sandbox without bounds must not run.
const exitUnprepared = 125

// helperName is argv[0] of gVisor's helper that unmounts /proc within the
// sandbox's own mount namespace.
const helperName = "/proc/self/exe"

// Main runs this process as gVisor, under the name it was started by (argv[0]),
// and returns only if that is none of gVisor's. It must be called before anything
// else, with no other goroutine running.
func Main() error {
	switch os.Args[0] {
	case helperName:
	case handover.Sandbox, handover.Gofer:
		// Before anything is allocated, and before gVisor gives up the view of
		// the host's files. By files, not by environment: gVisor clears it.
		if err := prepare(os.Args); err != nil {
			fmt.Fprintln(os.Stderr, err) // /dev/null, unless somebody debugs
			os.Exit(exitUnprepared)
		}
	default:
		return fmt.Errorf("run as gVisor: %q is none of its names; the lambent server starts this program", os.Args[0])
	}
	registerLedger()
	filters.Register()
	// Of gVisor's commands those that a sandbox is made of: what else it offers
	// is linked into its own program only.
	cli.Run(nil, map[util.SubCommand]string{
		new(sentrycmd.Boot):   "",
		new(cmd.Gofer):        "",
		new(sentrycmd.Umount): "",
	}, nil) // ends the process
	return nil
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
		return errors.Join(err, os.WriteFile(filepath.Join(bundle, handover.Complaint), []byte(err.Error()), 0o600))
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
	list, err := os.ReadFile(filepath.Join(bundle, handover.ProcessLists))
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
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(handover.FirstScore), 0); err != nil {
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
	b, err := os.ReadFile(filepath.Join(bundle, handover.TotalMemory))
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
