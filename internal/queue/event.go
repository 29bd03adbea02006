package queue

import (
	"fmt"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Line is what events wait in: one for each function and qualifier, as the caller
// named them.
type Line struct {
	Account   lambent.AccountID
	Function  lambent.FunctionName
	Qualifier string // version or alias; empty for $LATEST
}

// String is for logs and errors.
func (l Line) String() string {
	s := string(l.Account) + "/" + string(l.Function)
	if l.Qualifier != "" {
		s += ":" + l.Qualifier
	}
	return s
}

// Event is one asynchronous call.
type Event struct {
	ID            lambent.RequestID
	Line          Line
	Payload       []byte // at most MaxPayload
	ClientContext string // JSON, already base64-decoded; empty for none
	TraceID       string // X-Amzn-Trace-Id; empty for none
	TenantID      string // X-Amz-Tenant-Id; empty for none
	Source        string // who sent it, in the words of who works the lines; empty for a caller
	Depth         int    // asynchronous calls that led to it
	Urgency       string // empty for none
	Deadline      time.Time
	// AcceptedAt is by the machine's clock, for people and records. What depends
	// on how old an event is asks Taken.Age.
	AcceptedAt time.Time

	// Attempts and State are for whoever works the lines to change before Retry:
	// how often the event was tried, and what else he wants to know the next time.
	Attempts int
	State    []byte
}

// Bounds of an event.
const (
	MaxPayload = 1 << 20  // Lambda quotas: 1 MB for an asynchronous call
	maxRest    = 64 << 10 // all else of an event; State may have what the payload leaves, too
	maxEntry   = MaxPayload + maxRest
)

// An event must fit into a pack.
const _ = uint(cluster.MaxAppend - cluster.EntryOverhead - maxEntry)

// size is what an event takes of memory, roughly.
func (e *Event) size() int {
	const fields = 400 // the struct, its place in a map, small strings' overhead
	return fields + len(e.Payload) + len(e.State) + e.texts()
}

func (e *Event) texts() int {
	return len(e.ID) + len(e.Line.Account) + len(e.Line.Function) + len(e.Line.Qualifier) + len(e.ClientContext) + len(e.TraceID) + len(e.TenantID) +
		len(e.Source) + len(e.Urgency)
}

// check refuses an event over the bounds.
func (e *Event) check(op string) error {
	const numbers = 128 // of the entry: the most its lengths and times take
	rest := e.texts() + numbers
	var what string
	var got, limit int
	switch {
	case len(e.Payload) > MaxPayload:
		what, got, limit = "payload", len(e.Payload), MaxPayload
	case rest > maxRest:
		what, got, limit = "rest", rest, maxRest
	case len(e.Payload)+rest+len(e.State) > maxEntry:
		what, got, limit = "state", len(e.State), maxEntry-len(e.Payload)-rest
	default:
		return nil
	}
	return &lambent.Error{
		Op: op, Resource: string(e.ID), Kind: lambent.KindTooLarge,
		Err: fmt.Errorf("the %s of an event for %s has %d bytes, of %d it can have", what, e.Line, got, limit),
	}
}
