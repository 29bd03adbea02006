package bundle

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"lambent"
)

// Pack makes a deployment package of a folder, of a single file, or of a zip
// file that is one already (named *.zip: it is checked and returned as it is).
// Everything in the folder goes in but what is named .git, in the order of its
// names and with one and the same time, so that equal folders make equal
// packages. Execute bits and symbolic links are kept; links must be relative and
// stay inside the folder.
//
// Errors are *lambent.Error, KindInvalid for what cannot be packed: a path that
// is not there, something that is neither file, folder nor link, a link that
// leaves, a tree over MaxUnpackedBytes or without any file.
func Pack(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, packError(name, err)
	}
	p := newPacker()
	switch {
	case info.IsDir():
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, packError(name, err)
		}
		pkg, err := PackRoot(root)
		return pkg, errors.Join(err, root.Close())
	case !info.Mode().IsRegular() || info.Size() > MaxUnpackedBytes:
		err = fmt.Errorf("not a folder, nor a regular file of at most %d bytes", MaxUnpackedBytes)
	case strings.EqualFold(filepath.Ext(name), ".zip"):
		return packZip(name)
	default:
		err = p.addFile(filepath.Base(name), func() (*os.File, error) { return os.Open(name) })
	}
	return p.end(name, err)
}

// PackRoot is Pack for a folder that is open: whatever is done to its path
// meanwhile, nothing from outside of it is packed. The caller closes it.
func PackRoot(folder *os.Root) ([]byte, error) {
	p := newPacker()
	p.root = folder
	return p.end(folder.Name(), fs.WalkDir(folder.FS(), ".", p.visit))
}

func packZip(name string) ([]byte, error) {
	pkg, err := os.ReadFile(name)
	if err != nil {
		return nil, packError(name, err)
	}
	if _, err := inspect(pkg, MaxUnpackedBytes); err != nil {
		return nil, packError(name, err)
	}
	return pkg, nil
}

func packError(name string, err error) error {
	return &lambent.Error{Op: "pack", Resource: name, Kind: lambent.KindInvalid, Err: err}
}

// packer writes one package.
type packer struct {
	root *os.Root
	out  bytes.Buffer
	zip  *zip.Writer
	left int64 // bytes that still fit, unpacked
}

func newPacker() *packer {
	p := &packer{left: MaxUnpackedBytes}
	p.zip = zip.NewWriter(&p.out)
	return p
}

// end completes the package of what is called name, unless err is what kept it
// from that, and checks it as every package is.
func (p *packer) end(name string, err error) ([]byte, error) {
	if err = errors.Join(err, p.zip.Close()); err != nil {
		return nil, packError(name, err)
	}
	if _, err := open(p.out.Bytes(), MaxUnpackedBytes); err != nil {
		return nil, packError(name, err)
	}
	return p.out.Bytes(), nil
}

func (p *packer) visit(name string, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return err
	case name == ".":
		return nil
	case d.Name() == ".git":
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	case d.IsDir():
		_, err := p.zip.CreateHeader(header(name+"/", fs.ModeDir|0o755))
		return err
	case d.Type() == fs.ModeSymlink:
		return p.addLink(name)
	case d.Type() != 0:
		return fmt.Errorf("%s is neither a file, a folder nor a symbolic link (%v): remove it", name, d.Type())
	}
	return p.addFile(name, func() (*os.File, error) {
		// What was a file when it was listed may be a pipe by now: opening that would
		// wait for who writes to it.
		return p.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	})
}

func (p *packer) addFile(name string, open func() (*os.File, error)) (err error) {
	f, err := open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file (%v)", name, info.Mode().Type())
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	w, err := p.zip.CreateHeader(header(name, mode))
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(f, p.left+1))
	if err != nil {
		return err
	}
	return p.spend(n)
}

func (p *packer) addLink(name string) error {
	target, err := p.root.Readlink(name)
	if err != nil {
		return err
	}
	w, err := p.zip.CreateHeader(header(name, fs.ModeSymlink|0o777))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, target); err != nil {
		return err
	}
	return p.spend(int64(len(target)))
}

func (p *packer) spend(n int64) error {
	if p.left -= n; p.left < 0 {
		return fmt.Errorf("%w: at most %d bytes", errTooLarge, MaxUnpackedBytes)
	}
	return nil
}

func header(name string, mode fs.FileMode) *zip.FileHeader {
	h := &zip.FileHeader{Name: path.Clean(name), Method: zip.Deflate, Modified: epoch()}
	if mode.IsDir() {
		h.Name, h.Method = h.Name+"/", zip.Store
	}
	h.SetMode(mode)
	return h
}
