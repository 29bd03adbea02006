package gvisor

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"lambent"
	"lambent/internal/cgroup"
)

// Options configures New.
type Options struct {
	// Dir is the driver's own folder: absolute, on a disk with room for every
	// /tmp.
	Dir string
	// Sandbox is the path of the lambent-sandbox to use, Init that of the
	// lambent-init. Empty are those built in.
	Sandbox, Init string
	// Cgroups says which version of cgroups may be used. Empty is auto.
	Cgroups cgroup.Mode
	// ReadOnly are more folders of the host that containers see, read-only, at
	// the same place, for runtimes outside /usr. One below /opt is hidden by
	// what is attached there.
	ReadOnly []string
	// Log gets what the driver cannot return. Nil discards it.
	Log *slog.Logger
	// DebugDir, if not empty, is where gVisor writes its own debug logs. They
	// are large, and slow everything down.
	DebugDir string
}

// DefaultProcesses is how many host processes and threads an instance may have
// where Limits says nothing. gVisor's kernel runs some 20 threads, and a stub
// process with a thread or two for each address space inside, so this wall
// stands well behind the 1,024 processes a user may have within.
const DefaultProcesses = 4096

// longestID is how long an instance's or container's id may be.
const longestID = 32

// validate says what is wrong with o, by name and bound.
func (o *Options) validate() error {
	if !filepath.IsAbs(o.Dir) || filepath.Clean(o.Dir) != o.Dir || o.Dir == "/" {
		return o.invalid(fmt.Sprintf("Dir %q is not a clean absolute path below the root", o.Dir))
	}
	for _, d := range o.ReadOnly {
		if !filepath.IsAbs(d) || filepath.Clean(d) != d || d == "/" {
			return o.invalid(fmt.Sprintf("ReadOnly folder %q is not a clean absolute path below the root", d))
		}
	}
	return nil
}

func (o *Options) invalid(message string) error {
	return &lambent.Error{Op: "configure gVisor", Kind: lambent.KindInvalid, Message: message}
}

// The folders below Options.Dir.
func runDir(dir string) string      { return filepath.Join(dir, "run") }
func sandboxPath(dir string) string { return filepath.Join(dir, "run", "lambent-sandbox") }
func baseDir(dir string) string     { return filepath.Join(dir, "run", "base") }
func emptyDir(dir string) string    { return filepath.Join(dir, "run", "empty") }
func scratchDir(dir string) string  { return filepath.Join(dir, "scratch") }
func instancesDir(dir string) string {
	return filepath.Join(dir, "run", "i")
}

// stateDir is where gVisor keeps its control sockets. A socket's path must fit
// the kernel's 107 bytes (unix(7)), which a data folder deep in a home would
// break: then it is a folder of its own in /run, which only root can write to,
// with a name that the next process on dir finds again.
func stateDir(dir string) string {
	const longest = 107 - len("/runsc-.sock") - longestID
	if p := filepath.Join(runDir(dir), "s"); len(p) <= longest {
		return p
	}
	return "/run/lambent-" + treeName(dir)
}
