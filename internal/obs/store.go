package obs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
)

// Bounds and defaults.
const (
	DefaultKeep = 100_000 // records
	segments    = 8       // as many as what is kept is spread over
	maxPending  = 16_384  // records that may wait to be written, while the disk is busy

	// gatherTime is how long a record may wait for others to be written with it.
	// 4,000 calls a second make 30 writes of 15 KB; one call now and then makes one
	// write, after it was answered.
	gatherTime = 30 * time.Millisecond
)

// StoreOptions configure a Store.
type StoreOptions struct {
	Dir  string       // of its own; made, for its owner only, where it is not there
	Keep int          // the newest so many records are kept, and up to an eighth more; 0: DefaultKeep
	Log  *slog.Logger // what goes wrong with the disk; nil: nowhere
}

// Store keeps the newest execution records. Make it with NewStore; Open, then use
// by several goroutines, then Close.
//
// A record takes 20 bytes of memory and some 150 of disk: 2.3 MB and 17 MB for
// 100,000 and the eighth above.
type Store struct {
	opts   StoreOptions
	gather time.Duration
	timer  *time.Timer // runs while records come
	end    chan struct{}
	ended  chan struct{}
	lost   atomic.Int64 // records, since New

	mu sync.Mutex // held for nanoseconds: calls take it
	// +checklocks:mu
	pending []Execution
	// +checklocks:mu
	ticking bool // the timer runs
	// +checklocks:mu
	open bool

	disk sync.RWMutex // calls never take it
	// +checklocks:disk
	segments []*segment // oldest first; never empty while open
	// +checklocks:disk
	opened bool
	// +checklocks:disk
	kept int // records in all segments
	// +checklocks:disk
	spare []Execution // memory for pending
	// +checklocks:disk
	failing bool // the disk refused the last write; said once
	// +checklocks:disk
	told int64 // of lost
}

// NewStore prepares a store and touches nothing.
func NewStore(opts StoreOptions) *Store {
	if opts.Keep == 0 {
		opts.Keep = DefaultKeep
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{opts: opts, gather: gatherTime, end: make(chan struct{}), ended: make(chan struct{})}
	s.timer = time.NewTimer(time.Hour)
	s.timer.Stop()
	return s
}

// Open reads what an earlier process has kept. Damage costs the damaged records,
// and is told in the log.
func (s *Store) Open() error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if s.opened {
		return fmt.Errorf("open the execution records %s: they were opened before", s.opts.Dir)
	}
	s.opened = true
	if err := s.load(); err != nil {
		s.closeFiles()
		return fmt.Errorf("open the execution records %s: %w", s.opts.Dir, err)
	}
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
	go s.run()
	return nil
}

