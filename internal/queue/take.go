package queue

import (
	"context"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Taken is an event that somebody works on, and whose it is until he calls
// Settle, Return, or Retry with success: one of them, once. Its methods are for
// one goroutine at a time.
type Taken struct {
	// Event is for him to read, and to change before Retry.
	Event *Event

	queue    *Queue
	accepted int64 // by the queue's clock
	over     bool  // it was settled, returned or put back

	// Guarded by queue.mu. It changes while the event is taken, where the journal
	// is shortened.
	ref  ref
	line *line
}

// Take gives the next event of a line, one whose time has come again first; ok is
// false where none is due. After an error, KindUnavailable, the event is there as
// if it was put back with Return.
func (q *Queue) Take(ctx context.Context, key Line) (t *Taken, ok bool, err error) {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return nil, false, errClosed
		}
		l := q.lines[key]
		if l == nil || l.due.size == 0 {
			q.mu.Unlock()
			return nil, false, nil
		}
		t := &Taken{queue: q, ref: l.due.popFront(), line: l}
		q.taken[t.ref] = t
		l.taken++
		t.Event, t.accepted = q.recent.take(t.ref)
		q.mu.Unlock()
		if t.Event != nil {
			return t, true, nil
		}
		switch err := t.load(ctx); {
		case err == nil:
			return t, true, nil
		case lambent.KindOf(err) == lambent.KindNotFound:
			q.opts.Log.Error("an accepted event is lost: it cannot be read from the disk any more", "line", key.String(), "err", err)
			t.Settle()
		default:
			t.Return()
			return nil, false, err
		}
	}
}

// load reads the event from the disk; KindNotFound where it is damaged.
func (t *Taken) load(ctx context.Context) error {
	q := t.queue
	at := t.at()
	for {
		entries, err := q.reader.pack(ctx, at.pack())
		if err == nil && at.index() >= len(entries) {
			err = &lambent.Error{Op: "read event", Kind: lambent.KindNotFound, Err: errShort}
		}
		if err == nil {
			env, e, err := decodeEvent(entries[at.index()])
			if err != nil {
				return &lambent.Error{Op: "read event", Kind: lambent.KindNotFound, Err: err}
			}
			t.Event, t.accepted = e, env.accepted
			return nil
		}
		was := at
		if at = t.at(); at == was { // else it is elsewhere by now
			return err
		}
	}
}

func (t *Taken) at() ref {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return t.ref
}

// Age is how long ago the event was accepted, whatever became of the machine's
// clock since.
func (t *Taken) Age() time.Duration {
	return time.Duration(max(0, t.queue.clock.now()-t.accepted)) * time.Millisecond
}

// end says that the caller's part is over. That it was before is a mistake of
// his, which is told and changes nothing.
func (t *Taken) end(by string) bool {
	if t.over {
		t.queue.opts.Log.Error("an event was ended twice", "by", by, "line", t.Event.Line.String(), "request", t.Event.ID)
		return false
	}
	t.over = true
	return true
}

// Settle says that nothing is to be done for the event any more. That is on the
// disk a moment later; after a crash before, the event is given again.
func (t *Taken) Settle() {
	if !t.end("Settle") {
		return
	}
	q := t.queue
	q.mu.Lock()
	q.leave(t)
	q.release(t.ref)
	q.settled = append(q.settled, t.ref)
	q.mu.Unlock()
	wake(q.settle)
}

// Return puts the event back in front of its line, as it was when it was taken
// and without a write. Notify's function is not told: who returns an event knows
// of it, and comes back when he can do something about it.
func (t *Taken) Return() {
	if !t.end("Return") {
		return
	}
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	t.line.due.pushFront(t.ref)
	q.leave(t)
}

// leave takes an event out of those that are worked on.
//
// +checklocks:q.mu
func (q *Queue) leave(t *Taken) {
	delete(q.taken, t.ref)
	t.line.taken--
	q.forget(t.line)
}

// Retry has the event, as t.Event is now, come again after a time, of whole
// milliseconds, and at the end of its line where that is 0. It is on the disk
// when Retry returns nil, and its Payload and State are not to be changed any
// more. After an error, KindUnavailable or KindTooLarge, it is the caller's as
// before. A restart makes nobody wait for longer.
func (t *Taken) Retry(ctx context.Context, after time.Duration) error {
	q := t.queue
	e := *t.Event // which whoever changes it later is not to change here
	if err := e.check("put back event"); err != nil {
		return err
	}
	if t.over {
		return &lambent.Error{Op: "put back event", Resource: string(e.ID), Kind: lambent.KindExists, Err: fmt.Errorf("it was ended before")}
	}
	after = min(max(0, after), yearMillis*time.Millisecond)
	env := envelope{stamp: q.clock.stamp(), replaces: t.at(), delay: after, accepted: t.accepted}
	err := q.journal.Append(ctx, cluster.Append{Entries: [][]byte{encodeEvent(env, &e)}, Essential: true, Stored: func(at cluster.Position) {
		q.putBack(t, &e, env, at)
	}})
	if err != nil {
		return err
	}
	t.over = true
	return nil
}

// putBack lines up an event that was written anew.
func (q *Queue) putBack(t *Taken, e *Event, env envelope, at cluster.Position) {
	r := makeRef(at.Pack, at.Index)
	var lines []Line
	q.mu.Lock()
	q.written(at)
	q.packs.hold(r, env.accepted)
	old := t.ref
	q.leave(t)
	q.release(old)
	if old != env.replaces {
		// It was moved since the entry was made, so that does not name what it
		// replaces.
		q.settled = append(q.settled, old)
		wake(q.settle)
	}
	l := q.lineOf(e.Line)
	if due := env.at + env.delay.Milliseconds(); env.delay > 0 {
		l.delayed++
		q.delays.push(delayed{due: due, ref: r, line: l})
		if q.delays[0].ref == r {
			wake(q.rewind)
		}
	} else {
		q.recent.put(r, e, env.accepted)
		if l.due.pushBack(r); l.due.size == 1 {
			lines = append(lines, l.key)
		}
	}
	ready := q.ready
	q.mu.Unlock()
	q.tell(ready, lines)
}
