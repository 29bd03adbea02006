package registry

import (
	"context"
	"fmt"

	"lambent"
)

// UpdateFunctionCode gives a function another package, a zip that has been
// checked; nil for an image, which change names. change may alter what goes with the code (the architectures) on a
// copy of the record; nil alters nothing. revision is the one the caller
// believes to be current, "" for any. Where the change is to be published at
// once, the record that comes back is the version's.
//
// Errors: KindNotFound, KindPrecondition for another revision, KindExists while
// a change is under way.
func (r *Registry) UpdateFunctionCode(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string,
	change func(*lambent.Function), pkg []byte, publishing lambent.Publishing) (*lambent.Function, error) {
	const op = "update function code"
	k := functionKey{account, name}
	if _, err := r.requireChangeable(op, k, revision); err != nil { // before the upload, and again when it counts
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	var hash lambent.CodeHash
	if pkg != nil {
		var err error
		if hash, err = r.code.acquire(ctx, pkg); err != nil {
			return nil, fmt.Errorf("%s %s: %w", op, name, err)
		}
		defer r.code.release(hash) // the record takes references of its own
	}
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	next, err := r.update(ctx, op, k, revision, func(fn *lambent.Function) error {
		if change != nil {
			change(fn)
		}
		if pkg != nil {
			fn.Code, fn.CodeSize = hash, int64(len(pkg))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if publishing == lambent.Published {
		return r.publish(ctx, op, next, nil)
	}
	return next.fn, nil
}

// UpdateFunctionConfiguration has change alter a copy of the record, whose
// identity, code and state it cannot alter. Its error is returned as it is, and
// then nothing has changed. Errors are those of UpdateFunctionCode besides.
func (r *Registry) UpdateFunctionConfiguration(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string,
	change func(*lambent.Function) error) (*lambent.Function, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	k := functionKey{account, name}
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	next, err := r.update(ctx, "update function configuration", k, revision, func(fn *lambent.Function) error {
		before := *fn
		err := change(fn)
		fn.Code, fn.CodeSize, fn.Unpacked, fn.HotFolder = before.Code, before.CodeSize, before.Unpacked, before.HotFolder
		fn.PackageType, fn.ImageURI, fn.ImageRef = before.PackageType, before.ImageURI, before.ImageRef
		return err
	})
	return next.fn, err
}

// update makes and stores the successor of a record, and has it settle: at once,
// or, where other code waits to be asked for, with the first call. The caller
// holds the function's lock.
func (r *Registry) update(ctx context.Context, op string, k functionKey, revision string, change func(*lambent.Function) error) (next stored, err error) {
	before, err := r.requireChangeable(op, k, revision)
	if err != nil {
		return stored{}, err
	}
	fn := clone(before.fn)
	if err := change(fn); err != nil {
		return stored{}, err
	}
	fn.Account, fn.Name, fn.Version = before.fn.Account, before.fn.Name, before.fn.Version
	fn.State, fn.StateReason, fn.StateReasonCode = before.fn.State, before.fn.StateReason, before.fn.StateReasonCode
	fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = updateInProgress, reasonCreating, codeCreating
	fn.LastModified = r.opts.Now().UTC()
	fn.Previous = inPlace(before.fn)
	fn.ConfigHash = fn.HashConfig()
	waits := fn.Previous != nil && fn.Previous.CanStandIn(fn) && r.updateMode(k) == UpdateLazily
	if waits {
		fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = updateSuccessful, "", ""
	}
	if err := r.retainLayers(op, fn.Layers); err != nil {
		return stored{}, err
	}
	defer r.code.releaseLayers(fn.Layers)
	next = stored{fn: fn, extra: before.extra}
	if err := r.replace(ctx, next, &before); err != nil {
		return stored{}, err
	}
	if !waits {
		r.settleLater(fn)
	}
	return next, nil
}

// inPlace is what serves calls while there is nothing newer: nil where nothing
// ever did.
func inPlace(fn *lambent.Function) *lambent.Function {
	switch {
	case fn.Previous != nil:
		return fn.Previous
	case fn.State != stateActive:
		return nil
	}
	return fn
}

// replace writes a record that may have other packages than the one before.
func (r *Registry) replace(ctx context.Context, next stored, before *stored) error {
	r.code.countAll(next.fn)
	if err := r.write(ctx, next, before); err != nil {
		r.code.releaseAll(next.fn)
		return err
	}
	r.code.releaseAll(before.fn)
	return nil
}

// requireChangeable gives the record of a function that may be changed now, by
// a caller who believes it to be of a revision.
func (r *Registry) requireChangeable(op string, k functionKey, revision string) (stored, error) {
	s, err := r.current(op, k)
	switch {
	case err != nil:
		return stored{}, err
	case revision != "" && revision != s.fn.Revision:
		return stored{}, otherRevision(op, string(k.name))
	case changing(s.fn):
		return stored{}, &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindExists,
			Message: "The operation cannot be performed at this time. An update is in progress for resource: " + r.arn(k.account, k.name, "")}
	}
	return s, nil
}
