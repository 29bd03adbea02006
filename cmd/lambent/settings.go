package main

import (
	"context"
	"errors"
	"fmt"

	"lambent"
	"lambent/internal/control"
	"lambent/internal/deliver"
	"lambent/internal/egress"
	"lambent/internal/judge"
	"lambent/internal/registry"
)

// checkedSettings refuses URLs of destinations that are addresses which are not
// connected to (what names mean is found out when they are), and expectations that
// nothing can be held against: those are compiled where what it takes harms nobody
// else, and there only.
type checkedSettings struct {
	*registry.Registry
	guard    *egress.Guard
	verdicts *judge.Judge
}

// SetPlatformSettings implements api.PlatformSettings.
func (s checkedSettings) SetPlatformSettings(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, set *registry.PlatformSettings) error {
	if set != nil && set.Destinations != nil {
		for _, place := range []string{set.Destinations.OnSuccess, set.Destinations.OnFailure} {
			if place == "" {
				continue
			}
			u, err := deliver.ParseURL(place)
			if err == nil {
				err = s.guard.Check(u.Hostname(), deliver.Port(u))
			}
			if err != nil {
				return &lambent.Error{Op: "set settings", Resource: string(name), Kind: lambent.KindInvalid,
					Message: "destinations: nothing is delivered to " + place + ": " + err.Error() + ", and the setting destinations.allow does not allow it"}
			}
		}
	}
	if set != nil {
		if err := checkAsked(account, name, set.Control); err != nil {
			return err
		}
	}
	if set != nil && set.Expect != nil {
		if _, err := s.Function(account, name, ""); err != nil {
			return err
		}
		if err := s.verdicts.CheckDeclared(ctx, account, set.Expect); err != nil {
			return err
		}
	}
	return s.Registry.SetPlatformSettings(ctx, account, name, set)
}

// checkAsked refuses rules that name what cannot be asked. Whether the function is
// there is found out when it is.
func checkAsked(account lambent.AccountID, name lambent.FunctionName, rules control.Rules) error {
	for _, r := range rules {
		ref, err := lambent.ParseFunctionRef(r.Function)
		why := "is no name or ARN of a function"
		if err == nil && ref.Account != "" && ref.Account != account {
			err, why = errors.New("it is another account's"), "is another account's"
		}
		if err != nil {
			return &lambent.Error{Op: "set settings", Resource: string(name), Kind: lambent.KindInvalid, Err: err,
				Message: fmt.Sprintf("control: on %s: the function %.200s %s", r.On, r.Function, why)}
		}
	}
	return nil
}
