package invoke

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"lambent"
	"lambent/internal/queue"
)

// DispatcherOptions are what a Dispatcher needs.
type DispatcherOptions struct {
	Events Events
	// Invoke runs a function: Service.Invoke.
	Invoke   func(context.Context, *lambent.Invocation) (*lambent.Result, error)
	Failures Failures  // nil: what fails is logged, and gone
	Controls *Controls // asked about what fails; nil: nobody is
	// Rules are how the events of a line are handled. It is asked for each, and must
	// not block.
	Rules func(queue.Line) EventRules
	// Recursive tells whether a function may be in a loop of destinations; nil: none
	// may.
	Recursive func(lambent.AccountID, lambent.FunctionName) bool
	// MayDeliver tells why the records of a line are not to be events of another one:
	// KindNotFound where there is no such function, KindDenied where the role of the
	// one does not let it call the other. It must not block. nil: they always may.
	MayDeliver func(from, to queue.Line) error
	// Send hands a record over to what is not a function; nil: there is nothing.
	Send   func(context.Context, *Message) error
	Times  Times  // zero: AWS's
	Region string // in ARNs
	Drain  time.Duration
	Watch  Watcher // nil: nobody
	Log    *slog.Logger
}

// Watcher is told what becomes of events. It must not block. Safe for concurrent
// use.
type Watcher interface {
	Settled(reason string) // for good; "" is success
	Retried(reason string) // it comes again
	Undelivered()          // a record could not be delivered, this time
}

type nobodyWatches struct{}

func (nobodyWatches) Settled(string) {}
func (nobodyWatches) Retried(string) {}
func (nobodyWatches) Undelivered()   {}

// Bounds of what waits for containers at once, all lines together. What has one
// is bounded by concurrency and capacity, as every call is.
const (
	mostWaiting        = 256
	mostWaitingAccount = 128
	mostWaitingLine    = 16
	containerWait      = 20 * time.Second // then others have their turn
)

// Dispatcher works the lines of a queue: it calls functions with the events,
// and sees to what becomes of them. New, Run, Close; safe for concurrent use.
//
// # Turns
//
// A line that has events which could be taken is in its account's round, and an
// account with such a line in the round of accounts. As long as fewer than
// mostWaiting events wait for a container, the first line of the first account
// takes one and goes to the end, as its account does. An event that has its
// container does not count: how many may run is the pool's business.
//
// How many events of a line are worked on at once, its window says. A line
// that gets no container at all rests, for as long as AWS waits after a throttle,
// or until one of its executions ends. So no line is waited for by another one's.
type Dispatcher struct {
	opts    DispatcherOptions
	working context.Context // until Close
	cancel  context.CancelFunc
	workers sync.WaitGroup // Go is called with mu held and ending false

	mu sync.Mutex // held for microseconds; no I/O
	// +checklocks:mu
	started bool
	// +checklocks:mu
	ending bool // nothing more is taken
	// +checklocks:mu
	giveUp bool // executions that are under way are being ended: how they end says nothing
	// +checklocks:mu
	lines map[queue.Line]*eventLine
	// +checklocks:mu
	accounts map[lambent.AccountID]*accountRound
	// +checklocks:mu
	round []*accountRound
	// +checklocks:mu
	waiting int
}

// accountRound is the lines of an account that could have a turn.
type accountRound struct {
	id      lambent.AccountID
	lines   []*eventLine
	in      bool // it is in the round of accounts
	waiting int
	members int // lines there are
}

// eventLine is a line that has work, or may have. Guarded by Dispatcher.mu.
type eventLine struct {
	key     queue.Line
	account *accountRound
	window  window
	due     int  // events that can be taken, one at least where there are any
	working int  // taken and not ended
	slow    int  // of these, that take long
	waiting int  // of these, without a container yet
	in      bool // it is in its account's round
	rest    *time.Timer
	faults  int      // holds in a row
	last    *outcome // of the last hold
}

