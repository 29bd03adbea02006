package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"lambent"
	"lambent/internal/policy"
	"lambent/internal/registry"
	"lambent/internal/stream"
)

// Functions is what the API needs of whoever remembers functions. Every record
// handed out is immutable. Errors are *lambent.Error: KindNotFound, KindExists,
// KindPrecondition, KindInvalid, with the text for the caller in Message.
// Safe for concurrent use.
type Functions interface {
	Versions
	// CreateFunction makes a function of spec, whose identity and
	// configuration are set, and of its zipped package. The record comes back
	// Pending, with code hash, revision and time filled in. It is the version's
	// where it is to be published at once, here and with UpdateFunctionCode.
	CreateFunction(ctx context.Context, spec *lambent.Function, pkg []byte, publishing lambent.Publishing) (*lambent.Function, error)
	// UpdateFunctionCode gives the function another package. change alters a
	// copy of the record; revision is the one expected, "" for any.
	UpdateFunctionCode(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, change func(*lambent.Function), pkg []byte, publishing lambent.Publishing) (*lambent.Function, error)
	// UpdateFunctionConfiguration alters a copy of the record by change, whose
	// error is passed back as it is.
	UpdateFunctionConfiguration(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, change func(*lambent.Function) error) (*lambent.Function, error)
	DeleteFunction(ctx context.Context, account lambent.AccountID, name lambent.FunctionName) error
	// Function finds the version that qualifier means; "" is $LATEST, an alias the
	// version it points to.
	Function(account lambent.AccountID, name lambent.FunctionName, qualifier string) (*lambent.Function, error)
	// Usage tells how many functions an account has, and the bytes of their code.
	Usage(account lambent.AccountID) (functions int, codeBytes int64)
	// TagFunction has change alter a copy of a function's tags and stores it, which
	// is no update of the function.
	TagFunction(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, change func(map[string]string) error) error
	// ListFunctions returns at most max functions by name, those after the
	// given name, and the name to go on after, "" at the end.
	ListFunctions(account lambent.AccountID, after lambent.FunctionName, max int) ([]*lambent.Function, lambent.FunctionName)
	// CodePackage opens a package as it was uploaded and tells its size.
	CodePackage(ctx context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error)
}

// Invoker runs functions. What a function did wrong is in the Result; an error
// is that the invocation did not reach it. Safe for concurrent use.
type Invoker interface {
	Invoke(ctx context.Context, inv *lambent.Invocation) (*lambent.Result, error)
}

// Options is what an API is made of.
type Options struct {
	Functions Functions
	Policies  Policies
	Objects   *registry.Objects // what is not a function, of the same memory
	Invoker   Invoker
	Layers    Layers // nil: there are none
	Events    Events // nil: there are no asynchronous calls
	// Deliverable is asked about destinations and dead-letter targets; nil: nothing is
	// delivered but to functions.
	Deliverable Deliverable
	// CheckPackage refuses a package that must not be run, and tells how many bytes
	// it has unpacked; a *lambent.Error speaks for itself.
	CheckPackage func(zip []byte) (unpacked int64, err error)
	// FetchObject opens an object that an account wants for code, of S3's store
	// or one like it, and tells its size in bytes, -1 if it is unknown. What the
	// store refuses speaks for itself. nil: no store is configured.
	FetchObject func(ctx context.Context, account lambent.AccountID, bucket, key, version string) (io.ReadCloser, int64, error)
	// Images finds the images of functions; nil: there are none.
	Images Images
	// PackFolder makes the package of a folder of this machine that the code of a
	// function is to follow, and tells where it really is. nil: that is off.
	PackFolder func(path string) (folder string, pkg []byte, err error)

	Region       string // in ARNs; empty: us-east-1
	Architecture string // of this machine: x86_64 or arm64; empty: x86_64

	// Authenticate tells who asks, and may replace the request's body by one that
	// proves itself as it is read; nil: AuthenticateOpen, and web pages are kept
	// away: see Hosts.
	Authenticate func(*http.Request) (Caller, error)
	// Hosts are names, beside localhost, by which the server may be asked and
	// whose web pages may ask it. IP addresses need not be named.
	Hosts []string

	Streaming stream.Limits // of streamed answers; zero: AWS's

	// BodyBudget is how many bytes of request bodies may be in memory at once;
	// 0: 1 GiB. A quarter of it is one account's, or what the largest request
	// needs if that is more. A request over it is throttled.
	BodyBudget int64

	Limits      Limits      // of each account
	Provisioner Provisioner // nil: nothing is provisioned, and what is asked for stays in progress

	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: discards
}

// The limits of AWS Lambda on what a request carries, in bytes (developer
// guide, "Lambda quotas", and answers seen at AWS).
const (
	maxInvokeBody = 6*1024*1024 + 100 // 6 MB, and the 100 bytes AWS's runtime interface allows beyond
	maxCodeBody   = 70167211          // a whole request that carries code
	maxConfigBody = 1 << 20           // any other request
)

