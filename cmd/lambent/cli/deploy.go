package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"lambent/internal/bundle"
)

type deployCommand struct {
	remote
	Path    string        `arg:"" type:"path" help:"Folder, file or zip file with the code."`
	Name    string        `required:"" placeholder:"NAME" help:"Name of the function. It is made, or gets new code."`
	Runtime string        `placeholder:"RUNTIME" help:"As AWS names them: nodejs22.x, python3.13, provided.al2023. Guessed from the files where it is left out."`
	Handler string        `placeholder:"HANDLER" help:"Module and function, as in index.handler. Guessed where it is left out."`
	Memory  *int          `placeholder:"MB" help:"128 to 10240. CPU follows the memory."`
	Timeout *int          `placeholder:"SECONDS" help:"1 to 900."`
	Env     []string      `sep:"none" placeholder:"K=V" help:"An environment variable of the function; again for more. All of them are replaced."`
	Role    string        `placeholder:"ARN" help:"The function's role: it gets credentials of it. Default: a role named lambent, of its own account."`
	Wait    time.Duration `default:"2m" help:"How long to wait until it can be called."`
}

func (deployCommand) Help() string {
	return `Zips the code, makes the function or updates its code and the settings given, and waits until it can be called.
Settings that are not given stay as they are; a new function gets AWS's defaults (128 MB, 3 s).

Examples:
  lambent deploy ./hello --name hello
  lambent deploy app.py --name report --handler app.main --memory 512 --timeout 60
  lambent deploy ./go --name resize --runtime provided.al2023 --env BUCKET=pictures --env QUALITY=80`
}

// Run deploys.
func (d *deployCommand) Run(ctx context.Context, s Streams) error {
	c, err := d.client(s)
	if err != nil {
		return err
	}
	env, err := parseEnv(d.Env)
	if err != nil {
		return err
	}
	pkg, err := bundle.Pack(d.Path)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.Err, "packed %s: %s\n", d.Path, bytesText(int64(len(pkg))))
	ctx, cancel := context.WithTimeoutCause(ctx, d.Wait, fmt.Errorf("it could not be called within %v", d.Wait))
	defer cancel()
	f, err := c.deploy(ctx, deployment{
		name: d.Name, pkg: pkg, runtime: d.Runtime, handler: d.Handler, memory: d.Memory, timeout: d.Timeout, env: env, role: d.Role,
	}, s.Err)
	if err != nil {
		return fmt.Errorf("deploy %s: %w", d.Name, err)
	}
	_, err = fmt.Fprintln(s.Out, f.FunctionArn)
	return err
}

// parseEnv reads K=V pairs; nil stands for none given.
func parseEnv(pairs []string) (map[string]string, error) {
	var env map[string]string
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("--env %q is not NAME=VALUE", p)
		}
		if env == nil {
			env = map[string]string{}
		}
		env[k] = v
	}
	return env, nil
}

// deployment is what is to be deployed; zero values and nils are left to the server, or
// as they are.
type deployment struct {
	name             string
	pkg              []byte // zip
	runtime, handler string
	memory, timeout  *int
	env              map[string]string
	role             string
}

// settings are the given ones in the shape of UpdateFunctionConfiguration.
func (d deployment) settings() map[string]any {
	given := map[string]any{}
	put := func(name string, value any, ok bool) {
		if ok {
			given[name] = value
		}
	}
	put("Runtime", d.runtime, d.runtime != "")
	put("Handler", d.handler, d.handler != "")
	put("MemorySize", d.memory, d.memory != nil)
	put("Timeout", d.timeout, d.timeout != nil)
	put("Role", d.role, d.role != "")
	put("Environment", map[string]any{"Variables": d.env}, d.env != nil)
	return given
}

