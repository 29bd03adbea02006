package failures

import (
	"bytes"
	"fmt"
	"time"

	"lambent"
)

// Source is what the events are from that a redrive put into the queue, in the
// queue's words.
const Source = "redrive"

// Reason says why a request was not processed. The values are for ever, on the
// disk and for callers.
type Reason string

// The reasons.
const (
	FunctionError     Reason = "function_error"
	Timeout           Reason = "timeout"
	OutOfMemory       Reason = "out_of_memory"
	Throttled         Reason = "throttled"          // until it was too old, or by a reserved concurrency of 0
	Permission        Reason = "permission"         // who sent it, or the function, may not
	BadEvent          Reason = "bad_event"          // it cannot be given to a function
	NoCapacity        Reason = "no_capacity"        // there was no room for it until it was too old
	Expired           Reason = "expired"            // too old, or past its deadline, before it was tried
	UnexpectedResult  Reason = "unexpected_result"  // the function answered, and not what it is to
	FunctionMissing   Reason = "function_missing"   // the function, version or alias was deleted
	DestinationFailed Reason = "destination_failed" // it was processed, and whoever was to be told could not be
	PlatformError     Reason = "platform_error"
)

// Reasons are all there are, in the order in which they are numbered on the disk.
func Reasons() []Reason {
	return []Reason{FunctionError, Timeout, OutOfMemory, Throttled, Permission, BadEvent, NoCapacity, Expired, UnexpectedResult, FunctionMissing, DestinationFailed, PlatformError}
}

// Key is what a failure is found by.
type Key struct {
	Account   lambent.AccountID
	RequestID lambent.RequestID
}

// Error is what a function, or the platform for it, said.
type Error struct {
	Type    string   `json:"type"`
	Message string   `json:"message"`
	Stack   []string `json:"stack,omitempty"` // a line each, the innermost call first
}

// Action is something that was done on a failure.
type Action struct {
	At   time.Time `json:"at"`
	What string    `json:"what"` // one sentence for people
}

// Record is a request that was not processed successfully.
type Record struct {
	Key
	Function  lambent.FunctionName
	Qualifier string          // as the caller named it; empty: $LATEST
	Version   lambent.Version // that served the last attempt; empty: none did
	Reason    Reason
	Error     Error
	Attempts  int       // calls of the function: for Put since it was accepted or redriven, from Get of all times
	FirstAt   time.Time // when the request was accepted first
	LastAt    time.Time // when it failed last; for Put the zero time is now

	Payload       []byte // at most MaxPayload
	Response      []byte // what the function answered, where that was the failure; Put keeps the first MaxResponse
	ClientContext string // JSON; empty for none
	TraceID       string
	TenantID      string
	Origin        string // what sent the request, in the queue's words; empty: a caller
	Urgency       string
	Deadline      time.Time
	Depth         int
	// State is what whoever works the queue wants to know again after a redrive, of the
	// request as it is: one that was edited, or goes to another function, has none. It
	// may have MaxState bytes, and what the payload leaves of MaxPayload.
	State []byte

	Actions []Action // the newest MaxActions, the oldest first

	// Put passes over these.
	Redrives  int       // how often it was put into the queue again
	Redriving time.Time // since when it is there; zero: it is not
	RedriveBy string    // who put it there: hand, after, new_version or when_healthy
	Original  *Original // what it was before it was edited; nil: it was not
}

// Original is what an edit replaced.
type Original struct {
	Function  lambent.FunctionName
	Qualifier string
	Payload   []byte
}

// Bounds of a record. What is longer, and not the payload, is cut.
const (
	MaxPayload  = 1 << 20 // as of an event
	MaxResponse = 64 << 10
	MaxState    = 64 << 10
	MaxActions  = 100

	maxMessage = 32 << 10
	maxStack   = 64 << 10 // of all lines
	maxText    = 16 << 10 // of the fields that are headers of requests
	maxWhat    = 1 << 10
)

