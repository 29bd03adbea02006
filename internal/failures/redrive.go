package failures

import (
	"context"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Queue is where a redrive puts events: all of them, on the disk when it returns
// nil, or none. Their ids are those of the failures, their source is Source.
// Whoever works the queue tells what became of each: Succeeded, or Put again.
type Queue interface {
	Accept(ctx context.Context, events ...*Record) error
}

// Target is a function, version or alias that is to process what another did not.
type Target struct {
	Function  lambent.FunctionName
	Qualifier string // empty: $LATEST
}

const (
	// redriveBatch and redriveBytes are what is put into the queue at once.
	redriveBatch = 64
	redriveBytes = 1 << 20
	// batchesPerSecond is how even a rate is.
	batchesPerSecond = 10
)

// Redrive puts a failure into the queue again, for its function or another one.
// It stays until it was processed. KindNotFound where there is none, KindExists
// while it is in the queue already.
func (s *Store) Redrive(ctx context.Context, k Key, to *Target) error {
	const op = "redrive failure"
	h := k.hash()
	if err := s.hold(ctx, h); err != nil {
		return err
	}
	defer s.letGo(h)
	r, err := s.read(ctx, h)
	if err != nil {
		return err
	}
	if !r.Redriving.IsZero() && s.opts.now().Sub(r.Redriving) < markLimit {
		return &lambent.Error{Op: op, Resource: string(k.RequestID), Kind: lambent.KindExists, Message: fmt.Sprintf("It is being redriven already, since %s", r.Redriving.Format(time.RFC3339))}
	}
	return s.requeue(ctx, []hash{h}, []*Record{r}, to, byHand)
}

// requeue has the queue take failures, which are held, and marks them.
func (s *Store) requeue(ctx context.Context, keys []hash, records []*Record, to *Target, by cause) error {
	if s.opts.Queue == nil {
		return &lambent.Error{Op: "redrive failure", Kind: lambent.KindUnsupported, Message: "This server has no queue of events"}
	}
	for _, r := range records {
		if to != nil && *to != (Target{r.Function, r.Qualifier}) {
			r.Function, r.Qualifier, r.State = to.Function, to.Qualifier, nil
		}
	}
	if err := s.opts.Queue.Accept(ctx, records...); err != nil {
		return err
	}
	m := mark{s.opts.now().Unix(), by}
	err := s.journal.Append(context.WithoutCancel(ctx), cluster.Append{Entries: [][]byte{encodeMarks(m, keys)}, Essential: true, Stored: func(at cluster.Position) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.packs.add(at.Pack, at.Bytes)
		s.index.markAll(keys, m)
	}})
	if err != nil { // they are in the queue all the same
		s.opts.Log.Warn("failures are redriven, and that could not be written: after a restart they may be redriven once more", "count", len(keys), "err", err)
		s.mu.Lock()
		s.index.markAll(keys, m)
		s.mu.Unlock()
	}
	return nil
}

// Batch is how many failures are redriven.
type Batch struct {
	Limit int           // at most so many; 0: all
	For   time.Duration // for about so long; 0: until all are
	Rate  float64       // so many a second; 0: as fast as the queue takes them
	To    *Target       // nil: each to its own function
}

// Progress is what a batch did.
type Progress struct {
	Redriven int    // were put into the queue
	Skipped  int    // are there already, went meanwhile, or cannot be read
	Next     uint64 // the After of those that are still to be done; 0: none are
}

// RedriveAll redrives what a filter wants, the oldest first. What fails again is
// newer than all there was, and not redriven twice: only failures up to
// Filter.Before are, or, where that is 0, to the newest there is now. After an
// error, too, Progress says how far it came.
func (s *Store) RedriveAll(ctx context.Context, f Filter, by Batch) (p Progress, err error) {
	if f.Before == 0 {
		f.Before = s.Newest() + 1
	}
	size := redriveBatch
	if by.Rate > 0 {
		size = min(size, max(1, int(by.Rate/batchesPerSecond)))
	}
	began := s.opts.now()
	pace := time.NewTimer(time.Hour)
	defer pace.Stop()
	for p.Next = f.After; ; {
		n := size
		if by.Limit > 0 {
			n = min(n, by.Limit-p.Redriven-p.Skipped)
		}
		f.After = p.Next
		all, more := s.choose(&f, true, n, nil)
		done, err := s.redriveSome(ctx, all, by.To, byHand)
		p.Redriven += done.Redriven
		p.Skipped += done.Skipped
		if done.Next > 0 {
			p.Next = done.Next
		}
		if err != nil {
			return p, err
		}
		if !more {
			p.Next = 0
			return p, nil
		}
		wait := time.Duration(0)
		if by.Rate > 0 {
			wait = time.Duration(float64(done.Redriven) / by.Rate * float64(time.Second))
		}
		pace.Reset(wait)
		select { // before it ends, too: whoever goes on keeps to the rate
		case <-pace.C:
		case <-ctx.Done():
			return p, &lambent.Error{Op: "redrive failures", Kind: lambent.KindUnavailable, Err: context.Cause(ctx)}
		}
		if by.Limit > 0 && p.Redriven+p.Skipped >= by.Limit || by.For > 0 && s.opts.now().Sub(began) >= by.For {
			return p, nil
		}
	}
}

// redriveSome redrives failures that are in the order of a filter; Progress.Next is
// the last one that is done with.
func (s *Store) redriveSome(ctx context.Context, all []found, to *Target, by cause) (p Progress, err error) {
	r := reading{store: s}
	var keys []hash
	var records []*Record
	bytes := 0
	flush := func() error {
		defer func() { s.letGo(keys...); keys, records, bytes = nil, nil, 0 }()
		if len(keys) == 0 {
			return nil
		}
		if err := s.requeue(ctx, keys, records, to, by); err != nil {
			return err
		}
		p.Redriven += len(keys)
		return nil
	}
	for _, one := range all {
		record := s.take(ctx, &r, one)
		if record == nil {
			p.Skipped++
			continue
		}
		if size := len(record.Payload) + len(record.State); len(keys) > 0 && bytes+size > redriveBytes {
			if err := flush(); err != nil {
				s.letGo(one.key)
				return p, err
			}
			p.Next = one.order - 1
		}
		keys, records = append(keys, one.key), append(records, record)
		bytes += len(record.Payload) + len(record.State)
	}
	if err := flush(); err != nil {
		return p, err
	}
	if len(all) > 0 {
		p.Next = all[len(all)-1].order
	}
	return p, nil
}

// take takes hold of a failure to redrive it; nil where that cannot be.
func (s *Store) take(ctx context.Context, r *reading, one found) *Record {
	if !s.tryHold(one.key) {
		return nil // somebody redrives, edits or removes it
	}
	s.mu.Lock()
	e := s.index.find(one.key)
	free := e != nil && !s.inQueue(e.mark())
	if free {
		one.at, one.mark = e.ref, e.mark()
	}
	s.mu.Unlock()
	if free {
		record, err := r.read(ctx, one)
		if err == nil {
			return record
		}
		if lambent.KindOf(err) == lambent.KindInternal { // it never will be: that it is marked keeps rules from trying it on and on
			s.mu.Lock()
			s.index.markAll([]hash{one.key}, mark{s.opts.now().Unix(), byHand})
			s.mu.Unlock()
		}
		s.opts.Log.Error("a failure is not redriven: it cannot be read", "err", err)
	}
	s.letGo(one.key)
	return nil
}
