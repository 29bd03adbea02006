package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// fakeServer stands in for a lambent server. Its functions are Pending, or have
// an update InProgress, for the first question after each change.
type fakeServer struct {
	invoke http.HandlerFunc // answers invocations
	admin  http.HandlerFunc // answers /_lambent/…

	mu        sync.Mutex
	functions map[string]map[string]any // by name, in the API's shape
	requests  []string                  // METHOD path?query, in order, without the waiting
	bodies    []map[string]any          // of those, nil where there was none
	auth      string                    // the last Authorization header
	becomes   string                    // what State a new function settles in: Active, or Failed
	pageSize  int
	refuse    string // what is not taken of an update: code, or configuration
}

func newFakeServer() *fakeServer {
	return &fakeServer{functions: map[string]map[string]any{}, becomes: "Active", pageSize: 50}
}

func (f *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", "3c1e7a52-0000-4000-8000-000000000000")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if strings.HasPrefix(r.URL.Path, "/_lambent/") {
		f.note(r, body)
		f.admin(w, r)
		return
	}
	if strings.HasSuffix(r.URL.Path, "/invocations") {
		f.note(r, body)
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		f.invoke(w, r)
		return
	}
	name, below, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions"), "/configuration")
	if r.Method == http.MethodGet && name != "/" && below == "" {
		f.configuration(w, strings.Trim(name, "/"))
		return
	}
	f.note(r, body)
	f.change(w, r, body)
}

func (f *fakeServer) note(r *http.Request, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = append(f.requests, r.Method+" "+r.URL.RequestURI())
	var decoded map[string]any
	if len(body) > 0 && json.Unmarshal(body, &decoded) != nil {
		decoded = map[string]any{"raw": string(body)}
	}
	f.bodies = append(f.bodies, decoded)
	f.auth = r.Header.Get("Authorization")
}

// configuration answers, and lets what was changing settle.
func (f *fakeServer) configuration(w http.ResponseWriter, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn := f.functions[name]
	if fn == nil {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+name)
		return
	}
	answer(w, http.StatusOK, fn)
	if fn["State"] == "Pending" {
		fn["State"], fn["StateReason"] = f.becomes, "it was told to"
	}
	if fn["LastUpdateStatus"] == "InProgress" {
		fn["LastUpdateStatus"], fn["State"] = "Successful", "Active"
	}
}

func (f *fakeServer) change(w http.ResponseWriter, r *http.Request, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var in map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			refuse(w, http.StatusBadRequest, "InvalidRequestContentException", err.Error())
			return
		}
	}
	rest := strings.Trim(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions"), "/")
	name, what, _ := strings.Cut(rest, "/")
	if rest == "" && r.Method == http.MethodPost {
		name = in["FunctionName"].(string)
		in["FunctionArn"], in["State"] = "arn:aws:lambda:us-east-1:000000000000:function:"+name, "Pending"
		delete(in, "Code")
		f.functions[name] = in
		answer(w, http.StatusCreated, in)
		return
	}
	if rest == "" {
		f.list(w, r)
		return
	}
	fn := f.functions[name]
	switch {
	case fn == nil:
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: "+name)
	case r.Method == http.MethodDelete:
		delete(f.functions, name)
		w.WriteHeader(http.StatusNoContent)
	case f.refuse != "" && f.refuse == what:
		refuse(w, http.StatusBadRequest, "InvalidParameterValueException", "not taken")
	case in["DryRun"] == true:
		answer(w, http.StatusOK, fn)
	default:
		if what == "configuration" {
			for k, v := range in {
				fn[k] = v
			}
		}
		fn["LastUpdateStatus"] = "InProgress"
		answer(w, http.StatusOK, fn)
	}
}

func (f *fakeServer) list(w http.ResponseWriter, r *http.Request) {
	names := sortedKeys(f.functions)
	var page struct {
		Functions  []map[string]any
		NextMarker string `json:",omitempty"`
	}
	for _, n := range names {
		if n <= r.URL.Query().Get("Marker") {
			continue
		}
		if len(page.Functions) == f.pageSize {
			page.NextMarker = page.Functions[f.pageSize-1]["FunctionName"].(string)
			break
		}
		page.Functions = append(page.Functions, f.functions[n])
	}
	answer(w, http.StatusOK, page)
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		panic(err)
	}
}

func refuse(w http.ResponseWriter, code int, name, message string) {
	w.Header().Set("X-Amzn-Errortype", name)
	answer(w, code, map[string]string{"Type": "User", "Message": message})
}

// run runs a command line against the server and gives its exit status and what
// it printed.
func (f *fakeServer) run(t *testing.T, env map[string]string, args ...string) (code int, out, errOut string) {
	t.Helper()
	srv := httptest.NewServer(f)
	defer srv.Close()
	all := map[string]string{"AWS_ENDPOINT_URL": srv.URL}
	for k, v := range env {
		all[k] = v
	}
	return run(t.Context(), nil, all, nil, args...)
}

func run(ctx context.Context, in io.Reader, env map[string]string, serve Serve, args ...string) (code int, out, errOut string) {
	var stdout, stderr bytes.Buffer
	if in == nil {
		in = strings.NewReader("")
	}
	if serve == nil {
		serve = noServer
	}
	code = Main(ctx, args, Streams{In: in, Out: &stdout, Err: &stderr, Getenv: func(k string) string { return env[k] }}, serve)
	return code, stdout.String(), stderr.String()
}

// check compares an exit status and looks for texts in what was printed.
func check(t *testing.T, what string, got, want int, printed string, texts ...string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: exit status %d, want %d; it printed:\n%s", what, got, want, printed)
	}
	for _, text := range texts {
		if !strings.Contains(printed, text) {
			t.Errorf("%s: what it printed lacks %q:\n%s", what, text, printed)
		}
	}
}

func header(w http.ResponseWriter, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		w.Header().Set(pairs[i], pairs[i+1])
	}
}

func write(w io.Writer, format string, args ...any) {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		panic(err)
	}
}
