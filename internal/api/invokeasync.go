package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"lambent"
	"lambent/internal/queue"
)

// Events takes the events of asynchronous calls. Safe for concurrent use.
type Events interface {
	// Accept has events on the disk when it returns nil: from then on each is
	// processed, or told of as a failure. KindUnavailable with Reason "DiskFull"
	// where there is no room for them.
	Accept(ctx context.Context, events ...*queue.Event) error
}

// Headers by which a caller tells of an event what AWS has no word for. They are
// kept with it.
const (
	headerDeadline = "X-Lambent-Deadline" // RFC 3339: after it the event is of no use any more
	headerUrgency  = "X-Lambent-Urgency"  // low, normal or high
)

// eventTooLarge is what AWS says of an event over its 1 MB.
func eventTooLarge() *lambent.Error {
	return &lambent.Error{Op: "Invoke", Kind: lambent.KindTooLarge,
		Message: "Request must be smaller than " + strconv.Itoa(queue.MaxPayload) + " bytes for the InvokeFunction operation"}
}

// invokeAsync does InvokeAsync, AWS's older name for an asynchronous call.
func (a *API) invokeAsync(c *call) error {
	const operation = "InvokeAsync"
	inv, err := a.invocation(c, operation, a.shapes.invocationType, eventLimit())
	if err != nil {
		return err
	}
	return a.acceptEvent(c, operation, inv)
}

// acceptEvent answers 202 once the event of an asynchronous call is on the disk.
func (a *API) acceptEvent(c *call, operation string, inv *lambent.Invocation) error {
	if a.events == nil {
		return &lambent.Error{Op: operation, Resource: string(inv.Function), Kind: lambent.KindUnsupported,
			Message: "this server has no queue for asynchronous calls: use the InvocationType RequestResponse"}
	}
	fn, err := a.functions.Function(inv.Account, inv.Function, inv.Qualifier)
	if err != nil {
		return err
	}
	if err := fn.RequireTenant(inv.TenantID); err != nil {
		return err
	}
	event := &queue.Event{
		ID: inv.RequestID, Line: queue.Line{Account: inv.Account, Function: inv.Function, Qualifier: inv.Qualifier}, Payload: inv.Payload,
		ClientContext: inv.ClientContext, TraceID: inv.TraceID, TenantID: inv.TenantID, AcceptedAt: inv.ReceivedAt,
	}
	if event.Line.Qualifier == string(lambent.Latest) {
		event.Line.Qualifier = "" // one line for what is the same
	}
	if event.Urgency, event.Deadline, err = urgencyOf(operation, c.r.Header); err != nil {
		return err
	}
	if err := a.events.Accept(c.r.Context(), event); err != nil {
		if lambent.KindOf(err) == lambent.KindUnavailable {
			return &lambent.Error{Op: operation, Resource: string(inv.Function), Kind: lambent.KindUnavailable, Reason: reasonNotStored, Err: err,
				Message: "The event was not accepted, because it could not be stored. Try again."}
		}
		return err
	}
	h := c.w.Header()
	h["X-Amzn-Remapped-Content-Length"] = []string{"0"}
	h[headerTraceID] = []string{inv.TraceID}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// reasonNotStored picks AWS's exception for an event that was not accepted by the
// fault of the service.
const reasonNotStored = "ServiceException"

// urgencyOf reads what a caller tells of its event; zeros where it tells nothing.
func urgencyOf(operation string, h http.Header) (urgency string, deadline time.Time, err error) {
	switch urgency = h.Get(headerUrgency); urgency {
	case "", "low", "normal", "high":
	default:
		return "", deadline, invalid(operation, headerUrgency+" is none of low, normal and high.")
	}
	if text := h.Get(headerDeadline); text != "" {
		if deadline, err = time.Parse(time.RFC3339Nano, text); err != nil || deadline.Year() < 1970 || deadline.Year() > 2200 {
			return "", deadline, invalid(operation, headerDeadline+" is no time of RFC 3339, such as 2026-12-24T18:00:00Z.")
		}
	}
	return urgency, deadline, nil
}

// bodyLimit is how long a body may be, and what is said of a longer one.
type bodyLimit struct {
	bytes    int64
	tooLarge *lambent.Error
}

func invokeLimit() bodyLimit { return bodyLimit{maxInvokeBody, invokeTooLarge()} }
func eventLimit() bodyLimit  { return bodyLimit{queue.MaxPayload, eventTooLarge()} }
