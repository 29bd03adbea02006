package registry

import (
	"context"
	"fmt"

	"lambent"
)

// UpdateFunctionCode gives a function another package, a zip that has been
// checked. change may alter what goes with the code (the architectures) on a
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
	hash, err := r.code.acquire(ctx, pkg)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", op, name, err)
	}
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	next, old, err := r.update(ctx, op, k, revision, func(fn *lambent.Function) error {
		if change != nil {
			change(fn)
		}
		fn.Code, fn.CodeSize = hash, int64(len(pkg))
		return nil
	})
	if err != nil {
		r.code.release(hash)
		return nil, err
	}
	r.code.release(old.Code)
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
	next, _, err := r.update(ctx, "update function configuration", k, revision, func(fn *lambent.Function) error {
		before := *fn
		err := change(fn)
		fn.Code, fn.CodeSize, fn.Unpacked, fn.HotFolder = before.Code, before.CodeSize, before.Unpacked, before.HotFolder
		return err
	})
	return next.fn, err
}

// update makes and stores the successor of a record, and has it settle. The
// caller holds the function's lock.
func (r *Registry) update(ctx context.Context, op string, k functionKey, revision string, change func(*lambent.Function) error) (next stored, old *lambent.Function, err error) {
	before, err := r.requireChangeable(op, k, revision)
	if err != nil {
		return stored{}, nil, err
	}
	fn := clone(before.fn)
	if err := change(fn); err != nil {
		return stored{}, nil, err
	}
	fn.Account, fn.Name, fn.Version = before.fn.Account, before.fn.Name, before.fn.Version
	fn.State, fn.StateReason, fn.StateReasonCode = before.fn.State, before.fn.StateReason, before.fn.StateReasonCode
	fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = updateInProgress, reasonCreating, codeCreating
	fn.LastModified = r.opts.Now().UTC()
	if err := r.retainLayers(op, fn.Layers); err != nil {
		return stored{}, nil, err
	}
	next = stored{fn: fn, extra: before.extra}
	if err := r.write(ctx, next, &before); err != nil {
		r.code.releaseLayers(fn.Layers)
		return stored{}, nil, err
	}
	r.code.releaseLayers(before.fn.Layers)
	r.settleLater(fn)
	return next, before.fn, nil
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
