package registry

import (
	"context"
	"time"

	"lambent"
)

// # How new code takes the place of old
//
// A rollout is a change of what calls by one name get: $LATEST was given other
// code, or an alias was moved to another version. It has three steps:
//
//	fetch    Options.Prepare: the code is on the machine, unpacked
//	stand    Options.Stand: where the old code is warm, containers with the new
//	         one stand ready, the first beside an old one on its instance
//	switch   the record says that the new code is in place
//
// Until the switch a call for the new code may be served by the old one, if a
// container of that is warm: Route tells which records stand in, whoever places
// the call whether one of them does. Where nothing old is warm, nothing is started
// for its sake. None stands in
//
//   - that differs in more than its code (lambent.Function.CanStandIn);
//   - where the function's update mode is exact, or the caller wants exactness;
//   - for a number asked for as such, or chosen by an alias's weights;
//   - for longer than MaxStaleness from the first call on that asked for the new
//     code: then calls wait for it.
//
// $LATEST, eager (the default). The rollout begins with the update, which is
// InProgress until the switch and then Successful: that is AWS's promise. What
// was in place is Function.Previous until then. Where the code cannot be
// fetched, Previous is put back, and the update is Failed and says why.
//
// $LATEST, lazy. The update is Successful at once, and the rollout begins with
// the first call. Until then further updates may come; the one a call finds is
// rolled out, and Previous stays what is in place. A failure is as before.
//
// An alias. It remembers in Alias.Before the versions it meant since the last
// switch, newest first. The rollout begins with the first call. Where it fails,
// calls get old code for as long as they may, and each tries again, after a
// while; when they may no longer, they are told the error.
//
// A rollout that ends for what has been replaced meanwhile switches nothing: one
// begins anew for what is there. So quick changes end at the last of them, and
// going back is a change like any other. What a restart interrupts begins anew
// too, and finds nothing warm.

// rollout is the state of one that was begun. Its fields are guarded by the
// registry's rolloutMu.
type rollout struct {
	began   time.Time // by the first call; MaxStaleness counts from here
	running bool
	retryAt time.Time     // not before
	wait    time.Duration // the last between two attempts
}

// rolloutKey names what rolls out: "" is $LATEST, else it is an alias.
type rolloutKey struct {
	functionKey
	qualifier string
}

// maxBefore bounds how many versions an alias remembers.
const maxBefore = 4

// keyOfRollout is of the rollout that a call for fn by a qualifier is part of.
func keyOfRollout(k functionKey, qualifier string, fn *lambent.Function) rolloutKey {
	if fn.Version == lambent.Latest {
		return rolloutKey{k, ""}
	}
	return rolloutKey{k, qualifier}
}

// movedFrom is what an alias remembers when it is moved away from old.
func movedFrom(old *Alias, to lambent.Version) (before []lambent.Version) {
	if !to.IsNumbered() {
		return nil
	}
	for _, v := range append([]lambent.Version{old.Version}, old.Before...) {
		if v != to && v.IsNumbered() && len(before) < maxBefore {
			before = append(before, v)
		}
	}
	return before
}

// standIns are the records that may serve a call for fn, best first. began is
// when the rollout did, zero where it has not.
func standIns(fn *lambent.Function, before []*lambent.Function, u UpdateSettings, began, now time.Time) (usable []*lambent.Function) {
	if u.mode() == UpdateExactly || u.maxStaleness() == 0 || !began.IsZero() && now.Sub(began) >= u.maxStaleness() {
		return nil
	}
	for _, old := range before {
		if old.CanStandIn(fn) {
			usable = append(usable, old)
		}
	}
	return usable
}

// before are the records that calls by a name got until its last change, which
// is not in place yet; nil where it is. alias is nil where the name is none.
func (r *Registry) before(k functionKey, fn *lambent.Function, alias *Alias) (before []*lambent.Function) {
	switch {
	case fn.Version == lambent.Latest && fn.Previous != nil:
		return []*lambent.Function{fn.Previous}
	case alias == nil || fn.Version != alias.Version: // by weight
		return nil
	}
	for _, v := range alias.Before {
		if s, ok := r.reachable(k, v); ok {
			before = append(before, s.fn)
		}
	}
	return before
}

// standInsFor is standIns with what there is to know.
func (r *Registry) standInsFor(key rolloutKey, fn *lambent.Function, before []*lambent.Function) []*lambent.Function {
	r.rolloutMu.Lock()
	var began time.Time
	if ro := r.rollouts[key]; ro != nil {
		began = ro.began
	}
	r.rolloutMu.Unlock()
	if began.IsZero() && fn.UpdateStatus == updateInProgress {
		began = fn.LastModified
	}
	return standIns(fn, before, r.updateSettings(key.functionKey), began, r.opts.Now())
}

// Rollout is told of a call that asked for code that is not in place yet, whether
// others may stand in for it or not: it begins to bring that code up, where this
// is not under way. It does not block.
func (r *Registry) Rollout(account lambent.AccountID, name lambent.FunctionName, qualifier string) {
	k := functionKey{account, name}
	fn, alias, err := r.find(k, qualifier, 1)
	if err != nil || changing(fn) { // an eager one is under way by itself
		return
	}
	before := r.before(k, fn, alias)
	if before == nil {
		return
	}
	if fn.Version == lambent.Latest {
		alias = nil // what $LATEST is does not depend on the name
	}
	key := keyOfRollout(k, qualifier, fn)
	ro := r.beginRollout(key)
	if ro == nil {
		return
	}
	r.mu.RLock() // so that Close, which locks it, waits for what is begun
	defer r.mu.RUnlock()
	if r.closed {
		return
	}
	r.running.Go(func() {
		usable := standIns(fn, before, r.updateSettings(k), time.Time{}, r.opts.Now())
		failure, ended := r.bringUp(fn, usable)
		switch {
		case ended:
			return
		case alias == nil:
			r.untilStored(fn, func() (bool, error) { return r.settle(fn, failure) })
		case failure == nil:
			r.untilStored(fn, func() (bool, error) { return r.switchAlias(key, alias) })
		}
		r.rolloutEnded(ro, failure)
	})
}

