package registry

import (
	"context"
	"errors"

	"lambent"
)

// DeleteFunction forgets a function with all its versions and what belongs to
// it, whatever state it is in; KindNotFound where there is none. Invocations
// that hold a record can still get its code for Options.CodeGrace.
func (r *Registry) DeleteFunction(ctx context.Context, account lambent.AccountID, name lambent.FunctionName) error {
	const op = "delete function"
	k := functionKey{account, name}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	s, err := r.current(op, k)
	if err != nil {
		return err
	}
	if err := r.keepNumbering(ctx, op, k); err != nil {
		return err
	}
	if err := r.dropVersion(ctx, op, k, s); err != nil { // its $LATEST: with that it is gone
		return err
	}
	if err := errors.Join(r.dropVersions(ctx, op, k), r.dropObjects(ctx, k)); err != nil { // the function is gone all the same
		r.opts.Log.Warn("what belonged to a deleted function could not be removed; it is tried again when its name is used, and at the next start", "function", name, "account", account, "err", err)
	}
	return nil
}
