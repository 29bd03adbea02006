package obs

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	magic      = "lmbexec1"
	headerSize = len(magic) + 4
	frameSize  = 2 + 4 // length and checksum, before each body
	fileSuffix = ".records"
	maxUnsaved = 4 << 20 // bytes that may wait for a disk that does not take them
	maxSegment = math.MaxUint32
)

// entry is what is kept in memory of a record. Hashes may collide: they say where
// it is worth to read.
type entry struct {
	offset   uint32 // of the frame, in its segment
	length   uint32 // of the body
	account  uint32 // hash
	function uint32 // hash
	request  uint32 // hash
}

// segment is one file of records. Its tail may not be on the disk yet.
type segment struct {
	number uint64
	file   *os.File
	salt   [4]byte
	index  []entry // oldest first
	size   int64   // of header and records
	tail   []byte  // the last bytes of size which the disk was not asked for yet, or did not take
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%08d%s", number, fileSuffix))
}

// segmentNumber reads the number of a segment from its file's name.
func segmentNumber(name string) (uint64, bool) {
	digits, is := strings.CutSuffix(name, fileSuffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, is && err == nil && n > 0 && segmentPath("", n) == name
}

// newSegment makes the file of a segment. Its header is the first of its tail.
func newSegment(dir string, number uint64) (*segment, error) {
	s := &segment{number: number}
	rand.Read(s.salt[:]) // never fails (crypto/rand)
	var err error
	if s.file, err = os.OpenFile(segmentPath(dir, number), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	s.tail = append(append(s.tail, magic...), s.salt[:]...)
	s.size = int64(headerSize)
	return s, nil
}

// errForeign is a file that is no segment, or one whose header was damaged.
var errForeign = errors.New("it does not begin as a file of execution records")

// openSegment reads a segment. damaged is how many bytes were passed over because
// they are no sound records; those at the end are cut off.
func openSegment(dir string, number uint64) (s *segment, damaged int64, err error) {
	file, err := os.OpenFile(segmentPath(dir, number), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if info.Size() > maxSegment {
		return nil, info.Size(), errForeign
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, 0, err
	}
	if len(data) < headerSize || string(data[:len(magic)]) != magic {
		return nil, info.Size(), errForeign
	}
	s = &segment{number: number, file: file}
	damaged = s.scan(data)
	if s.size < info.Size() {
		if err := file.Truncate(s.size); err != nil {
			return nil, 0, err
		}
	}
	return s, damaged, nil
}

// scan finds the records in the bytes of a segment. After damage it goes on with
// the next sound record, wherever that begins.
func (s *segment) scan(data []byte) (damaged int64) {
	copy(s.salt[:], data[len(magic):])
	s.size = int64(headerSize)
	for at := headerSize; at < len(data); {
		body, e, ok := s.frame(data[at:])
		if !ok {
			at++
			damaged++
			continue
		}
		s.index = append(s.index, newEntry(&e, at, len(body)))
		at += frameSize + len(body)
		s.size = int64(at)
	}
	return damaged
}

// frame reads the record that data begins with.
func (s *segment) frame(data []byte) (body []byte, e Execution, ok bool) {
	if len(data) < frameSize {
		return nil, e, false
	}
	n := int(binary.LittleEndian.Uint16(data))
	if n == 0 || n > maxBody || frameSize+n > len(data) {
		return nil, e, false
	}
	if binary.LittleEndian.Uint32(data[2:]) != s.checksum(data[:frameSize+n]) {
		return nil, e, false
	}
	body = data[frameSize : frameSize+n]
	e, err := parseExecution(body)
	return body, e, err == nil
}

// checksum is that of a whole frame, without the bytes it stands in.
func (s *segment) checksum(frame []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // the library's own, made once
	sum := crc32.Update(0, table, s.salt[:])
	sum = crc32.Update(sum, table, frame[:2])
	return crc32.Update(sum, table, frame[frameSize:])
}

// append adds a record to the tail.
func (s *segment) append(e *Execution) {
	at := len(s.tail)
	s.tail = append(s.tail, 0, 0, 0, 0, 0, 0) // frameSize
	s.tail = appendExecution(s.tail, e)
	frame := s.tail[at:]
	body := frame[frameSize:]
	binary.LittleEndian.PutUint16(frame, uint16(len(body)))
	binary.LittleEndian.PutUint32(frame[2:], s.checksum(frame))
	s.index = append(s.index, newEntry(e, int(s.size), len(body)))
	s.size += int64(len(frame))
}

// save asks the disk to take the tail, which stays where it does not.
func (s *segment) save() error {
	if len(s.tail) == 0 {
		return nil
	}
	// At its place, however much of an earlier try was written.
	if _, err := s.file.WriteAt(s.tail, s.size-int64(len(s.tail))); err != nil {
		return err
	}
	if s.tail = s.tail[:0]; cap(s.tail) > maxUnsaved/8 {
		s.tail = nil
	}
	return nil
}

// read reads a record. buf is used where it is large enough.
func (s *segment) read(at entry, buf []byte) (Execution, error) {
	n := frameSize + int(at.length)
	if saved := s.size - int64(len(s.tail)); int64(at.offset) >= saved {
		buf = s.tail[int64(at.offset)-saved:][:n]
	} else {
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if _, err := s.file.ReadAt(buf, int64(at.offset)); err != nil {
			return Execution{}, err
		}
	}
	if body, e, ok := s.frame(buf); ok && len(body) == int(at.length) {
		return e, nil
	}
	return Execution{}, fmt.Errorf("the record at %d of segment %d was damaged since it was written", at.offset, s.number)
}

// remove deletes the segment.
func (s *segment) remove(dir string) error {
	return errors.Join(s.file.Close(), os.Remove(segmentPath(dir, s.number)))
}

func newEntry(e *Execution, offset, length int) entry {
	return entry{offset: uint32(offset), length: uint32(length),
		account: hash(string(e.Account)), function: hash(string(e.Function)), request: hash(string(e.RequestID))}
}

// hash is FNV-1a.
func hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}