// +checklocks:s.disk
func (s *Store) load() error {
	if err := os.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return err
	}
	var numbers []uint64
	for _, f := range files {
		if n, is := segmentNumber(f.Name()); is {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	last := uint64(0)
	for _, n := range numbers {
		last = n
		seg, damaged, err := openSegment(s.opts.Dir, n)
		switch {
		case errors.Is(err, errForeign) && damaged > 0:
			s.opts.Log.Warn("a file of execution records is unreadable, and is removed", "file", segmentPath(s.opts.Dir, n), "bytes", damaged)
			fallthrough
		case errors.Is(err, errForeign): // an empty one is what a crash left of the beginning of one
			if err := os.Remove(segmentPath(s.opts.Dir, n)); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		case damaged > 0:
			s.opts.Log.Warn("execution records were damaged, most likely when the machine or the server was stopped; the others are kept",
				"file", segmentPath(s.opts.Dir, n), "bytes_passed_over", damaged, "records_kept", len(seg.index))
		}
		s.segments = append(s.segments, seg)
		s.kept += len(seg.index)
	}
	if len(s.segments) == 0 {
		if err := s.begin(last + 1); err != nil {
			return err
		}
	}
	s.drop()
	return nil
}

// begin begins a new segment.
//
// +checklocks:s.disk
func (s *Store) begin(number uint64) error {
	seg, err := newSegment(s.opts.Dir, number)
	if err == nil {
		s.segments = append(s.segments, seg)
	}
	return err
}

// drop removes the oldest segments that are not needed for what is to be kept.
//
// +checklocks:s.disk
func (s *Store) drop() {
	for len(s.segments) > 1 && s.kept-len(s.segments[0].index) >= s.opts.Keep {
		oldest := s.segments[0]
		s.kept -= len(oldest.index)
		s.segments = append([]*segment(nil), s.segments[1:]...)
		if err := oldest.remove(s.opts.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.opts.Log.Warn("a file of execution records that is not needed any more stays until the next start", "error", err)
		}
	}
}

// Close writes what has gathered and closes the files. What is added after is
// lost. It may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.open
	s.open = false
	s.mu.Unlock()
	if !was {
		return nil
	}
	close(s.end)
	<-s.ended
	s.flush()
	s.disk.Lock()
	defer s.disk.Unlock()
	var err error
	if last := s.segments[len(s.segments)-1]; len(last.tail) > 0 {
		err = fmt.Errorf("close the execution records %s: the disk did not take the last %d bytes", s.opts.Dir, len(last.tail))
	}
	return errors.Join(err, s.closeFiles())
}

// +checklocks:s.disk
func (s *Store) closeFiles() (err error) {
	for _, seg := range s.segments {
		err = errors.Join(err, seg.file.Close())
	}
	s.segments, s.kept = nil, 0
	return err
}

// Add takes a record. It copies it and waits for nobody. Over the bound of those
// that wait for the disk records are lost, and counted.
func (s *Store) Add(e *Execution) {
	s.mu.Lock()
	if !s.open || len(s.pending) >= maxPending {
		s.mu.Unlock()
		s.lost.Add(1)
		return
	}
	s.pending = append(s.pending, *e)
	start := !s.ticking
	s.ticking = true
	s.mu.Unlock()
	if start {
		s.timer.Reset(s.gather)
	}
}

// Lost is how many records were not taken since the store was made.
func (s *Store) Lost() int64 { return s.lost.Load() }

// run writes what has gathered. Open starts it, Close ends it and waits.
func (s *Store) run() {
	defer close(s.ended)
	for {
		select {
		case <-s.end:
			s.timer.Stop()
			return
		case <-s.timer.C:
		}
		wrote := s.flush()
		s.mu.Lock()
		// As long as records come, the timer is not the calls' to start.
		s.ticking = wrote > 0 || len(s.pending) > 0
		if s.ticking {
			s.timer.Reset(s.gather)
		}
		s.mu.Unlock()
	}
}

// flush writes what was added before.
func (s *Store) flush() (wrote int) {
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	batch := s.pending
	s.pending = s.spare[:0]
	s.mu.Unlock()
	if len(s.segments) > 0 {
		s.write(batch)
	}
	if lost := s.lost.Load(); lost > s.told && !s.failing && len(batch) < maxPending {
		s.opts.Log.Warn("execution records were lost: they came faster than the disk took them", "records", lost-s.told)
		s.told = lost
	}
	wrote = len(batch)
	clear(batch) // it keeps no text alive
	if s.spare = batch[:0]; cap(batch) > maxPending/8 {
		s.spare = nil
	}
	return wrote
}

// write appends a batch and asks the disk to take it.
//
// +checklocks:s.disk
func (s *Store) write(batch []Execution) {
	last := s.segments[len(s.segments)-1]
	full := max(1, s.opts.Keep/segments)
	for k := range batch {
		if len(last.index) >= full && len(last.tail) == 0 || last.size > maxSegment-maxUnsaved {
			last = s.next(last)
		}
		if len(last.tail) > maxUnsaved-maxBody-frameSize {
			s.lost.Add(1)
			continue
		}
		last.append(&batch[k])
		s.kept++
		if len(last.index) == full { // so that the next one can begin
			s.save(last)
		}
	}
	s.save(last)
	s.drop()
}

