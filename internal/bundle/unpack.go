package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lambent"
)

// Unpack writes the tree of a package to dir, which must not exist, and whose
// parent must. The tree is built beside dir under a name that begins with
// ".unpack-" and renamed, so dir is there whole or not at all, and after an
// error nothing is left; only a killed process can leave such a folder behind.
//
// Folders and executable files have mode 0755, other files 0644, whatever the
// umask. Files and links have the times of the package, folders 1980-01-01, so
// equal packages make equal trees. Nothing is synced to disk: a tree is a copy
// of what can be unpacked again.
//
// Unpacked, the package may have at most limit bytes, MaxUnpackedBytes for
// functions. Errors are *lambent.Error: KindInvalid for a package Inspect would
// refuse, KindExists where dir is there, KindUnavailable with the reason DiskFull
// where the disk has too little room, else KindInternal, with the cause (a
// cancelled ctx) in the chain.
func Unpack(ctx context.Context, pkg []byte, dir string, limit int64) (Manifest, error) {
	return unpack(ctx, pkg, dir, limit, disk{create: createFile, free: freeBytes})
}

// disk is what unpacking writes to. It is an argument so that a test can fill
// it.
type disk struct {
	create create
	free   func(dir string) (int64, error) // bytes that may be written
}

// create makes a new file in a root.
type create func(root *os.Root, name string, mode fs.FileMode) (file, error)

// file is what unpacking needs of an *os.File.
type file interface {
	io.WriteCloser
	Chmod(fs.FileMode) error
}

func createFile(root *os.Root, name string, mode fs.FileMode) (file, error) {
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}

func unpack(ctx context.Context, pkg []byte, dir string, limit int64, on disk) (m Manifest, err error) {
	const op = "unpack package"
	c, err := open(pkg, limit)
	if err != nil {
		return Manifest{}, refusal(op, err, limit)
	}
	// Rename replaces an empty folder, so it alone would not tell.
	if _, err := os.Lstat(dir); err == nil {
		return Manifest{}, &lambent.Error{Op: op, Resource: dir, Kind: lambent.KindExists, Err: fs.ErrExist}
	}
	if err := on.requireRoom(op, dir, c.size()); err != nil {
		return Manifest{}, err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return Manifest{}, &lambent.Error{Op: op, Resource: dir, Err: err}
	}
	defer func() {
		if err != nil {
			m = Manifest{}
			err = errors.Join(err, os.RemoveAll(temp))
		}
	}()
	root, err := os.OpenRoot(temp)
	if err != nil {
		return Manifest{}, &lambent.Error{Op: op, Resource: dir, Err: err}
	}
	u := unpacker{root: root, create: on.create, budget: budget{left: limit}}
	err = u.writeAll(ctx, c)
	err = errors.Join(err, root.Close())
	if err != nil {
		if u.refused {
			return Manifest{}, refusal(op, err, limit)
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return Manifest{}, diskFull(op, dir, err)
		}
		return Manifest{}, &lambent.Error{Op: op, Resource: dir, Err: err}
	}
	if err := os.Rename(temp, dir); err != nil {
		kind := lambent.KindInternal
		if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
			kind = lambent.KindExists // somebody else was faster
		}
		return Manifest{}, &lambent.Error{Op: op, Resource: dir, Kind: kind, Err: err}
	}
	return u.done, nil
}

// unpacker writes one tree.
type unpacker struct {
	root    *os.Root
	create  create
	budget  budget
	folders []string // made so far, parents first
	made    map[string]bool
	done    Manifest
	refused bool // the package is at fault, not the machine
}

// writeAll writes folders and files first and links last, so that nothing is
// ever written through a link.
func (u *unpacker) writeAll(ctx context.Context, c *contents) error {
	u.made = map[string]bool{".": true}
	if err := u.root.Chmod(".", 0o755); err != nil {
		return err
	}
	for _, it := range c.items {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		folder := it.Path
		if it.Kind != KindFolder {
			folder = path.Dir(it.Path)
		}
		if err := u.mkdirs(folder); err != nil {
			return err
		}
		if it.Kind == KindFile {
			n, err := u.writeFile(ctx, it)
			if err != nil {
				return fmt.Errorf("entry %q: %w", it.Path, err)
			}
			it.Size = n
		}
		u.done.Entries = append(u.done.Entries, it.Entry)
		u.done.Size += it.Size + int64(len(it.Target))
	}
	for _, it := range c.items {
		if it.Kind == KindLink {
			if err := u.writeLink(it); err != nil {
				return fmt.Errorf("entry %q: %w", it.Path, err)
			}
		}
	}
	for i := len(u.folders) - 1; i >= 0; i-- { // children first: making them touched their parents
		if err := u.root.Chtimes(u.folders[i], epoch(), epoch()); err != nil {
			return err
		}
	}
	return u.root.Chtimes(".", epoch(), epoch())
}

func (u *unpacker) mkdirs(p string) error {
	if u.made[p] {
		return nil
	}
	if err := u.mkdirs(path.Dir(p)); err != nil {
		return err
	}
	if err := u.root.Mkdir(p, 0o755); err != nil {
		return err
	}
	if err := u.root.Chmod(p, 0o755); err != nil { // umask
		return err
	}
	u.made[p] = true
	u.folders = append(u.folders, p)
	return nil
}

func (u *unpacker) writeFile(ctx context.Context, it item) (int64, error) {
	f, err := u.create(u.root, it.Path, it.mode())
	if err != nil {
		return 0, err
	}
	w := &watchedWriter{ctx: ctx, w: f}
	n, err := u.budget.inflate(w, it.source)
	if err != nil {
		u.refused = w.err == nil
		return 0, errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(it.mode()), f.Close()); err != nil {
		return 0, err
	}
	return n, u.root.Chtimes(it.Path, it.Modified, it.Modified)
}

// writeLink makes a link with the time of the package, which takes a call that
// does not follow it.
func (u *unpacker) writeLink(it item) (err error) {
	if err := u.root.Symlink(it.Target, it.Path); err != nil {
		return err
	}
	dir, err := u.root.Open(path.Dir(it.Path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	ts := unix.NsecToTimespec(it.Modified.UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(it.Path), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// watchedWriter stops a copy when ctx ends, and remembers that it was the
// writing that failed: whatever else fails is the package's fault.
type watchedWriter struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	if w.err = context.Cause(w.ctx); w.err != nil {
		return 0, w.err
	}
	var n int
	n, w.err = w.w.Write(p)
	return n, w.err
}
