package policy

import (
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
)

// Attached is the policy of a resource, to which statements are added one at a
// time. It has one at least, and is never changed: With and Without make
// another. It is stored as JSON.
type Attached struct {
	Statements []json.RawMessage `json:"statements"` // each as Grant.Statement gives it, the oldest first

	parsed atomic.Pointer[Document]
}

// Errors of With and Without.
var (
	ErrSidTaken = errors.New("a statement has this Sid already")
	ErrNoSid    = errors.New("no statement has this Sid")
)

// TooLongError is that a policy would have more than MaxSize bytes.
type TooLongError struct{ Size int }

func (e *TooLongError) Error() string { return "the policy is too long" }

// With is the policy with one statement more; a is nil where that is the first.
// The errors are ErrSidTaken, *TooLongError and those of Grant.Statement.
func (a *Attached) With(g *Grant) (*Attached, json.RawMessage, error) {
	s, err := g.Statement()
	if err != nil {
		return nil, nil, err
	}
	var before []json.RawMessage
	if a != nil {
		before = a.Statements
	}
	if place(before, g.Sid) >= 0 {
		return nil, nil, ErrSidTaken
	}
	next := &Attached{Statements: append(slices.Clip(before), s)}
	if size := len(next.JSON()); size > MaxSize {
		return nil, nil, &TooLongError{Size: size}
	}
	return next, s, nil
}

// Without is the policy without a statement, nil where it was the last. The
// error is ErrNoSid.
func (a *Attached) Without(sid string) (*Attached, error) {
	at := -1
	if a != nil {
		at = place(a.Statements, sid)
	}
	switch {
	case at < 0:
		return nil, ErrNoSid
	case len(a.Statements) == 1:
		return nil, nil
	}
	return &Attached{Statements: slices.Delete(slices.Clone(a.Statements), at, at+1)}, nil
}

// place finds a statement by its Sid, -1 where there is none.
func place(statements []json.RawMessage, sid string) int {
	return slices.IndexFunc(statements, func(text json.RawMessage) bool {
		var s struct{ Sid string }
		return json.Unmarshal(text, &s) == nil && s.Sid == sid
	})
}

// JSON is the whole policy, as AWS shows it.
func (a *Attached) JSON() []byte { return whole(a.Statements) }

// Document is the policy, read; nil where a is nil. It is read once. The error
// is of a policy that was damaged, or written by another version: nobody may be
// let in by what is left of it.
func (a *Attached) Document() (*Document, error) {
	if a == nil {
		return nil, nil
	}
	if d := a.parsed.Load(); d != nil {
		return d, nil
	}
	d, err := Parse(a.JSON(), Resource)
	if err != nil {
		return nil, err
	}
	a.parsed.Store(d)
	return d, nil
}
