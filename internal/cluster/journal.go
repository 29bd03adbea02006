package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// MaxAppend is how many bytes the entries of one Append may have together, with
// EntryOverhead for each: what one message holds, with room for its subject.
const (
	MaxAppend     = maxPayload - 64<<10
	EntryOverhead = binary.MaxVarintLen32
)

// What writes to a journal leave of the disk: less than blobs, more than
// records. Essential ones take of what is left for records, and leave what
// dropping packs needs, which is that the engine notes what it has.
const (
	journalReserve   = 32 << 20
	essentialReserve = 8 << 20
	dropReserve      = 1 << 20
)

// Journal is a log of entries in the order in which they were written. It is
// read from any place, and dropped from its beginning.
//
// Every message is synced on its own, which takes longer than anything else, so
// one carries many entries: what is appended while one is being written makes
// the next, a "pack". There is no waiting for more to come.
//
// A Journal may be used by several goroutines at once, and is open once. Close it
// before its Node.
type Journal struct {
	name    string
	subject string
	node    *Node
	js      jetstream.JetStream
	stream  jetstream.Stream
	reader  *nats.Conn // of its own, so that reading holds up no write
	blocks  *blocks
	end     chan struct{}
	ended   chan struct{}
	work    chan struct{} // something was added to pending

	mu sync.Mutex
	// +checklocks:mu
	pending []*appending // in the order of the calls
	// +checklocks:mu
	closed bool
}

// Append is what one call writes: together in one pack, or not at all.
type Append struct {
	Entries [][]byte
	// Essential is written of the room that is left for records where there is no
	// more for others: what lets a journal become shorter.
	Essential bool
	// Stored, where it is set, is called when the entries are on the disk, before
	// the call returns: in the order of the journal, by the one goroutine that
	// writes, which writes nothing more until it returns.
	Stored func(Position)
}

// Position is where the first entry of an Append stands. Those that follow have
// the next indexes of the same pack.
type Position struct {
	Pack  uint64 // grows from pack to pack by one, or by more after a write that failed; never 0
	Index uint32 // in the pack, from 0
	Bytes int    // of the whole pack
	Count int    // entries in the whole pack
}

// Pack is a message of a journal as it was read.
type Pack struct {
	Number  uint64
	Entries [][]byte
	Bytes   int
}

// JournalState tells how much a journal holds.
type JournalState struct {
	First, Last uint64 // packs; First is Last+1 where there is none
	Bytes       uint64
}

// appending is an Append on its way.
type appending struct {
	Append
	size int        // in a pack
	done chan error // gets one
}

// Journal opens the journal of a name of letters, digits, "-" and "_", and makes
// it where it is not there.
func (n *Node) Journal(ctx context.Context, name string) (*Journal, error) {
	const op = "open journal"
	js, err := n.stream(op, name)
	if err != nil {
		return nil, err
	}
	j := &Journal{name: name, subject: "journal." + name, node: n, js: js, end: make(chan struct{}), ended: make(chan struct{}), work: make(chan struct{}, 1)}
	stream := journalPrefix + name
	j.stream, err = js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		j.stream, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: stream, Subjects: []string{j.subject}, Storage: jetstream.FileStorage, AllowDirect: true, Discard: jetstream.DiscardNew,
		})
	}
	if err == nil {
		j.blocks, err = n.blocksOf(stream)
	}
	if err == nil {
		j.reader, err = n.connect("lambent journal " + name)
	}
	if err != nil {
		return nil, storeError(op, name, err)
	}
	go j.run()
	return j, nil
}

// blocksOf finds the files of a stream.
func (n *Node) blocksOf(stream string) (*blocks, error) {
	dirs, err := glob(filepath.Join(n.opts.Dir, "jetstream"), "*/streams/"+stream)
	if err != nil || len(dirs) != 1 {
		return nil, fmt.Errorf("look for the files of stream %s: there are %q: %w", stream, dirs, err)
	}
	return &blocks{dir: filepath.Join(dirs[0], "msgs")}, nil
}

// journalPrefix begins the names of journals' streams.
const journalPrefix = "JOURNAL_"

func isJournal(stream string) bool { return strings.HasPrefix(stream, journalPrefix) }

// Close writes what was appended and ends. It may be called more than once.
func (j *Journal) Close() error {
	j.mu.Lock()
	first := !j.closed
	j.closed = true
	j.mu.Unlock()
	if first {
		close(j.end)
	}
	<-j.ended
	j.reader.Close()
	return nil
}

