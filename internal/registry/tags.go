package registry

import (
	"context"

	"lambent"
)

// TagFunction gives a function the tags that change makes of those it has, a
// copy. Tags are not what a function runs with: its revision stays, and no
// update is begun. KindNotFound where there is no function; the error of change
// is returned as it is.
func (r *Registry) TagFunction(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, change func(tags map[string]string) error) error {
	k := functionKey{account, name}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	before, err := r.current("tag function", k)
	if err != nil {
		return err
	}
	fn := clone(before.fn)
	if fn.Tags == nil {
		fn.Tags = map[string]string{}
	}
	if err := change(fn.Tags); err != nil {
		return err
	}
	return r.store(ctx, stored{fn: fn, extra: before.extra}, &before)
}
