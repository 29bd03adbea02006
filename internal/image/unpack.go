package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Why unpacking ends early.
var (
	errTooLarge = errors.New("larger than allowed")
	errHostile  = errors.New("it holds what no image has a use for")
	errFull     = errors.New("the disk is nearly full")
)

// removal is what a layer takes away of those below it.
type removal struct {
	Gone   []string `json:"gone,omitempty"`   // paths that are not there any more
	Opaque []string `json:"opaque,omitempty"` // folders of which nothing below shows
	Bytes  int64    `json:"bytes"`            // of its files
	Count  int      `json:"count"`            // of its entries
}

// budget is what an image may still have.
type budget struct {
	bytes   int64
	entries int
}

// spend takes what a layer has off the budget.
func (b *budget) spend(bytes int64, entries int) error {
	b.bytes -= bytes
	b.entries -= entries
	if b.bytes < 0 || b.entries < 0 {
		return errTooLarge
	}
	return nil
}

// unpacker writes one layer into an empty folder.
type unpacker struct {
	ctx     context.Context
	root    *os.Root
	dir     string
	budget  budget
	removed removal
	folders map[string]bool   // known to be real folders
	names   int               // bytes of the paths in folders and removed
	since   int64             // bytes taken since the disk was looked at
	owners  bool              // files may be given to their owners
	copies  map[string]string // of files that can have no more names
}

// The bounds of a path: Linux's, and one on folders within folders, each of which
// is looked up again for each entry.
const (
	maxPath  = 4096
	maxName  = 255
	maxDepth = 256
)

// maxNames bounds the bytes of the paths that are kept in memory while a layer is
// unpacked; a large image has some millions.
const maxNames = 64 << 20

// keep counts a path that is kept in memory.
func (u *unpacker) keep(name string) error {
	if u.names += len(name); u.names > maxNames {
		return fmt.Errorf("%w: the names of its folders have more than %d bytes", errHostile, maxNames)
	}
	return nil
}

// count takes one entry off the budget.
func (u *unpacker) count() error {
	u.removed.Count++
	if err := u.budget.spend(0, 1); err != nil {
		return err
	}
	return u.took(entryBytes)
}

// entryBytes is what an entry may take of the disk without any content: a folder,
// one block.
const entryBytes = 4 << 10

// took looks at the disk, and whether it is still wanted, now and then.
func (u *unpacker) took(bytes int64) error {
	if u.since += bytes; u.since < lookAtDisk {
		return nil
	}
	u.since = 0
	if u.ctx.Err() != nil {
		return context.Cause(u.ctx)
	}
	return requireRoom(u.dir)
}

// unpack writes the tar of a layer to dir, which is empty, and tells what the
// layer removes of others (OCI image specification, "Image layer filesystem
// changeset").
func unpack(ctx context.Context, r io.Reader, dir string, b budget) (removal, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return removal{}, err
	}
	u := &unpacker{ctx: ctx, root: root, dir: dir, budget: b, folders: map[string]bool{".": true}, owners: os.Geteuid() == 0}
	err = u.all(tar.NewReader(r))
	return u.removed, errors.Join(err, root.Close())
}

func (u *unpacker) all(tr *tar.Reader) error {
	for {
		if u.ctx.Err() != nil {
			return context.Cause(u.ctx)
		}
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read layer: %w", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.count(); err != nil {
			return err
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return err
		}
		if err := u.entry(name, h, tr); err != nil {
			return fmt.Errorf("%.200q: %w", h.Name, err)
		}
	}
}

// cleanName is the path of an entry below the root; "." is the root.
func cleanName(name string) (string, error) {
	if len(name) > maxPath || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: a path of %d bytes, or with a NUL", errHostile, len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." || len(part) > maxName {
			return "", fmt.Errorf("%w: the path %.200q", errHostile, name)
		}
	}
	clean := strings.TrimPrefix(path.Clean("/"+name), "/")
	switch {
	case clean == "":
		return ".", nil
	case strings.Count(clean, "/") >= maxDepth:
		return "", fmt.Errorf("%w: more than %d folders within each other", errHostile, maxDepth)
	}
	return clean, nil
}

// Names that say that something is removed.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
	aufs     = ".wh..wh." // what aufs kept for itself
)

func (u *unpacker) entry(name string, h *tar.Header, content io.Reader) error {
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	switch {
	case base == opaque:
		u.removed.Opaque = append(u.removed.Opaque, dir)
		return u.keep(dir)
	case strings.HasPrefix(base, aufs):
		return nil
	case strings.HasPrefix(base, whiteout):
		gone := strings.TrimPrefix(base, whiteout)
		if gone == "" || gone == "." || gone == ".." {
			return fmt.Errorf("%w: a whiteout of nothing", errHostile)
		}
		u.removed.Gone = append(u.removed.Gone, path.Join(dir, gone))
		return u.keep(name)
	case name == ".":
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is no folder", errHostile)
		}
		return nil
	}
	if err := u.parents(dir); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return u.folder(name, h)
	case tar.TypeReg:
		return u.file(name, h, content)
	case tar.TypeSymlink:
		return u.symlink(name, h)
	case tar.TypeLink:
		return u.link(name, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo: // a container has gVisor's own devices
		return nil
	}
	return fmt.Errorf("%w: an entry of type %q", errHostile, h.Typeflag)
}

