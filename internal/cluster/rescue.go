package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// isBucket tells the streams of buckets from those of blobs.
func isBucket(stream string) bool { return strings.HasPrefix(stream, "KV_") }

// toCopy gives the files of a stream that are worth a copy: all of a bucket, and
// the last of a journal, which is what a crash damages, and which may have
// gigabytes before it.
func (f streamFiles) toCopy(stream string) map[string]os.FileInfo {
	switch {
	case isBucket(stream):
		return f.blocks
	case isJournal(stream):
		last, number := "", -1
		for path := range f.blocks {
			n, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(path), ".blk"))
			if err == nil && n > number {
				last, number = path, n
			}
		}
		if last != "" {
			return map[string]os.FileInfo{last: f.blocks[last]}
		}
	}
	return nil
}

// copies are the files of the buckets, and the ends of the journals, as they were before the server opened
// them. The server mends a damaged file by cutting it off at the damage, with
// all the good records after it; the copy is what is left of those. Copies are
// not synced and are gone within a moment, so they cost next to nothing.
type copies struct {
	dir    string // of all copies
	folder string // the data folder
	log    *slog.Logger
}

// copyStreams copies what it can. That something cannot be copied (a full disk)
// keeps nobody from opening the folder.
func copyStreams(ctx context.Context, folder string, before map[string]streamFiles, log *slog.Logger) *copies {
	c := &copies{dir: filepath.Join(folder, "opening"), folder: folder, log: log}
	c.drop() // of a process that was killed while it opened
	for name, files := range before {
		for path := range files.toCopy(name) {
			err := context.Cause(ctx)
			if err == nil {
				err = copyFile(path, filepath.Join(c.dir, name, filepath.Base(path)))
			}
			if err != nil {
				log.Warn("what is stored could not be copied before it is opened", "stream", name, "err", err)
				return c
			}
		}
	}
	return c
}

// keep puts the copies of some files of a stream where they stay, and returns
// that folder, or "" where there are none.
func (c *copies) keep(stream string, paths []string) string {
	kept := ""
	dir := filepath.Join(c.folder, "damaged", time.Now().UTC().Format("20060102T150405.000"), stream)
	for _, path := range paths {
		name := filepath.Base(path)
		from := filepath.Join(c.dir, stream, name)
		if _, err := os.Lstat(from); err != nil {
			continue
		}
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			err = os.Rename(from, filepath.Join(dir, name))
		}
		if err != nil {
			c.log.Warn("a damaged file could not be kept", "stream", stream, "err", err)
			continue
		}
		kept = dir
	}
	return kept
}

func (c *copies) drop() {
	if err := os.RemoveAll(c.dir); err != nil {
		c.log.Warn("copies that are not needed any more could not be removed", "err", err)
	}
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil { // within the kernel, shared where the file system can
		return errors.Join(fmt.Errorf("copy: %w", err), out.Close())
	}
	return out.Close()
}
