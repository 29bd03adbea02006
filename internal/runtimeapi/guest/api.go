package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"lambent/internal/runtimeapi/frame"
)

// version is the path prefix of the one version of the Runtime API.
const version = "/2018-06-01"

// Host is where the API takes its events from and gives the answers to; a Conn
// is one.
type Host interface {
	NextEvent() (*frame.Event, error)
	Ready() error
	InitError(errorType string, body []byte) error
	Respond(id string, payload []byte) error
	Fail(id, errorType string, body []byte) error
	Begin(id, contentType string) error
	Chunk(b []byte) error
	End(errorType string, body []byte) error
}

// API serves the Runtime API 2018-06-01 to one runtime: an http.Handler over a
// host. Run feeds it.
type API struct {
	credentials *frame.Credentials // nil: none

	host   Host
	events chan *frame.Event // at most one: the host sends none before Ready

	mu sync.Mutex
	// +checklocks:mu
	state apiState
	// +checklocks:mu
	event *frame.Event // the event that is or was running; nil before the first
}

// NewAPI makes the API over a host.
func NewAPI(host Host) *API {
	return &API{host: host, events: make(chan *frame.Event, 1)}
}

// Run takes events from the host until it is gone, which is io.EOF.
func (a *API) Run() error {
	for {
		e, err := a.host.NextEvent()
		if err != nil {
			return err
		}
		select {
		case a.events <- e:
		default:
			return fmt.Errorf("event %s came while another one waits", e.RequestID)
		}
	}
}

// ServeHTTP serves the routes of the Runtime API.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == CredentialsPath {
		a.serveCredentials(w, r)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, version)
	if !ok {
		http.NotFound(w, r)
		return
	}
	switch path {
	case "/ping":
		if allow(w, r, http.MethodGet) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, "pong")
		}
	case "/runtime/invocation/next":
		if allow(w, r, http.MethodGet) {
			a.next(w, r)
		}
	case "/runtime/init/error":
		if allow(w, r, http.MethodPost) {
			a.initError(w, r)
		}
	default:
		a.answer(w, r, path)
	}
}

// answer serves /runtime/invocation/ID/response and .../error.
func (a *API) answer(w http.ResponseWriter, r *http.Request, path string) {
	rest, ok := strings.CutPrefix(path, "/runtime/invocation/")
	id, verb, found := strings.Cut(rest, "/")
	if !ok || !found || (verb != "response" && verb != "error") {
		http.NotFound(w, r)
		return
	}
	if !allow(w, r, http.MethodPost) {
		return
	}
	// The id is checked before the state.
	a.mu.Lock()
	current := ""
	if a.event != nil {
		current = a.event.RequestID
	}
	a.mu.Unlock()
	if id == "" || id != current {
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	}
	if verb == "response" {
		a.response(w, r, id)
	} else {
		a.failure(w, r, id)
	}
}

// next hands out the next event, waiting for it without limit. A runtime that
// asks again while it has one is given that again.
func (a *API) next(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	switch a.state {
	case apiRunning:
		e := a.event
		a.mu.Unlock()
		writeEvent(w, e)
		return
	case apiReady: // asked before, and waits or went away
		a.mu.Unlock()
	default:
		err := a.changeState(apiReady)
		a.mu.Unlock()
		if err != nil {
			refuseState(w, err)
			return
		}
		if a.host.Ready() != nil {
			refuse(w, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
			return
		}
	}
	select {
	case e := <-a.events:
		a.mu.Lock()
		err := a.changeState(apiRunning)
		a.event = e
		a.mu.Unlock()
		if err != nil {
			refuseState(w, err)
			return
		}
		writeEvent(w, e)
	case <-r.Context().Done():
	}
}

// response takes an answer.
func (a *API) response(w http.ResponseWriter, r *http.Request, id string) {
	if !a.to(w, apiInvocationResponse) {
		return
	}
	switch mode := r.Header.Get("Lambda-Runtime-Function-Response-Mode"); mode {
	case "", "streaming":
	default:
		a.sent(a.host.Fail(id, "Runtime.InvalidResponseModeHeader", errorJSON("Runtime.InvalidResponseModeHeader",
			"The response mode "+strconv.Quote(mode)+" is not one the Runtime API knows.")))
		refuse(w, http.StatusBadRequest, "InvalidFunctionResponseMode", "Invalid function response mode")
		return
	}
	if a.streams() {
		a.stream(w, r, id)
		return
	}
	body, err := readBody(r)
	if err != nil {
		a.badBody(w, r, id, err)
		return
	}
	// Who sends an answer in chunks may find out at its end that it failed.
	if typ := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); typ != "" {
		a.accept(w, a.host.Fail(id, cleanErrorType(typ), trailerBody(r, typ)))
		return
	}
	a.accept(w, a.host.Respond(id, body))
}

// streams reports whether the answer is to be handed on as it comes: that is up
// to the function's caller. Whether the runtime calls its answer streamed makes
// no difference, as at AWS; aws-lambda-go, for one, never does.
func (a *API) streams() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.event != nil && a.event.Streamed
}

// streamPiece is how much of a streamed answer is handed on at once, at most.
const streamPiece = 32 << 10

