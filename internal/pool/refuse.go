package pool

import (
	"errors"

	"lambent"
	"lambent/internal/placement"
)

func shuttingDown(fn *lambent.Function) error {
	return &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindUnavailable, Message: "the server is shutting down"}
}

func throttled(fn *lambent.Function, reason placement.Throttle, why error) error {
	return &lambent.Error{Op: "run", Resource: string(fn.Name), Kind: lambent.KindThrottled,
		Reason: string(reason), Message: "Rate Exceeded.", Err: why}
}

// ErrNoRoom is in the errors of Acquire that are for want of the machine: it has
// no room for the function, now or ever, or no runtime. AWS has the same words for
// those and for an account that has no concurrency left.
var ErrNoRoom = errors.New("the machine has no room")

// noRoom says in which way.
type noRoom string

func (e noRoom) Error() string { return string(e) }

func (e noRoom) Is(target error) bool { return target == ErrNoRoom }
