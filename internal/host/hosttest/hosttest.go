// Package hosttest gives the tests of everything above the host a host on the
// fake sandbox driver, with a runtime whose behaviour the function's handler
// names.
package hosttest

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lambent"
	"lambent/internal/functionlog"
	"lambent/internal/host"
	"lambent/internal/hostinfo"
	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

// Node is the pretended Node.
func Node() hostinfo.Installed {
	return hostinfo.Installed{Family: lambent.FamilyNode, Version: "20.0.0", Path: "/usr/bin/node", Root: "/usr"}
}

// Fixture is a host with what a test looks at.
type Fixture struct {
	Host   *host.Host
	Driver *fake.Driver
	Logs   *Logs

	mu sync.Mutex
	// +checklocks:mu
	gates map[string]chan struct{}
	// +checklocks:mu
	waiting map[*os.File]bool // runtimes without code
	// +checklocks:mu
	credentials *host.Credentials // nil: functions get none
	// +checklocks:mu
	held map[lambent.CodeHash]chan error // packages that cannot be fetched yet
	// +checklocks:mu
	deaf int // how many of the next runtimes to boot never hear anything
}

// New opens a host that is closed with the test, when nothing may be left in the
// driver. The test must have stopped what it started by then.
func New(t testing.TB, opts fake.Options) *Fixture {
	t.Helper()
	f := &Fixture{Logs: &Logs{}, gates: map[string]chan struct{}{}, waiting: map[*os.File]bool{}, held: map[lambent.CodeHash]chan error{}}
	opts.Programs = map[string]fake.Program{Node().Path: f.runtime, sandbox.InitPath: f.init}
	f.Driver = fake.New(opts)
	f.Host = host.New(host.Options{
		Driver: f.Driver, Dir: t.TempDir(), Fetch: f.fetch, Images: images{dir: t.TempDir()}, Region: "eu-test-1", Logs: f.Logs, Log: slog.New(slog.DiscardHandler),
		Credentials: f.give,
	})
	if err := f.Host.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Host.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Driver.Close(); err != nil {
			t.Error(err)
		}
		if left := f.Driver.Alive(); left != (fake.Alive{}) {
			t.Errorf("left in the sandbox driver: %+v", left)
		}
	})
	return f
}

// Function makes a function of the default account. Its handler is what its
// runtime does:
//
//	echo            answers the event
//	count           answers how many events this runtime has had
//	fail            answers an error of type Oops
//	exit N          ends with status N instead of answering
//	exit-after      answers, then ends
//	hang            never answers; with an EVENT it echoes, unless it is that one
//	env NAME        answers the variable of its environment
//	log TEXT        writes TEXT to stdout, then echoes
//	wait NAME       answers once the test opens the gate NAME
//	stream NAME     streams "first", and "second" once the test opens the gate NAME
//	stream-much MB  streams so many MB of zeros
//	stream-fail     streams "first", then an error of type Oops
//	stream-exit N   streams "first", then ends with status N
//	stream-hang     streams "first", then nothing; with an EVENT it ends then, unless it is that one
//	init-error      reports that it cannot load the code
//	init-exit N     ends with status N while it loads the code
//	init-hang       never finishes to load the code
func Function(name, handler string) *lambent.Function {
	fn := &lambent.Function{
		Account: lambent.DefaultAccount, Name: lambent.FunctionName(name), Version: lambent.Latest,
		Runtime: "nodejs20.x", Handler: handler, TimeoutSecs: 3, MemoryMB: 128, EphemeralMB: 512, State: "Active",
		Code: lambent.CodeHash(base64.StdEncoding.EncodeToString(packageHash())),
	}
	fn.ConfigHash = fn.HashConfig()
	return fn
}

// Image makes a function of an image, which echoes.
func Image(name, digest string) *lambent.Function {
	fn := Function(name, "")
	fn.Runtime, fn.PackageType, fn.ImageRef = "", lambent.PackageImage, "registry.test/app@sha256:"+digest
	fn.ConfigHash = fn.HashConfig()
	return fn
}

// images has every image there may be: an empty folder.
type images struct{ dir string }

// Hold implements host.Images.
func (i images) Hold(context.Context, lambent.AccountID, string) (host.ImageRoot, bool, func(), error) {
	return host.ImageRoot{Dir: i.dir, Command: []string{"/main"}}, true, func() {}, nil
}

// Open lets the runtimes that wait at the gate answer, now and later.
func (f *Fixture) Open(gate string) { close(f.gate(gate)) }

func (f *Fixture) gate(name string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gates[name] == nil {
		f.gates[name] = make(chan struct{})
	}
	return f.gates[name]
}

// Give has functions get credentials from now on.
func (f *Fixture) Give(c host.Credentials) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.credentials = &c
}

func (f *Fixture) give(*lambent.Function) (host.Credentials, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.credentials == nil {
		return host.Credentials{}, false
	}
	return *f.credentials, true
}

// Deafen makes the next n runtimes boot and then hear nothing.
func (f *Fixture) Deafen(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = n
}

func (f *Fixture) isDeaf() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf--
	return f.deaf >= 0
}

// EndWaiting ends all runtimes that wait for code, and tells how many.
func (f *Fixture) EndWaiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	for control := range f.waiting {
		if raw, err := control.SyscallConn(); err == nil { // else it has ended already
			_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // which ends its program
		}
	}
	return len(f.waiting)
}

func (f *Fixture) wait(control *os.File, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if yes {
		f.waiting[control] = true
	} else {
		delete(f.waiting, control)
	}
}