// Names of headers in the form net/http keys them by.
const (
	headerRequestID = "X-Amzn-Requestid"
	headerErrorType = "X-Amzn-Errortype"
	headerTraceID   = "X-Amzn-Trace-Id"
)

const operatorPrefix = "/_lambent/"

// API serves the Lambda API and, below /_lambent/, what is the operator's. It
// is an http.Handler, safe for concurrent use, and owns no goroutine.
type API struct {
	functions    Functions
	policies     Policies
	objects      *registry.Objects
	invoker      Invoker
	events       Events
	deliverable  Deliverable
	layers       Layers
	checkPackage func([]byte) (int64, error)
	fetchObject  func(ctx context.Context, account lambent.AccountID, bucket, key, version string) (io.ReadCloser, int64, error)
	images       Images
	packFolder   func(path string) (folder string, pkg []byte, err error)
	authenticate func(*http.Request) (Caller, error)
	region       string
	architecture string
	now          func() time.Time
	log          *slog.Logger

	anybody *policy.Document // allows everything to everybody

	limits      Limits
	provisioner Provisioner
	mappings    sync.Mutex // held while event source mappings are made or changed
	signing     sync.Mutex // held while a code signing config is given to a function, or deleted

	buffers  buffers
	guard    *guard // nil where callers prove who they are
	shapes   *shapes
	model    *model
	routes   routes
	operator *http.ServeMux
	linkKey  []byte // signs code locations; of this process only
	started  time.Time

	streaming stream.Limits

	bodies   *budget
	relieved chan struct{} // holds one

	streams    context.Context // ends when answers that go on by themselves are to end
	endStreams context.CancelFunc
}

