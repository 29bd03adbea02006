package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lambent"
	"lambent/internal/failures"
)

// Failures is what the admin paths need of whoever keeps failures: see
// failures.Store. Safe for concurrent use.
type Failures interface {
	Find(f failures.Filter, limit int) *failures.Page
	Get(ctx context.Context, k failures.Key) (*failures.Record, error)
	Locate(id lambent.RequestID) []failures.Key
	Edit(ctx context.Context, k failures.Key, by failures.Edit, what string) (*failures.Record, error)
	Delete(ctx context.Context, k failures.Key) error
	Redrive(ctx context.Context, k failures.Key, to *failures.Target) error
	RedriveAll(ctx context.Context, f failures.Filter, by failures.Batch) (failures.Progress, error)
	Newest() uint64
}

// failureDoc is one failure. Times that do not apply are null.
type failureDoc struct {
	RequestID      lambent.RequestID    `json:"request_id"`
	Account        lambent.AccountID    `json:"account"`
	Function       lambent.FunctionName `json:"function"`
	Qualifier      string               `json:"qualifier"` // as the caller named it; empty: $LATEST
	Version        lambent.Version      `json:"version"`   // that served last; empty: none did
	Reason         failures.Reason      `json:"reason"`
	Error          failures.Error       `json:"error"`
	Attempts       int                  `json:"attempts"`
	FirstAt        *time.Time           `json:"first_at"`
	LastAt         *time.Time           `json:"last_at"`
	Redrives       int                  `json:"redrives"`
	RedrivingSince *time.Time           `json:"redriving_since"` // null: it is not in the queue
	RedriveBy      string               `json:"redrive_by,omitempty"`
	payloadDoc
	Response      json.RawMessage   `json:"response,omitempty"` // what the function answered, where that was the failure
	ClientContext string            `json:"client_context,omitempty"`
	TraceID       string            `json:"trace_id,omitempty"`
	TenantID      string            `json:"tenant_id,omitempty"`
	Origin        string            `json:"origin,omitempty"` // empty: a caller
	Urgency       string            `json:"urgency,omitempty"`
	Deadline      *time.Time        `json:"deadline,omitempty"`
	Actions       []failures.Action `json:"actions"`
	Original      *originalDoc      `json:"original,omitempty"` // before it was edited
}

// payloadDoc is a payload: as it is where it is JSON.
type payloadDoc struct {
	Payload json.RawMessage `json:"payload"`
	Base64  []byte          `json:"payload_base64,omitempty"` // where it is not
}

type originalDoc struct {
	Function  lambent.FunctionName `json:"function"`
	Qualifier string               `json:"qualifier"`
	payloadDoc
}

func newPayloadDoc(payload []byte) payloadDoc {
	switch {
	case len(payload) == 0:
		return payloadDoc{Payload: json.RawMessage("null")}
	case json.Valid(payload) && utf8.Valid(payload): // Go takes JSON of other encodings, readers of JSON do not
		return payloadDoc{Payload: payload}
	}
	return payloadDoc{Payload: json.RawMessage("null"), Base64: payload}
}

func newFailureDoc(r *failures.Record, payload bool) failureDoc {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	doc := failureDoc{
		RequestID: r.RequestID, Account: r.Account, Function: r.Function, Qualifier: r.Qualifier, Version: r.Version, Reason: r.Reason, Error: r.Error,
		Attempts: r.Attempts, FirstAt: when(r.FirstAt), LastAt: when(r.LastAt), Redrives: r.Redrives, RedrivingSince: when(r.Redriving), RedriveBy: r.RedriveBy,
		ClientContext: r.ClientContext, TraceID: r.TraceID, TenantID: r.TenantID, Origin: r.Origin, Urgency: r.Urgency, Deadline: when(r.Deadline),
		Actions: r.Actions, payloadDoc: newPayloadDoc(nil),
	}
	if doc.Actions == nil {
		doc.Actions = []failures.Action{}
	}
	if !payload {
		return doc
	}
	doc.payloadDoc = newPayloadDoc(r.Payload)
	if len(r.Response) > 0 {
		if doc.Response = r.Response; !json.Valid(r.Response) || !utf8.Valid(r.Response) { // as when it was cut
			doc.Response, _ = json.Marshal(string(r.Response)) // a string can be encoded
		}
	}
	if o := r.Original; o != nil {
		doc.Original = &originalDoc{o.Function, o.Qualifier, newPayloadDoc(o.Payload)}
	}
	return doc
}

// HandleFailures serves the failure store below /_lambent/v1/failures: GET lists,
// the newest first; {id} is one, by its request id: GET shows it, PUT edits it,
// DELETE removes it, POST {id}/redrive redrives it; POST redrive redrives many.
// The operator's are all accounts', an account's its own.
func (a *API) HandleFailures(store Failures) {
	h := failuresDoor{a, store}
	const path = "/_lambent/v1/failures"
	a.Handle("GET "+path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.list(w, r); err != nil {
			a.writeError(w, r, "", err)
		}
	}))
	for pattern, serve := range map[string]func(*visit) (int, any, error){
		"GET " + path + "/{id}":          h.get,
		"PUT " + path + "/{id}":          h.edit,
		"DELETE " + path + "/{id}":       h.remove,
		"POST " + path + "/{id}/redrive": h.redrive,
		"POST " + path + "/redrive":      h.redriveAll,
	} {
		a.Handle(pattern, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			v := &visit{Request: r}
			var status int
			var answer any
			var err error
			if v.caller, err = a.Authenticate(r); err == nil {
				status, answer, err = serve(v)
			}
			switch {
			case err != nil:
				a.writeError(w, r, pattern, err)
			case answer == nil:
				w.WriteHeader(status)
			default:
				writeJSON(w, status, answer)
			}
		}))
	}
}

