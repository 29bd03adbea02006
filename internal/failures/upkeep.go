package failures

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

const (
	// expireBatch is how many failures are expired by one write.
	expireBatch = 1000
	// expireLook is how often the machine's clock is looked at, which may jump.
	expireLook = time.Minute
)

// use tells what of the journal is needed.
func (x *index) use() cluster.Use {
	needed, dead := x.packs.dead()
	return cluster.Use{Needed: needed, Dead: dead, Bytes: x.packs.bytes, Live: x.packs.live}
}

// checkTidy has the journal shortened where that can be done.
//
// +checklocks:s.mu
func (s *Store) checkTidy() {
	if s.index.use().Untidy() {
		wake(s.tidy)
	}
}

// shorten drops the beginning of the journal whenever there is enough to drop.
func (s *Store) shorten() {
	cluster.Upkeep(s.running, s.tidy, s.opts.Log, "the journal of failures cannot be shortened", func(ctx context.Context) (time.Duration, error) {
		return 0, s.journal.Shorten(ctx, contents{s})
	})
}

// contents is the store as its journal's Shorten sees it.
type contents struct{ *Store }

// Use tells what of the journal is needed.
func (s contents) Use() cluster.Use {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.use()
}

// Dropped forgets packs.
func (s contents) Dropped(first uint64) (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	some = first > s.index.packs.first
	s.index.packs.drop(first)
	return some
}

// place is where a failure stands.
type place struct {
	at  ref
	key hash
}

// Clear moves the failures of the journal's first packs to its end.
func (s contents) Clear(ctx context.Context) (moved bool, err error) {
	var places []place
	s.mu.Lock()
	p := &s.index.packs
	end, bytes := p.first, int64(0)
	for ; end+1 < p.next() && bytes < cluster.MoveBytes; end++ {
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
	for size := 0; n < len(places) && size < cluster.MoveBatch; n++ {
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
	cluster.Upkeep(s.running, s.age, s.opts.Log, "failures that are too old cannot be removed", func(ctx context.Context) (time.Duration, error) {
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
