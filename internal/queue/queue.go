package queue

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Options configure a Queue.
type Options struct {
	// CacheBytes bounds what is kept in memory of events that were just accepted,
	// and of packs that were just read, each; 0: DefaultCache.
	CacheBytes int
	Log        *slog.Logger // what is lost, and what the disk does not take; nil: nowhere
	// Accepted is told of each event that came to be on the disk by Accept, before
	// anybody can take it. It must not block; nil: nobody is told.
	Accepted func(*Event)

	wall func() int64 // the machine's clock; a test's jumps
}

// DefaultCache is a second of 2,500 events of 1 KB; twice it, and what the garbage
// collector leaves lying of as much again, are part of what the server takes.
const DefaultCache = 4 << 20

// journalName names the journal in its node. It is stored, so it stays.
const journalName = "events"

// Queue holds the events that are accepted and not settled. It is for any number
// of goroutines at once. One process has it open once.
type Queue struct {
	opts    Options
	journal *cluster.Journal
	reader  *reader
	clock   clock

	stop    context.CancelCauseFunc
	running context.Context // until Close
	workers sync.WaitGroup
	settle  chan struct{} // there is something to write in settled
	rewind  chan struct{} // the first of delays is another
	tidy    chan struct{} // the journal can be shortened

	mu sync.Mutex // held for microseconds; no I/O, no callback
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	ready func(Line) // nil before Notify
	// +checklocks:mu
	lines map[Line]*line
	// +checklocks:mu
	packs packs
	// +checklocks:mu
	recent recent
	// +checklocks:mu
	delays delays
	// +checklocks:mu
	taken map[ref]*Taken
	// +checklocks:mu
	settled []ref // to be written
}

// line is a Line's events. It is there while it has one.
type line struct {
	key     Line
	due     ring
	delayed int
	taken   int
}

// Open reads what an earlier process accepted and did not settle: what was taken
// then waits again. The node is open, and closed after the queue. What cannot be
// read is told in the log, and the rest is served.
func Open(ctx context.Context, node *cluster.Node, o Options) (*Queue, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Accepted == nil {
		o.Accepted = func(*Event) {}
	}
	if o.wall == nil {
		o.wall = wallClock
	}
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCache)
	journal, err := node.Journal(ctx, journalName)
	if err != nil {
		return nil, err
	}
	q := &Queue{
		opts: o, journal: journal, reader: newReader(journal, o.CacheBytes),
		settle: make(chan struct{}, 1), rewind: make(chan struct{}, 1), tidy: make(chan struct{}, 1),
		lines: map[Line]*line{}, recent: recent{limit: o.CacheBytes}, taken: map[ref]*Taken{},
	}
	if err := q.recover(ctx); err != nil {
		_ = journal.Close() // it says nothing that the error does not
		return nil, fmt.Errorf("open the queue of events: %w", err)
	}
	q.running, q.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	q.workers.Go(q.writeSettlements)
	q.workers.Go(q.awaitDelays)
	q.workers.Go(q.shorten)
	wake(q.tidy)
	return q, nil
}

// Close writes the settlements that wait and ends. It waits for the calls that
// are under way; what is taken comes again with the next Open. It may be called
// more than once.
func (q *Queue) Close() error {
	q.mu.Lock()
	first := !q.closed
	q.closed = true
	q.mu.Unlock()
	if first {
		q.stop(errClosed)
	}
	q.workers.Wait()
	return q.journal.Close()
}

var errClosed = &lambent.Error{Op: "use queue of events", Kind: lambent.KindUnavailable, Message: "it is closed"}

// wake tells a goroutine that there is something to do. It may know already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Notify has ready called with each line of which an event can be taken now, and
// from then on whenever there is one again after there was none. It is called
// once. ready is called by any goroutine, also by several at once, and perhaps
// late; it must neither block nor call the queue.
func (q *Queue) Notify(ready func(Line)) {
	q.mu.Lock()
	q.ready = ready
	var lines []Line
	for key, l := range q.lines {
		if l.due.size > 0 {
			lines = append(lines, key)
		}
	}
	q.mu.Unlock()
	q.tell(ready, lines)
}

// tell tells of lines, without the queue's lock.
func (q *Queue) tell(ready func(Line), lines []Line) {
	if ready == nil {
		return
	}
	for _, l := range lines {
		ready(l)
	}
}

// lineOf finds a line, or begins it.
//
// +checklocks:q.mu
func (q *Queue) lineOf(key Line) *line {
	l := q.lines[key]
	if l == nil {
		l = &line{key: key}
		q.lines[key] = l
	}
	return l
}

