package main

import (
	"context"
	"log/slog"
	"time"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/failures"
	"lambent/internal/invoke"
	"lambent/internal/obs"
	"lambent/internal/queue"
	"lambent/internal/registry"
)

// eventParts are what asynchronous calls are put together of.
type eventParts struct {
	events     *queue.Queue
	functions  *registry.Registry
	invoke     func(context.Context, *lambent.Invocation) (*lambent.Result, error)
	deliveries *deliveries
	controls   *invoke.Controls
	failed     *failures.Store
	watch      *obs.Events
	log        *slog.Logger
}

func eventDispatcher(cfg config.Config, p eventParts) invoke.DispatcherOptions {
	return invoke.DispatcherOptions{
		Events: invoke.Queue(p.events), Invoke: p.invoke, Send: p.deliveries.send, MayDeliver: p.deliveries.mayDeliver, Failures: keptFailures{p.failed}, Controls: p.controls, Region: cfg.Region, Drain: cfg.DrainTimeout, Watch: p.watch, Log: p.log,
		Times: invoke.Times{RetryDelays: cfg.AsyncRetryDelays, Backoff: cfg.AsyncBackoff, BackoffMost: cfg.AsyncBackoffMost, AgeSecond: cfg.AsyncAgeSecond},
		Rules: func(line queue.Line) invoke.EventRules { return eventRules(p.functions, line, cfg.LimitConcurrency) },
		Recursive: func(account lambent.AccountID, name lambent.FunctionName) bool {
			s := p.functions.Settings.Get(registry.ObjectKey{Account: account, Parent: string(name)})
			return s != nil && s.RecursiveLoop == "Allow"
		},
	}
}

// eventRules are how the events of a line are handled: as the configuration of
// its version or alias says, else that of the version an alias means, else that
// of the function. Dead letters are those of the version, URLs of the function.
func eventRules(functions *registry.Registry, line queue.Line, concurrency int) invoke.EventRules {
	rules := invoke.EventRules{Retries: invoke.DefaultRetries, MaxAge: invoke.DefaultMaxEventAge}
	if c := eventInvokeConfig(functions, line); c != nil {
		if c.MaximumRetryAttempts != nil {
			rules.Retries = *c.MaximumRetryAttempts
		}
		if c.MaximumEventAgeInSeconds != nil {
			rules.MaxAge = time.Duration(*c.MaximumEventAgeInSeconds) * time.Second
		}
		rules.OnSuccess, rules.OnFailure = places(c.OnSuccess), places(c.OnFailure)
	}
	if s, err := functions.PlatformSettings(line.Account, line.Function); err == nil && s != nil && s.Destinations != nil {
		rules.OnSuccess, rules.OnFailure = append(rules.OnSuccess, places(s.Destinations.OnSuccess)...), append(rules.OnFailure, places(s.Destinations.OnFailure)...)
	}
	if fn, err := functions.Function(line.Account, line.Function, line.Qualifier); err == nil {
		rules.DeadLetter = fn.DeadLetter
	}
	reserved, _ := functions.Concurrency(line.Account, string(line.Function), concurrency)
	rules.Closed = reserved != nil && *reserved == 0
	return rules
}

// places is one, or none.
func places(one string) []string {
	if one == "" {
		return nil
	}
	return []string{one}
}

func eventInvokeConfig(functions *registry.Registry, line queue.Line) *registry.EventInvokeConfig {
	key := registry.ObjectKey{Account: line.Account, Parent: string(line.Function), Name: line.Qualifier}
	c := functions.EventInvokeConfigs.Get(key)
	if c != nil || key.Name == "" {
		return c
	}
	if fn, err := functions.Function(line.Account, line.Function, line.Qualifier); err == nil && string(fn.Version) != key.Name {
		if key.Name = string(fn.Version); fn.Version == lambent.Latest {
			key.Name = ""
		}
		if c = functions.EventInvokeConfigs.Get(key); c != nil {
			return c
		}
	}
	key.Name = ""
	return functions.EventInvokeConfigs.Get(key)
}
