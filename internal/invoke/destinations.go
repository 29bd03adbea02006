package invoke

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
	"lambent/internal/queue"
)

// Message is what is handed over to a destination that is no function.
type Message struct {
	Account lambent.AccountID // whose event it was
	To      string            // ARN or URL
	Body    []byte            // JSON
	ID      string            // of the message: the same each time it is sent
	// Of the event, for what has fields of its own for them.
	Line        queue.Line
	FunctionARN string
	RequestID   lambent.RequestID
	Success     bool
	// Attributes are of a dead letter, whose body is the event itself; nil: it is a
	// record.
	Attributes []Attribute
}

// Attribute is one of a message of SQS or SNS.
type Attribute struct{ Name, Type, Value string }

// recipient is one destination of an outcome.
type recipient struct {
	to         string
	deadLetter bool
}

// name tells one from the others, for what is stored.
func (r recipient) name() string {
	if r.deadLetter {
		return "dead letter " + r.to
	}
	return r.to
}

func (r recipient) done(out *outcome) bool { return slices.Contains(out.Delivered, r.name()) }

// recipients are where an outcome is told of.
func recipients(r EventRules, out *outcome) (to []recipient) {
	all := r.OnSuccess
	if out.failed() {
		all = r.OnFailure
	}
	for _, place := range all {
		to = append(to, recipient{to: place})
	}
	if out.failed() && r.DeadLetter != "" {
		to = append(to, recipient{to: r.DeadLetter, deadLetter: true})
	}
	return to
}

// mostDepth is how many functions may call each other by destinations: AWS ends a
// chain of about as many calls (developer guide, "Use Lambda recursive loop
// detection").
const mostDepth = 16

// deliverTime bounds one delivery over a network.
const deliverTime = 20 * time.Second

// deliverAll hands over what is to be: to each its own, so that one that cannot be
// reached keeps no other waiting. It tells whether something is to be tried again;
// what is not, and was not delivered, is in out.Lost.
func (d *Dispatcher) deliverAll(e *queue.Event, rules EventRules, out *outcome) (pending bool) {
	for _, to := range recipients(rules, out) {
		if out.Dropped || to.done(out) {
			continue
		}
		err := d.deliver(e, out, to)
		if err == nil {
			out.Delivered = append(out.Delivered, to.name())
			continue
		}
		if !notTried(err) {
			d.opts.Watch.Undelivered()
		}
		if d.comesAgain(e, out, err) {
			pending = true
			continue
		}
		d.opts.Log.Warn("a record could not be delivered", "line", e.Line.String(), "request", e.ID, "to", to.name(), "error", err)
		out.Delivered = append(out.Delivered, to.name())
		why := told(err)
		out.Lost = append(out.Lost, loss{to.name(), why[:min(len(why), 1<<10)], lambent.KindOf(err) == lambent.KindDenied})
	}
	return pending
}

// storeUndelivered puts an event where failures are kept whose records cannot all
// be delivered. Where the function has succeeded, a redrive delivers what could not
// be; where it failed, it stays the failure that it is, and is called again.
func (d *Dispatcher) storeUndelivered(c Claim, out *outcome) error {
	var what []string
	lost := *out
	lost.Reason, lost.ErrorType = reasonUndelivered, "DestinationDeliveryFailed"
	for _, l := range out.Lost {
		what = append(what, l.To+": "+l.Why)
		if l.Denied {
			lost.Reason, lost.ErrorType = reasonPermission, "AccessDeniedException"
		}
	}
	lost.Message = strings.Join(what, "; ")
	action := "its record could not be delivered to " + lost.Message
	if out.failed() {
		return d.store(c, out, &Failure{Action: action, Kept: true})
	}
	return d.store(c, &lost, &Failure{Action: action, State: out.undelivered(room(c.Event()))})
}

// undelivered is the State of an event for which nothing is left but to deliver
// what could not be. Where the function's answer is too large to be kept it is
// none: the function is called again.
func (o *outcome) undelivered(room int) []byte {
	left := *o
	left.Delivered = slices.DeleteFunc(slices.Clone(o.Delivered), func(name string) bool {
		return slices.ContainsFunc(o.Lost, func(l loss) bool { return l.To == name })
	})
	left.Lost, left.Stored, left.Tries = nil, false, 0
	state, fits := progress{Final: &left}.write(room - spareState)
	if !fits {
		return nil
	}
	return state
}

// comesAgain tells whether a delivery that failed is tried again: as often as
// others are, unless it was not tried at all, or that does not help, or what is to
// be delivered does not fit into what the queue keeps.
func (d *Dispatcher) comesAgain(e *queue.Event, out *outcome, err error) bool {
	switch {
	case d.working.Err() != nil: // the server ends
		return true
	case isPermanent(err), out.Tries+1 >= mostTries && !notTried(err):
		return false
	}
	_, fits := progress{Final: out}.write(room(e) - spareState)
	return fits || len(out.Response) == 0
}

// spareState is for the names of those that will have been delivered to.
const spareState = 4 << 10

// notTried tells of a delivery that others under way left no room for.
func notTried(err error) bool { return lambent.KindOf(err) == lambent.KindThrottled }

