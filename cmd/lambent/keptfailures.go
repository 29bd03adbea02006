package main

import (
	"context"
	"time"

	"lambent"
	"lambent/internal/failures"
	"lambent/internal/invoke"
)

// keptFailures has the failures of events kept in the store.
type keptFailures struct{ store *failures.Store }

// Put stores a failure. That the record of one which is stored could not be
// delivered is only noted: it is no other failure.
func (k keptFailures) Put(ctx context.Context, f *invoke.Failure) error {
	e := f.Event
	key := failures.Key{Account: e.Line.Account, RequestID: e.ID}
	if f.Action != "" && f.Reason != string(failures.DestinationFailed) {
		if err := k.store.Note(ctx, key, f.Action); err == nil || lambent.KindOf(err) != lambent.KindNotFound {
			return err
		}
	}
	r := &failures.Record{
		Key: key, Function: e.Line.Function, Qualifier: e.Line.Qualifier, Version: f.Version, Reason: failures.Reason(f.Reason),
		Error: failures.Error{Type: f.ErrorType, Message: f.Message}, Attempts: f.Attempts, FirstAt: e.AcceptedAt,
		Payload: e.Payload, ClientContext: e.ClientContext, TraceID: e.TraceID, TenantID: e.TenantID, Origin: e.Source, Urgency: e.Urgency, Deadline: e.Deadline, Depth: e.Depth,
	}
	stack, isError := errorOf(f.Response)
	if r.Error.Stack = stack; !isError {
		r.Response = f.Response
	}
	for _, what := range append([]string{f.Action}, f.Actions...) {
		if what != "" {
			r.Actions = append(r.Actions, failures.Action{At: time.Now().UTC(), What: what})
		}
	}
	return k.store.Put(ctx, r)
}

// Succeeded forgets the failure that an event was.
func (k keptFailures) Succeeded(ctx context.Context, account lambent.AccountID, id lambent.RequestID) error {
	return k.store.Succeeded(ctx, failures.Key{Account: account, RequestID: id})
}