type failuresDoor struct {
	api   *API
	store Failures
}

// may refuses a caller who may not do an action with a function's failures.
// function "*" is all of an account's.
func (h failuresDoor) may(v *visit, action string, account lambent.AccountID, function lambent.FunctionName) error {
	if v.caller.Operator {
		return nil
	}
	if account != v.caller.Account {
		return notYours(fmt.Sprintf("Account %s may not touch the failures of account %s; the operator may", v.caller.Account, account))
	}
	c := &call{r: v.Request, caller: v.caller, received: h.api.now()}
	return h.api.authorize(c, action, lambent.FunctionARN(h.api.region, account, function, ""), account, nil)
}

// How many failures one answer has.
const (
	defaultFailures = 100
	maxFailures     = 100_000
)

// headerNext tells the before of the failures that follow those of an answer.
const headerNext = "X-Lambent-Next"

// list returns an error only while nothing was written. An answer may be large, so
// it goes out as it is read.
func (h failuresDoor) list(w http.ResponseWriter, r *http.Request) error {
	caller, err := h.api.Authenticate(r)
	if err != nil {
		return err
	}
	f, limit, payload, err := failureQuery(r.URL.Query(), caller)
	if err != nil {
		return err
	}
	function := f.Function
	if function == "" {
		function = "*"
	}
	if err := h.may(&visit{Request: r, caller: caller}, "lambent:ListFailures", f.Account, function); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	page := h.store.Find(f, limit)
	if page.Next > 0 {
		w.Header().Set(headerNext, strconv.FormatUint(page.Next, 10))
	}
	out := bufio.NewWriterSize(w, 32<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	before := byte('[')
	err = page.Each(r.Context(), func(record *failures.Record) error {
		if err := out.WriteByte(before); err != nil {
			return err
		}
		before = ','
		return enc.Encode(newFailureDoc(record, payload))
	})
	if err != nil {
		if before == '[' {
			return err
		}
		panic(http.ErrAbortHandler) // half a list must not look like a whole one
	}
	if before == '[' {
		_ = out.WriteByte('[') // errors of a bufio.Writer stay until Flush
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush() // a caller that went away needs no answer
	return nil
}

func badFailureQuery(format string, args ...any) error {
	return &lambent.Error{Op: "list failures", Kind: lambent.KindInvalid, Message: fmt.Sprintf(format, args...)}
}

// failureQuery reads a query. An account asks for its own.
func failureQuery(given url.Values, caller Caller) (f failures.Filter, limit int, payload bool, err error) {
	limit, payload = defaultFailures, true
	var of filterDoc
	for name := range given {
		value, _ := first(given, name)
		switch {
		case name == "function":
			of.Function = value
		case name == "account":
			of.Account = value
		case name == "reason":
			of.Reason = value
		case name == "since":
			of.Since = value
		case name == "limit":
			if limit, err = strconv.Atoi(value); err != nil || limit < 1 || limit > maxFailures {
				return f, 0, false, badFailureQuery("limit is %s; it must be a whole number from 1 to %d (without it: %d)", quote(value), maxFailures, defaultFailures)
			}
		case name == "before":
			if f.Before, err = strconv.ParseUint(value, 10, 64); err != nil || f.Before == 0 {
				return f, 0, false, badFailureQuery("before is %s; it must be the %s of the answer before", quote(value), headerNext)
			}
		case name == "payload":
			if payload, err = strconv.ParseBool(value); err != nil {
				return f, 0, false, badFailureQuery("payload is %s; it must be true or false", quote(value))
			}
		case strings.HasPrefix(name, "X-Amz-"):
		default:
			return f, 0, false, badFailureQuery("There is no parameter %s here: there are function, account, reason, since, limit, before and payload", quote(name))
		}
	}
	read, err := of.read(caller)
	read.Before = f.Before
	return read, limit, payload, err
}

// filterDoc says which failures are meant; what is empty allows all.
type filterDoc struct {
	Account  string `json:"account"`
	Function string `json:"function"`
	Reason   string `json:"reason"`
	Since    string `json:"since"` // RFC 3339
}

func (d filterDoc) read(caller Caller) (f failures.Filter, err error) {
	if d.Function != "" {
		ref, err := lambent.ParseFunctionRef(d.Function)
		if err != nil || string(ref.Name) != d.Function {
			return f, badFailureQuery("function is %s; it must be a function's name alone: letters, digits, - and _, at most 64", quote(d.Function))
		}
		f.Function = ref.Name
	}
	if d.Reason != "" {
		known := false
		var names []string
		for _, r := range failures.Reasons() {
			known = known || string(r) == d.Reason
			names = append(names, string(r))
		}
		if !known {
			return f, badFailureQuery("reason is %s; it must be one of %s", quote(d.Reason), strings.Join(names, ", "))
		}
		f.Reason = failures.Reason(d.Reason)
	}
	if d.Since != "" {
		if f.Since, err = time.Parse(time.RFC3339, d.Since); err != nil {
			return f, badFailureQuery("since is %s; it must be a time of RFC 3339, such as 2026-12-24T18:00:00Z", quote(d.Since))
		}
	}
	if !caller.Operator {
		f.Account = caller.Account
	}
	if d.Account != "" {
		if !lambent.IsAccountID(d.Account) {
			return f, badFailureQuery("account is %s; it must be 12 digits", quote(d.Account))
		}
		if !caller.Operator && d.Account != string(caller.Account) {
			return f, notYours(fmt.Sprintf("Account %s may not see the failures of account %s; the operator may", caller.Account, d.Account))
		}
		f.Account = lambent.AccountID(d.Account)
	}
	return f, nil
}