// deliver hands a record, or a dead letter, over: durably, where it returns nil.
func (d *Dispatcher) deliver(e *queue.Event, out *outcome, to recipient) error {
	// One that is redriven was accepted anew, and so is its message.
	id := string(e.ID) + "-" + strconv.FormatInt(e.AcceptedAt.UnixMilli(), 36)
	message := &Message{Account: e.Line.Account, To: to.to, ID: id, Line: e.Line, FunctionARN: d.arn(e.Line), RequestID: e.ID, Success: !out.failed()}
	if to.deadLetter {
		message.Body, message.Attributes = asJSON(e.Payload), deadLetterAttributes(e, out)
	} else {
		message.Body = d.record(e, out)
	}
	if strings.HasPrefix(to.to, "arn:") && strings.Contains(to.to, ":lambda:") {
		return d.deliverToFunction(context.WithoutCancel(d.working), e, message)
	}
	if d.opts.Send == nil {
		return permanent(fmt.Errorf("nothing here delivers to %s", to.to))
	}
	ctx, cancel := context.WithTimeout(d.working, deliverTime)
	defer cancel()
	return d.opts.Send(ctx, message)
}

// deliverToFunction makes a record an event of another function.
func (d *Dispatcher) deliverToFunction(ctx context.Context, e *queue.Event, m *Message) error {
	ref, err := lambent.ParseFunctionRef(m.To)
	switch {
	case err != nil:
		return permanent(err)
	case ref.Account != e.Line.Account:
		return permanent(errors.New("records go to functions of the same account only"))
	case e.Depth >= mostDepth && !d.opts.Recursive(ref.Account, ref.Name):
		return permanent(fmt.Errorf("the functions are in a loop: the event came by %d destinations", e.Depth))
	}
	if ref.Qualifier == string(lambent.Latest) {
		ref.Qualifier = ""
	}
	if err := d.opts.MayDeliver(e.Line, queue.Line{Account: ref.Account, Function: ref.Name, Qualifier: ref.Qualifier}); err != nil {
		if lambent.KindOf(err) == lambent.KindNotFound {
			err = permanent(err)
		}
		return err
	}
	err = d.opts.Events.Accept(ctx, &queue.Event{
		ID: newRequestID(), Line: queue.Line{Account: ref.Account, Function: ref.Name, Qualifier: ref.Qualifier}, Payload: m.Body,
		TraceID: e.TraceID, Source: sourceDestination, Depth: e.Depth + 1, Urgency: e.Urgency, AcceptedAt: time.Now(),
	})
	if lambent.KindOf(err) == lambent.KindTooLarge {
		return permanent(err)
	}
	return err
}

// arn names a line's function as AWS's records do: with its qualifier, $LATEST
// where there is none.
func (d *Dispatcher) arn(l queue.Line) string {
	qualifier := l.Qualifier
	if qualifier == "" {
		qualifier = string(lambent.Latest)
	}
	return lambent.FunctionARN(d.opts.Region, l.Account, l.Function, qualifier)
}

// invocationRecord is AWS's (developer guide, "Capturing records of Lambda
// asynchronous invocations").
type invocationRecord struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID              lambent.RequestID `json:"requestId"`
	FunctionARN            string            `json:"functionArn"`
	Condition              string            `json:"condition"`
	ApproximateInvokeCount int               `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int             `json:"statusCode"`
	ExecutedVersion lambent.Version `json:"executedVersion,omitempty"`
	FunctionError   string          `json:"functionError,omitempty"`
}

func (d *Dispatcher) record(e *queue.Event, out *outcome) []byte {
	r := invocationRecord{
		Version: "1.0", Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		RequestContext: requestContext{RequestID: e.ID, FunctionARN: d.arn(e.Line), Condition: out.Condition, ApproximateInvokeCount: out.Attempts},
		RequestPayload: asJSON(e.Payload),
	}
	if out.Status != 0 {
		r.ResponseContext = &responseContext{StatusCode: out.Status, ExecutedVersion: out.Version, FunctionError: out.Error}
		if out.Response != nil {
			r.ResponsePayload = asJSON(out.Response)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(r) // every part of it is JSON
	return bytes.TrimRight(b.Bytes(), "\n")
}

// asJSON is a document as it is, nothing as {}, as the function gets it, and what
// is not JSON, which a runtime may well answer, as a text.
func asJSON(b []byte) json.RawMessage {
	switch {
	case len(b) == 0:
		return json.RawMessage("{}")
	case json.Valid(b):
		return b
	}
	text, _ := json.Marshal(string(b)) // a string can be
	return text
}

// deadLetterAttributes are AWS's (developer guide, "Adding a dead-letter queue").
func deadLetterAttributes(e *queue.Event, out *outcome) []Attribute {
	const most = 1 << 10 // "the first 1 KB of the error message"
	message := out.Message[:min(len(out.Message), most)]
	for len(message) > 0 && !utf8.ValidString(message) {
		message = message[:len(message)-1]
	}
	attributes := []Attribute{{"RequestID", "String", string(e.ID)}, {"ErrorCode", "Number", strconv.Itoa(out.Status)}}
	if message != "" {
		attributes = append(attributes, Attribute{"ErrorMessage", "String", message})
	}
	return attributes
}

// permanentError is one that trying again does not help.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanent(err error) error {
	message := err.Error()
	if lambent.KindOf(err) == lambent.KindNotFound {
		message = told(err)
	}
	return permanentError{&lambent.Error{Op: "deliver record", Kind: lambent.KindInvalid, Message: message, Err: err}}
}

// isPermanent reports whether a delivery need not be tried again.
func isPermanent(err error) bool {
	if _, is := errors.AsType[permanentError](err); is {
		return true
	}
	switch lambent.KindOf(err) {
	case lambent.KindInvalid, lambent.KindDenied, lambent.KindUnsupported:
		return true
	}
	return false
}

// newRequestID makes a random UUID (version 4) in lower case.
func newRequestID() lambent.RequestID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return lambent.RequestID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
}
