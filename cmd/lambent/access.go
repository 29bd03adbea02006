package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/api"
	"lambent/internal/cluster"
	"lambent/internal/host"
	"lambent/internal/identity"
)

// openIdentities opens who may call. With auth: required somebody must be able to
// make keys, so the first operator's key is made here and left in a file of the
// data folder for whoever started the server.
// roleChanged is told of roles that come and go.
func openIdentities(ctx context.Context, cfg config.Config, node *cluster.Node, log *slog.Logger, roleChanged func(arn string)) (*identity.Store, error) {
	who, err := identity.Open(ctx, node, identity.Options{Dir: cfg.Data, SessionTime: cfg.RoleCredentials, RoleChanged: roleChanged, Log: log})
	if err != nil || cfg.Auth != config.AuthRequired {
		return who, err
	}
	path := filepath.Join(cfg.Data, identity.OperatorFile)
	made, err := who.EnsureOperator(ctx, path)
	if made && err == nil {
		log.Info("made the first operator's key", "file", path)
	}
	return who, err
}

// authenticate is how the API is to tell who asks; nil where it takes callers at
// their word.
func authenticate(cfg config.Config, who *identity.Store) func(*http.Request) (api.Caller, error) {
	if cfg.Auth != config.AuthRequired {
		return nil
	}
	return api.AuthenticateSigned(who, cfg.Region, nil)
}

// roleCredentials makes what functions are given to call lambent's own API. With
// auth: required those are of the role they name, if it is one of their account's
// that lambent knows; with auth: open, where the access key is the account, they
// are of the account, whatever the role.
func roleCredentials(cfg config.Config, who *identity.Store, log *slog.Logger) func(*lambent.Function) (host.Credentials, bool) {
	if cfg.Auth != config.AuthRequired {
		return func(fn *lambent.Function) (host.Credentials, bool) {
			return host.Credentials{AccessKeyID: string(fn.Account), SecretAccessKey: "open", SessionToken: "open"}, true
		}
	}
	return func(fn *lambent.Function) (host.Credentials, bool) {
		role := who.RoleByARN(fn.Role)
		if role == nil || role.Account != fn.Account {
			return host.Credentials{}, false
		}
		c, err := who.Session(role, string(fn.Name))
		if err != nil {
			log.Error("a function gets no credentials of its role", "function", fn.Name, "role", fn.Role, "error", err)
			return host.Credentials{}, false
		}
		return host.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken, Expires: c.Expires}, true
	}
}
