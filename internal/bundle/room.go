package bundle

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"lambent"
)

// keepFree is what unpacking leaves free on the disk: as much as the store of
// functions, which is on the same one, wants before it takes anything. A stream
// that the disk refuses a write takes no other until the server's next start.
const keepFree = 64 << 20

// size is what the package declares to have, unpacked.
func (c *contents) size() (n int64) {
	for _, it := range c.items {
		if it.source != nil {
			n += int64(it.source.UncompressedSize64) // of all together not over the limit: checkDeclared
		}
	}
	return n
}

// requireRoom refuses to unpack what would fill the disk.
func (d disk) requireRoom(op, dir string, size int64) error {
	free, err := d.free(filepath.Dir(dir))
	if err != nil {
		return &lambent.Error{Op: op, Resource: dir, Err: fmt.Errorf("measure the free space: %w", err)}
	}
	if free < size+keepFree {
		return diskFull(op, dir, fmt.Errorf("its disk has %d bytes free and must have %d: make room on it", free, size+keepFree))
	}
	return nil
}

func diskFull(op, dir string, err error) error {
	return &lambent.Error{Op: op, Resource: dir, Kind: lambent.KindUnavailable, Reason: "DiskFull",
		Message: "The storage of this server is full. Its operator can make room on it.", Err: err}
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}
