package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/examples"
	"lambent/internal/bundle"
	"lambent/internal/hostinfo"
)

type quickstartCommand struct {
	Exit bool `help:"End after the table. The exit status is 0 only if every call answered right."`

	kong.Plugins // a flag for each key of the configuration
}

func (quickstartCommand) Help() string {
	return `The server runs in this process, with a data folder that is removed at the end unless --data names one. A sample
whose language this machine lacks is listed as such.

Examples:
  lambent quickstart
  lambent quickstart --exit --listen 127.0.0.1:9000`
}

// Run is the whole tour.
func (q *quickstartCommand) Run(ctx context.Context, s Streams, serve Serve) (err error) {
	defaults := map[string]string{}
	if s.Getenv("LAMBENT_LOG_LEVEL") == "" {
		defaults["log-level"] = "warn"
	}
	if s.Getenv("LAMBENT_DATA") == "" && givenFlags(q.Plugins)["data"] == "" {
		dir, err := os.MkdirTemp("", "lambent-quickstart-")
		if err != nil {
			return fmt.Errorf("make a data folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		defaults["data"] = dir
	}
	cfg, err := loadConfig("", q.Plugins, s, defaults)
	if err != nil {
		return err
	}

	if cfg.Auth != config.AuthOpen {
		return errors.New("quickstart shows the platform to whoever has no key yet: start it with auth: open")
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	server := startServer(ctx, serve, cfg, s.Err)
	tourErr := q.tour(ctx, s, cfg, server)
	if tourErr == nil && !q.Exit {
		<-ctx.Done()
		fmt.Fprintln(s.Err, "draining …")
	}
	if err := server.stop(); err != nil {
		return err // the tour failed for this, if it failed
	}
	if tourErr != nil && ctx.Err() != nil {
		return errors.New("ended by a signal before the tour was over")
	}
	return tourErr
}

// runningServer is a server in this process and the goroutine it runs in.
type runningServer struct {
	ready  chan string     // gets the address once
	life   context.Context // ends when the server has
	cancel context.CancelFunc
	err    error // valid after life
}

func startServer(ctx context.Context, serve Serve, cfg config.Config, log io.Writer) *runningServer {
	life, ended := context.WithCancel(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	r := &runningServer{ready: make(chan string, 1), life: life, cancel: cancel}
	go func() {
		defer ended()
		r.err = serve(ctx, cfg, newLogger(cfg, log), func(addr string) { r.ready <- addr })
	}()
	return r
}

// stop ends the server, waits until it has drained and gives its error.
func (r *runningServer) stop() error {
	r.cancel()
	<-r.life.Done()
	return r.err
}

// errServerEnded is a server that ended during the tour; its own error says why.
var errServerEnded = errors.New("the server ended")

// tour deploys and calls the samples and prints the table.
func (q *quickstartCommand) tour(ctx context.Context, s Streams, cfg config.Config, server *runningServer) error {
	begin := time.Now()
	var addr string
	select {
	case addr = <-server.ready:
	case <-server.life.Done():
		return errServerEnded
	}
	// A server that dies takes the tour's calls with it.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(server.life, func() { cancel(errServerEnded) })()

	fmt.Fprintf(s.Err, "serving at http://%s after %s\n", addr, milliseconds(time.Since(begin)))
	c, err := remote{Endpoint: "http://" + addr, Region: cfg.Region}.client(s)
	if err != nil {
		return err
	}
	installed, _ := hostinfo.FindRuntimes(ctx, hostinfo.System{})
	if err := c.waitForPools(ctx, s.Err); err != nil {
		return err
	}

	t := newTable(s.Out, "FUNCTION", "RUNTIME", "CALL", "START", "INSTANCE", "CONTAINER", "TO CODE", "TOTAL", "ANSWER")
	wrong := 0
	for _, e := range examples.All() {
		rt, pkg, lacking, err := prepare(ctx, e, installed)
		if err != nil {
			return fmt.Errorf("prepare the sample %s: %w", e.Name, err)
		}
		if lacking != "" {
			t.row(e.Name, string(e.Family), "-", "-", "-", "-", "-", "-", "left out: "+lacking)
			continue
		}
		fmt.Fprintf(s.Err, "deploying %s, which %s, as %s\n", e.Name, e.Does, rt)
		if _, err := c.deploy(ctx, deployment{name: e.Name, pkg: pkg, runtime: string(rt), handler: e.Handler, timeout: new(10)}, io.Discard); err != nil {
			return fmt.Errorf("deploy the sample %s: %w", e.Name, err)
		}
		for i, name := range []string{"cold", "warm"} {
			if !q.callOnce(ctx, c, t, e, rt, name, i+1) {
				wrong++
			}
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
		}
	}
	fmt.Fprintln(s.Err)
	if err := t.flush(); err != nil {
		return err
	}
	if wrong > 0 {
		fmt.Fprintf(s.Err, "\n%d calls did not answer as they should\n", wrong)
		if q.Exit {
			return errFault
		}
	}
	if !q.Exit {
		fmt.Fprintf(s.Err, "\nserving at http://%s until Ctrl-C. In another terminal:\n\n"+
			"  export AWS_ENDPOINT_URL=http://%s\n"+
			"  lambent invoke orders -v --payload '{\"country\":\"FR\",\"items\":[{\"price\":20}]}'\n"+
			"  lambent ps\n", addr, addr)
	}
	return nil
}

// callOnce calls a sample for the nth time and adds a row. It reports whether
// the answer was right.
func (q *quickstartCommand) callOnce(ctx context.Context, c *client, t table, e examples.Example, rt lambent.Runtime, name string, nth int) bool {
	begin := time.Now()
	call, err := c.invoke(ctx, invocation{name: e.Name, payload: []byte(e.Event)})
	took := time.Since(begin)
	verdict := "right"
	switch {
	case err != nil:
		verdict = err.Error()
	case call.functionError != "":
		verdict = "the function failed: " + string(call.answer)
	default:
		if err := checkAnswer(call.answer, e.Want, nth); err != nil {
			verdict = err.Error()
		}
	}
	toCode := ""
	if d, ok := call.untilStart(); ok {
		toCode = milliseconds(d)
	}
	t.row(e.Name, string(rt), name, call.startKind, call.instance, call.container, toCode, milliseconds(took), verdict)
	return verdict == "right"
}

// checkAnswer compares an answer with what a sample must say at its nth call.
func checkAnswer(answer []byte, want map[string]any, nth int) error {
	var got map[string]any
	if err := json.Unmarshal(answer, &got); err != nil {
		return fmt.Errorf("wrong: not a JSON object: %.100q", answer)
	}
	full := maps.Clone(want)
	full["calls"] = float64(nth)
	if !reflect.DeepEqual(got, full) {
		expected, err := json.Marshal(full)
		if err != nil {
			return err
		}
		return fmt.Errorf("wrong: %.200s instead of %s", answer, expected)
	}
	return nil
}

// maxPoolWait is how long the tour lets the pools fill before it goes on
// without: the calls work all the same, only slower.
const maxPoolWait = 15 * time.Second

// waitForPools waits until the warm instances the server wants are there.
func (c *client) waitForPools(ctx context.Context, progress io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, maxPoolWait)
	defer cancel()
	begin := time.Now()
	fmt.Fprint(progress, "warming up ")
	for {
		var pools []poolRow
		if err := c.call(ctx, http.MethodGet, "/_lambent/v1/pools", nil, &pools); err != nil {
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				break
			}
			fmt.Fprintln(progress)
			return fmt.Errorf("read the pools: %w", err)
		}
		ready, target := 0, 0
		for _, p := range pools {
			ready, target = ready+min(p.Ready, p.Target), target+p.Target
		}
		if ready == target {
			fmt.Fprintf(progress, " %d instances ready after %s\n", ready, milliseconds(time.Since(begin)))
			return nil
		}
		fmt.Fprint(progress, ".")
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				break
			}
			fmt.Fprintln(progress)
			return err
		}
	}
	fmt.Fprintln(progress, " not all instances are ready; going on")
	return nil
}