// bringUp fetches the code of fn and, where old code is warm, has containers with
// it stand ready. What fetching failed with is the failure; ended says that the
// registry was closed meanwhile.
func (r *Registry) bringUp(fn *lambent.Function, old []*lambent.Function) (failure error, ended bool) {
	if fn.PackageType == lambent.PackageImage { // whoever pulls images bounds that
		failure = r.opts.Prepare(r.ctx, fn)
	} else {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
			return nil, true
		}
		failure = r.opts.Prepare(r.ctx, fn)
		<-r.slots
	}
	if r.ctx.Err() != nil {
		return nil, true // it is done after the next start
	}
	if failure != nil {
		r.opts.Log.Warn("a function's code could not be prepared", "function", fn.Name, "account", fn.Account, "version", fn.Version, "err", failure)
		return failure, false
	}
	if len(old) > 0 && r.opts.Stand != nil {
		// When calls may no longer get old code nothing is gained by going on.
		ctx, cancel := context.WithTimeout(r.ctx, r.updateSettings(functionKey{fn.Account, fn.Name}).maxStaleness())
		defer cancel()
		if err := r.opts.Stand(ctx, fn, old...); err != nil {
			r.opts.Log.Info("no container with a function's new code stands ready; the next call waits for one", "function", fn.Name, "account", fn.Account, "version", fn.Version, "reason", err)
		}
	}
	return nil, r.ctx.Err() != nil
}

// switchAlias has an alias forget what it meant before, unless it was changed
// since.
func (r *Registry) switchAlias(key rolloutKey, alias *Alias) (switched bool, err error) {
	_, err = r.Aliases.Edit(r.ctx, "end the rollout of an alias", aliasKey(key.account, key.name, key.qualifier), func(old *Alias) (*Alias, error) {
		if old != alias {
			return old, nil
		}
		switched = true
		next := *old
		next.Before = nil
		return &next, nil
	})
	if lambent.KindOf(err) == lambent.KindNotFound || lambent.KindOf(err) == lambent.KindUnavailable {
		return false, nil // its function is gone, or the registry is closed
	}
	return switched, err
}

// beginRollout notes that one begins, and gives nil where that may not be now.
func (r *Registry) beginRollout(key rolloutKey) *rollout {
	now := r.opts.Now()
	r.rolloutMu.Lock()
	defer r.rolloutMu.Unlock()
	ro := r.rollouts[key]
	if ro == nil {
		ro = &rollout{began: now}
		r.rollouts[key] = ro
	}
	if ro.running || now.Before(ro.retryAt) {
		return nil
	}
	ro.running = true
	return ro
}

// rolloutEnded notes that one has, which may be forgotten already. Where nothing
// has switched the next call begins another, after a failure not at once; calls
// have had old code since the first began.
func (r *Registry) rolloutEnded(ro *rollout, failure error) {
	now := r.opts.Now()
	r.rolloutMu.Lock()
	defer r.rolloutMu.Unlock()
	ro.running, ro.retryAt = false, time.Time{}
	if failure != nil {
		ro.wait = min(max(2*ro.wait, rolloutRetryMin), rolloutRetryMax)
		ro.retryAt = now.Add(ro.wait)
	}
}

// Waits between attempts to bring up the version of an alias.
const (
	rolloutRetryMin = time.Second
	rolloutRetryMax = 30 * time.Second
)

// forgetRollout is for when the last change of what a name means is in place.
func (r *Registry) forgetRollout(key rolloutKey) {
	r.rolloutMu.Lock()
	defer r.rolloutMu.Unlock()
	delete(r.rollouts, key)
}

// forgetRollouts is for a function that is gone.
func (r *Registry) forgetRollouts(k functionKey) {
	r.rolloutMu.Lock()
	defer r.rolloutMu.Unlock()
	for key := range r.rollouts {
		if key.functionKey == k {
			delete(r.rollouts, key)
		}
	}
}

// untilStored tries to store the end of something until it is stored or the
// registry closed.
func (r *Registry) untilStored(fn *lambent.Function, store func() (bool, error)) {
	for wait := settleRetryMin; ; wait = min(2*wait, settleRetryMax) {
		_, err := store()
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
}

// watchRollouts forgets a rollout when a record says that the change is in
// place, whoever wrote it.
func (r *Registry) watchRollouts() {
	r.Subscribe(func(c Change) {
		switch {
		case c.FunctionDeleted():
			r.forgetRollouts(functionKey{c.Account, c.Name})
		case c.Version == lambent.Latest && c.After != nil && c.After.Previous == nil:
			r.forgetRollout(rolloutKey{functionKey{c.Account, c.Name}, ""})
		}
	})
	r.Aliases.Subscribe(func(c ObjectChange[Alias]) {
		if c.After == nil || len(c.After.Before) == 0 {
			r.forgetRollout(rolloutKey{c.Key.function(), c.Key.Name})
		}
	})
}

// StandFunc brings up containers of a function beside those of the records that
// stand in for it, where any of these is warm, and returns when they are ready.
// An error is why there is none.
type StandFunc func(ctx context.Context, fn *lambent.Function, old ...*lambent.Function) error
