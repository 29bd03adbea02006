package failures

import (
	"context"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Filter says which failures are meant: all that its fields allow; a zero field
// allows all.
type Filter struct {
	Account  lambent.AccountID
	Function lambent.FunctionName
	Reason   Reason
	Since    time.Time // not failed last before
	// Before and After bound the order of failures, which grows from one that
	// failed to the next; neither is included.
	Before, After uint64
}

// found is a failure that a filter wants.
type found struct {
	key   hash
	at    ref
	order uint64
	mark  mark
}

// choose finds the first of what a filter wants, and also does.
func (s *Store) choose(f *Filter, oldestFirst bool, limit int, also func(*entry) bool) (all []found, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.walk(f, oldestFirst, func(e *entry) bool {
		if also != nil && !also(e) {
			return true
		}
		if len(all) == limit {
			more = true
			return false
		}
		all = append(all, found{e.key, e.ref, e.order, e.mark()})
		return true
	})
	return all, more
}

// Page is what a filter found: a number of failures, the newest first.
type Page struct {
	Next  uint64 // the Before of those that follow; 0: none do
	store *Store
	found []found
}

// Find finds failures, limit of them at most.
func (s *Store) Find(f Filter, limit int) *Page {
	p := &Page{store: s}
	var more bool
	if p.found, more = s.choose(&f, false, limit, nil); more {
		p.Next = p.found[len(p.found)-1].order
	}
	return p
}

// Each calls visit with the failures of a page, which are read from the disk then,
// until it returns an error, which Each then returns as it is. What went
// meanwhile is passed over.
func (p *Page) Each(ctx context.Context, visit func(*Record) error) error {
	r := reading{store: p.store}
	for _, one := range p.found {
		record, err := r.read(ctx, one)
		switch {
		case err == nil:
			err = visit(record)
		case lambent.KindOf(err) == lambent.KindNotFound:
			continue
		case lambent.KindOf(err) == lambent.KindInternal:
			p.store.opts.Log.Error("a failure is not listed: it cannot be read from the disk", "err", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Locate gives the keys that failures have of a request id: one for each account
// that has one.
func (s *Store) Locate(id lambent.RequestID) (keys []Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for account := range s.index.accounts {
		if k := (Key{account, id}); s.index.find(k.hash()) != nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// Newest is the order of the newest failure there was.
func (s *Store) Newest() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// reading reads one failure after the other, which are mostly in the same packs:
// those that were put at once are not quite in their order.
type reading struct {
	store *Store
	packs [4]cluster.Pack
	next  int // the one to be given up
}

// read reads a failure; KindNotFound where it went.
func (r *reading) read(ctx context.Context, one found) (*Record, error) {
	pack, err := r.pack(ctx, one.at.pack())
	if err != nil && lambent.KindOf(err) != lambent.KindNotFound {
		return nil, err
	}
	if err != nil || one.at.index() >= len(pack.Entries) {
		return r.store.read(ctx, one.key) // it was moved, or went
	}
	return r.store.decode(pack.Entries[one.at.index()], one.mark)
}

func (r *reading) pack(ctx context.Context, number uint64) (cluster.Pack, error) {
	for _, p := range r.packs {
		if p.Number == number {
			return p, nil
		}
	}
	p, err := r.store.journal.Read(ctx, number)
	if err != nil {
		return p, err
	}
	r.packs[r.next] = p
	r.next = (r.next + 1) % len(r.packs)
	return p, nil
}

// FunctionStats tells what a function has in the store.
type FunctionStats struct {
	Account   lambent.AccountID
	Function  lambent.FunctionName
	Count     int
	Redriving int
	Bytes     int64
	Oldest    time.Time // when the one that was stored first failed last
}

// Stats tells of every function that has a failure, in no order.
func (s *Store) Stats() []FunctionStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]FunctionStats, 0, len(s.index.lines))
	for of, l := range s.index.lines {
		all = append(all, FunctionStats{of.account, of.name, l.count, l.marked, l.bytes, time.UnixMilli(s.index.entries[l.oldest].last)})
	}
	return all
}

// Size tells how many failures there are, and how many bytes the journal has on
// the disk.
func (s *Store) Size() (failures int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.count, s.index.packs.bytes
}
