package host

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// syncAgain is when folders are synced again that the disk did not take: until
// then they are only slower to start with after the next start.
const syncAgain = time.Minute

// syncFolders has folders on the disk and marks them, until the cache is closed.
func (cc *codeCache) syncFolders() {
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-cc.stop:
			return
		case <-cc.work:
		case <-again.C:
		}
		cc.mu.Lock()
		fresh := maps.Clone(cc.fresh)
		cc.mu.Unlock()
		for dir, filling := range fresh {
			if err := cc.syncFolder(dir); err != nil {
				again.Reset(syncAgain) // a full disk, or the folder was dropped meanwhile
				continue
			}
			cc.mark(dir, filling)
		}
	}
}

// mark says that a folder is on the disk, if it is still that of a filling.
func (cc *codeCache) mark(dir string, filling uint64) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if cc.fresh[dir] != filling {
		return
	}
	delete(cc.fresh, dir)
	if m, err := os.OpenFile(dir+syncMark, os.O_WRONLY|os.O_CREATE, 0o600); err == nil { // else it has none, and is unpacked anew once
		_ = m.Close() // nothing was written
	}
}

// syncFolder syncs each file and folder of a tree on its own: the whole file
// system, at once, may have gigabytes of others' to write.
func (cc *codeCache) syncFolder(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		select {
		case <-cc.stop:
			return fs.ErrClosed
		default:
		}
		if !d.IsDir() && !d.Type().IsRegular() {
			return nil // a link is in its folder
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err = errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", path, err)
		}
		return nil
	})
}
