package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"lambent/cmd/lambent/cli"
)

// ownVariables are the environment variables a server needs once its
// configuration was read: where programs and folders are, how to write, and
// what steers Go's runtime and, for the samples of quickstart, its compiler.
// Everything else may be a secret of whoever started the server, and the
// processes of sandboxes inherit what the server has.
var ownVariables = [...]string{"PATH", "HOME", "TMPDIR", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "XDG_CACHE_HOME", "XDG_DATA_HOME",
	"GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GOGC", "GOMEMLIMIT", "GORACE", "GOCOVERDIR", "GOROOT", "GOPATH", "GOCACHE", "GOMODCACHE", "GOTMPDIR",
	cli.RootlessEnv}

func isOwnVariable(name string) bool {
	return slices.Contains(ownVariables[:], name) || strings.HasPrefix(name, "LC_")
}

// startingEnvironment is what of environ a server is executed anew with: its
// own variables and those it is configured by.
func startingEnvironment(environ []string) (kept []string) {
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if isOwnVariable(name) || strings.HasPrefix(name, "LAMBENT_") {
			kept = append(kept, pair)
		}
	}
	return kept
}

// clearEnvironment leaves a server that was configured nothing but its own
// variables. It is called before anything is started.
func clearEnvironment() error {
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if isOwnVariable(name) {
			continue
		}
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("clear %s from the server's environment: %w", name, err)
		}
	}
	return nil
}