// New makes an API. It refuses options without Functions, Objects, Policies,
// Invoker or CheckPackage, since each of them would fail only at the first request.
func New(opts Options) (*API, error) {
	if opts.Functions == nil || opts.Objects == nil || opts.Policies == nil || opts.Invoker == nil || opts.CheckPackage == nil {
		return nil, errors.New("make the API: Functions, Objects, Policies, Invoker and CheckPackage must all be given")
	}
	a := &API{
		functions:    opts.Functions,
		policies:     opts.Policies,
		objects:      opts.Objects,
		limits:       opts.Limits,
		provisioner:  opts.Provisioner,
		invoker:      opts.Invoker,
		layers:       opts.Layers,
		events:       opts.Events,
		deliverable:  opts.Deliverable,
		checkPackage: opts.CheckPackage,
		fetchObject:  opts.FetchObject,
		images:       opts.Images,
		packFolder:   opts.PackFolder,
		authenticate: opts.Authenticate,
		region:       opts.Region,
		architecture: opts.Architecture,
		bodies:       newBudget(cmp.Or(opts.BodyBudget, maxBodyInFlight)),
		relieved:     make(chan struct{}, 1),
		streaming:    cmp.Or(opts.Streaming, stream.AWS()),
		now:          opts.Now,
		log:          opts.Log,
		shapes:       newShapes(),
		operator:     http.NewServeMux(),
		linkKey:      make([]byte, 32),
	}
	var err error
	if a.model, err = loadModel(); err != nil {
		return nil, err
	}
	if a.authenticate == nil {
		a.authenticate = AuthenticateOpen
		a.guard = newGuard(opts.Hosts)
	}
	if a.deliverable == nil {
		a.deliverable = nothingDelivered
	}
	if a.limits.Concurrency == 0 {
		a.limits.Concurrency = 1000
	}
	if a.region == "" {
		a.region = "us-east-1"
	}
	if a.architecture == "" {
		a.architecture = "x86_64"
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if _, err := rand.Read(a.linkKey); err != nil {
		return nil, err
	}
	a.anybody, err = policy.Parse([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`), policy.Resource)
	if err != nil {
		return nil, err
	}
	a.started = a.now()
	a.streams, a.endStreams = context.WithCancel(context.Background())
	handlers := handlers()
	if a.layers == nil {
		for name := range layerHandlers() {
			delete(handlers, name)
		}
	}
	a.routes = newRoutes(handlers, a.model)
	a.operator.HandleFunc("GET /_lambent/health", a.health)
	a.operator.HandleFunc("GET "+codePath+"{hash}", a.serveCode)
	a.operator.HandleFunc("GET /_lambent/v1/caller", a.serveCaller)
	a.operator.HandleFunc(operatorPrefix, a.unknownOperatorPath)
	return a, nil
}

// Handle serves an operator's path by h. pattern is one of http.ServeMux whose
// path is below /_lambent/. It must be called before the API serves, and like
// http.ServeMux.Handle it panics where two patterns conflict.
func (a *API) Handle(pattern string, h http.Handler) { a.operator.Handle(pattern, h) }

// Authenticate tells who sent a request, by the rule the API itself goes by:
// handlers of operator's paths use it to keep accounts apart. It may read the
// request's body, of at most 1 MiB, and then replaces it.
func (a *API) Authenticate(r *http.Request) (Caller, error) {
	caller, err := a.authenticate(r)
	if err == nil && caller.Prove != nil {
		err = proveSmall(r, &caller)
	}
	if err != nil {
		return Caller{}, err
	}
	return caller, nil
}

// EndStreams ends the answers that would go on for ever, such as a log that is
// followed, and those still to come at once. All other requests go on.
func (a *API) EndStreams() { a.endStreams() }

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := call{w: w, r: r, id: newRequestID(), received: a.now(), buffers: &a.buffers}
	w.Header()[headerRequestID] = []string{string(c.id)}
	defer func() { a.release(&c, c.reserved) }()
	var err error
	if a.guard != nil {
		err = a.guard.check(r)
	}
	if err == nil {
		c.values, err = readQuery(r)
	}
	if err != nil {
		c.drain()
		a.writeError(w, r, "", err)
		return
	}
	if strings.HasPrefix(r.URL.Path, operatorPrefix) {
		if clean := path.Clean(r.URL.Path); strings.TrimSuffix(r.URL.Path, "/") != clean {
			a.unknownOperatorPath(w, r) // the mux would send the caller elsewhere, in HTML
			return
		}
		a.operator.ServeHTTP(w, r)
		return
	}
	if name, err := a.serve(&c); err != nil {
		a.writeError(w, r, name, err)
	}
}

// serve finds the operation, does it and names it. The answer is written where
// it returns no error.
func (a *API) serve(c *call) (name string, err error) {
	path, ok := splitPath(c.r.URL)
	var rt *route
	if ok {
		rt = a.routes.find(c.r.Method, &path, c.values)
	}
	if rt == nil {
		c.drain()
		return "", unknownOperation(c.r)
	}
	for i, at := range rt.params {
		c.params[i] = path.part[at]
	}
	if c.caller, err = a.authenticate(c.r); err != nil {
		c.drain()
		return rt.name, err
	}
	if c.caller.Prove != nil {
		if err := a.prove(c, rt.name); err != nil {
			return rt.name, err
		}
	}
	if err := a.admit(c, rt); err != nil {
		c.drain()
		return rt.name, err
	}
	if rt.handler == nil {
		c.drain()
		return rt.name, notImplemented(rt.name)
	}
	return rt.name, rt.handler(a, c)
}

// A handler does one operation: it answers on c and returns nil, or it answers
// nothing and returns an error.
type handler func(a *API, c *call) error

// A call is one request on its way through an operation.
type call struct {
	w        http.ResponseWriter
	r        *http.Request
	id       lambent.RequestID
	received time.Time
	caller   Caller
	values   url.Values // of the query: one each
	params   [3]string  // of the path, in its order
	reserved int64      // bytes of the body budget
	read     bool       // the body was read to prove the caller, and is payload
	payload  []byte
	buffers  *buffers // nil: none are kept
}

// query returns a parameter of the query, nil where it is not there.
func (c *call) query(name string) *string {
	if given := c.values[name]; len(given) > 0 {
		return &given[0]
	}
	return nil
}

func (c *call) reply(status int, answer any) error {
	body := c.buffers.take()
	encodeJSON(c.w, body, status, answer)
	c.buffers.give(body)
	return nil
}

// buffers keeps what answers were encoded in for the next ones. A page of a list
// is 60 KB: made anew for each, they would have the collector look through all
// functions at every fiftieth call.
type buffers struct{ pool sync.Pool }

func (b *buffers) take() *bytes.Buffer {
	if b != nil {
		if buffer, ok := b.pool.Get().(*bytes.Buffer); ok {
			return buffer
		}
	}
	return new(bytes.Buffer)
}

func (b *buffers) give(buffer *bytes.Buffer) {
	const most = 256 << 10 // bytes; a longer answer is a rare one
	if b != nil && buffer.Cap() <= most {
		buffer.Reset()
		b.pool.Put(buffer)
	}
}

func unknownOperation(r *http.Request) error {
	path := r.URL.EscapedPath()
	if len(path) > 200 {
		path = path[:200] + "…"
	}
	return &lambent.Error{Op: "route", Kind: lambent.KindNotFound, Reason: "UnknownOperationException",
		Message: r.Method + " " + strings.ToValidUTF8(path, "") + " is not an operation of the AWS Lambda API"}
}

func notImplemented(operation string) error {
	return &lambent.Error{Op: operation, Kind: lambent.KindUnsupported,
		Message: "lambent does not implement the operation " + operation + " yet"}
}
