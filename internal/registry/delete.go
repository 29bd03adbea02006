package registry

import (
	"context"
	"errors"

	"lambent"
)

// DeleteFunction forgets a function and what belongs to it, whatever state it is in; KindNotFound
// where there is none. Invocations that hold its record can still get its code
// for Options.CodeGrace.
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
	if err := r.records.Delete(ctx, recordKey(s.fn), s.revision); err != nil {
		err = &lambent.Error{Op: op, Resource: string(name), Kind: writeKind(err), Err: err}
		return errors.Join(err, r.reconcile(ctx, recordKey(s.fn), k))
	}
	r.remove(k)
	r.code.releaseAll(s.fn)
	if err := r.dropObjects(ctx, k); err != nil { // the function is gone all the same
		r.opts.Log.Warn("what belonged to a deleted function could not be removed; it is tried again when its name is used, and at the next start", "function", name, "account", account, "err", err)
	}
	return nil
}
