package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"lambent"
	"lambent/internal/functionlog"
)

// FunctionLogs is what the admin paths show of the logs. Safe for concurrent
// use.
type FunctionLogs interface {
	Read(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, want functionlog.Filter) ([]functionlog.Entry, error)
	Follow(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, want functionlog.Filter, deliver func(functionlog.Entry) error) error
}

// logDoc is one line of the answer: newline-delimited JSON.
type logDoc struct {
	Time      time.Time         `json:"time"`
	Stream    string            `json:"stream"`
	RequestID lambent.RequestID `json:"request_id"`
	Text      string            `json:"text"`
}

// HandleLogs serves GET /_lambent/v1/functions/{name}/logs: the log of the
// caller's function, oldest first. Query: request_id, since (RFC 3339), and
// follow=1 to go on with what comes.
func (a *API) HandleLogs(logs FunctionLogs) {
	a.Handle("GET /_lambent/v1/functions/{name}/logs", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.serveLogs(w, r, logs); err != nil {
			a.writeError(w, r, "", err)
		}
	}))
}

// serveLogs returns an error only while nothing was written.
func (a *API) serveLogs(w http.ResponseWriter, r *http.Request, logs FunctionLogs) error {
	caller, err := a.Authenticate(r)
	if err != nil {
		return err
	}
	const operation = "GetFunctionLogs"
	var v violations
	a.checkName(&v, r.PathValue("name"), a.shapes.functionName, nil)
	if err := v.err(); err != nil {
		return err
	}
	ref, err := a.target(caller, operation, r.PathValue("name"), nil)
	if err != nil {
		return err
	}
	// The log is the function's, with all its versions, however it is named.
	arn := lambent.FunctionARN(a.region, ref.Account, ref.Name, "")
	if err := a.authorize(&call{r: r, caller: caller, received: a.now()}, "lambent:GetFunctionLogs", arn, ref.Account, nil); err != nil {
		return err
	}
	if _, err := a.functions.Function(ref.Account, ref.Name, ref.Qualifier); err != nil {
		return err
	}
	query := r.URL.Query()
	want := functionlog.Filter{RequestID: lambent.RequestID(query.Get("request_id"))}
	if s := query.Get("since"); s != "" {
		if want.Since, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return &lambent.Error{Op: "read logs", Kind: lambent.KindInvalid, Message: "since must be a time as in 2006-01-02T15:04:05Z (RFC 3339)", Err: err}
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	write := func(e functionlog.Entry) error {
		return out.Encode(logDoc{Time: e.Time, Stream: e.Stream, RequestID: e.RequestID, Text: e.Text})
	}
	if query.Get("follow") != "1" {
		entries, err := logs.Read(r.Context(), ref.Account, ref.Name, want)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if write(e) != nil {
				return nil // the caller went away
			}
		}
		return nil
	}
	flusher := http.NewResponseController(w)
	// Headers go out at once: the caller sees that it follows.
	if err := errors.Join(flusher.SetWriteDeadline(time.Time{}), flusher.Flush()); err != nil {
		return nil // the caller went away
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(a.streams, cancel)()
	_ = logs.Follow(ctx, ref.Account, ref.Name, want, func(e functionlog.Entry) error {
		return errors.Join(write(e), flusher.Flush())
	}) // ends when the caller, or the server, goes away: nobody is left to be told
	return nil
}
