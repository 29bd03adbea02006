package registry

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

const (
	account = lambent.AccountID("111122223333")
	other   = lambent.AccountID("444455556666")
	region  = "eu-west-1"
)

// fixture is a registry on a node of its own, with a scripted Prepare.
type fixture struct {
	*Registry
	t    testing.TB
	node *cluster.Node
	opts Options

	prepare chan error // each Prepare takes its result from here, where it is not nil
	settled chan Change
	dropped chan lambent.CodeHash
}

func openNode(t testing.TB, dir string) *cluster.Node {
	t.Helper()
	node := cluster.New(cluster.Options{Dir: dir, Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return node
}

// open opens the registry of a node. Prepare waits for results; nil for a
// registry whose functions are ready at once.
func open(t testing.TB, node *cluster.Node, prepare chan error) *fixture {
	t.Helper()
	return openWith(t, node, prepare, func(*Options) {})
}

func openWith(t testing.TB, node *cluster.Node, prepare chan error, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, node: node, prepare: prepare, settled: make(chan Change, 1000), dropped: make(chan lambent.CodeHash, 100)}
	f.opts = Options{
		Region: region, CodeGrace: time.Hour,
		CodeDropped: func(h lambent.CodeHash) { f.dropped <- h },
		Prepare: func(ctx context.Context, fn *lambent.Function) error {
			if f.prepare == nil {
				return nil
			}
			select {
			case err := <-f.prepare:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
	}
	change(&f.opts)
	r, err := Open(t.Context(), node, f.opts)
	if err != nil {
		t.Fatal(err)
	}
	f.Registry = r
	r.Subscribe(func(c Change) {
		if c.After != nil && !changing(c.After) && c.Before != nil && changing(c.Before) {
			f.settled <- c
		}
	})
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) wait() *lambent.Function {
	f.t.Helper()
	select {
	case c := <-f.settled:
		return c.After
	case <-time.After(20 * time.Second):
		f.t.Fatal("waited in vain for a function to settle")
		return nil
	}
}

// until is closed with the first change from now on that is wanted.
func (f *fixture) until(wanted func(Change) bool) <-chan struct{} {
	reached := make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	f.Subscribe(func(c Change) {
		if wanted(c) {
			once()
		}
	})
	return reached
}

// rolled waits until no rollout of a name runs.
func (f *fixture) rolled(name lambent.FunctionName, qualifier string) {
	f.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		f.rolloutMu.Lock()
		ro := f.rollouts[rolloutKey{functionKey{account, name}, qualifier}]
		running := ro != nil && ro.running
		f.rolloutMu.Unlock()
		if !running {
			return
		}
		if time.Now().After(end) {
			f.t.Fatal("waited in vain for a rollout to end")
		}
	}
}

func (f *fixture) create(name lambent.FunctionName, pkg string) *lambent.Function {
	f.t.Helper()
	fn, err := f.CreateFunction(f.t.Context(), spec(name), []byte(pkg), lambent.Unpublished)
	if err != nil {
		f.t.Fatal(err)
	}
	return fn
}

func (f *fixture) created(name lambent.FunctionName, pkg string) *lambent.Function {
	f.t.Helper()
	f.create(name, pkg)
	return f.wait()
}

func (f *fixture) code(hash lambent.CodeHash) (string, error) {
	r, size, err := f.CodePackage(f.t.Context(), hash)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(r)
	if int64(len(data)) != size {
		f.t.Errorf("a package of %d bytes has %d", size, len(data))
	}
	return string(data), errors.Join(err, r.Close())
}

func spec(name lambent.FunctionName) *lambent.Function {
	return &lambent.Function{
		Account: account, Name: name, Runtime: "nodejs22.x", Role: "arn:aws:iam::111122223333:role/r", Handler: "index.handler",
		TimeoutSecs: 3, MemoryMB: 128, EphemeralMB: 512, PackageType: "Zip", Architectures: []string{"x86_64"},
		Environment: map[string]string{"A": "1"}, Tags: map[string]string{"team": "x"}, TracingMode: "PassThrough", LoggingFormat: "Text",
	}
}

func wantError(t *testing.T, err error, kind lambent.Kind, message string) {
	t.Helper()
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok || e.Kind != kind || e.Message != message {
		t.Errorf("got %v, want kind %v and message %q", err, kind, message)
	}
}