// next begins the next segment. While the disk does not let it, the last one
// grows.
//
// +checklocks:s.disk
func (s *Store) next(last *segment) *segment {
	if err := s.begin(last.number + 1); err != nil {
		s.refused(err)
		return last
	}
	return s.segments[len(s.segments)-1]
}

// +checklocks:s.disk
func (s *Store) save(seg *segment) {
	if err := seg.save(); err != nil {
		s.refused(err)
		return
	}
	s.failing = false
}

// +checklocks:s.disk
func (s *Store) refused(err error) {
	if !s.failing {
		s.failing = true
		s.opts.Log.Warn("execution records cannot be stored; the newest are kept in memory until they can", "error", err)
	}
}

// Query says which records are wanted; empty fields stand for any.
type Query struct {
	Account   lambent.AccountID
	Function  lambent.FunctionName
	RequestID lambent.RequestID
	Limit     int // at most so many
}

// wants is the exact test, for a record that was read.
func (q *Query) wants(e *Execution) bool {
	return (q.Account == "" || q.Account == e.Account) && (q.Function == "" || q.Function == e.Function) &&
		(q.RequestID == "" || q.RequestID == e.RequestID)
}

// Newest delivers the records that are wanted, the newest first, everything that
// was added before included, until Limit is reached, ctx ends or deliver fails.
// deliver may take its time: nobody waits for it. What is dropped meanwhile, as
// too old, is left out.
func (s *Store) Newest(ctx context.Context, q Query, deliver func(*Execution) error) error {
	s.flush()
	c := cursor{query: q, left: q.Limit, segment: math.MaxUint64, next: fromEnd}
	for !c.done {
		if damage := s.chunk(&c); damage != nil {
			s.opts.Log.Warn("an execution record is left out of an answer", "error", damage)
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		for k := range c.chunk {
			if err := deliver(&c.chunk[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// cursor is how far a reader has come.
type cursor struct {
	query   Query
	left    int    // of the limit
	segment uint64 // number of the one to read on in, or the next lower one there is
	next    int    // in its index: those from here on were seen; fromEnd: none
	done    bool
	chunk   []Execution
}

const fromEnd = -1

// The disk's lock is held for one chunk: reading 256 records, or looking at the
// entries of one segment, takes some tenths of a millisecond.
const chunkRecords = 256

// chunk reads on. It reports the last record that could not be read.
func (s *Store) chunk(c *cursor) (damage error) {
	s.disk.RLock()
	defer s.disk.RUnlock()
	c.chunk = c.chunk[:0]
	k := len(s.segments) - 1
	for k >= 0 && s.segments[k].number > c.segment {
		k--
	}
	if k < 0 || c.left <= 0 {
		c.done = true
		return nil
	}
	seg := s.segments[k]
	if seg.number != c.segment || c.next == fromEnd {
		c.segment, c.next = seg.number, len(seg.index)
	}
	account, function, request := hash(string(c.query.Account)), hash(string(c.query.Function)), hash(string(c.query.RequestID))
	var buf [frameSize + maxBody]byte
	for c.next > 0 && c.left > 0 && len(c.chunk) < chunkRecords {
		c.next--
		at := seg.index[c.next]
		if c.query.Account != "" && at.account != account || c.query.Function != "" && at.function != function ||
			c.query.RequestID != "" && at.request != request {
			continue
		}
		e, err := seg.read(at, buf[:])
		if err != nil {
			damage = err
			continue
		}
		if c.query.wants(&e) {
			c.chunk = append(c.chunk, e)
			c.left--
		}
	}
	if c.next == 0 {
		c.segment, c.next = seg.number-1, fromEnd // numbers begin with 1
	}
	return damage
}
