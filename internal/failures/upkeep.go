package failures

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

const (
	// dropBytes is how much is dropped at once: a block of the engine's files.
	dropBytes = 8 << 20
	// spareBytes is how much that is not needed a journal may have beside as much
	// as is.
	spareBytes = 64 << 20
	// moveBytes is how much of the journal's beginning is cleared at a time, and
	// moveBatch how much of it is written at once.
	moveBytes = 16 << 20
	moveBatch = 256 << 10
	// upkeepAgain is when it is tried again after the disk did not let it.
	upkeepAgain = 5 * time.Second
	// expireBatch is how many failures are expired by one write.
	expireBatch = 1000
	// expireLook is how often the machine's clock is looked at, which may jump.
	expireLook = time.Minute
)

// wasteful tells whether what is in the way must be written anew.
func (x *index) wasteful() bool { return x.packs.bytes-x.packs.live >= x.packs.live+spareBytes }

// checkTidy has the journal shortened where that can be done.
//
// +checklocks:s.mu
func (s *Store) checkTidy() {
	if _, dead := s.index.packs.dead(); dead >= dropBytes || s.index.wasteful() {
		wake(s.tidy)
	}
}

// upkeep does something whenever it is told to, and again after it failed or
// asked for it.
func (s *Store) upkeep(told chan struct{}, what string, do func(context.Context) (again time.Duration, err error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-s.running.Done():
			return
		case <-told:
		case <-timer.C:
		}
		again, err := do(s.running)
		if s.running.Err() != nil {
			return
		}
		if err != nil && !failing {
			s.opts.Log.Warn(what+"; it is tried on", "err", err)
		}
		if failing = err != nil; failing {
			again = upkeepAgain
		}
		timer.Stop()
		if again > 0 {
			timer.Reset(again)
		}
	}
}

// shorten drops the beginning of the journal whenever there is enough to drop.
func (s *Store) shorten() {
	s.upkeep(s.tidy, "the journal of failures cannot be shortened", func(ctx context.Context) (time.Duration, error) { return 0, s.tidyUp(ctx) })
}

func (s *Store) tidyUp(ctx context.Context) error {
	for {
		s.mu.Lock()
		before, dead := s.index.packs.dead()
		wasteful := s.index.wasteful()
		s.mu.Unlock()
		switch {
		case dead >= dropBytes:
			first, err := s.journal.Drop(ctx, before)
			if err != nil {
				return err
			}
			s.mu.Lock()
			some := first > s.index.packs.first
			s.index.packs.drop(first)
			s.mu.Unlock()
			if !some {
				return nil // what is dead is not whole blocks of a file yet
			}
		case wasteful:
			moved, err := s.clear(ctx)
			if err != nil || !moved {
				return err
			}
		default:
			return nil
		}
	}
}

// place is where a failure stands.
type place struct {
	at  ref
	key hash
}

// clear moves the failures of the journal's first packs to its end.
func (s *Store) clear(ctx context.Context) (moved bool, err error) {
	var places []place
	s.mu.Lock()
	p := &s.index.packs
	end, bytes := p.first, int64(0)
	for ; end+1 < p.next() && bytes < moveBytes; end++ {
		bytes += int64(p.table[end-p.first].bytes)
	}
	for i := range s.index.entries {
		if e := &s.index.entries[i]; e.ref != 0 && e.ref.pack() < end {
			places = append(places, place{e.ref, e.key})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(places, func(a, b place) int { return int(a.at.pack()) - int(b.at.pack()) })
	for len(places) > 0 {
		n, err := s.move(ctx, places)
		if err != nil {
			return moved, err
		}
		moved, places = true, places[n:]
	}
	return moved, nil
}

// move writes the first of some failures anew, and tells how many.
func (s *Store) move(ctx context.Context, places []place) (n int, err error) {
	var held []hash
	var entries [][]byte
	var keys []hash
	defer func() { s.letGo(held...) }()
	var pack cluster.Pack
	for size := 0; n < len(places) && size < moveBatch; n++ {
		p := places[n]
		if err := s.hold(ctx, p.key); err != nil {
			return n, err
		}
		held = append(held, p.key)
		s.mu.Lock()
		e := s.index.find(p.key)
		same := e != nil && e.ref == p.at
		var m mark
		if same {
			m = e.mark()
		}
		s.mu.Unlock()
		if !same {
			continue // it went, or was written anew
		}
		if pack.Number != p.at.pack() {
			if pack, err = s.journal.Read(ctx, p.at.pack()); err != nil && lambent.KindOf(err) != lambent.KindNotFound {
				return n, err
			}
		}
		if err != nil || p.at.index() >= len(pack.Entries) {
			s.lose(p, err)
			continue
		}
		d := decoder{rest: pack.Entries[p.at.index()]}
		d.byte()
		env := d.envelope()
		if d.err != nil {
			s.lose(p, d.err)
			continue
		}
		env.mark = m
		entry := encodeMoved(env, d.rest)
		if size+len(entry)+cluster.EntryOverhead > cluster.MaxAppend {
			break // it is the next move's
		}
		entries, keys = append(entries, entry), append(keys, p.key)
		size += len(entry)
	}
	return n, s.journal.Append(ctx, cluster.Append{Entries: entries, Essential: true, Stored: func(at cluster.Position) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.packs.add(at.Pack, at.Bytes)
		for i, k := range keys {
			s.index.move(s.index.find(k), makeRef(at.Pack, at.Index+uint32(i)))
		}
	}})
}

// lose gives up a failure that cannot be read, and is held.
func (s *Store) lose(p place, err error) {
	s.opts.Log.Error("a failure is lost: it cannot be read from the disk any more", "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.remove(p.key)
}

// expire removes what has been there for too long.
func (s *Store) expire() {
	s.upkeep(s.age, "failures that are too old cannot be removed", func(ctx context.Context) (time.Duration, error) {
		for {
			old, next := s.overdue()
			if len(old) == 0 {
				return next, nil
			}
			err := s.remove(ctx, old)
			s.letGo(old...)
			if err != nil {
				return 0, err
			}
			s.opts.Log.Info("failures were removed because they were too old", "count", len(old), "retention", s.opts.Retention)
		}
	})
}

// overdue takes hold of failures that are too old, and tells when to look again: 0
// where there is none. Those that somebody else holds are left for then.
func (s *Store) overdue() (old []hash, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.opts.now().Add(-s.opts.Retention).UnixMilli()
	for _, l := range s.index.lines {
		for slot := l.oldest; slot != 0; slot = s.index.entries[slot].newer {
			e := &s.index.entries[slot]
			if wait := time.Duration(e.last-until) * time.Millisecond; wait > 0 {
				if next == 0 || wait < next {
					next = wait
				}
				break
			}
			if len(old) == expireBatch {
				return old, 0
			}
			if s.tryHold(e.key) {
				old = append(old, e.key)
			} else {
				next = time.Second
			}
		}
	}
	return old, min(next, expireLook)
}