// NewDispatcher makes a dispatcher; it does nothing until Run.
func NewDispatcher(o DispatcherOptions) *Dispatcher {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Times.AgeSecond == 0 {
		o.Times = AWSTimes()
	}
	if o.Watch == nil {
		o.Watch = nobodyWatches{}
	}
	if o.MayDeliver == nil {
		o.MayDeliver = func(queue.Line, queue.Line) error { return nil }
	}
	if o.Recursive == nil {
		o.Recursive = func(lambent.AccountID, lambent.FunctionName) bool { return false }
	}
	d := &Dispatcher{opts: o, lines: map[queue.Line]*eventLine{}, accounts: map[lambent.AccountID]*accountRound{}}
	d.working, d.cancel = context.WithCancel(context.Background())
	return d
}

// Run works the lines until ctx ends. Then it takes nothing more, and gives what
// is under way the time to drain; what has not ended then is told by nobody how it
// ends, and comes again. It is called once.
func (d *Dispatcher) Run(ctx context.Context) {
	d.mu.Lock()
	d.started = true
	d.mu.Unlock()
	d.opts.Events.Notify(d.ready)
	<-ctx.Done()
	d.mu.Lock()
	d.end()
	d.mu.Unlock()
	drained := make(chan struct{})
	go func() { // ends with the workers, for which Close waits, too
		d.workers.Wait()
		close(drained)
	}()
	timer := time.NewTimer(d.opts.Drain)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
	}
	d.mu.Lock()
	d.giveUp = true
	d.mu.Unlock()
}

// end stops taking events.
//
// +checklocks:d.mu
func (d *Dispatcher) end() {
	d.ending = true
	for _, l := range d.lines {
		if l.rest != nil {
			l.rest.Stop()
		}
	}
}

// Close ends what waits and waits for what is under way: executions must have
// been ended before. What they did is not settled.
func (d *Dispatcher) Close() {
	d.mu.Lock()
	d.end()
	d.giveUp = true
	d.mu.Unlock()
	d.cancel()
	d.workers.Wait()
}

// ready is told that a line has an event.
func (d *Dispatcher) ready(key queue.Line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.lines[key]
	if l == nil {
		a := d.accounts[key.Account]
		if a == nil {
			a = &accountRound{id: key.Account}
			d.accounts[key.Account] = a
		}
		a.members++
		l = &eventLine{key: key, account: a}
		d.lines[key] = l
	}
	l.due = max(l.due, 1)
	d.offer(l)
	d.turns()
}

// offer puts a line into the round, where it could have a turn.
//
// +checklocks:d.mu
func (d *Dispatcher) offer(l *eventLine) {
	if l.in || !d.couldWork(l) {
		return
	}
	l.in = true
	l.account.lines = append(l.account.lines, l)
	d.enter(l.account)
}

// +checklocks:d.mu
func (d *Dispatcher) enter(a *accountRound) {
	if !a.in && len(a.lines) > 0 && a.waiting < mostWaitingAccount {
		a.in = true
		d.round = append(d.round, a)
	}
}

// +checklocks:d.mu
func (d *Dispatcher) couldWork(l *eventLine) bool {
	return l.due > 0 && l.rest == nil && l.waiting < mostWaitingLine && l.working-l.slow < l.window.limit(l.due, l.working-l.slow)
}

// turns gives lines their turns, as many as there can be.
//
// +checklocks:d.mu
func (d *Dispatcher) turns() {
	for !d.ending && d.waiting < mostWaiting && len(d.round) > 0 {
		a := d.round[0]
		d.round = d.round[1:]
		a.in = false
		l := a.lines[0]
		a.lines = a.lines[1:]
		l.in = false
		if d.couldWork(l) {
			l.working++
			l.waiting++
			a.waiting++
			d.waiting++
			l.due--
			j := &job{dispatcher: d, line: l}
			d.workers.Go(j.run)
			d.offer(l)
		}
		d.enter(a)
	}
}

