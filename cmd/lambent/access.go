package main

import (
	"context"
	"log/slog"
	"net/http"
	"path/filepath"

	"lambent/cmd/lambent/config"
	"lambent/internal/api"
	"lambent/internal/cluster"
	"lambent/internal/identity"
)

// openIdentities opens who may call. With auth: required somebody must be able to
// make keys, so the first operator's key is made here and left in a file of the
// data folder for whoever started the server.
func openIdentities(ctx context.Context, cfg config.Config, node *cluster.Node, log *slog.Logger) (*identity.Store, error) {
	who, err := identity.Open(ctx, node, identity.Options{Dir: cfg.Data, SessionTime: cfg.RoleCredentials, Log: log})
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