// parents makes sure that a folder and all above it are folders, not links.
func (u *unpacker) parents(dir string) error {
	if u.folders[dir] {
		return nil
	}
	if err := u.parents(path.Dir(dir)); err != nil {
		return err
	}
	info, err := u.root.Lstat(dir)
	switch {
	case err == nil && info.IsDir():
	case err == nil:
		if err := u.clear(dir); err != nil {
			return err
		}
		fallthrough
	case errors.Is(err, fs.ErrNotExist):
		if err := u.count(); err != nil { // an entry that nobody wrote
			return err
		}
		if err := u.root.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := u.root.Chmod(dir, 0o755); err != nil { // umask
			return err
		}
	default:
		return err
	}
	u.folders[dir] = true
	return u.keep(dir)
}

// clear removes whatever has a name; its parents are folders.
func (u *unpacker) clear(name string) error {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	u.copies = nil // it may be one of them
	if !info.IsDir() {
		return u.root.Remove(name)
	}
	// To look for those below it would take as long as there are folders, each time.
	clear(u.folders)
	u.folders["."] = true
	return u.root.RemoveAll(name)
}

func (u *unpacker) folder(name string, h *tar.Header) error {
	info, err := u.root.Lstat(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !info.IsDir() {
		if err := u.clear(name); err != nil {
			return err
		}
		if err := u.root.Mkdir(name, 0o755); err != nil {
			return err
		}
	}
	u.folders[name] = true
	if err := errors.Join(u.keep(name), u.own(name, h)); err != nil {
		return err
	}
	return u.root.Chmod(name, fs.FileMode(h.Mode)&0o777|sticky(h))
}

// sticky keeps that one of the special bits: the others make nobody of a
// container's somebody else.
func sticky(h *tar.Header) fs.FileMode {
	if h.Mode&unix.S_ISVTX != 0 {
		return fs.ModeSticky
	}
	return 0
}

func (u *unpacker) file(name string, h *tar.Header, content io.Reader) error {
	if err := u.clear(name); err != nil {
		return err
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(&meter{u: u, w: f}, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := u.own(name, h); err != nil {
		return err
	}
	if err := u.root.Chmod(name, fs.FileMode(h.Mode)&0o777); err != nil {
		return err
	}
	at := h.ModTime
	if at.Before(time.Unix(0, 0)) {
		at = time.Unix(0, 0)
	}
	return u.root.Chtimes(name, at, at)
}

// meter counts what is written, and looks at the disk now and then.
type meter struct {
	u *unpacker
	w io.Writer
}

const (
	lookAtDisk = 64 << 20  // bytes taken between two looks
	leaveFree  = 512 << 20 // bytes that stay free
	leaveNames = 20_000    // files that there can still be, or a tenth where the disk has not ten times as many
)

// Write implements io.Writer.
func (m *meter) Write(p []byte) (int, error) {
	u := m.u
	if err := u.budget.spend(int64(len(p)), 0); err != nil {
		return 0, err
	}
	u.removed.Bytes += int64(len(p))
	if err := u.took(int64(len(p))); err != nil {
		return 0, err
	}
	return m.w.Write(p)
}

// requireRoom fails where the disk of dir has not much left.
func requireRoom(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < leaveFree {
		return fmt.Errorf("%w: %d bytes are free", errFull, free)
	}
	if st.Files > 0 && st.Ffree < min(leaveNames, st.Files/10) { // 0: it has no bound
		return fmt.Errorf("%w: it can have %d files more", errFull, st.Ffree)
	}
	return nil
}

func (u *unpacker) symlink(name string, h *tar.Header) error {
	if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
		return fmt.Errorf("%w: a link to %.200q", errHostile, h.Linkname)
	}
	if err := u.clear(name); err != nil {
		return err
	}
	if err := u.root.Symlink(h.Linkname, name); err != nil {
		return err
	}
	return u.own(name, h)
}

// link makes another name of a file of this layer.
func (u *unpacker) link(name string, h *tar.Header) error {
	target, err := cleanName(h.Linkname)
	if err != nil {
		return err
	}
	info, err := u.root.Lstat(target)
	if err != nil || info.IsDir() {
		return fmt.Errorf("%w: a hard link to %.200q, which is no file of the layer", errHostile, h.Linkname)
	}
	if target == name {
		return nil
	}
	if err := u.clear(name); err != nil {
		return err
	}
	err = u.root.Link(target, name)
	if errors.Is(err, unix.EMLINK) && u.copies[target] != "" {
		err = u.root.Link(u.copies[target], name)
	}
	if errors.Is(err, unix.EMLINK) {
		return u.duplicate(target, name, info)
	}
	return err
}

// duplicate copies what has as many names as it can have, for more to be made of
// the copy.
func (u *unpacker) duplicate(target, name string, info fs.FileInfo) error {
	h, err := tar.FileInfoHeader(info, "") // with its owner
	if err != nil {
		return err
	}
	if info.Mode().Type() == fs.ModeSymlink {
		if h.Linkname, err = u.root.Readlink(target); err == nil {
			err = u.symlink(name, h)
		}
	} else {
		var f *os.File
		if f, err = u.root.Open(target); err != nil {
			return err
		}
		err = errors.Join(u.file(name, h, f), f.Close())
	}
	if err != nil {
		return err
	}
	if u.copies == nil {
		u.copies = map[string]string{}
	}
	u.copies[target] = name
	return u.keep(target + name)
}

// own gives a file to whom it belongs in the image. A server that is not root of
// the whole machine cannot, and its functions see all as root's.
func (u *unpacker) own(name string, h *tar.Header) error {
	if !u.owners {
		return nil
	}
	err := u.root.Lchown(name, h.Uid, h.Gid)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EINVAL) {
		u.owners = false
		return nil
	}
	return err
}
