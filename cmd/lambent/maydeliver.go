package main

import (
	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/queue"
)

// mayDeliver is invoke.DispatcherOptions.MayDeliver. What a role may is asked each
// time, as for what is no function.
func (d *deliveries) mayDeliver(from, to queue.Line) error {
	if _, err := d.functions.Function(to.Account, to.Function, to.Qualifier); err != nil {
		return err
	}
	if d.cfg.Auth != config.AuthRequired {
		return nil
	}
	fn, err := d.functions.Function(from.Account, from.Function, from.Qualifier)
	if lambent.KindOf(err) == lambent.KindNotFound && from.Qualifier != "" { // the version or alias was deleted meanwhile
		fn, err = d.functions.Function(from.Account, from.Function, "")
	}
	if err != nil {
		return err
	}
	return d.deliverable(from.Account, fn.Role, lambent.FunctionARN(d.cfg.Region, to.Account, to.Function, to.Qualifier))
}
