package main

import (
	"context"
	"errors"
	"log/slog"

	"lambent/cmd/lambent/config"
)

// runServer runs the platform until ctx is done, then drains it. It calls ready
// once, with the address it serves on.
func runServer(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(addr string)) error {
	return errors.New("run the server: not wired into this build")
}
