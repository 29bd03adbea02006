package invoke

import (
	"encoding/json"
	"errors"
	"time"

	"lambent"
	"lambent/internal/pool"
)

// Times are how long the rules of asynchronous calls wait (developer guide,
// "How Lambda handles errors and retries with asynchronous invocation").
type Times struct {
	RetryDelays []time.Duration // after the first failed attempt, the second; the last holds for further ones
	Backoff     time.Duration   // after the first throttle or fault of the platform; doubled with each
	BackoffMost time.Duration
	AgeSecond   time.Duration // what a second of MaximumEventAgeInSeconds lasts: one, but in tests
}

// AWSTimes are AWS's.
func AWSTimes() Times {
	return Times{RetryDelays: []time.Duration{time.Minute, 2 * time.Minute}, Backoff: time.Second, BackoffMost: 5 * time.Minute, AgeSecond: time.Second}
}

// backoff is the wait after so many faults in a row, 1 at least.
func (t Times) backoff(faults int) time.Duration {
	d := t.Backoff
	for ; faults > 1 && d < t.BackoffMost; faults-- {
		d *= 2
	}
	return min(d, t.BackoffMost)
}

func (t Times) retryDelay(attempts int) time.Duration {
	if len(t.RetryDelays) == 0 {
		return 0
	}
	return t.RetryDelays[min(max(attempts-1, 0), len(t.RetryDelays)-1)]
}

// EventRules are how the events of a line are handled.
type EventRules struct {
	Retries    int           // after the first attempt, where the function failed
	MaxAge     time.Duration // by AWS's seconds; see Times.AgeSecond
	OnSuccess  []string      // where records go: ARNs and URLs
	OnFailure  []string
	DeadLetter string // ARN of where events go that failed; empty: nowhere
	Closed     bool   // no concurrency is reserved for the function: it never runs
}

// The defaults of AWS.
const (
	DefaultRetries     = 2
	DefaultMaxEventAge = 6 * time.Hour
)

// maxAge is how old an event may become.
func (r EventRules) maxAge(t Times) time.Duration {
	return time.Duration(r.MaxAge.Seconds() * float64(t.AgeSecond))
}

// The conditions in AWS's records.
const (
	conditionSuccess   = "Success"
	conditionExhausted = "RetriesExhausted"
	conditionTooOld    = "EventAgeExceeded"
	conditionClosed    = "ZeroReservedConcurrency"
	conditionRecursion = "RecursiveInvocation"
)

// Why a request was not processed: the failure store's words.
const (
	reasonFunctionError   = "function_error"
	reasonTimeout         = "timeout"
	reasonOutOfMemory     = "out_of_memory"
	reasonThrottled       = "throttled"
	reasonPermission      = "permission"
	reasonBadEvent        = "bad_event"
	reasonNoCapacity      = "no_capacity"
	reasonExpired         = "expired"
	reasonUnexpected      = "unexpected_result"
	reasonFunctionMissing = "function_missing"
	reasonUndelivered     = "destination_failed"
	reasonPlatform        = "platform_error"
	reasonDropped         = "dropped" // by a control function: it is kept nowhere
)

// statusThrottled is AWS's status of a call that was throttled.
const statusThrottled = 429

// outcome is how an event was processed, or why it was not, for good. It is
// stored with an event whose records are still to be delivered, so its names stay.
type outcome struct {
	Condition string          `json:"condition"`
	Reason    string          `json:"reason,omitempty"` // empty: it succeeded
	Status    int             `json:"status,omitempty"` // of the last answer; 0: there was none
	Version   lambent.Version `json:"version,omitempty"`
	Error     string          `json:"error,omitempty"`     // AWS's FunctionError
	ErrorType string          `json:"type,omitempty"`      // of the function's error, or the platform's
	Message   string          `json:"message,omitempty"`   //
	Response  []byte          `json:"response,omitempty"`  // what the function answered
	Attempts  int             `json:"attempts,omitempty"`  // calls of the function
	Stored    bool            `json:"stored,omitempty"`    // it is in the failure store
	Delivered []string        `json:"delivered,omitempty"` // where its records are no more to be sent
	Lost      []loss          `json:"lost,omitempty"`      // of these, where they could not be delivered
	Tries     int             `json:"tries,omitempty"`     // of what is under way: storing, or a delivery
	Done      []string        `json:"done,omitempty"`      // by control functions, for the failure's record
	Dropped   bool            `json:"dropped,omitempty"`   // a control function wants it kept nowhere
}

// loss is a record that could not be delivered.
type loss struct {
	To     string `json:"to"` // a recipient's name
	Why    string `json:"why"`
	Denied bool   `json:"denied,omitempty"` // the function may not
}

func (o *outcome) failed() bool { return o.Reason != "" }

// step is what is done next with an event.
type step struct {
	kind   stepKind
	after  time.Duration // of stepRetry
	counts bool          // the function has run: it was an attempt
	out    outcome       // of stepFinish
}

type stepKind uint8

const (
	stepFinish stepKind = iota // it was processed, or never will be
	stepRetry                  // it comes again, and the others go on
	stepHold                   // it goes back, and its line rests: no event of it would get on
)

