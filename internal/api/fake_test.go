package api

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/policy"
	"lambent/internal/registry"
)

const testRole = "arn:aws:iam::123456789012:role/r"

// fakeFunctions keeps functions in memory and counts what it was asked.
type fakeFunctions struct {
	mu       sync.Mutex
	byName   map[lambent.FunctionName]*lambent.Function // of the default account
	packages map[lambent.CodeHash][]byte
	changes  int   // creates, updates and deletes that went through
	err      error // what everything answers, where set
	revision int
}

func newFakeFunctions() *fakeFunctions {
	return &fakeFunctions{byName: map[lambent.FunctionName]*lambent.Function{}, packages: map[lambent.CodeHash][]byte{}}
}

func notFound(account lambent.AccountID, name lambent.FunctionName, qualifier string) error {
	return &lambent.Error{Op: "find function", Resource: string(name), Kind: lambent.KindNotFound,
		Message: "Function not found: " + lambent.FunctionARN("us-east-1", account, name, qualifier)}
}

func (f *fakeFunctions) stamp(fn *lambent.Function) {
	f.changes++
	f.revision++
	fn.Revision = fmt.Sprintf("00000000-0000-4000-8000-%012d", f.revision)
	fn.LastModified = time.Date(2026, 11, 21, 3, 4, 5, 678_000_000, time.UTC)
}

func (f *fakeFunctions) keep(fn *lambent.Function, pkg []byte) {
	hash := sha256.Sum256(pkg)
	fn.Code = lambent.CodeHash(base64.StdEncoding.EncodeToString(hash[:]))
	fn.CodeSize = int64(len(pkg))
	f.packages[fn.Code] = pkg
}

func (f *fakeFunctions) CreateFunction(_ context.Context, spec *lambent.Function, pkg []byte, _ lambent.Publishing) (*lambent.Function, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if _, ok := f.byName[spec.Name]; ok {
		return nil, &lambent.Error{Op: "create function", Kind: lambent.KindExists, Message: "Function already exist: " + string(spec.Name)}
	}
	fn := *spec
	f.keep(&fn, pkg)
	f.stamp(&fn)
	fn.State, fn.StateReason, fn.StateReasonCode = "Pending", "The function is being created.", "Creating"
	f.byName[fn.Name] = &fn
	return &fn, nil
}

func (f *fakeFunctions) update(account lambent.AccountID, name lambent.FunctionName, revision string, change func(*lambent.Function) error) (*lambent.Function, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	old, ok := f.byName[name]
	if !ok || old.Account != account {
		return nil, notFound(account, name, "")
	}
	if revision != "" && revision != old.Revision {
		return nil, &lambent.Error{Op: "update function", Kind: lambent.KindPrecondition}
	}
	fn := *old
	if err := change(&fn); err != nil {
		return nil, err
	}
	f.stamp(&fn)
	fn.State, fn.StateReason, fn.StateReasonCode = "Active", "", ""
	fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = "InProgress", "The function is being created.", "Creating"
	f.byName[name] = &fn
	return &fn, nil
}

func (f *fakeFunctions) UpdateFunctionCode(_ context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, change func(*lambent.Function), pkg []byte, _ lambent.Publishing) (*lambent.Function, error) {
	return f.update(account, name, revision, func(fn *lambent.Function) error {
		change(fn)
		f.keep(fn, pkg)
		return nil
	})
}

func (f *fakeFunctions) UpdateFunctionConfiguration(_ context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, change func(*lambent.Function) error) (*lambent.Function, error) {
	return f.update(account, name, revision, change)
}

func (f *fakeFunctions) TagFunction(_ context.Context, account lambent.AccountID, name lambent.FunctionName, change func(map[string]string) error) error {
	_, err := f.update(account, name, "", func(fn *lambent.Function) error {
		fn.Tags = maps.Clone(fn.Tags)
		return change(fn.Tags)
	})
	return err
}

func (f *fakeFunctions) Usage(account lambent.AccountID) (functions int, codeBytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fn := range f.byName {
		if fn.Account == account {
			functions++
			codeBytes += fn.CodeSize
		}
	}
	return functions, codeBytes
}

func (f *fakeFunctions) DeleteFunction(_ context.Context, account lambent.AccountID, name lambent.FunctionName) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if fn, ok := f.byName[name]; !ok || fn.Account != account {
		return notFound(account, name, "")
	}
	delete(f.byName, name)
	f.changes++
	return nil
}

func (f *fakeFunctions) Function(account lambent.AccountID, name lambent.FunctionName, qualifier string) (*lambent.Function, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	fn, ok := f.byName[name]
	if !ok || fn.Account != account || qualifier != "" && qualifier != "$LATEST" {
		return nil, notFound(account, name, qualifier)
	}
	return fn, nil
}

