package queue

import (
	"context"
	"slices"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// use tells what of the journal is needed.
//
// +checklocks:q.mu
func (q *Queue) use() cluster.Use {
	needed, dead := q.packs.dead()
	return cluster.Use{Needed: needed, Dead: dead, Bytes: q.packs.bytes, Live: q.packs.live}
}

// shorten drops the beginning of the journal whenever there is enough to drop.
func (q *Queue) shorten() {
	cluster.Upkeep(q.running, q.tidy, q.opts.Log, "the journal of events cannot be shortened", func(ctx context.Context) (time.Duration, error) {
		return 0, q.journal.Shorten(ctx, contents{q})
	})
}

// contents is the queue as its journal's Shorten sees it.
type contents struct{ *Queue }

// Use tells what of the journal is needed.
func (q contents) Use() cluster.Use {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.use()
}

// Dropped forgets packs.
func (q contents) Dropped(first uint64) (some bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	some = first > q.packs.first
	q.packs.drop(first)
	return some
}

// Clear moves the events of the journal's first packs to its end.
func (q contents) Clear(ctx context.Context) (moved bool, err error) {
	refs := q.early()
	for len(refs) > 0 {
		n, err := q.move(ctx, refs)
		if err != nil {
			return moved, err
		}
		moved, refs = true, refs[n:]
	}
	return moved, nil
}

// early lists what waits, or is worked on, in the first MoveBytes of the journal,
// in its order.
func (q *Queue) early() []ref {
	var refs []ref
	q.mu.Lock()
	defer q.mu.Unlock()
	end, bytes := q.packs.first, int64(0)
	for ; end+1 < q.packs.next() && bytes < cluster.MoveBytes; end++ {
		bytes += int64(q.packs.of(end).bytes)
	}
	for _, r := range q.places(q.packs.first, end) {
		refs = append(refs, *r)
	}
	slices.Sort(refs)
	return refs
}

// places lists where refs of the packs from begin to before end are kept. One may
// be changed there, but for the keys of taken and recent.
//
// +checklocks:q.mu
func (q *Queue) places(begin, end uint64) (places []*ref) {
	for _, l := range q.lines {
		for i := range l.due.size {
			if r := l.due.at(i); r.within(begin, end) {
				places = append(places, r)
			}
		}
	}
	for i := range q.delays {
		if r := &q.delays[i].ref; r.within(begin, end) {
			places = append(places, r)
		}
	}
	for _, t := range q.taken {
		if t.ref.within(begin, end) {
			places = append(places, &t.ref)
		}
	}
	return places
}

// move writes the first of some events anew, and tells how many. What is settled
// or put back meanwhile is then written for nothing.
func (q *Queue) move(ctx context.Context, refs []ref) (n int, err error) {
	now := q.clock.stamp()
	var entries [][]byte
	var from []ref
	var accepted []int64
	for size := 0; n < len(refs) && size < cluster.MoveBatch; n++ {
		r := refs[n]
		pack, err := q.reader.pack(ctx, r.pack())
		if err != nil && lambent.KindOf(err) != lambent.KindNotFound {
			return n, err
		}
		if err != nil || r.index() >= len(pack) {
			q.lose(r, err)
			continue
		}
		d := decoder{rest: pack[r.index()]}
		_, s := d.begin()
		env := d.envelope(s)
		if d.err != nil {
			q.lose(r, d.err)
			continue
		}
		left := bound(env.at+env.delay.Milliseconds()-now.at, 0, env.delay.Milliseconds())
		entry := encodeMoved(envelope{stamp: now, replaces: r, delay: time.Duration(left) * time.Millisecond, accepted: env.accepted}, d.rest)
		entries, from, accepted = append(entries, entry), append(from, r), append(accepted, env.accepted)
		size += len(entry)
	}
	return n, q.journal.Append(ctx, cluster.Append{Entries: entries, Essential: true, Stored: func(at cluster.Position) {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.written(at)
		to := make(map[ref]ref, len(from))
		for i, r := range from {
			moved := makeRef(at.Pack, at.Index+uint32(i))
			q.packs.hold(moved, accepted[i])
			to[r] = moved
		}
		q.relocate(from[0].pack(), from[len(from)-1].pack()+1, to)
	}})
}

// relocate has everybody know that events stand elsewhere. What nobody knows of
// any more was settled, or put back, while it was moved.
//
// +checklocks:q.mu
func (q *Queue) relocate(begin, end uint64, to map[ref]ref) {
	for _, r := range q.places(begin, end) {
		old := *r
		moved, ok := to[old]
		if !ok {
			continue
		}
		if t := q.taken[old]; t != nil && r == &t.ref {
			delete(q.taken, old)
			q.taken[moved] = t
		}
		q.recent.drop(old)
		q.release(old)
		*r = moved
		delete(to, old)
	}
	for _, moved := range to {
		q.release(moved)
		q.settled = append(q.settled, moved)
		wake(q.settle)
	}
}

// lose gives up an event that cannot be read, if it still waits.
func (q *Queue) lose(r ref, err error) {
	q.opts.Log.Error("an accepted event is lost: it cannot be read from the disk any more", "err", err)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.lines {
		if l.due.remove(r) {
			q.gone(r, l)
			return
		}
	}
	for i, d := range q.delays {
		if d.ref == r {
			q.delays.remove(i)
			d.line.delayed--
			q.gone(r, d.line)
			return
		}
	}
}

// gone counts an event that is not there any more.
//
// +checklocks:q.mu
func (q *Queue) gone(r ref, l *line) {
	q.recent.drop(r)
	q.release(r)
	q.settled = append(q.settled, r)
	q.forget(l)
	wake(q.settle)
}
