package gvisor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lambent/internal/sandbox"
)

// checkRoot: a folder that has all that a root of a container's own needs, so
// that nothing is mounted through a link of whoever filled it.
func checkRoot(root string, mounts int) error {
	if mounts > 0 {
		return fmt.Errorf("mounts go with the common root only, not with %s", root)
	}
	if err := checkSource(root); err != nil {
		return err
	}
	folders, files := sandbox.RootNeeds()
	for _, name := range folders {
		if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !info.IsDir() {
			return fmt.Errorf("the root %s has no folder %s", root, name)
		}
	}
	for _, name := range files {
		if info, err := os.Lstat(filepath.Join(root, name)); err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("the root %s has no file %s", root, name)
		}
	}
	return nil
}

// makeRoot gives the container its root: a view of the common one, or of its own
// with what is ours in it.
func (g *guest) makeRoot(own string) error {
	dir := g.instance.driver.opts.Dir
	if own == "" {
		return cloneRoot(dir, g.root())
	}
	if err := os.Mkdir(g.root(), 0o755); err != nil {
		return fmt.Errorf("make root: %w", err)
	}
	if err := mountClone(own, g.root(), unix.MS_SHARED); err != nil {
		return err
	}
	_, files := sandbox.RootNeeds()
	for _, name := range append([]string{"lambent"}, files...) {
		if err := mountClone(filepath.Join(baseDir(dir), name), filepath.Join(g.root(), name), unix.MS_PRIVATE); err != nil {
			return err
		}
	}
	return nil
}