// stream hands an answer on as it comes, and no faster than it is taken: the
// runtime's connection is read only when the host has taken what came before.
func (a *API) stream(w http.ResponseWriter, r *http.Request, id string) {
	sent := a.host.Begin(id, r.Header.Get("Content-Type"))
	piece := make([]byte, streamPiece)
	var came error
	for sent == nil && came == nil {
		var n int
		if n, came = r.Body.Read(piece); n > 0 {
			sent = a.host.Chunk(piece[:n])
		}
	}
	if sent != nil {
		a.accept(w, sent)
		return
	}
	if came != io.EOF {
		a.sent(a.host.End("Runtime.TruncatedResponse", truncated()))
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
		return
	}
	// A streamed answer may find out at its end that it failed.
	if typ := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); typ != "" {
		a.accept(w, a.host.End(cleanErrorType(typ), trailerBody(r, typ)))
		return
	}
	a.accept(w, a.host.End("", nil))
}

// truncated is what a caller is told of an answer that was cut short.
func truncated() []byte {
	return errorJSON("Runtime.TruncatedResponse", "The runtime's answer was cut short.")
}

// failure takes an error in place of an answer.
func (a *API) failure(w http.ResponseWriter, r *http.Request, id string) {
	if !a.to(w, apiInvocationErrorResponse) {
		return
	}
	body, err := readBody(r)
	if err != nil {
		a.badBody(w, r, id, err)
		return
	}
	if r.Header.Get("Content-Type") == "application/vnd.aws.lambda.error.cause+json" {
		body = withoutCause(body)
	}
	a.accept(w, a.host.Fail(id, cleanErrorType(r.Header.Get("Lambda-Runtime-Function-Error-Type")), body))
}

// initError takes the report of a runtime that cannot run the code.
func (a *API) initError(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if errors.Is(err, errTooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", tooLargeMessage())
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
		return
	}
	if !a.to(w, apiInitError) {
		return
	}
	if a.host.InitError(cleanErrorType(r.Header.Get("Lambda-Runtime-Function-Error-Type")), body) != nil {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
		return
	}
	accepted(w)
}

// badBody answers for a body that could not be taken. The event is over all the
// same: its caller is told.
func (a *API) badBody(w http.ResponseWriter, r *http.Request, id string, err error) {
	if errors.Is(err, errTooLarge) {
		a.sent(a.host.Fail(id, "Function.ResponseSizeTooLarge", errorJSON("Function.ResponseSizeTooLarge",
			fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", frame.MaxPayload))))
		_, _ = io.Copy(io.Discard, r.Body) // a client that is still sending would not see the refusal
		refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", tooLargeMessage())
		return
	}
	a.sent(a.host.Fail(id, "Runtime.TruncatedResponse", truncated()))
	refuse(w, http.StatusBadRequest, "TruncatedHTTPRequest", "HTTP request detected as truncated")
}

// accept ends an event whose answer was handed to the host, or could not be.
func (a *API) accept(w http.ResponseWriter, err error) {
	if !a.sent(err) {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
		return
	}
	accepted(w)
}

// sent moves to ResponseSent and reports whether the host took the answer.
func (a *API) sent(err error) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changeState(apiResponseSent) == nil && err == nil
}

// to changes the state, or refuses the request.
func (a *API) to(w http.ResponseWriter, to apiState) bool {
	a.mu.Lock()
	err := a.changeState(to)
	a.mu.Unlock()
	if err != nil {
		refuseState(w, err)
	}
	return err == nil
}

// changeState is the only writer of the state. An edge that does not exist is a
// mistake of the runtime, so it is an error here and not a panic.
//
// +checklocks:a.mu
func (a *API) changeState(to apiState) error {
	if !a.state.canBecome(to) {
		return &transitionError{a.state, to}
	}
	a.state = to
	return nil
}

// transitionError is a call of the runtime that its state does not allow.
type transitionError struct{ from, to apiState }

// Error is AWS's text.
func (e *transitionError) Error() string {
	return fmt.Sprintf("State transition from %s to %s failed for runtime. Error: State transition is not allowed", e.from, e.to)
}

// writeEvent answers /next.
func writeEvent(w http.ResponseWriter, e *frame.Event) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", e.RequestID)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(e.DeadlineMillis, 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", e.InvokedARN)
	for name, value := range map[string]string{
		"Lambda-Runtime-Trace-Id": e.TraceID, "Lambda-Runtime-Client-Context": e.ClientContext,
		"Lambda-Runtime-Cognito-Identity": e.CognitoIdentity, "Lambda-Runtime-Aws-Tenant-Id": e.TenantID,
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(e.Payload)))
	_, _ = w.Write(e.Payload) // a runtime that is gone is noticed by its exit
}

// allow refuses methods other than the one.
func allow(w http.ResponseWriter, r *http.Request, method string) bool {
	if r.Method == method {
		return true
	}
	w.Header().Set("Allow", method)
	w.WriteHeader(http.StatusMethodNotAllowed)
	return false
}

func accepted(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`+"\n")
}

// refuseState answers 403 with the refusal of changeState.
func refuseState(w http.ResponseWriter, err error) {
	refuse(w, http.StatusForbidden, "InvalidStateTransition", err.Error())
}

func refuse(w http.ResponseWriter, status int, errorType, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(refusal(errorType, message), '\n'))
}

// refusal is the body of an error of the API itself.
func refusal(errorType, message string) []byte {
	b, err := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, errorType})
	if err != nil {
		return []byte("{}") // cannot be: two strings
	}
	return b
}
