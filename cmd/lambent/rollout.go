package main

import (
	"context"
	"log/slog"
	"time"

	"lambent"
	"lambent/internal/pool"
	"lambent/internal/registry"
)

// prepareWaits are the times between attempts to get a function's code. After the
// last failure the update has failed, and what was there before stays.
func prepareWaits() []time.Duration { return []time.Duration{200 * time.Millisecond, 2 * time.Second} }

// preparing is prepare, tried again where it may help.
func preparing(prepare func(context.Context, *lambent.Function) error, waits []time.Duration, log *slog.Logger) func(context.Context, *lambent.Function) error {
	return func(ctx context.Context, fn *lambent.Function) error {
		for k := 0; ; k++ {
			err := prepare(ctx, fn)
			if err == nil || k == len(waits) || ctx.Err() != nil || !mayPass(err) {
				return err
			}
			log.Warn("a function's code could not be had; it is tried again", "function", fn.Name, "account", fn.Account, "version", fn.Version, "wait", waits[k], "err", err)
			select {
			case <-time.After(waits[k]):
			case <-ctx.Done():
				return err
			}
		}
	}
}

// mayPass tells whether an error may be gone the next time.
func mayPass(err error) bool {
	switch lambent.KindOf(err) {
	case lambent.KindInvalid, lambent.KindNotFound, lambent.KindDenied, lambent.KindUnsupported, lambent.KindTooLarge, lambent.KindRequestTooLarge:
		return false
	default:
		return true
	}
}

// retire ends what no call gets any more after a change: not what stands in until
// the change is in place.
func retire(workers *pool.Pool, c registry.Change) {
	switch {
	case c.FunctionDeleted():
		workers.Retire(c.Account, c.Name, "")
	case c.After == nil:
		workers.Retire(c.Account, c.Name, c.Version)
	case c.After.Previous != nil && c.After.Previous.CanStandIn(c.After):
		workers.Retire(c.Account, c.Name, c.Version, c.After.Key(), c.After.Previous.Key())
	default:
		workers.Retire(c.Account, c.Name, c.Version, c.After.Key())
	}
}
