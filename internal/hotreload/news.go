package hotreload

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// news tells of changes below a folder, as far as the system does (inotify). One
// goroutine reads them until close.
type news struct {
	folder  string
	file    *os.File
	changed chan struct{} // holds one
	reader  sync.WaitGroup
}

// openNews begins to listen. A nil *news tells nothing.
func openNews(folder string) (*news, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	n := &news{folder: folder, file: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	if err := n.listen(); err != nil {
		return nil, errors.Join(err, n.file.Close())
	}
	n.reader.Go(n.read)
	return n, nil
}

// interesting are the events that may be a change of what is packed.
const interesting = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW | unix.IN_EXCL_UNLINK

// listen watches all folders there are now; those watched already stay so.
func (n *news) listen() error {
	conn, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	return filepath.WalkDir(n.folder, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case d.Name() == ".git": // is not packed
			return fs.SkipDir
		}
		var watchErr error
		if err := conn.Control(func(fd uintptr) { _, watchErr = unix.InotifyAddWatch(int(fd), path, interesting) }); err != nil {
			return err
		}
		if watchErr != nil && !errors.Is(watchErr, unix.ENOENT) {
			return fmt.Errorf("inotify %s: %w", path, watchErr)
		}
		return nil
	})
}

// read passes on that there was an event, whichever; folders that came with it
// are listened to before, so that nothing in them is missed.
func (n *news) read() {
	buf := make([]byte, 64<<10)
	for {
		if _, err := n.file.Read(buf); err != nil {
			return // closed
		}
		_ = n.listen() // what cannot be is seen by looking
		select {
		case n.changed <- struct{}{}:
		default: // it is told already
		}
	}
}

// told is readable after a change.
func (n *news) told() <-chan struct{} {
	if n == nil {
		return nil
	}
	return n.changed
}

func (n *news) close() {
	_ = n.file.Close() // ends the read
	n.reader.Wait()
}

// fingerprint is another number when something below a folder has changed, as
// far as names, sizes, modes, times and places on the disk tell.
func fingerprint(folder string) uint64 {
	h := fnv.New64a()
	_ = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintln(h, path, err)
			return nil
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			fmt.Fprintln(h, path, err)
			return nil
		}
		var inode uint64
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			inode = st.Ino
		}
		fmt.Fprintln(h, path, info.Size(), info.Mode(), info.ModTime().UnixNano(), inode)
		return nil
	})
	return h.Sum64()
}