// Append writes entries and returns when they are on the disk. KindTooLarge over
// MaxAppend; KindUnavailable with Reason "DiskFull" where there is no room, and
// after such an error nothing was written. After another it is not known whether
// it was. ctx ends the wait for a turn, after which nothing was written either,
// but not a write that has begun.
func (j *Journal) Append(ctx context.Context, a Append) error {
	const op = "append to journal"
	if len(a.Entries) == 0 {
		return nil
	}
	w := &appending{Append: a, done: make(chan error, 1)}
	for _, e := range a.Entries {
		w.size += len(e) + EntryOverhead
	}
	if w.size > MaxAppend {
		return &lambent.Error{Op: op, Resource: j.name, Kind: lambent.KindTooLarge, Err: fmt.Errorf("%d bytes, of %d that one write can have", w.size, MaxAppend)}
	}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return &lambent.Error{Op: op, Resource: j.name, Kind: lambent.KindUnavailable, Message: "the journal is closed"}
	}
	j.pending = append(j.pending, w)
	j.mu.Unlock()
	select {
	case j.work <- struct{}{}:
	default: // it is known that there is something
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		if j.forget(w) {
			return &lambent.Error{Op: op, Resource: j.name, Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
		}
		return <-w.done // a write takes a moment, or ends by its own deadline
	}
}

// forget takes an append out of those that wait; false where it is being written.
func (j *Journal) forget(w *appending) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, other := range j.pending {
		if other == w {
			j.pending = append(j.pending[:i], j.pending[i+1:]...)
			return true
		}
	}
	return false
}

// run writes packs until the journal is closed and nothing waits.
func (j *Journal) run() {
	defer close(j.ended)
	var buf []byte
	for open := true; open; {
		select {
		case <-j.work:
		case <-j.end:
			open = false
		}
		for batch := j.gather(); len(batch) > 0; batch = j.gather() {
			buf = j.write(batch, buf[:0])
			if cap(buf) > keptBuffer {
				buf = nil
			}
		}
	}
}

// keptBuffer is the most memory that is kept from one pack to the next.
const keptBuffer = 256 << 10

// gather takes what fits into one pack of what waits.
func (j *Journal) gather() []*appending {
	j.mu.Lock()
	defer j.mu.Unlock()
	size, n := 0, 0
	for n < len(j.pending) && size+j.pending[n].size <= MaxAppend {
		size += j.pending[n].size
		n++
	}
	batch := j.pending[:n:n]
	j.pending = j.pending[n:]
	if len(j.pending) == 0 {
		j.pending = nil
	}
	return batch
}

// write makes a pack of a batch and tells everybody how it went. It returns the
// buffer for the next.
func (j *Journal) write(batch []*appending, buf []byte) []byte {
	batch, err := j.admit(batch)
	buf = append(buf, make([]byte, packHead)...)
	count := 0
	for _, w := range batch {
		for _, e := range w.Entries {
			buf = binary.AppendUvarint(buf, uint64(len(e)))
			buf = append(buf, e...)
			count++
		}
	}
	var at Position
	seal(buf)
	if err == nil && count > 0 {
		at, err = j.publish(buf)
		at.Count = count
	}
	for _, w := range batch {
		if err == nil && w.Stored != nil {
			w.Stored(at)
		}
		at.Index += uint32(len(w.Entries))
		w.done <- err
	}
	return buf
}

// publish has the engine store a pack. The deadline is the engine's own, so that
// nobody's ctx ends the write of others.
func (j *Journal) publish(pack []byte) (Position, error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	ack, err := j.js.Publish(ctx, j.subject, pack)
	if err != nil {
		return Position{}, storeError("append to journal", j.name, err)
	}
	return Position{Pack: ack.Sequence, Bytes: len(pack)}, nil
}

// writeLimit is how long a disk may take to write 2 MiB before it counts as not
// written.
const writeLimit = 30 * time.Second

// admit tells those of a batch for which there is no room, and returns the
// others.
func (j *Journal) admit(batch []*appending) ([]*appending, error) {
	const op = "append to journal"
	if j.node.requireSpace(op, j.name, journalReserve) == nil {
		return batch, nil
	}
	essential := batch[:0]
	for _, w := range batch {
		reserve := int64(journalReserve)
		if w.Essential {
			reserve = essentialReserve
		}
		if err := j.node.requireSpace(op, j.name, reserve); err != nil {
			w.done <- err
			continue
		}
		essential = append(essential, w)
	}
	return essential, nil
}

// Drop removes packs before one, as many as make whole blocks of the engine's
// files, 8 MiB, so that it need not write one anew. It tells from which on they
// are kept.
func (j *Journal) Drop(ctx context.Context, before uint64) (first uint64, err error) {
	const op = "drop of journal"
	if first = j.blocks.begin(before); first <= 1 {
		return first, nil
	}
	if err := j.node.requireSpace(op, j.name, dropReserve); err != nil {
		return 0, err
	}
	if err := j.stream.Purge(ctx, jetstream.WithPurgeSequence(first)); err != nil {
		return 0, storeError(op, j.name, err)
	}
	return first, nil
}

// State tells how much there is.
func (j *Journal) State(ctx context.Context) (JournalState, error) {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return JournalState{}, storeError("look at journal", j.name, err)
	}
	// The engine counts from 1, and says 0 for the first of a stream that is new.
	return JournalState{First: max(1, info.State.FirstSeq), Last: info.State.LastSeq, Bytes: info.State.Bytes}, nil
}