// before decides what can be decided without calling the function; ok is false
// where it is to be called.
func before(r EventRules, t Times, age time.Duration, attempts int, last *outcome) (s step, ok bool) {
	switch {
	case r.Closed:
		return step{out: outcome{Condition: conditionClosed, Reason: reasonThrottled, ErrorType: "ReservedFunctionConcurrentInvocationLimitExceeded",
			Message: "Function not invoked. Function is configured with zero reserved concurrent executions", Attempts: attempts}}, true
	case age > r.maxAge(t):
		return step{out: tooOld(attempts, last)}, true
	}
	return step{}, false
}

// tooOld is the end of an event that waited for too long: what it waited for,
// last, is the reason.
func tooOld(attempts int, last *outcome) outcome {
	out := outcome{Reason: reasonExpired, ErrorType: conditionTooOld, Message: "The event was older than MaximumEventAgeInSeconds before the function could be called."}
	if last != nil {
		out = *last
	}
	out.Condition, out.Attempts = conditionTooOld, attempts
	return out
}

// after decides what becomes of an event that the function was called with:
// attempts counts this call, too, where it reached the function, and faults how
// often in a row it did not, before.
func after(res *lambent.Result, err error, r EventRules, t Times, age time.Duration, attempts, faults int) step {
	if err != nil {
		return afterError(err, t, attempts, faults)
	}
	out := outcome{Condition: conditionSuccess, Status: 200, Version: res.Start.ServedVersion, Error: res.FunctionError, Response: res.Payload, Attempts: attempts}
	if res.FunctionError == "" {
		return step{counts: true, out: out}
	}
	out.ErrorType, out.Message = errorIn(res.Payload)
	out.Reason = reasonFunctionError
	switch {
	case res.Outcome == lambent.OutcomeTimedOut:
		out.Reason = reasonTimeout
	case res.ErrorType == typeUnexpected:
		out.Reason, out.Response = reasonUnexpected, res.Unexpected
	case res.ErrorType == "Runtime.OutOfMemory":
		out.ErrorType = res.ErrorType
		out.Reason = reasonOutOfMemory
	}
	delay := t.retryDelay(attempts)
	switch {
	case attempts > r.Retries:
		out.Condition = conditionExhausted
	case age+delay > r.maxAge(t):
		out.Condition = conditionTooOld
	default:
		return step{kind: stepRetry, after: delay, counts: true, out: out}
	}
	return step{counts: true, out: out}
}

// afterError is after for a call that did not reach the function.
func afterError(err error, t Times, attempts, faults int) step {
	fail := func(reason, name string, status int) step {
		return step{out: outcome{Condition: conditionExhausted, Reason: reason, Status: status, ErrorType: name, Message: told(err), Attempts: attempts}}
	}
	hold := func(reason, name string, status int) step {
		s := fail(reason, name, status)
		s.kind = stepHold
		return s
	}
	kind, noRoom := lambent.KindOf(err), errors.Is(err, pool.ErrNoRoom)
	switch kind {
	case lambent.KindNotFound:
		return fail(reasonFunctionMissing, "ResourceNotFoundException", 404)
	case lambent.KindDenied:
		return fail(reasonPermission, "AccessDeniedException", 403)
	case lambent.KindInvalid, lambent.KindValidation, lambent.KindMalformed, lambent.KindTooLarge, lambent.KindRequestTooLarge, lambent.KindMediaType, lambent.KindUnsupported, lambent.KindPrecondition:
		if noRoom { // and never will be, as the function is
			return fail(reasonNoCapacity, "InvalidParameterValueException", 400)
		}
		return fail(reasonBadEvent, "InvalidParameterValueException", 400)
	case lambent.KindThrottled:
		if noRoom {
			return hold(reasonNoCapacity, "TooManyRequestsException", statusThrottled)
		}
		return hold(reasonThrottled, "TooManyRequestsException", statusThrottled)
	case lambent.KindExists: // the function is being made, or could not be
		return hold(reasonNoCapacity, "ResourceConflictException", 409)
	case lambent.KindUnavailable:
		return hold(reasonNoCapacity, "ServiceUnavailableException", 503)
	case lambent.KindInternal:
	}
	return step{kind: stepRetry, after: t.backoff(faults + 1), out: outcome{Reason: reasonPlatform, Status: 500, ErrorType: "ServiceException", Message: "The platform failed to run the function."}}
}

// told is what a user may read of an error of the platform's.
func told(err error) string {
	if e, ok := errors.AsType[*lambent.Error](err); ok && e.Message != "" {
		return e.Message
	}
	return lambent.KindOf(err).String()
}

// errorIn reads the error that a function answered with, as far as it is one of
// AWS's shape.
func errorIn(payload []byte) (kind, message string) {
	var e struct {
		ErrorType    string `json:"errorType"`
		ErrorMessage string `json:"errorMessage"`
	}
	if json.Unmarshal(payload, &e) != nil {
		return "", ""
	}
	return e.ErrorType, e.ErrorMessage
}
