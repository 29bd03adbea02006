package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"time"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/api"
	"lambent/internal/host"
	"lambent/internal/image"
	"lambent/internal/registry"
)

// images is the image store as the host and the API know it. store is always
// there: a function that was made of an image while registries were configured
// runs on.
type images struct {
	store      *image.Store
	configured bool
	log        *slog.Logger
}

func openImages(cfg config.Config, log *slog.Logger) (*images, error) {
	store, err := image.New(image.Options{Dir: filepath.Join(cfg.Data, "images"), Registries: cfg.ImageRegistries, Layouts: cfg.ImageLayouts, Credentials: cfg.ImageCredentials, Log: log})
	if err != nil {
		return nil, err
	}
	if err := store.Open(); err != nil {
		return nil, err
	}
	return &images{store: store, configured: len(cfg.ImageRegistries)+len(cfg.ImageLayouts) > 0, log: log}, nil
}

func (i *images) close() error { return i.store.Close() }

// Hold implements host.Images.
func (i *images) Hold(ctx context.Context, account lambent.AccountID, ref string) (host.ImageRoot, bool, func(), error) {
	root, cached, release, err := i.store.Hold(ctx, account, ref)
	return host.ImageRoot{Dir: root.Dir, Env: root.Env, EntryPoint: root.EntryPoint, Command: root.Command, WorkingDir: root.WorkingDir, UID: root.UID, GID: root.GID}, cached, release, err
}

// resolver is nil where images may come from nowhere.
func (i *images) resolver() api.Images {
	if !i.configured {
		return nil
	}
	return i
}

// Resolve implements api.Images.
func (i *images) Resolve(ctx context.Context, uri, architecture string) (string, lambent.CodeHash, error) {
	got, err := i.store.Resolve(ctx, uri, architecture)
	return got.Ref, got.Digest, err
}

// pruneEvery is how often images that no function is any more are removed.
const pruneEvery = time.Minute

// prune removes images nobody needs, now and then until ctx ends.
func (i *images) prune(ctx context.Context, functions *registry.Registry) error {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		err := i.store.Prune(functions.Images)
		if err != nil && !errors.Is(err, context.Canceled) {
			i.log.Warn("images that are not needed any more could not be removed; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