// bounded checks a record and gives a copy of it that is within the bounds.
func (r *Record) bounded(op string, now time.Time) (*Record, error) {
	refuse := func(kind lambent.Kind, format string, args ...any) (*Record, error) {
		return nil, &lambent.Error{Op: op, Resource: string(r.RequestID), Kind: kind, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Account == "" || r.RequestID == "" || r.Function == "" || len(r.RequestID) > 200 || len(r.Function) > 200 || len(r.Account) > 20:
		return refuse(lambent.KindInvalid, "A failure has an account, a request id and a function")
	case len(r.Payload) > MaxPayload:
		return refuse(lambent.KindTooLarge, "The payload has %d bytes; it may have %d", len(r.Payload), MaxPayload)
	case len(r.Payload)+len(r.State) > MaxPayload+MaxState:
		return refuse(lambent.KindTooLarge, "The state has %d bytes; it may have %d", len(r.State), MaxPayload+MaxState-len(r.Payload))
	case r.Reason.number() == 0:
		return refuse(lambent.KindInvalid, "%q is no reason", r.Reason)
	}
	out := *r
	for _, s := range []*string{&out.ClientContext, &out.TraceID, &out.TenantID, &out.Origin, &out.Urgency, &out.Qualifier, &out.Error.Type} {
		*s = cut(*s, maxText)
	}
	out.Error.Message = cut(out.Error.Message, maxMessage)
	out.Error.Stack = cutLines(out.Error.Stack, maxStack)
	out.Response = out.Response[:min(len(out.Response), MaxResponse)]
	if out.LastAt.IsZero() || out.LastAt.After(now) {
		out.LastAt = now
	}
	if out.FirstAt.IsZero() || out.FirstAt.After(out.LastAt) {
		out.FirstAt = out.LastAt
	}
	out.Actions = cutActions(out.Actions)
	return &out, nil
}

func cut(s string, n int) string { return s[:min(len(s), n)] }

func cutLines(lines []string, n int) []string {
	for i, l := range lines {
		if n -= len(l) + 1; n < 0 {
			return lines[:i:i]
		}
	}
	return lines
}

func cutActions(all []Action) []Action {
	kept := append([]Action(nil), all[max(0, len(all)-MaxActions):]...)
	for i := range kept {
		kept[i].What = cut(kept[i].What, maxWhat)
	}
	return kept
}

// number is a reason's on the disk; 0 for what is none.
func (r Reason) number() uint8 {
	for i, known := range Reasons() {
		if r == known {
			return uint8(i + 1)
		}
	}
	return 0
}

// follow makes of a failure that happened again the one there is: the request is
// the newest, its history goes on.
func (r *Record) follow(old *Record, now time.Time) {
	r.FirstAt = old.FirstAt
	if old.Redriving.IsZero() && r.Origin != Source { // an event that was given again after a crash
		r.Attempts = max(r.Attempts, old.Attempts)
	} else {
		r.Attempts += old.Attempts
	}
	r.Redrives = old.Redrives
	r.Original = old.Original
	var again []Action
	if !old.Redriving.IsZero() {
		what := "redriven by " + old.RedriveBy
		if r.Function != old.Function || r.Qualifier != old.Qualifier {
			what += " to " + named(r.Function, r.Qualifier)
		}
		again = append(again, Action{old.Redriving, fmt.Sprintf("%s, and failed again: %s", what, r.Reason)})
	}
	r.Actions = cutActions(append(append(old.Actions, again...), r.Actions...))
	if r.Origin == Source {
		r.Origin = old.Origin
	}
	if r.Original == nil && (r.Function != old.Function || r.Qualifier != old.Qualifier || !bytes.Equal(r.Payload, old.Payload)) {
		r.Original = &Original{old.Function, old.Qualifier, old.Payload}
	}
}

// named is how people name a version or alias of a function.
func named(function lambent.FunctionName, qualifier string) string {
	if qualifier == "" {
		return string(function)
	}
	return string(function) + ":" + qualifier
}
