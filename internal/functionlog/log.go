package functionlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"lambent"
)

// Bounds and defaults.
const (
	MaxText         = 256 << 10 // bytes of one line (CloudWatch Logs: 256 KB an event); longer ones are split
	DefaultMaxBytes = 10 << 20  // of a function, on disk
	queueBytes      = 32 << 20  // of lines that wait to be written
	accountShare    = 4         // one account may fill a fourth of the queue
	entryOverhead   = 128       // what a waiting line costs besides its text
)

// Options configure a Log.
type Options struct {
	// Dir is the folder of all logs; it is made, for its owner only, where it is
	// not there.
	Dir string
	// MaxBytes bounds what is kept of one function on disk, give or take one
	// line; 0 is DefaultMaxBytes.
	MaxBytes int64
	// Log takes what goes wrong with the disk; nil is nowhere.
	Log *slog.Logger
}

// Entry is one line a function printed, or a note of this package in its place
// (then Stream is StreamNote).
type Entry struct {
	Time      time.Time
	Stream    string // where it was printed: "stdout", "stderr", or the name of a log stream
	RequestID lambent.RequestID
	Text      string // valid UTF-8 without a final newline; may hold newlines within
}

// StreamNote is the stream of entries that tell of lines that are missing.
const StreamNote = "lambent"

// owner is whose log it is.
type owner struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// queued is an entry that waits to be written.
type queued struct {
	owner
	Entry
}

// Log is the logs of all functions. Make it with New, then Open it; Close it
// last. All methods may be called from several goroutines at once.
type Log struct {
	opts  Options
	queue int // bytes; a test's is smaller

	wake    chan struct{}    // something is queued
	ops     chan func()      // for the writer to do, once all that was queued before is written
	closing chan struct{}    // closed by Close
	closed  chan struct{}    // closed when the writer has ended
	done    sync.Once        // of closing
	writer  *writer          // of the writer's goroutine only
	now     func() time.Time // of notes

	mu sync.Mutex
	// +checklocks:mu
	waiting []queued
	// +checklocks:mu
	bytes int
	// +checklocks:mu
	byAccount map[lambent.AccountID]int // bytes
	// +checklocks:mu
	dropped map[owner]int // lines, since the queue was last taken
	// +checklocks:mu
	running bool
}

// New prepares a log and touches nothing.
func New(o Options) *Log {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{
		opts: o, queue: queueBytes, now: time.Now,
		wake: make(chan struct{}, 1), ops: make(chan func()), closing: make(chan struct{}), closed: make(chan struct{}),
		byAccount: map[lambent.AccountID]int{}, dropped: map[owner]int{},
	}
}

// Open makes the folder and begins to write. It may be called once.
func (l *Log) Open() error {
	if err := os.MkdirAll(l.opts.Dir, 0o700); err != nil {
		return fmt.Errorf("open function logs: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		return fmt.Errorf("open function logs %s: they are open already", l.opts.Dir)
	}
	l.running = true
	l.writer = &writer{
		dir: l.opts.Dir, segment: l.opts.MaxBytes / 2, log: l.opts.Log, note: l.note,
		followers: map[owner]map[*follower]bool{}, lost: map[owner]int{},
	}
	go l.run()
	return nil
}

// Close writes what is queued and ends all followers. What is appended after
// is dropped. It may be called more than once.
func (l *Log) Close() error {
	l.done.Do(func() { close(l.closing) })
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if running {
		<-l.closed
	}
	return nil
}

// Append takes one line of a function. It never waits for a disk or a reader.
// Bytes that are not UTF-8 become U+FFFD, one newline at the end is taken off,
// a text over MaxText becomes several entries, and no time is now.
func (l *Log) Append(account lambent.AccountID, name lambent.FunctionName, e Entry) {
	o := owner{account, name}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	text := strings.TrimSuffix(strings.ToValidUTF8(e.Text, "\uFFFD"), "\n")
	for {
		e.Text, text = split(text)
		l.enqueue(o, e)
		if text == "" {
			break
		}
	}
	select {
	case l.wake <- struct{}{}:
	default: // it will be awake anyway
	}
}

// split cuts off what fits into one entry, between runes.
func split(text string) (first, rest string) {
	if len(text) <= MaxText {
		return text, ""
	}
	at := MaxText
	for !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at], text[at:]
}

func (l *Log) enqueue(o owner, e Entry) {
	cost := len(e.Text) + entryOverhead
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+cost > l.queue || l.byAccount[o.account]+cost > l.queue/accountShare {
		l.dropped[o]++
		return
	}
	l.bytes += cost
	l.byAccount[o.account] += cost
	l.waiting = append(l.waiting, queued{o, e})
}

// take empties the queue.
func (l *Log) take() ([]queued, map[owner]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	waiting, dropped := l.waiting, l.dropped
	l.waiting, l.bytes = nil, 0
	if len(l.byAccount) > 0 {
		l.byAccount = map[lambent.AccountID]int{}
	}
	if len(dropped) > 0 {
		l.dropped = map[owner]int{}
	}
	return waiting, dropped
}

// run is the writer's goroutine. Open starts it and Close waits for it.
func (l *Log) run() {
	defer close(l.closed)
	// After a write the writer gathers for a while, so that a busy function's
	// lines go to its file many at a time: nil channels are not listened to.
	wake, gathered := l.wake, (<-chan time.Time)(nil)
	for {
		select {
		case <-wake:
			l.writer.write(l.take())
			wake, gathered = nil, time.After(gatherTime)
		case <-gathered:
			wake, gathered = l.wake, nil
		case op := <-l.ops:
			l.writer.write(l.take())
			op()
		case <-l.closing:
			l.writer.write(l.take())
			l.writer.endFollowers()
			return
		}
	}
}

// gatherTime is how long a line may wait for others to be written with it. A
// call of a third of a millisecond writes three lines; opening its file each
// time would cost a tenth of a CPU at full rate.
const gatherTime = 10 * time.Millisecond

// note makes an entry of our own.
func (l *Log) note(format string, args ...any) Entry {
	return Entry{Time: l.now(), Stream: StreamNote, Text: fmt.Sprintf(format, args...)}
}

// errClosed and errNotOpen are why a call fails.
var (
	errClosed  = errors.New("the function logs are closed")
	errNotOpen = errors.New("the function logs are not open")
)

// do has the writer do something once all that was appended before is written,
// and waits for it.
func (l *Log) do(ctx context.Context, op func()) error {
	l.mu.Lock()
	running := l.running
	l.mu.Unlock()
	if !running {
		return errNotOpen
	}
	done := make(chan struct{})
	select {
	case l.ops <- func() { defer close(done); op() }:
	case <-l.closing:
		return errClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	<-done // it has begun, and no longer depends on anybody
	return nil
}
