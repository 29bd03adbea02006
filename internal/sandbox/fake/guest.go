package fake

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Guest is what a program sees of its process and container.
type Guest struct {
	PID            int
	Path           string
	Args           []string // with Args[0]
	Env            []string
	Dir            string
	UID, GID       uint32
	KeepPrivileges bool
	// Files are the descriptors 0, 1, 2, …: real ones of the program's own, at
	// least three. They are closed when the program returns or is killed.
	Files []*os.File

	process *process
	signal  atomic.Int64
}

// Raise makes the process end by a signal once the program returns, which it
// should do at once: return g.Raise(9).
func (g *Guest) Raise(signal int) (code int) {
	g.signal.Store(int64(signal))
	return 0
}

// UseMemory takes bytes of the container's and the instance's memory until the process ends. Over
// the instance's limit, the whole instance dies: ctx ends then.
func (g *Guest) UseMemory(bytes int64) {
	g.process.memory.Add(bytes)
	g.process.c.i.useMemory(bytes)
}

// tmpDir is the one place a container can write to.
const tmpDir = "/tmp"

// Resolve gives the path on the host of something below an attached or mounted
// folder. Anything else does not exist: a fake has no other files, and /tmp is
// memory. The result follows symbolic links as the host does; ReadFile does not
// let them lead out.
func (g *Guest) Resolve(name string) (string, error) {
	source, rel, ok := g.lookup(name)
	if !ok {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ENOENT}
	}
	return path.Join(source, rel), nil
}

// ReadFile reads a file of the container: below an attached folder, or in its
// /tmp. A relative name is below Dir.
func (g *Guest) ReadFile(name string) ([]byte, error) {
	name = g.abs(name)
	if rel, ok := below(tmpDir, name); ok {
		return g.process.c.tmp.read(name, rel)
	}
	source, rel, ok := g.lookup(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	root, err := os.OpenRoot(source)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(rel)
}

// WriteFile writes a file in the container's /tmp, up to EphemeralMB for all
// together: ENOSPC over it. Everywhere else is read-only: EROFS.
func (g *Guest) WriteFile(name string, data []byte) error {
	name = g.abs(name)
	rel, ok := below(tmpDir, name)
	if !ok {
		return &fs.PathError{Op: "open", Path: name, Err: syscall.EROFS}
	}
	return g.process.c.tmp.write(name, rel, data)
}

func (g *Guest) abs(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join("/", g.Dir, name)
}

// lookup finds what is attached at or above a name: the innermost target wins.
func (g *Guest) lookup(name string) (source, rel string, ok bool) {
	name = g.abs(name)
	c := g.process.c
	c.mu.Lock()
	defer c.mu.Unlock()
	best := ""
	for target, from := range c.targets {
		if r, inside := below(target, name); inside && len(target) > len(best) {
			best, source, rel = target, from, r
		}
	}
	return source, rel, best != ""
}

// below gives the rest of a clean name below dir: "." for dir itself.
func below(dir, name string) (rel string, ok bool) {
	if name == dir {
		return ".", true
	}
	return strings.CutPrefix(name, dir+"/")
}

// tmpfs is a container's /tmp: flat, in memory, bounded.
type tmpfs struct {
	limit int64 // bytes; fixed before the first use

	mu sync.Mutex
	// +checklocks:mu
	files map[string][]byte
	// +checklocks:mu
	size int64
}

func (t *tmpfs) read(name, rel string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, ok := t.files[rel]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
	}
	return append([]byte(nil), data...), nil
}

func (t *tmpfs) write(name, rel string, data []byte) error {
	limit := t.limit
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.size - int64(len(t.files[rel])) + int64(len(data))
	if size > limit {
		return &fs.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
	}
	if t.files == nil {
		t.files = map[string][]byte{}
	}
	t.size = size
	t.files[rel] = append([]byte(nil), data...)
	return nil
}
