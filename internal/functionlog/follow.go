package functionlog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"lambent"
)

// followerBytes is how far a follower may lag behind, in bytes of text, before
// lines are kept from it.
const followerBytes = 1 << 20

// follower is what waits for one reader of new lines.
type follower struct {
	want  Filter
	limit int           // bytes that may wait
	wake  chan struct{} // something waits
	ended chan struct{} // the log was closed
	note  func(format string, args ...any) Entry

	mu sync.Mutex
	// +checklocks:mu
	waiting []Entry
	// +checklocks:mu
	bytes int
	// +checklocks:mu
	skipped int
}

// Follow calls deliver with what is kept of a function's log, as Read gives it,
// and then with every new entry as it comes, none twice and none left out, until
// ctx ends, deliver fails, or the log is closed. It returns why.
//
// deliver may take its time: nobody waits for it. A reader too slow by more than
// a megabyte misses lines, and is given a note that says how many.
func (l *Log) Follow(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, want Filter, deliver func(Entry) error) error {
	return l.follow(ctx, owner{account, name}, want, followerBytes, deliver)
}

func (l *Log) follow(ctx context.Context, o owner, want Filter, limit int, deliver func(Entry) error) error {
	f := &follower{want: want, limit: limit, wake: make(chan struct{}, 1), ended: make(chan struct{}), note: l.note}
	var stored *sections
	var err error
	// In one step, so that nothing falls between what is stored and what is new.
	e := l.do(ctx, func() {
		if stored, err = openSections(l.writer.dir, o); err == nil {
			l.writer.attach(o, f)
		}
	})
	if e != nil || err != nil {
		return fmt.Errorf("follow log of %s: %w", o.name, errors.Join(e, err))
	}
	defer func() {
		// Where the writer has ended, so has the follower.
		_ = l.do(context.WithoutCancel(ctx), func() { l.writer.detach(o, f) })
	}()
	entries, err := stored.read(ctx, want)
	if err = errors.Join(err, stored.close()); err != nil {
		return fmt.Errorf("follow log of %s: %w", o.name, err)
	}
	for ended := false; ; {
		for _, e := range entries {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := deliver(e); err != nil {
				return err
			}
		}
		if ended {
			return fmt.Errorf("follow log of %s: %w", o.name, errClosed)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-f.wake:
		case <-f.ended:
			ended = true // after what came before
		}
		entries = f.take()
	}
}

func (w *writer) attach(o owner, f *follower) {
	if w.followers[o] == nil {
		w.followers[o] = map[*follower]bool{}
	}
	w.followers[o][f] = true
}

func (w *writer) detach(o owner, f *follower) {
	delete(w.followers[o], f)
	if len(w.followers[o]) == 0 {
		delete(w.followers, o)
	}
}

// push gives the follower what is new.
func (f *follower) push(entries []Entry) {
	var wanted []Entry
	for _, e := range entries {
		if f.want.wants(e) {
			wanted = append(wanted, e)
		}
	}
	if len(wanted) == 0 {
		return
	}
	f.add(wanted, f.limit)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// add has as many entries wait as there is room for.
func (f *follower) add(entries []Entry, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		cost := len(e.Text) + entryOverhead
		if f.skipped > 0 || f.bytes+cost > limit { // once behind, until it has caught up
			f.skipped++
			continue
		}
		f.waiting = append(f.waiting, e)
		f.bytes += cost
	}
}

// take gives the reader all that waits for it.
func (f *follower) take() []Entry {
	f.mu.Lock()
	entries, skipped := f.waiting, f.skipped
	f.waiting, f.bytes, f.skipped = nil, 0, 0
	f.mu.Unlock()
	if skipped > 0 {
		entries = append(entries, f.note("%d lines were left out here: this reader is too slow for them", skipped))
	}
	return entries
}

func (f *follower) end() { close(f.ended) }