// forget ends a line that has nothing any more.
//
// +checklocks:q.mu
func (q *Queue) forget(l *line) {
	if l.due.size == 0 && l.delayed == 0 && l.taken == 0 && q.lines[l.key] == l {
		delete(q.lines, l.key)
	}
}

// Accept puts events on the disk, all of them or, with an error, none, and lines
// them up. After it returned nil they survive everything. They are the queue's
// from then on, and must not be changed.
//
// The error is KindTooLarge over an event's bounds, and for more events than one
// write can have, some 1.9 MiB; KindUnavailable with Reason "DiskFull" where
// there is no room. After another it is not known whether the events are on the
// disk: they may be given after a restart.
func (q *Queue) Accept(ctx context.Context, events ...*Event) error {
	now := q.clock.stamp()
	entries := make([][]byte, len(events))
	for i, e := range events {
		if err := e.check("accept event"); err != nil {
			return err
		}
		entries[i] = encodeEvent(envelope{stamp: now, accepted: now.at}, e)
	}
	return q.journal.Append(ctx, cluster.Append{Entries: entries, Stored: func(at cluster.Position) {
		for _, e := range events {
			q.opts.Accepted(e)
		}
		var lines []Line
		q.mu.Lock()
		q.written(at)
		for i, e := range events {
			r := makeRef(at.Pack, at.Index+uint32(i))
			q.packs.hold(r, now.at)
			q.recent.put(r, e, now.at)
			l := q.lineOf(e.Line)
			if l.due.pushBack(r); l.due.size == 1 {
				lines = append(lines, e.Line)
			}
		}
		ready := q.ready
		q.mu.Unlock()
		q.tell(ready, lines)
	}})
}

// written notes a pack.
//
// +checklocks:q.mu
func (q *Queue) written(at cluster.Position) { q.packs.add(at.Pack, at.Bytes, at.Count) }

// release says that an event of a pack is not needed any more.
//
// +checklocks:q.mu
func (q *Queue) release(r ref) {
	q.packs.release(r)
	if q.use().Untidy() {
		wake(q.tidy)
	}
}

// awaitDelays lines up the events whose time has come.
func (q *Queue) awaitDelays() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-q.running.Done():
			return
		case <-q.rewind:
		case <-timer.C:
		}
		next, any := q.lineUp()
		for any && next <= 0 {
			next, any = q.lineUp()
		}
		timer.Stop()
		if any {
			timer.Reset(next)
		}
	}
}

// lineUp lines up the first of the events whose time has come, before those that
// were never tried, and tells how long it is to the next one's.
func (q *Queue) lineUp() (next time.Duration, any bool) {
	const most = 1000 // while others wait
	var came []delayed
	var lines []Line
	q.mu.Lock()
	now := q.clock.now()
	for len(q.delays) > 0 && q.delays[0].due <= now && len(came) < most {
		came = append(came, q.delays.pop())
	}
	for i := len(came) - 1; i >= 0; i-- { // so that the earliest is in front
		d := came[i]
		d.line.delayed--
		if d.line.due.pushFront(d.ref); d.line.due.size == 1 {
			lines = append(lines, d.line.key)
		}
	}
	if any = len(q.delays) > 0; any {
		next = time.Duration(q.delays[0].due-now) * time.Millisecond
	}
	ready := q.ready
	q.mu.Unlock()
	q.tell(ready, lines)
	return next, any
}

// LineStats tells how many events of a line are where.
type LineStats struct {
	Line    Line
	Due     int           // could be taken now
	Delayed int           // wait for their time
	Taken   int           // are being worked on
	Oldest  time.Duration // age, to a second, of the next one that is due; 0: none is
}

// Stats tells of every line that has an event, in no order.
func (q *Queue) Stats() []LineStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]LineStats, 0, len(q.lines))
	for _, l := range q.lines {
		all = append(all, q.stats(l))
	}
	return all
}

// Backlog tells of one line.
func (q *Queue) Backlog(key Line) LineStats {
	q.mu.Lock()
	defer q.mu.Unlock()
	if l := q.lines[key]; l != nil {
		return q.stats(l)
	}
	return LineStats{Line: key}
}

// +checklocks:q.mu
func (q *Queue) stats(l *line) LineStats {
	s := LineStats{Line: l.key, Due: l.due.size, Delayed: l.delayed, Taken: l.taken}
	if l.due.size > 0 {
		since := q.packs.of(l.due.at(0).pack()).since
		s.Oldest = time.Duration(max(0, q.clock.now()/1000-int64(since))) * time.Second
	}
	return s
}

// Size tells how many events are not settled, and how many bytes the journal has
// on the disk.
func (q *Queue) Size() (events int, bytes int64) {
	q.mu.Lock()
	events, bytes = q.packs.count, q.packs.bytes
	q.mu.Unlock()
	return events, bytes
}
