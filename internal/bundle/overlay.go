package bundle

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Overlay puts the tree at source over the one at target. Where both have something
// of the same name, source's stands, and only folders are merged: a folder is entered
// only when it is one of target's own, never through a link. Nobody else may change
// the trees meanwhile.
//
// place puts what is at from to where it belongs, in an order in which a folder
// comes before what is in it. There is nothing at to but where d is a folder: that is
// there then, of target's own or, with there false, made just now with mode 0755 less
// the umask.
func Overlay(source, target string, place func(from, to string, d fs.DirEntry, there bool) error) error {
	return filepath.WalkDir(source, func(from string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, from)
		if err != nil || rel == "." {
			return err
		}
		to := filepath.Join(target, rel)
		info, err := os.Lstat(to)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case d.IsDir() && info.IsDir():
			return place(from, to, d, true)
		default:
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		if d.IsDir() {
			if err := os.Mkdir(to, 0o755); err != nil {
				return err
			}
		}
		return place(from, to, d, false)
	})
}
