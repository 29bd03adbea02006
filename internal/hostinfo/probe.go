package hostinfo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Probe is how this package looks at a machine. Paths are absolute.
type Probe interface {
	// Glob lists the files that match, as filepath.Glob does.
	Glob(pattern string) []string
	// Resolve follows all symbolic links of a path.
	Resolve(path string) (string, error)
	// Head reads at most n bytes from the start of a file; fewer if it is
	// shorter.
	Head(path string, n int) ([]byte, error)
	// Version runs `path --version` and gives what it printed.
	Version(ctx context.Context, path string) (string, error)
	// Writable reports whether this process may write there.
	Writable(path string) bool
}

// System is the Probe of the machine the process runs on. It is safe for
// concurrent use.
type System struct{}

// Glob implements Probe.
func (System) Glob(pattern string) []string {
	names, err := filepath.Glob(pattern)
	if err != nil { // only a malformed pattern; those here are constants
		return nil
	}
	return names
}

// Resolve implements Probe.
func (System) Resolve(path string) (string, error) { return filepath.EvalSymlinks(path) }

// Head implements Probe.
func (System) Head(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(n)))
}

// versionTimeout bounds a runtime that does not even tell its version.
const versionTimeout = 10 * time.Second

// Version implements Probe. The program gets an empty environment.
func (System) Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env, cmd.Dir = []string{"LC_ALL=C"}, "/"
	cmd.WaitDelay = time.Second
	out := &bounded{left: 4096}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("run %s --version: %w", path, err)
	}
	return strings.TrimSpace(out.buf.String()), nil
}

// Writable implements Probe.
func (System) Writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }

// bounded keeps the first bytes written to it and drops the rest.
type bounded struct {
	buf  bytes.Buffer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.left)
	b.left -= keep
	b.buf.Write(p[:keep])
	return len(p), nil
}