// init is lambent-init: it serves credentials, and else pretends, too.
func (f *Fixture) init(ctx context.Context, g *fake.Guest) int {
	if len(g.Args) > 1 && g.Args[1] == "credentials" {
		defer context.AfterFunc(ctx, func() { _ = g.Files[3].Close() })()
		if guest.ServeCredentials(g.Files[3]) != nil {
			return 1
		}
		return 0
	}
	return f.runtime(ctx, g)
}

// runtime is the pretended Node.
func (f *Fixture) runtime(ctx context.Context, g *fake.Guest) int {
	conn := guest.NewConn(g.Files[3])
	if conn.Booted("pretend 20.0.0") != nil {
		return 1
	}
	if f.isDeaf() {
		<-ctx.Done()
		return 0
	}
	f.wait(g.Files[3], true)
	a, err := conn.NextAssignment()
	f.wait(g.Files[3], false)
	if err != nil {
		return 0 // stopped while it was warm
	}
	verb, arg, _ := strings.Cut(a.Handler, " ")
	switch verb {
	case "init-error":
		_ = conn.InitError("Runtime.ImportModuleError", []byte(`{"errorType":"Runtime.ImportModuleError","errorMessage":"no such module"}`))
		<-ctx.Done()
		return 0
	case "init-exit":
		return number(arg)
	case "init-hang":
		<-ctx.Done()
		return 0
	}
	for count := 1; ; count++ {
		if conn.Ready() != nil {
			return 0
		}
		ev, err := conn.NextEvent()
		if err != nil {
			return 0
		}
		answer := ev.Payload
		switch verb {
		case "count":
			answer, _ = json.Marshal(count)
		case "fail":
			err = conn.Fail(ev.RequestID, "Oops", []byte(`{"errorType":"Oops","errorMessage":"as asked"}`))
			if err != nil {
				return 0
			}
			continue
		case "exit":
			return number(arg)
		case "hang":
			if arg == "" || arg == string(ev.Payload) {
				<-ctx.Done()
				return 0
			}
		case "env":
			answer, _ = json.Marshal(a.Env[arg])
		case "log":
			fmt.Fprintln(g.Files[1], arg)
		case "wait":
			select {
			case <-f.gate(arg):
			case <-ctx.Done():
				return 0
			}
		}
		if strings.HasPrefix(verb, "stream") {
			if ended, code := f.stream(ctx, conn, ev, verb, arg); ended {
				return code
			}
			continue
		}
		if conn.Respond(ev.RequestID, answer) != nil {
			return 0
		}
		if verb == "exit-after" {
			return 0
		}
	}
}

// stream answers in parts, and tells whether the runtime ends with that.
func (f *Fixture) stream(ctx context.Context, conn *guest.Conn, ev *frame.Event, verb, arg string) (ended bool, code int) {
	if conn.Begin(ev.RequestID, "text/plain") != nil {
		return true, 0
	}
	if verb == "stream-much" {
		for range number(arg) {
			if conn.Chunk(make([]byte, 1<<20)) != nil {
				return true, 0
			}
		}
		return conn.End("", nil) != nil, 0
	}
	if conn.Chunk([]byte("first")) != nil {
		return true, 0
	}
	switch verb {
	case "stream-fail":
		return conn.End("Oops", []byte(`{"errorType":"Oops","errorMessage":"as asked"}`)) != nil, 0
	case "stream-exit":
		return true, number(arg)
	case "stream-hang":
		if arg != "" && arg != string(ev.Payload) {
			return conn.End("", nil) != nil, 0
		}
		<-ctx.Done()
		return true, 0
	}
	select {
	case <-f.gate(arg):
	case <-ctx.Done():
		return true, 0
	}
	return conn.Chunk([]byte("second")) != nil || conn.End("", nil) != nil, 0
}

func number(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

// Updated makes a function of a function with other code, which does the same.
func Updated(fn *lambent.Function, code string) *lambent.Function {
	next := *fn
	sum := sha256.Sum256([]byte(code))
	next.Code = lambent.CodeHash(base64.StdEncoding.EncodeToString(sum[:]))
	return &next
}

// Hold keeps code from being fetched, until release is called once for each time
// that it was asked for: with nil it comes, with an error that is what fetching
// fails with.
func (f *Fixture) Hold(code lambent.CodeHash) (release func(error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	held := make(chan error)
	f.held[code] = held
	return func(err error) { held <- err }
}

// fetch serves the one deployment package all functions have.
func (f *Fixture) fetch(ctx context.Context, code lambent.CodeHash) (io.ReadCloser, int64, error) {
	f.mu.Lock()
	held := f.held[code]
	f.mu.Unlock()
	if held != nil {
		select {
		case err := <-held:
			if err != nil {
				return nil, 0, err
			}
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
	b := deploymentPackage()
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

func deploymentPackage() []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create("index.js") // a buffer takes everything
	_, _ = io.WriteString(w, "exports.handler = async () => {}")
	_ = z.Close()
	return b.Bytes()
}

func packageHash() []byte {
	sum := sha256.Sum256(deploymentPackage())
	return sum[:]
}

// Logs keeps what functions wrote. Safe for use by several goroutines.
type Logs struct {
	mu sync.Mutex
	// +checklocks:mu
	entries []functionlog.Entry
}

// Append implements host.LogSink.
func (l *Logs) Append(_ lambent.AccountID, _ lambent.FunctionName, e functionlog.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
}

// Of returns the lines of one request.
func (l *Logs) Of(id lambent.RequestID) (lines []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.RequestID == id {
			lines = append(lines, e.Text)
		}
	}
	return lines
}

// Eventually waits until is holds, for ten seconds at most.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not come true in 10 s: %s", what)
		}
	}
}
