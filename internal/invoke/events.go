package invoke

import (
	"context"
	"encoding/json"
	"time"

	"lambent"
	"lambent/internal/queue"
)

// Events is the queue the dispatcher works: what queue.Queue does, of which it
// says what a claim may be asked.
type Events interface {
	Accept(ctx context.Context, events ...*queue.Event) error
	// Take gives the next event of a line, ok false where there is none that is due.
	Take(ctx context.Context, line queue.Line) (c Claim, ok bool, err error)
	// Due is how many events of a line could be taken.
	Due(line queue.Line) int
	// Notify has ready called with lines that have such events, as
	// queue.Queue.Notify does.
	Notify(ready func(queue.Line))
}

// Claim is an event that was taken, until one of Settle, Return and Retry: see
// queue.Taken.
type Claim interface {
	Event() *queue.Event
	Age() time.Duration
	Settle()
	Return()
	Retry(ctx context.Context, after time.Duration) error
}

// Queue makes Events of a queue.
func Queue(q *queue.Queue) Events { return eventsOf{q} }

type eventsOf struct{ *queue.Queue }

func (q eventsOf) Take(ctx context.Context, line queue.Line) (Claim, bool, error) {
	t, ok, err := q.Queue.Take(ctx, line)
	if !ok {
		return nil, false, err
	}
	return claimOf{t}, true, nil
}

func (q eventsOf) Due(line queue.Line) int { return q.Backlog(line).Due }

type claimOf struct{ *queue.Taken }

func (c claimOf) Event() *queue.Event { return c.Taken.Event }

// SourceRedrive is the queue.Event.Source of an event that the failure store put
// back.
const SourceRedrive = "redrive"

// sourceDestination is the Source of an event that is the record of another one.
const sourceDestination = "destination"

// Failure is a request that was not processed successfully.
type Failure struct {
	Event     *queue.Event // what it was; not to be changed
	Version   lambent.Version
	Reason    string // one of the failure store's
	ErrorType string
	Message   string
	Response  []byte // what the function answered with, where it did
	Attempts  int
	Action    string   // what the platform did besides; empty: nothing
	Actions   []string // what control functions did
	Kept      bool     // it is kept already, and Action is what is new
	// State is that of the event that a redrive is to put back: the function was
	// called, and what is left is to tell of it. Empty: the function is to be called.
	State []byte
}

// FailureOf is what is kept of a synchronous call that failed; ok is false where it
// did not.
func FailureOf(inv *lambent.Invocation, res *lambent.Result, err error) (f *Failure, ok bool) {
	s := after(res, err, EventRules{}, AWSTimes(), 0, 1, 0)
	if !s.out.failed() {
		return nil, false
	}
	f = &Failure{
		Event: &queue.Event{ID: inv.RequestID, Line: queue.Line{Account: inv.Account, Function: inv.Function, Qualifier: inv.Qualifier}, Payload: inv.Payload,
			ClientContext: inv.ClientContext, TraceID: inv.TraceID, TenantID: inv.TenantID, AcceptedAt: inv.ReceivedAt},
		Version: s.out.Version, Reason: s.out.Reason, ErrorType: s.out.ErrorType, Message: s.out.Message, Response: s.out.Response,
	}
	if s.counts {
		f.Attempts = 1
	}
	return f, true
}

// Failures keeps them. Safe for concurrent use.
type Failures interface {
	// Put has a failure on the disk when it returns nil. One of the same account and
	// request is replaced.
	Put(ctx context.Context, f *Failure) error
	// Succeeded forgets the failure that an event was before it was put back.
	Succeeded(ctx context.Context, account lambent.AccountID, id lambent.RequestID) error
}

// progress is what an event's State holds between two times it is taken. Its
// names stay, as it is on the disk.
type progress struct {
	Faults int      `json:"faults,omitempty"` // of the platform, in a row, that were no attempts
	Last   *outcome `json:"last,omitempty"`   // of the last attempt or fault
	Final  *outcome `json:"final,omitempty"`  // it is processed: only its records are to be delivered

	// Of control functions:
	Retries   int      `json:"retries,omitempty"`   // that they had made
	Qualifier *string  `json:"qualifier,omitempty"` // to be called in place of the event's
	Done      []string `json:"done,omitempty"`      // in words
}

// readProgress reads a State. One that is not its own is that of an event which
// was never tried.
func readProgress(state []byte) (p progress) {
	if len(state) == 0 || json.Unmarshal(state, &p) != nil {
		return progress{}
	}
	return p
}

// room is how long the State of an event can be: the queue takes 64 KiB beside the
// most that a payload can have, of which its texts need some.
func room(e *queue.Event) int {
	const beside = 48 << 10
	return queue.MaxPayload - len(e.Payload) + beside
}

// write renders p, false where it is longer than there is room for.
func (p progress) write(room int) (state []byte, ok bool) {
	if p.isZero() {
		return nil, true
	}
	state, err := json.Marshal(p)
	return state, err == nil && len(state) <= room
}

func (p progress) isZero() bool {
	return p.Faults == 0 && p.Last == nil && p.Final == nil && p.Retries == 0 && p.Qualifier == nil && len(p.Done) == 0
}

// qualifier is what is to be called with an event.
func (p progress) qualifier(e *queue.Event) string {
	if p.Qualifier != nil {
		return *p.Qualifier
	}
	return e.Line.Qualifier
}

// tell keeps what was done on an event, the newest of it.
func (p *progress) tell(done []string) {
	const most = 20
	for _, text := range done {
		p.Done = append(p.Done, text[:min(len(text), 1<<10)])
	}
	p.Done = p.Done[max(0, len(p.Done)-most):]
}

// brief is p without the function's answers, and with as much of what control
// functions did, the newest of it, as there is room for.
func (p progress) brief(room int) []byte {
	cut := func(o *outcome) *outcome {
		if o == nil {
			return nil
		}
		c := *o
		c.Response = nil
		c.Message = c.Message[:min(len(c.Message), 1<<10)]
		c.ErrorType = c.ErrorType[:min(len(c.ErrorType), 1<<10)]
		return &c
	}
	p.Last, p.Final = cut(p.Last), cut(p.Final)
	done := &p.Done
	if p.Last != nil {
		p.Last.Done = nil // p has it
	}
	if p.Final != nil {
		done = &p.Final.Done
	}
	for {
		state, fits := p.write(room)
		if fits || len(*done) == 0 {
			return state
		}
		*done = (*done)[1:]
	}
}