func (f *fakeFunctions) ListFunctions(account lambent.AccountID, after lambent.FunctionName, most int) (out []*lambent.Function, next lambent.FunctionName) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.byName)) {
		if name <= after || f.byName[name].Account != account {
			continue
		}
		if len(out) == most {
			return out, out[most-1].Name
		}
		out = append(out, f.byName[name])
	}
	return out, ""
}

func (f *fakeFunctions) CodePackage(_ context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	pkg, ok := f.packages[hash]
	if !ok {
		return nil, 0, &lambent.Error{Op: "open code", Kind: lambent.KindNotFound, Message: "no such code"}
	}
	return io.NopCloser(bytes.NewReader(pkg)), int64(len(pkg)), nil
}

// fakeInvoker answers by a function, the payload itself where there is none.
type fakeInvoker struct {
	answer func(*lambent.Invocation) (*lambent.Result, error)

	mu   sync.Mutex
	last *lambent.Invocation
	ctx  context.Context // of the last
}

func (f *fakeInvoker) Invoke(ctx context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
	f.mu.Lock()
	f.last, f.ctx = inv, ctx
	f.mu.Unlock()
	if f.answer != nil {
		return f.answer(inv)
	}
	return echo(inv), nil
}

func echo(inv *lambent.Invocation) *lambent.Result {
	return &lambent.Result{
		RequestID: inv.RequestID,
		Payload:   inv.Payload,
		LogTail:   []byte("START\nEND\n"),
		Start: lambent.Start{Kind: lambent.StartReuse, Reason: "an idle container was there", Instance: "i-1", Container: "c-1",
			ServedVersion: "$LATEST", ServedCode: "old=", RequestedVersion: "$LATEST", RequestedCode: "new=", ReceivedAt: inv.ReceivedAt, ExecStartedAt: inv.ReceivedAt.Add(time.Millisecond)},
	}
}

// door is an API over fakes.
type door struct {
	*API
	functions *fakeFunctions
	layers    *fakeLayers
	policies  *fakePolicies
	invoker   *fakeInvoker
}

func newDoor(t testing.TB, adjust ...func(*Options)) *door {
	t.Helper()
	d := &door{functions: newFakeFunctions(), layers: newFakeLayers(), invoker: &fakeInvoker{}}
	d.policies = &fakePolicies{functions: d.functions, attached: map[string]*policy.Attached{}}
	opts := Options{Functions: d.functions, Objects: &registry.Objects{}, Policies: d.policies, Layers: d.layers, Invoker: d.invoker, CheckPackage: checkZip,
		Hosts: []string{"example.com"}, // what httptest's requests are for
		Now:   func() time.Time { return time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC) }}
	for _, f := range adjust {
		f(&opts)
	}
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	d.API = a
	return d
}

// openRegistry opens a memory of its own for a test.
func openRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	node := cluster.New(cluster.Options{Dir: t.TempDir(), Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := registry.Open(t.Context(), node, registry.Options{Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(r.Close(), node.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func checkZip(pkg []byte) (unpacked int64, err error) {
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		return 0, err
	}
	for _, f := range r.File {
		unpacked += int64(f.UncompressedSize64)
	}
	return unpacked, nil
}

func testZip(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("index.mjs")
	if err == nil {
		_, err = f.Write([]byte("export const handler = async (e) => e"))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// answer is what came back, with its JSON body taken apart.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (d *door) do(t testing.TB, method, target, body string, headers ...string) answer {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, reader)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), raw: rec.Body.String()}
	if strings.HasPrefix(a.raw, "{") {
		if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
			t.Errorf("%s %s: body is not JSON: %v", method, target, err)
		}
	}
	return a
}

// create makes a function named f with what a caller must give and adds to it.
func (d *door) create(t testing.TB, name string, extra ...any) answer {
	t.Helper()
	q := map[string]any{"FunctionName": name, "Role": testRole, "Runtime": "nodejs22.x", "Handler": "index.handler",
		"Code": map[string]any{"ZipFile": base64.StdEncoding.EncodeToString(testZip(t))}}
	for i := 0; i < len(extra); i += 2 {
		if extra[i+1] == nil {
			delete(q, extra[i].(string))
			continue
		}
		q[extra[i].(string)] = extra[i+1]
	}
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	return d.do(t, "POST", "/2015-03-31/functions", string(body))
}

// wantError holds an answer against AWS's shape for an exception and returns
// its text.
func (a answer) wantError(t testing.TB, status int, name string) string {
	t.Helper()
	if a.status != status || a.header.Get("x-amzn-ErrorType") != name {
		t.Errorf("answer %d %q, want %d %q; body %s", a.status, a.header.Get("x-amzn-ErrorType"), status, name, a.raw)
	}
	for _, key := range []string{"message", "Message"} {
		if m, ok := a.body[key].(string); ok {
			return m
		}
	}
	t.Errorf("no message in %s", a.raw)
	return ""
}
