package lambent

import (
	"errors"
	"strings"
)

// Kind classifies an error by what a caller can do about it. The doors (the
// Lambda API, the gateway, the CLI) map a Kind to their own names and status
// codes, each in one table; nothing below a door knows AWS's error names.
type Kind uint8

// The kinds of error.
const (
	KindInternal        Kind = iota // our fault, or the machine's
	KindInvalid                     // a parameter the caller can mend
	KindValidation                  // a parameter that breaks a constraint of the service model
	KindMalformed                   // a body that could not be read at all
	KindNotFound                    // no such resource
	KindExists                      // the resource is there already, or is changing
	KindPrecondition                // the revision named is not the current one
	KindTooLarge                    // a payload over its limit
	KindRequestTooLarge             // a whole API request over its limit
	KindThrottled                   // capacity or a limit: try again later
	KindDenied                      // the caller may not
	KindUnsupported                 // an operation lambent does not have (yet)
	KindUnavailable                 // a part that should be there is not, for now
	KindMediaType                   // a body of a type the operation does not take
)

// String names the kind for logs and tests.
func (k Kind) String() string {
	names := [...]string{"internal", "invalid", "validation", "malformed", "not found", "exists", "precondition",
		"too large", "request too large", "throttled", "denied", "unsupported", "unavailable", "media type"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Error is the platform's error. It names the action, the thing, what kind of
// failure it was and what to do, so that a reader of one log line can act.
type Error struct {
	Op       string // what was tried, e.g. "create function"
	Resource string // on what: a name, ARN or id; may be empty
	Kind     Kind
	Reason   string // a finer code within the kind, in AWS's words where AWS has one; may be empty
	Message  string // what a caller of the API is told, whole; may be empty
	Err      error  // the cause; may be nil
}

// Error renders "op resource: message: cause", leaving out what is empty.
func (e *Error) Error() string {
	var parts []string
	if head := strings.TrimSpace(e.Op + " " + e.Resource); head != "" {
		parts = append(parts, head)
	}
	if e.Message != "" {
		parts = append(parts, e.Message)
	} else if e.Err == nil {
		parts = append(parts, e.Kind.String())
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// KindOf finds the kind of the outermost *Error in err's chain, KindInternal
// where there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}
