package cli

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lambent/cmd/lambent/config"
)

func TestUpDrainsOnTheFirstSignalAndEndsWell(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		drained := false
		serve := func(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(string)) error {
			ready("127.0.0.1:9")
			if err := syscall.Kill(os.Getpid(), sig); err != nil {
				return err
			}
			<-ctx.Done()
			drained = true
			return nil
		}
		code, out, errOut := run(t.Context(), nil, nil, serve, "up", "--data", t.TempDir(), "--log-format", "json")
		check(t, "up", code, 0, errOut, `"endpoint":"http://127.0.0.1:9"`)
		if !drained || out != "" {
			t.Errorf("drained: %v; standard output: %q", drained, out)
		}
	}
}

func TestUpGivesTheServerItsConfigurationAndTellsItsError(t *testing.T) {
	data := t.TempDir()
	file := writeFile(t, t.TempDir(), "lambent.yaml", "idle_timeout: 3s\npool: {nodejs: 5}\n")
	var got config.Config
	serve := func(_ context.Context, cfg config.Config, log *slog.Logger, _ func(string)) error {
		got = cfg
		log.Debug("not at this level")
		return errors.New("the data folder is taken")
	}
	code, _, errOut := run(t.Context(), nil, nil, serve, "up", "--config", file, "--data", data, "--pool-python", "0")
	check(t, "up", code, 2, errOut, "lambent: the data folder is taken")
	if strings.Contains(errOut, "not at this level") {
		t.Errorf("it logged below its level: %s", errOut)
	}
	if got.Data != data || got.IdleTimeout.String() != "3s" || got.Pool["nodejs"] != 5 || got.Pool["python"] != 0 || got.Pool["provided"] != 1 {
		t.Errorf("the server was given %+v", got)
	}
}

// platform is a Serve that is not one: the samples' answers come from a table.
func platform(f *fakeServer) Serve {
	return func(ctx context.Context, _ config.Config, _ *slog.Logger, ready func(string)) error {
		srv := httptest.NewServer(f)
		defer srv.Close()
		ready(strings.TrimPrefix(srv.URL, "http://"))
		<-ctx.Done()
		return nil
	}
}

// sampleAnswers answers the samples as they would, warm from the second call.
func sampleAnswers() http.HandlerFunc {
	calls := map[string]int{}
	return func(w http.ResponseWriter, r *http.Request) {
		name := strings.Split(r.URL.Path, "/")[3]
		calls[name]++
		kind := "warm_pool"
		if calls[name] > 1 {
			kind = "container_reuse"
		}
		header(w, "X-Lambent-Start-Kind", kind, "X-Lambent-Instance-Id", "i-"+name, "X-Lambent-Container-Id", "c-"+name)
		switch name {
		case "orders":
			write(w, `{"net":30.47,"vat":6.09,"total":36.56,"calls":%d}`, calls[name])
		case "words":
			write(w, `{"words":10,"top":{"to":2,"be":2},"calls":%d}`, calls[name])
		case "primes":
			write(w, `{"primes":9592,"largest":99991,"calls":%d}`, calls[name])
		}
	}
}

func fullPools(w http.ResponseWriter, _ *http.Request) {
	write(w, `[{"configuration":"nodejs","target":2,"ready":2},{"configuration":"python","target":0,"ready":1}]`)
}

func TestQuickstartCallsEachSampleColdAndWarmAndLeavesNothing(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no Go here: that sample is left out
	t.Setenv("TMPDIR", t.TempDir())
	f := newFakeServer()
	f.invoke, f.admin = sampleAnswers(), fullPools
	code, out, errOut := run(t.Context(), nil, nil, platform(f), "quickstart", "--exit")
	check(t, "quickstart", code, 0, out+errOut,
		"FUNCTION", "cold", "warm_pool", "warm", "container_reuse", "i-orders", "c-words", "right",
		"left out: no go command to build it with", "warming up  2 instances ready")
	if left, err := filepath.Glob(os.Getenv("TMPDIR") + "/*"); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

func TestQuickstartFailsOnAWrongAnswer(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := newFakeServer()
	right := sampleAnswers()
	f.admin = fullPools
	f.invoke = func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "orders") {
			write(w, `{"net":0,"calls":1}`)
			return
		}
		right(w, r)
	}
	code, out, errOut := run(t.Context(), nil, nil, platform(f), "quickstart", "--exit")
	check(t, "quickstart", code, 1, out+errOut, `wrong: {"net":0,"calls":1} instead of`, "2 calls did not answer as they should")

	f.invoke = func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
	}
	code, out, errOut = run(t.Context(), nil, nil, platform(f), "quickstart", "--exit")
	check(t, "quickstart", code, 1, out+errOut, "TooManyRequestsException: Rate Exceeded.")
}

func TestQuickstartTellsWhyTheServerDidNotStartOrWentAway(t *testing.T) {
	code, _, errOut := run(t.Context(), nil, nil, noServer, "quickstart", "--exit")
	check(t, "a server that does not start", code, 2, errOut, "lambent: there is no server in this test")

	f := newFakeServer()
	died := make(chan struct{})
	f.admin = func(_ http.ResponseWriter, r *http.Request) {
		close(died)
		<-r.Context().Done()
	}
	serve := func(_ context.Context, _ config.Config, _ *slog.Logger, ready func(string)) error {
		srv := httptest.NewServer(f)
		defer srv.Close()
		ready(strings.TrimPrefix(srv.URL, "http://"))
		<-died
		srv.CloseClientConnections()
		return errors.New("the disk is full")
	}
	code, _, errOut = run(t.Context(), nil, nil, serve, "quickstart", "--exit")
	check(t, "a server that goes away", code, 2, errOut, "lambent: the disk is full")
}

func TestQuickstartServesOnUntilItIsEnded(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	f := newFakeServer()
	f.invoke, f.admin = sampleAnswers(), fullPools
	serving := platform(f)
	serve := func(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(string)) error {
		if cfg.LogLevel != slog.LevelWarn {
			t.Errorf("the server logs at %v, want warnings only", cfg.LogLevel)
		}
		return serving(ctx, cfg, log, ready)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &notifier{on: "until Ctrl-C", do: cancel}
	code := Main(ctx, []string{"quickstart"}, Streams{In: strings.NewReader(""), Out: out, Err: out, Getenv: func(string) string { return "" }}, serve)
	check(t, "quickstart", code, 0, out.text.String(), "export AWS_ENDPOINT_URL=", "draining")
}

// notifier is a Writer that does something once a text has been written.
type notifier struct {
	text strings.Builder
	on   string
	do   func()
}

func (n *notifier) Write(p []byte) (int, error) {
	before := strings.Contains(n.text.String(), n.on)
	n.text.Write(p)
	if !before && strings.Contains(n.text.String(), n.on) {
		n.do()
	}
	return len(p), nil
}
