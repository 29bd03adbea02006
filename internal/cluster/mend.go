package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/highwayhash"
)

// mended is what was taken out of the way in a stream's files.
type mended struct {
	paths []string
	bytes int64
}

// mendStreams takes single spoiled records out of the way of the server, which would
// cut a file at one, with all the good records behind it.
//
// It does so in a block in which one record is not what was written, and only one:
// the lengths lead from each record to the next up to the very end, and all others
// have the right checksum. That record becomes one that was removed. Where more is
// wrong it is not known where records begin. What looks like one may be what a
// caller wrote into an event of his, checksum and all; so nothing is looked for.
func (c *copies) mendStreams(before map[string]streamFiles) (map[string]mended, error) {
	all := map[string]mended{}
	var block []byte // one memory for all
	for stream, files := range before {
		paths, err := files.toRead(stream)
		if err != nil {
			return nil, fmt.Errorf("look for damage in stream %s: %w", stream, err)
		}
		for _, path := range paths {
			var n int64
			if block, err = readInto(block, path); err == nil {
				n, err = c.mendBlock(stream, path, block)
			}
			if err != nil {
				return nil, fmt.Errorf("look for damage in stream %s: %w", stream, err)
			}
			if n > 0 {
				m := all[stream]
				m.paths, m.bytes = append(m.paths, path), m.bytes+n
				all[stream] = m
			}
		}
	}
	return all, nil
}

// toRead gives the files that the server reads record by record when it opens the
// stream: of a journal, those it has written to since it wrote its summary.
func (f streamFiles) toRead(stream string) (paths []string, err error) {
	if !isBucket(stream) && !isJournal(stream) {
		return nil, nil
	}
	summary, err := os.Stat(filepath.Join(f.dir, "msgs", "index.db"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for path, info := range f.blocks {
		if summary == nil || !info.ModTime().Before(summary.ModTime()) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// readInto reads a file into memory that was used before, where it is enough.
func readInto(old []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return old, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return old, err
	}
	data := slices.Grow(old[:0], int(info.Size()))[:info.Size()]
	_, err = io.ReadFull(f, data)
	return data, err
}

// mendBlock mends a file, of which it has the content, and tells how many bytes it
// took out of the way.
func (c *copies) mendBlock(stream, path string, block []byte) (n int64, err error) {
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".blk"), 10, 32)
	if err != nil {
		return 0, nil // none of the server's
	}
	at, record := spoiled(block, stream, uint32(number))
	if record == nil {
		return 0, nil
	}
	c.copy(stream, path)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	_, err = f.WriteAt(record, int64(at))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return 0, err
	}
	return int64(len(record)), nil
}

// copy keeps a file as it is, where that was not done before.
func (c *copies) copy(stream, path string) {
	to := filepath.Join(c.dir, stream, filepath.Base(path))
	if _, err := os.Lstat(to); err == nil {
		return
	}
	if err := copyFile(path, to); err != nil {
		c.log.Warn("a damaged file could not be copied before it is mended", "stream", stream, "err", err)
	}
}

// spoiled finds the one record of a block that is not what was written, and makes
// what is to stand in its place. Where there is none, more than one, or none behind
// it, record is nil.
func spoiled(block []byte, stream string, number uint32) (at int, record []byte) {
	// The server's key: filestore.go, hashKeyForBlock.
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return 0, nil // the key has the length it must have
	}
	sum := func(record []byte) []byte {
		subject, content := int(binary.LittleEndian.Uint16(record[20:])), recordHead
		content += subject
		if binary.LittleEndian.Uint32(record)&recordHeaders != 0 {
			content += 4 // their length, which is not in it
		}
		hash.Reset()
		for _, part := range [][]byte{record[4:20], record[recordHead : recordHead+subject], record[content : len(record)-recordSum]} {
			_, _ = hash.Write(part) // never fails
		}
		return hash.Sum(nil)
	}
	var last, next uint64 // messages before it and behind
	for from := 0; from < len(block); {
		rest := block[from:]
		if len(rest) < recordHead {
			return 0, nil
		}
		length := int(binary.LittleEndian.Uint32(rest) &^ recordHeaders)
		least := recordHead + int(binary.LittleEndian.Uint16(rest[20:])) + recordSum
		if binary.LittleEndian.Uint32(rest)&recordHeaders != 0 {
			least += 4
		}
		if length > len(rest) || length > recordMost || length < recordHead+recordSum {
			return 0, nil
		}
		this := rest[:length]
		switch message := binary.LittleEndian.Uint64(this[4:]); {
		case length < least || !bytes.Equal(sum(this), this[length-recordSum:]):
			if record != nil {
				return 0, nil
			}
			at, record = from, this
		case message&recordRemoved != 0:
		case record == nil:
			last = message
		case next == 0:
			next = message
		}
		from += length
	}
	if record == nil || at+len(record) == len(block) {
		return 0, nil
	}
	record = bytes.Clone(record)
	binary.LittleEndian.PutUint32(record, uint32(len(record)))
	gone := uint64(0) // it was no message, or none is known to follow
	if next > last+1 {
		gone = next - 1
	}
	binary.LittleEndian.PutUint64(record[4:], gone|recordErased)
	binary.LittleEndian.PutUint16(record[20:], 0)
	copy(record[len(record)-recordSum:], sum(record))
	return at, record
}
