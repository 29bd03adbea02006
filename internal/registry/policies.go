package registry

import (
	"context"

	"github.com/google/uuid"

	"lambent"
	"lambent/internal/policy"
)

// policyKey is where the policy of a function, or of a version or alias of it,
// is. That of $LATEST is the function's.
func policyKey(account lambent.AccountID, name lambent.FunctionName, qualifier string) ObjectKey {
	if qualifier == string(lambent.Latest) {
		qualifier = ""
	}
	return ObjectKey{account, string(name), qualifier}
}

// FunctionPolicy gives the resource policy of a function or, where a qualifier
// is given, that of the version or alias; nil where there is none, or nothing of
// that name.
func (r *Registry) FunctionPolicy(account lambent.AccountID, name lambent.FunctionName, qualifier string) *policy.Attached {
	return r.FunctionPolicies.Get(policyKey(account, name, qualifier))
}

// EditFunctionPolicy has change decide what becomes of the resource policy of a
// function, version or alias: it gets the one there is, nil for none, with the
// revision of what it is attached to, and returns the one there shall be, nil
// for none, the same to change nothing. What it is attached to is of another
// revision afterwards, as at AWS. change's error is returned as it is, and then
// nothing has changed; it must not write to the registry, nor block.
//
// KindNotFound where there is no such function, version or alias.
func (r *Registry) EditFunctionPolicy(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, qualifier string,
	change func(old *policy.Attached, revision string) (*policy.Attached, error)) error {
	const op = "change function policy"
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	key := policyKey(account, name, qualifier)
	mu := r.lockOf(key.function())
	mu.Lock()
	defer mu.Unlock()
	revision, err := r.RevisionOf(account, name, key.Name)
	if err != nil {
		return err
	}
	before := r.FunctionPolicies.stored(key)
	next, err := change(before.value, revision)
	if err != nil || next == before.value {
		return err
	}
	// A crash between the two leaves a revision that nothing was changed for,
	// which is the lesser lie.
	if err := r.restamp(ctx, op, key); err != nil {
		return err
	}
	if next == nil {
		return r.FunctionPolicies.remove(ctx, op, before)
	}
	return r.FunctionPolicies.write(ctx, op, before, next)
}

// RevisionOf is the RevisionId of a function, version or alias; KindNotFound
// where there is none.
func (r *Registry) RevisionOf(account lambent.AccountID, name lambent.FunctionName, qualifier string) (string, error) {
	if version := lambent.Version(qualifier); version != "" && version != lambent.Latest && !version.IsNumbered() {
		alias, err := r.Alias(account, name, qualifier)
		if err != nil {
			return "", err
		}
		return alias.Revision, nil
	}
	fn, err := r.Function(account, name, qualifier)
	if err != nil {
		return "", err
	}
	return fn.Revision, nil
}

// restamp gives a function, version or alias another revision, with nothing
// else changed. The caller holds the function's lock.
func (r *Registry) restamp(ctx context.Context, op string, key ObjectKey) error {
	if before := r.Aliases.stored(key); before.value != nil {
		next := *before.value
		next.Revision = uuid.NewString()
		return r.Aliases.write(ctx, op, before, &next)
	}
	version := lambent.Latest
	if key.Name != "" {
		version = lambent.Version(key.Name)
	}
	s, err := r.currentVersion(op, key.function(), version)
	if err != nil {
		return err
	}
	return r.write(ctx, stored{fn: clone(s.fn), extra: s.extra}, &s)
}
