package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/bundle"
	"lambent/internal/hotreload"
	"lambent/internal/registry"
	"lambent/internal/s3"
)

// codeSources are where code comes from beside the requests themselves. fetch
// and pack are nil where the configuration names nothing.
type codeSources struct {
	fetch func(ctx context.Context, account lambent.AccountID, bucket, key, version string) (io.ReadCloser, int64, error)
	pack  func(path string) (folder string, pkg []byte, err error)
	ends  stack
}

func (c *codeSources) close() error { return c.ends.unwind() }

// openCodeSources opens those that are configured, and follows the folders of
// functions from now on.
func openCodeSources(cfg config.Config, functions *registry.Registry, log *slog.Logger) (*codeSources, error) {
	c := &codeSources{}
	if cfg.S3Endpoint != "" {
		client, err := s3.New(s3.Options{Endpoint: cfg.S3Endpoint, Region: cfg.S3Region, PathStyle: cfg.S3PathStyle, Credentials: s3Credentials(cfg)})
		if err != nil {
			return nil, err
		}
		c.ends.push(client.Close)
		c.fetch = func(ctx context.Context, account lambent.AccountID, bucket, key, version string) (io.ReadCloser, int64, error) {
			if !cfg.MayTake(account, bucket) {
				return nil, 0, &lambent.Error{Op: "get object", Resource: bucket, Kind: lambent.KindInvalid,
					Message: "Error occurred while GetObject. S3 Error Code: AccessDenied. S3 Error Message: Access Denied",
					Err:     errors.New("the setting s3.buckets does not name the bucket for this account")}
			}
			return client.Get(ctx, bucket, key, version)
		}
	}
	if len(cfg.HotReload) > 0 {
		reloader, err := hotreload.New(hotreload.Options{Roots: cfg.HotReload, Log: log, Update: updateFrom(functions)})
		if err != nil {
			return nil, errors.Join(err, c.close())
		}
		c.ends.push(reloader.Close)
		c.pack = reloader.Pack
		functions.Subscribe(func(ch registry.Change) {
			if ch.Version != lambent.Latest {
				return
			}
			folder := ""
			if ch.After != nil {
				folder = ch.After.HotFolder
			}
			if folder != "" || ch.Before != nil && ch.Before.HotFolder != "" {
				reloader.Follow(ch.Account, ch.Name, folder)
			}
		})
		for _, fn := range functions.HotFunctions() {
			reloader.Follow(fn.Account, fn.Name, fn.HotFolder)
		}
	}
	return c, nil
}

func s3Credentials(cfg config.Config) func() (s3.Credentials, error) {
	return func() (s3.Credentials, error) {
		if cfg.S3Credentials == "" {
			return s3.Credentials{}, nil
		}
		return s3.ReadCredentials(cfg.S3Credentials)
	}
}

// updateFrom gives a function what its folder has become.
func updateFrom(functions *registry.Registry) func(context.Context, lambent.AccountID, lambent.FunctionName, string, []byte) error {
	return func(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, folder string, pkg []byte) error {
		fn, err := functions.Function(account, name, "")
		if err != nil {
			return err
		}
		sum := sha256.Sum256(pkg)
		if fn.HotFolder != folder || string(fn.Code) == base64.StdEncoding.EncodeToString(sum[:]) {
			return nil
		}
		manifest, err := bundle.Inspect(pkg)
		if err != nil {
			return err
		}
		_, err = functions.UpdateFunctionCode(ctx, account, name, fn.Revision, func(fn *lambent.Function) { fn.Unpacked = manifest.Size }, pkg, lambent.Unpublished)
		return err
	}
}
