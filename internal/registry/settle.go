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
	k := functionKey{fn.Account, fn.Name}
	r.running.Go(func() {
		old := standIns(fn, r.before(k, fn, nil), r.updateSettings(k), time.Time{}, r.opts.Now())
		failure, ended := r.bringUp(fn, old)
		if !ended {
			r.untilStored(fn, func() (bool, error) { return r.settle(fn, failure) })
		}
	})
}

// settle stores what came of bringing up prepared, unless it is not the current
// record any more.
func (r *Registry) settle(prepared *lambent.Function, failure error) (settles bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), writeLimit)
	defer cancel()
	k := functionKey{prepared.Account, prepared.Name}
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	s, err := r.currentVersion("settle function", k, prepared.Version)
	if err != nil || !changing(s.fn) && s.fn.Previous == nil || !sameChange(s.fn, prepared) {
		return false, nil // deleted, or closed; a new function of the name settles by itself
	}
	return true, r.replace(ctx, stored{fn: settled(s.fn, failure), extra: s.extra}, &s)
}

// sameChange reports whether two records of a function are of the same change.
// They may be of different revisions: a change of the function's policy is one.
func sameChange(a, b *lambent.Function) bool {
	return a.Code == b.Code && a.ConfigHash == b.ConfigHash && a.LastModified.Equal(b.LastModified)
}

// settled decides what becomes of a changing record once it was brought up, or
// could not be. A function that failed once becomes active by an update that
// does not. An update that fails leaves what was in place before.
func settled(fn *lambent.Function, failure error) *lambent.Function {
	if failure == nil {
		next := clone(fn)
		next.Previous = nil
		next.State, next.StateReason, next.StateReasonCode = stateActive, "", ""
		next.UpdateStatus, next.UpdateReason, next.UpdateReasonCode = updateSuccessful, "", ""
		return next
	}
	text, code := reasonOf(failure)
	next := clone(fn)
	if fn.Previous != nil {
		next = clone(fn.Previous)
		next.Tags, next.LastModified = fn.Tags, fn.LastModified // tags are no part of the change
		text += " The function keeps the code and configuration it had."
	}
	next.UpdateStatus, next.UpdateReason, next.UpdateReasonCode = updateFailed, text, code
	if fn.State == statePending {
		next.State, next.StateReason, next.StateReasonCode = stateFailed, text, code
	}
	return next
}
