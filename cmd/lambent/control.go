package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/invoke"
	"lambent/internal/pool"
	"lambent/internal/registry"
)

// controls asks the control functions that are declared.
func controls(cfg config.Config, functions *registry.Registry, workers *pool.Pool, call func(context.Context, *lambent.Invocation) (*lambent.Result, error), log *slog.Logger) *invoke.Controls {
	asked := invoke.NewControls(invoke.ControlOptions{
		Declared: declared(functions), Invoke: call, Deeds: deeds{functions, workers, cfg.LimitConcurrency}, Log: log,
	})
	functions.SubscribeSettings(asked.Redeclared)
	return asked
}

func declared(functions *registry.Registry) func(lambent.AccountID, lambent.FunctionName) invoke.Declared {
	return func(account lambent.AccountID, name lambent.FunctionName) invoke.Declared {
		expect, rules := functions.Declared(account, name)
		return invoke.Declared{Expect: expect, Rules: rules}
	}
}

// deeds is what control functions may have done.
type deeds struct {
	functions *registry.Registry
	workers   *pool.Pool
	limit     int // of an account's concurrency
}

var _ invoke.Deeds = deeds{}

// RollBackAlias implements invoke.Deeds.
func (d deeds) RollBackAlias(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, alias string, to, failed lambent.Version) (string, error) {
	was, is, err := d.functions.RollBackAlias(ctx, account, name, alias, to, failed)
	switch {
	case err != nil:
		return "", err
	case was == is:
		return fmt.Sprintf("the alias %s is at version %s already", alias, is), nil
	}
	return fmt.Sprintf("the alias %s was put back from version %s to %s", alias, was, is), nil
}

// versions lists those of a function, $LATEST first and then by number.
func (d deeds) versions(account lambent.AccountID, name lambent.FunctionName) (all []lambent.Version, err error) {
	const page = 1000
	for after := lambent.Version(""); ; {
		fs, next, err := d.functions.ListVersions(account, name, after, page)
		if err != nil {
			return nil, err
		}
		for _, f := range fs {
			all = append(all, f.Version)
		}
		if next == "" {
			return all, nil
		}
		after = next
	}
}

// RebuildInstances implements invoke.Deeds.
func (d deeds) RebuildInstances(_ context.Context, account lambent.AccountID, name lambent.FunctionName) (string, error) {
	all, err := d.versions(account, name)
	if err != nil {
		return "", err
	}
	for _, version := range all {
		d.workers.Retire(account, name, version)
	}
	return "its containers are made anew", nil
}

// PauseSource implements invoke.Deeds.
func (d deeds) PauseSource(ctx context.Context, account lambent.AccountID, id string) (string, error) {
	const op = "pause event source"
	_, err := d.functions.EventSourceMappings.Edit(ctx, op, registry.ObjectKey{Account: account, Name: id}, func(m *registry.EventSourceMapping) (*registry.EventSourceMapping, error) {
		if m == nil {
			return nil, &lambent.Error{Op: op, Resource: id, Kind: lambent.KindNotFound, Message: "there is no event source mapping " + id}
		}
		next := *m
		next.State, next.LastModified = "Disabled", time.Now()
		return &next, nil
	})
	if err != nil {
		return "", err
	}
	return "the event source mapping " + id + " was disabled", nil
}

// ReserveConcurrency implements invoke.Deeds.
func (d deeds) ReserveConcurrency(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, value *int) (string, error) {
	err := d.functions.Reserve(ctx, "reserve concurrency", account, name, value, d.limit)
	switch {
	case err != nil:
		return "", err
	case value == nil:
		return "no concurrency is reserved for it any more", nil
	}
	return fmt.Sprintf("%d of the account's concurrency are reserved for it", *value), nil
}
