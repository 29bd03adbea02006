package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"lambent/conformance/lab"
)

// fixture is what all tests share: the built server, one running server, the
// functions' packages. Each test takes an account of its own, so tests that
// share the server share nothing they can see.
type fixture struct {
	bin      string
	data     string // folder of the shared server
	accounts lab.Accounts
	server   func() (*lab.Server, error)
	goKit    func() ([]byte, error)
	nodeKit  func() ([]byte, error)
	pyKit    func() ([]byte, error)

	mu sync.Mutex
	// +checklocks:mu
	started *lab.Server // the shared server, once a test wanted it
}

// fix is set once, before any test runs.
var fix *fixture

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) (status int) {
	ctx := context.Background()
	data, err := os.MkdirTemp("", "lambent-shared")
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	defer os.RemoveAll(data)
	bin, err := lab.Binary(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	fix = newFixture(ctx, bin, data)
	// The tests wait for the server more than they compute.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		return 1
	}
	status = m.Run()
	if s := fix.running(); s != nil {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "conformance: the server that tests shared:", err)
			return 1
		}
		if status != 0 {
			fmt.Fprintf(os.Stderr, "the log of the server that tests shared:\n%s\n", s.Log())
		}
	}
	return status
}

func newFixture(ctx context.Context, bin, data string) *fixture {
	f := &fixture{bin: bin, data: data}
	f.server = sync.OnceValues(func() (*lab.Server, error) {
		s, err := lab.Start(ctx, lab.Config{Bin: bin, Data: data, Flags: []string{"--idle-timeout", "30s"}})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.started = s
		return s, err
	})
	f.goKit = sync.OnceValues(func() ([]byte, error) { return lab.GoPackage(ctx, filepath.Join("functions", "gokit")) })
	f.nodeKit = sync.OnceValues(func() ([]byte, error) { return kit("index.mjs") })
	f.pyKit = sync.OnceValues(func() ([]byte, error) { return kit("kit.py") })
	return f
}

func (f *fixture) running() *lab.Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started
}

func kit(file string) ([]byte, error) {
	code, err := os.ReadFile(filepath.Join("testdata", "kit", file))
	if err != nil {
		return nil, err
	}
	return lab.File(file, string(code)), nil
}

// newCaller is an account of its own at the shared server.
func newCaller(t *testing.T) *lab.Caller {
	t.Helper()
	s, err := fix.server()
	if err != nil {
		t.Fatal(err)
	}
	return s.Caller(t, fix.accounts.Next())
}

// newServer is a server of the test's own, in a folder whose name is short
// enough for the sockets in it.
func newServer(t *testing.T, flags ...string) *lab.Server {
	t.Helper()
	return lab.Run(t, lab.Config{Bin: fix.bin, Data: newData(t), Flags: flags})
}

func newData(t *testing.T) string {
	t.Helper()
	data, err := os.MkdirTemp("", "lambent-data")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Errorf("remove the data folder of a server that has ended: %v", err)
		}
	})
	return data
}

// language is one way to write functions.
type language struct {
	name    string
	runtime types.Runtime
	handler string
	zip     []byte // of the kit
}

func (l language) function(name string) lab.Function {
	return lab.Function{Name: name, Runtime: l.runtime, Handler: l.handler, Zip: l.zip}
}

func node(t *testing.T) language {
	t.Helper()
	return language{"node", types.RuntimeNodejs22x, "index.handler", must(t)(fix.nodeKit())}
}

func python(t *testing.T) language {
	t.Helper()
	return language{"python", types.RuntimePython313, "kit.handler", must(t)(fix.pyKit())}
}

func golang(t *testing.T) language {
	t.Helper()
	return language{"go", types.RuntimeProvidedal2023, "bootstrap", must(t)(fix.goKit())}
}

func languages(t *testing.T) []language {
	t.Helper()
	return []language{node(t), python(t), golang(t)}
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// op is an event for the kit.
type op map[string]any

// wantError checks that err is the API error of the type E, with this code and
// message. An empty message stands for any.
func wantError[E error](t *testing.T, err error, code, message string) {
	t.Helper()
	if _, ok := errors.AsType[E](err); !ok {
		t.Errorf("the error is %v (%T), want a %T", err, err, *new(E))
	}
	wantCode(t, err, code, message)
}

// wantCode is wantError for errors the SDK has no type for.
func wantCode(t *testing.T, err error, code, message string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	switch {
	case !ok:
		t.Errorf("the error is %v, want the API's %s", err, code)
	case api.ErrorCode() != code:
		t.Errorf("the error is %s: %s, want %s", api.ErrorCode(), api.ErrorMessage(), code)
	case message != "" && api.ErrorMessage() != message:
		t.Errorf("%s says\n%q, want\n%q", code, api.ErrorMessage(), message)
	}
}
