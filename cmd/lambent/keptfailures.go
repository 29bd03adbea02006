package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"lambent"
	"lambent/internal/failures"
	"lambent/internal/invoke"
	"lambent/internal/registry"
)

// keptFailures has the failures of events kept in the store.
type keptFailures struct{ store *failures.Store }

// Put stores a failure. That the record of one which is stored could not be
// delivered is only noted: it is no other failure.
func (k keptFailures) Put(ctx context.Context, f *invoke.Failure) error {
	e := f.Event
	key := failures.Key{Account: e.Line.Account, RequestID: e.ID}
	if f.Kept {
		if err := k.store.Note(ctx, key, f.Action); err == nil || lambent.KindOf(err) != lambent.KindNotFound {
			return err
		}
	}
	r := &failures.Record{
		Key: key, Function: e.Line.Function, Qualifier: e.Line.Qualifier, Version: f.Version, Reason: failures.Reason(f.Reason),
		Error: failures.Error{Type: f.ErrorType, Message: f.Message}, Attempts: f.Attempts, FirstAt: e.AcceptedAt,
		Payload: e.Payload, ClientContext: e.ClientContext, TraceID: e.TraceID, TenantID: e.TenantID, Origin: e.Source, Urgency: e.Urgency, Deadline: e.Deadline, Depth: e.Depth,
		State: f.State,
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

// syncFailures keeps the failures of synchronous callers, too, of functions whose
// settings say so. The caller has his answer and waits for nothing here.
type syncFailures struct {
	kept      keptFailures
	functions *registry.Registry
	log       *slog.Logger

	storing sync.WaitGroup
	slots   chan struct{} // as many as may be under way at once
}

// mostStoring bounds what is kept at once of failures of synchronous callers; a
// disk writes thousands a second. What comes beyond is told in the log.
const mostStoring = 1024

func newSyncFailures(store *failures.Store, functions *registry.Registry, log *slog.Logger) *syncFailures {
	return &syncFailures{kept: keptFailures{store}, functions: functions, log: log, slots: make(chan struct{}, mostStoring)}
}

// settled is told of every synchronous call; it does not block.
func (s *syncFailures) settled(inv *lambent.Invocation, res *lambent.Result, err error) {
	if err == nil && res.FunctionError == "" {
		return
	}
	set, unknown := s.functions.PlatformSettings(inv.Account, inv.Function)
	if unknown != nil || set == nil || set.Failures == nil || !set.Failures.StoreSync {
		return
	}
	f, ok := invoke.FailureOf(inv, res, err)
	if !ok {
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.log.Warn("too many failures of synchronous calls at once; this one is not kept", "function", inv.Function, "request", inv.RequestID)
		return
	}
	s.storing.Go(func() {
		defer func() { <-s.slots }()
		if err := s.kept.Put(context.Background(), f); err != nil {
			s.log.Warn("the failure of a synchronous call could not be kept", "function", inv.Function, "request", inv.RequestID, "error", err)
		}
	})
}

// close waits for what is being stored. No call may end any more.
func (s *syncFailures) close() error {
	s.storing.Wait()
	return nil
}

// Succeeded forgets the failure that an event was.
func (k keptFailures) Succeeded(ctx context.Context, account lambent.AccountID, id lambent.RequestID) error {
	return k.store.Succeeded(ctx, failures.Key{Account: account, RequestID: id})
}