// deploy makes or updates the function and waits until it can be called. What
// happens meanwhile is told on progress, a line each.
func (c *client) deploy(ctx context.Context, d deployment, progress io.Writer) (functionConfiguration, error) {
	f, err := c.settled(ctx, d.name)
	if isNotFound(err) {
		return c.create(ctx, d, progress)
	}
	// A function that failed to become callable is mended by new code.
	if _, failed := errors.AsType[*notCallable](err); err != nil && !failed {
		return f, err
	}
	given := d.settings()
	if err == nil && len(given) > 0 {
		// The code is only tried first: nothing is changed unless both are taken.
		if err := c.updateCode(ctx, d, true); err != nil {
			return f, err
		}
		if f, err = c.updateSettings(ctx, d.name, given, progress); err != nil {
			return f, err
		}
		given = nil
	}
	if err := c.updateCode(ctx, d, false); err != nil {
		return f, err
	}
	fmt.Fprintf(progress, "%s is there: new code\n", d.name)
	if f, err = c.settled(ctx, d.name); err != nil || len(given) == 0 {
		return f, err
	}
	return c.updateSettings(ctx, d.name, given, progress)
}

// updateCode gives the function its new code, or only asks whether it could.
func (c *client) updateCode(ctx context.Context, d deployment, dryRun bool) error {
	request := map[string]any{"ZipFile": d.pkg}
	if dryRun {
		request["DryRun"] = true
	}
	return c.call(ctx, http.MethodPut, functionPath(d.name, "/code"), request, nil)
}

func (c *client) updateSettings(ctx context.Context, name string, given map[string]any, progress io.Writer) (functionConfiguration, error) {
	if err := c.call(ctx, http.MethodPut, functionPath(name, "/configuration"), given, nil); err != nil {
		return functionConfiguration{}, err
	}
	fmt.Fprintf(progress, "%s has new settings: %s\n", name, strings.Join(sortedKeys(given), ", "))
	return c.settled(ctx, name)
}

func (c *client) create(ctx context.Context, d deployment, progress io.Writer) (functionConfiguration, error) {
	if d.runtime == "" || d.handler == "" {
		g, err := guessFunction(d.pkg)
		if err != nil {
			return functionConfiguration{}, fmt.Errorf("guess what the code is: %w", err)
		}
		d.runtime, d.handler = firstOf(d.runtime, string(g.runtime)), firstOf(d.handler, g.handler)
		fmt.Fprintf(progress, "guessed from %s: --runtime %s --handler %s\n", g.from, d.runtime, d.handler)
	}
	if d.role == "" {
		account, _, err := c.caller(ctx)
		if err != nil {
			return functionConfiguration{}, err
		}
		d.role = "arn:aws:iam::" + string(account) + ":role/lambent"
	}
	request := d.settings()
	request["FunctionName"] = d.name
	request["Code"] = map[string]any{"ZipFile": d.pkg} // []byte is base64 in JSON, as AWS wants it
	if err := c.call(ctx, http.MethodPost, "/2015-03-31/functions", request, nil); err != nil {
		return functionConfiguration{}, err
	}
	fmt.Fprintf(progress, "%s is new\n", d.name)
	return c.settled(ctx, d.name)
}

// notCallable is a function that settled in a state in which it takes no calls.
type notCallable struct{ what, reason string }

func (e *notCallable) Error() string { return e.what + ": " + e.reason }

// settled waits until nothing about the function is changing any more. The
// error is a *notCallable where it ended badly.
func (c *client) settled(ctx context.Context, name string) (functionConfiguration, error) {
	var f functionConfiguration
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		if err := c.call(ctx, http.MethodGet, functionPath(name, "/configuration"), nil, &f); err != nil {
			return f, err
		}
		switch {
		case f.State == "Pending" || f.LastUpdateStatus == "InProgress":
		case f.State == "Failed":
			return f, &notCallable{"the function is Failed", f.StateReason}
		case f.LastUpdateStatus == "Failed":
			return f, &notCallable{"the update failed", f.LastUpdateReason}
		default:
			return f, nil
		}
		if err := sleep(ctx, pause); err != nil {
			return f, err
		}
	}
}

// sleep waits, or gives the cause of ctx's end.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
