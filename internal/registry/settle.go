package registry

import (
	"context"
	"time"

	"lambent"
)

// Waits between attempts to store that a function has settled.
const (
	settleRetryMin = 100 * time.Millisecond
	settleRetryMax = 30 * time.Second
)

// settleLater prepares a record that is changing, and settles it, in the
// background. The caller holds the function's lock, or is Open.
func (r *Registry) settleLater(fn *lambent.Function) {
	r.running.Go(func() {
		select {
		case r.slots <- struct{}{}:
			defer func() { <-r.slots }()
		case <-r.ctx.Done():
			return
		}
		failure := r.opts.Prepare(r.ctx, fn)
		if r.ctx.Err() != nil {
			return // it is settled after the next start
		}
		if failure != nil {
			r.opts.Log.Warn("a function's code could not be prepared", "function", fn.Name, "account", fn.Account, "err", failure)
		}
		for wait := settleRetryMin; ; wait = min(2*wait, settleRetryMax) {
			err := r.settle(fn, failure)
			if err == nil {
				return
			}
			r.opts.Log.Warn("a function could not be marked as ready; it is tried again", "function", fn.Name, "account", fn.Account, "wait", wait, "err", err)
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(wait):
			}
		}
	})
}

// settle stores what came of preparing prepared, unless it is not the current
// record any more.
func (r *Registry) settle(prepared *lambent.Function, failure error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), writeLimit)
	defer cancel()
	k := functionKey{prepared.Account, prepared.Name}
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	s, err := r.currentVersion("settle function", k, prepared.Version)
	if err != nil || !changing(s.fn) || !sameChange(s.fn, prepared) {
		return nil // deleted, or closed; a new function of the name settles by itself
	}
	return r.write(ctx, stored{fn: settled(s.fn, failure), extra: s.extra}, &s)
}

// sameChange reports whether two records of a function are of the same change.
// They may be of different revisions: a change of the function's policy is one.
func sameChange(a, b *lambent.Function) bool {
	return a.Code == b.Code && a.ConfigHash == b.ConfigHash && a.LastModified.Equal(b.LastModified)
}

// settled decides what becomes of a changing record once it was prepared, or
// could not be. A function that failed once becomes active by an update that
// does not.
func settled(fn *lambent.Function, failure error) *lambent.Function {
	next := clone(fn)
	if failure == nil {
		next.State, next.StateReason, next.StateReasonCode = stateActive, "", ""
		next.UpdateStatus, next.UpdateReason, next.UpdateReasonCode = updateSuccessful, "", ""
		return next
	}
	text, code := reasonOf(failure)
	next.UpdateStatus, next.UpdateReason, next.UpdateReasonCode = updateFailed, text, code
	if fn.State == statePending {
		next.State, next.StateReason, next.StateReasonCode = stateFailed, text, code
	}
	return next
}
