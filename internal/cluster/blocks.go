package cluster

import (
	"cmp"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// blocks reads single messages of a stream out of the engine's files.
//
// The engine itself reads a whole block, 8 MiB, for each message, and keeps what
// it read for ten seconds: somebody who reads here and there in a long stream has
// it take as much memory as the stream has bytes. So a message is looked for
// here first. What is not found, or not as expected, for whatever reason, is the
// engine's to read: whoever uses what is found here has a checksum of his own.
//
// The form of a block is the engine's (nats-server, server/filestore.go): records
// of a header, 22 bytes, the subject, the message, and 8 bytes of checksum.
type blocks struct {
	dir string // with N.blk

	mu sync.Mutex // held while headers are read, not while a message is
	// +checklocks:mu
	list []*block // by number
}

// block is what is known of one file.
type block struct {
	path   string
	number int
	first  uint64 // number of the first message that was not removed
	info   os.FileInfo
	marks  []mark // every some records, in order
}

type mark struct {
	message uint64
	at      int64
}

const (
	recordHead    = 4 + 8 + 8 + 2 // length, number, time, length of the subject
	recordSum     = 8
	recordHeaders = 1 << 31        // in the length: there are headers, too
	recordErased  = 1 << 63        // in the number: it was removed
	recordRemoved = 1<<63 | 1<<62  // in the number: it was removed; it tells of the removal of another
	recordMost    = maxPayload * 2 // more is damage
	markEvery     = 32
)

// record is the head of a message in a block.
type record struct {
	length  int64
	message uint64
	subject int64
	plain   bool // a message that is there, without headers
}

func readRecord(f *os.File, at int64) (r record, ok bool) {
	var head [recordHead]byte
	if n, _ := f.ReadAt(head[:], at); n < len(head) {
		return record{}, false
	}
	length, number := binary.LittleEndian.Uint32(head[0:]), binary.LittleEndian.Uint64(head[4:])
	r = record{
		length:  int64(length &^ recordHeaders),
		message: number &^ recordRemoved,
		subject: int64(binary.LittleEndian.Uint16(head[20:])),
		plain:   length&recordHeaders == 0 && number&recordRemoved == 0,
	}
	return r, r.length >= recordHead+r.subject+recordSum && r.length <= recordMost
}

// read gives the content of a message; nil where it is not found.
func (b *blocks) read(message uint64) []byte {
	f, at, r := b.find(message)
	if f == nil {
		return nil
	}
	defer f.Close()
	content := make([]byte, r.length-recordHead-r.subject-recordSum)
	if n, _ := f.ReadAt(content, at+recordHead+r.subject); n < len(content) {
		return nil
	}
	return content
}

// find opens the block a message is in, and tells where. Of a message that is in
// none, the file is nil.
func (b *blocks) find(message uint64) (f *os.File, at int64, r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f, at, r = b.search(message); f == nil {
		b.look() // a block may be new, or gone
		f, at, r = b.search(message)
	}
	return f, at, r
}

// +checklocks:b.mu
func (b *blocks) search(message uint64) (f *os.File, at int64, r record) {
	i, found := slices.BinarySearchFunc(b.list, message, func(k *block, m uint64) int { return cmp.Compare(k.first, m) })
	if !found {
		i-- // the last one that begins before it
	}
	if i < 0 {
		return nil, 0, record{}
	}
	k := b.list[i]
	f, err := os.Open(k.path)
	if err != nil {
		return nil, 0, record{}
	}
	if at, r, ok := k.find(f, message); ok {
		return f, at, r
	}
	_ = f.Close() // it was only read
	return nil, 0, record{}
}

// begin gives the number of the first message of the block that a message is in, or
// would be; 0 where there is none.
func (b *blocks) begin(message uint64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.look()
	first := uint64(0)
	for _, k := range b.list {
		if k.first <= message {
			first = k.first
		}
	}
	return first
}

// look lists the blocks there are now.
//
// +checklocks:b.mu
func (b *blocks) look() {
	known := map[string]*block{}
	for _, k := range b.list {
		known[k.path] = k
	}
	b.list = b.list[:0]
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return // the engine finds out why
	}
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimSuffix(e.Name(), ".blk"))
		if err != nil || !strings.HasSuffix(e.Name(), ".blk") {
			continue
		}
		path := filepath.Join(b.dir, e.Name())
		k := known[path]
		if k == nil {
			if k = openBlock(path, number); k == nil {
				continue
			}
		}
		b.list = append(b.list, k)
	}
	slices.SortFunc(b.list, func(x, y *block) int { return cmp.Compare(x.number, y.number) })
}

// openBlock finds what a block begins with; nil where it has no message.
func openBlock(path string, number int) *block {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for at := int64(0); ; {
		r, ok := readRecord(f, at)
		if !ok {
			return nil
		}
		if r.plain {
			return &block{path: path, number: number, first: r.message}
		}
		at += r.length
	}
}

// find tells where a message is in the file of a block.
func (k *block) find(f *os.File, message uint64) (at int64, r record, ok bool) {
	info, err := f.Stat()
	if err != nil {
		return 0, record{}, false
	}
	if k.info == nil || !os.SameFile(info, k.info) || info.Size() < k.info.Size() {
		k.marks = nil // it was written anew, without what had been removed
	}
	k.info = info
	if i, found := slices.BinarySearchFunc(k.marks, message, func(m mark, x uint64) int { return cmp.Compare(m.message, x) }); found {
		at = k.marks[i].at
	} else if i > 0 {
		at = k.marks[i-1].at
	}
	for since := 0; ; since++ {
		r, ok := readRecord(f, at)
		if !ok {
			return 0, record{}, false
		}
		if r.plain && r.message == message {
			return at, r, true
		}
		if r.plain && r.message > message {
			return 0, record{}, false
		}
		if since >= markEvery && r.plain && (len(k.marks) == 0 || at > k.marks[len(k.marks)-1].at) {
			k.marks = append(k.marks, mark{r.message, at})
			since = 0
		}
		at += r.length
	}
}
