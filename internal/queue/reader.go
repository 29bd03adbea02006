package queue

import (
	"container/list"
	"context"
	"sync"

	"lambent"
	"lambent/internal/cluster"
)

// source is where packs are read from: a journal.
type source interface {
	Read(ctx context.Context, number uint64) (cluster.Pack, error)
}

// reader reads packs and keeps those that were read last, because the next events
// of a line are mostly in the same one.
type reader struct {
	from  source
	limit int // bytes

	mu sync.Mutex
	// +checklocks:mu
	packs map[uint64]*list.Element // of *held
	// +checklocks:mu
	order list.List // the last used first
	// +checklocks:mu
	used int
}

// held is a pack that was read, or is being read.
type held struct {
	number  uint64
	entries [][]byte
	bytes   int
	err     error
	read    chan struct{} // closed when the fields above are there
}

func newReader(from source, limit int) *reader {
	return &reader{from: from, limit: limit, packs: map[uint64]*list.Element{}}
}

// pack gives the entries of a pack; KindNotFound where it is not there or cannot
// be read.
func (r *reader) pack(ctx context.Context, number uint64) ([][]byte, error) {
	r.mu.Lock()
	if at, ok := r.packs[number]; ok {
		r.order.MoveToFront(at)
		h := at.Value.(*held)
		r.mu.Unlock()
		select {
		case <-h.read:
			return h.entries, h.err
		case <-ctx.Done():
			return nil, &lambent.Error{Op: "read event", Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
		}
	}
	h := &held{number: number, read: make(chan struct{})}
	r.packs[number] = r.order.PushFront(h)
	r.mu.Unlock()

	// Others wait for it, so it goes on without this caller.
	p, err := r.from.Read(context.WithoutCancel(ctx), number)
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(h.read)
	if err != nil {
		h.err = err
		r.order.Remove(r.packs[number])
		delete(r.packs, number)
		return nil, err
	}
	const perEntry = 24 // a slice
	h.entries, h.bytes = p.Entries, p.Bytes+perEntry*len(p.Entries)
	r.used += h.bytes
	r.evict()
	return h.entries, nil
}

// evict drops what was not used for longest. One that is being read counts for
// nothing yet.
//
// +checklocks:r.mu
func (r *reader) evict() {
	for at := r.order.Back(); at != nil && r.used > r.limit; {
		h, before := at.Value.(*held), at.Prev()
		if h.bytes > 0 {
			r.used -= h.bytes
			delete(r.packs, h.number)
			r.order.Remove(at)
		}
		at = before
	}
}