// forget drops a line that has nothing any more.
//
// +checklocks:d.mu
func (d *Dispatcher) forget(l *eventLine) {
	if l.due > 0 || l.working > 0 || l.rest != nil || l.in {
		return
	}
	delete(d.lines, l.key)
	if l.account.members--; l.account.members == 0 {
		delete(d.accounts, l.account.id)
	}
}

// job is one turn of a line.
type job struct {
	dispatcher *Dispatcher
	line       *eventLine
	began      time.Time

	// Guarded by dispatcher.mu.
	granted time.Time // zero: it has no container
	slow    bool
	slowly  *time.Timer
}

// run takes an event and works on it.
func (j *job) run() {
	d := j.dispatcher
	j.began = time.Now()
	c, ok, err := d.opts.Events.Take(d.working, j.line.key)
	var s step
	switch {
	case err != nil:
		if d.working.Err() == nil {
			d.opts.Log.Error("an event cannot be read; its line rests", "line", j.line.key.String(), "error", err)
		}
		s = step{kind: stepHold, out: outcome{Reason: reasonPlatform, Status: 500, ErrorType: "ServiceException", Message: "The event could not be read."}}
	case ok:
		s = d.work(j, c)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	l := j.line
	j.over(s)
	d.goOn(l)
}

// hasContainer says that the event got one.
func (j *job) hasContainer() {
	d, l := j.dispatcher, j.line
	d.mu.Lock()
	defer d.mu.Unlock()
	l.faults, l.last = 0, nil
	l.window.granted(time.Since(j.began), l.working-l.slow)
	j.begin()
}

// needsNone says that the event needs no container.
func (j *job) needsNone() {
	d := j.dispatcher
	d.mu.Lock()
	defer d.mu.Unlock()
	j.begin()
}

// begin has the event wait no more.
//
// +checklocks:j.dispatcher.mu
func (j *job) begin() {
	j.granted = time.Now()
	j.waitsNoMore()
	j.slowly = time.AfterFunc(slowAfter, j.isSlow)
	j.dispatcher.goOn(j.line)
}

// goOn gives a line its next turn, where it can have one: the pool or the window
// has room, or it has rested.
//
// +checklocks:d.mu
func (d *Dispatcher) goOn(l *eventLine) {
	l.due = d.opts.Events.Due(l.key)
	if !d.ending {
		d.offer(l)
		d.enter(l.account)
		d.turns()
	}
	d.forget(l)
}

// waitsNoMore has others wait in its place.
//
// +checklocks:j.dispatcher.mu
func (j *job) waitsNoMore() {
	j.line.waiting--
	j.line.account.waiting--
	j.dispatcher.waiting--
}

// isSlow has the event count no more.
func (j *job) isSlow() {
	d := j.dispatcher
	d.mu.Lock()
	defer d.mu.Unlock()
	if j.slowly == nil || j.slow {
		return
	}
	j.slow = true
	j.line.slow++
	j.line.window.slowed()
	d.goOn(j.line)
}

// over ends the turn.
//
// +checklocks:j.dispatcher.mu
func (j *job) over(s step) {
	d, l := j.dispatcher, j.line
	l.working--
	if j.granted.IsZero() {
		j.waitsNoMore()
	} else {
		j.slowly.Stop()
		j.slowly = nil
		if j.slow {
			l.slow--
		}
		if s.counts {
			l.window.ended(time.Since(j.granted))
		}
	}
	if s.kind != stepHold || d.ending {
		if l.rest != nil && s.counts { // what it used is free
			l.rest.Stop()
			l.rest = nil
		}
		return
	}
	l.window.throttled(l.working - l.slow)
	if l.rest == nil {
		l.faults++
		l.last = &s.out
		wait := d.opts.Times.backoff(l.faults)
		if s.after > 0 {
			wait = min(wait, s.after)
		}
		var rest *time.Timer
		rest = time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if l.rest != rest {
				return
			}
			l.rest = nil
			d.goOn(l)
		})
		l.rest = rest
	}
}