// prepare makes a sample's deployment package and names the runtime it is
// deployed as. lacking says what this machine would need for it.
func prepare(ctx context.Context, e examples.Example, installed []hostinfo.Installed) (rt lambent.Runtime, pkg []byte, lacking string, err error) {
	rt, ok := runtimeFor(e.Family, installed)
	if !ok {
		return "", nil, "no " + string(e.Family) + " in /usr/bin, /usr/local/bin or /opt/*/bin", nil
	}
	source, err := e.Files()
	if err != nil {
		return "", nil, "", err
	}
	dir, err := os.MkdirTemp("", "lambent-sample-")
	if err != nil {
		return "", nil, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	src := filepath.Join(dir, "src")
	if err := os.CopyFS(src, source); err != nil {
		return "", nil, "", err
	}
	path := src
	if e.Family == lambent.FamilyProvided {
		compiler, err := exec.LookPath("go")
		if err != nil {
			return "", nil, "no go command to build it with", nil
		}
		path = filepath.Join(dir, "bootstrap")
		if err := buildGo(ctx, compiler, src, path); err != nil {
			return "", nil, "", err
		}
	}
	pkg, err = bundle.Pack(path)
	return rt, pkg, "", err
}

// runtimeFor names the AWS runtime that fits what is installed best: the newest
// one that is there, if AWS knows it, so that a strict server takes it, too.
func runtimeFor(f lambent.Family, installed []hostinfo.Installed) (lambent.Runtime, bool) {
	fallback := map[lambent.Family]lambent.Runtime{lambent.FamilyNode: guessNode, lambent.FamilyPython: guessPython, lambent.FamilyProvided: guessProvided}[f]
	if f == lambent.FamilyProvided {
		return fallback, true
	}
	there := false
	for _, i := range installed {
		if i.Family != f {
			continue
		}
		there = true
		for _, rt := range lambent.KnownRuntimes() {
			if rt.Retired() {
				continue
			}
			if got, exact, _ := hostinfo.Match(rt, []hostinfo.Installed{i}); exact && got.Family == f {
				return rt, true
			}
		}
	}
	return fallback, there
}

// buildGo builds the sample's only file with the standard library alone: nothing
// is downloaded.
func buildGo(ctx context.Context, compiler, src, out string) error {
	sources, err := fs.Glob(os.DirFS(src), "*.go")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, compiler, append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", out}, sources...)...)
	cmd.Dir = src
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOWORK=off", "GOFLAGS=", "GOTOOLCHAIN=local", "GOPROXY=off")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build it with %s: %w: %s", compiler, err, strings.TrimSpace(output.String()))
	}
	return nil
}
