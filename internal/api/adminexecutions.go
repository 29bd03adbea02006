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

	"lambent"
	"lambent/internal/obs"
)

// Executions is what the admin paths show of the execution records. Safe for
// concurrent use.
type Executions interface {
	// Newest delivers the records that are wanted, the newest first.
	Newest(ctx context.Context, want obs.Query, deliver func(*obs.Execution) error) error
}

// How many records one answer has.
const (
	defaultExecutions = 100
	maxExecutions     = 100_000 // as many as are kept by default; 50 MB of JSON
)

// executionDoc is one execution. What does not apply is empty; times that never
// came are null.
type executionDoc struct {
	RequestID lambent.RequestID    `json:"request_id"`
	Account   lambent.AccountID    `json:"account"`
	Function  lambent.FunctionName `json:"function"`
	Version   lambent.Version      `json:"version"`
	// InvocationType is AWS's: Event for an asynchronous call, else RequestResponse.
	InvocationType string `json:"invocation_type"`
	// What it was for, the same as version but where other code stood in for it;
	// only there are the hashes of both.
	RequestedVersion lambent.Version     `json:"requested_version"`
	Code             lambent.CodeHash    `json:"code_sha256,omitempty"`
	RequestedCode    lambent.CodeHash    `json:"requested_code_sha256,omitempty"`
	ReceivedAt       *time.Time          `json:"received_at"`
	ExecStartedAt    *time.Time          `json:"exec_started_at"` // null: it was never handed its event
	FinishedAt       *time.Time          `json:"finished_at"`
	StartKind        lambent.StartKind   `json:"start_kind"` // empty: no container was found
	Reason           string              `json:"reason"`
	Pool             string              `json:"pool"` // configuration of the warming pool its instance is from; empty: from none
	InstanceID       lambent.InstanceID  `json:"instance_id"`
	ContainerID      lambent.ContainerID `json:"container_id"`
	MemoryMB         int                 `json:"memory_mb"`
	MaxMemoryUsedMB  int                 `json:"max_memory_used_mb"`
	CPUMillis        float64             `json:"cpu_ms"` // 0: not measured
	Status           string              `json:"status"` // lambent.Outcome's names
	Error            string              `json:"error"`
}

func newExecutionDoc(e *obs.Execution) executionDoc {
	when := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	doc := executionDoc{
		RequestID: e.RequestID, Account: e.Account, Function: e.Function, Version: e.Version,
		ReceivedAt: when(e.ReceivedAt), ExecStartedAt: when(e.ExecStartedAt), FinishedAt: when(e.FinishedAt),
		StartKind: e.StartKind, Reason: e.Reason, Pool: e.Pool, InstanceID: e.Instance, ContainerID: e.Container,
		MemoryMB: e.MemoryMB, MaxMemoryUsedMB: e.MaxMemoryUsedMB, CPUMillis: float64(e.CPU) / float64(time.Millisecond),
		InvocationType: invocationType(e.Asynchronous),
		Status:         e.Outcome.String(), Error: e.Error, RequestedVersion: e.Version,
	}
	if e.StoodIn() {
		doc.RequestedVersion, doc.Code, doc.RequestedCode = e.RequestedVersion, e.Code, e.RequestedCode
	}
	return doc
}

func invocationType(asynchronous bool) string {
	if asynchronous {
		return "Event"
	}
	return "RequestResponse"
}

// HandleExecutions serves GET /_lambent/v1/executions: the execution records, the
// newest first; the operator's are all accounts', an account's its own. Query:
// function, request_id, account, limit.
func (a *API) HandleExecutions(executions Executions) {
	a.Handle("GET /_lambent/v1/executions", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.serveExecutions(w, r, executions); err != nil {
			a.writeError(w, r, "", err)
		}
	}))
}

// serveExecutions returns an error only while nothing was written. An answer
// may be large, so it goes out as it is read.
func (a *API) serveExecutions(w http.ResponseWriter, r *http.Request, executions Executions) error {
	caller, err := a.Admit(r, "lambent:ListExecutions", "*")
	if err != nil {
		return err
	}
	want, err := executionQuery(r.URL.Query(), caller)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 32<<10)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	before := byte('[')
	err = executions.Newest(r.Context(), want, func(e *obs.Execution) error {
		if err := out.WriteByte(before); err != nil {
			return err
		}
		before = ','
		return enc.Encode(newExecutionDoc(e))
	})
	if err != nil {
		return nil // the caller went away, and nobody else: the store does not fail
	}
	if before == '[' {
		_ = out.WriteByte('[') // errors of a bufio.Writer stay until Flush
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush() // a caller that went away needs no answer
	return nil
}

// executionQuery reads a query. An account asks for its own.
func executionQuery(given url.Values, caller Caller) (obs.Query, error) {
	want := obs.Query{Limit: defaultExecutions, RequestID: lambent.RequestID(given.Get("request_id"))}
	for name := range given {
		switch {
		case name == "function", name == "request_id", name == "account", name == "limit", strings.HasPrefix(name, "X-Amz-"):
		default:
			return want, badExecutionQuery("There is no parameter %s here: there are function, request_id, account and limit", quote(name))
		}
	}
	if text, is := first(given, "limit"); is {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxExecutions {
			return want, badExecutionQuery("limit is %s; it must be a whole number from 1 to %d (without it: %d)", quote(text), maxExecutions, defaultExecutions)
		}
		want.Limit = n
	}
	if text, is := first(given, "function"); is {
		ref, err := lambent.ParseFunctionRef(text)
		if err != nil || string(ref.Name) != text {
			return want, badExecutionQuery("function is %s; it must be a function's name alone: letters, digits, - and _, at most 64", quote(text))
		}
		want.Function = ref.Name
	}
	if !caller.Operator {
		want.Account = caller.Account
	}
	if text, is := first(given, "account"); is {
		if !lambent.IsAccountID(text) {
			return want, badExecutionQuery("account is %s; it must be 12 digits", quote(text))
		}
		if !caller.Operator && text != string(caller.Account) {
			return want, &lambent.Error{Op: "list executions", Kind: lambent.KindDenied,
				Message: fmt.Sprintf("Account %s may not see the executions of account %s; the operator may", caller.Account, text)}
		}
		want.Account = lambent.AccountID(text)
	}
	return want, nil
}

func first(values url.Values, name string) (string, bool) {
	if all, is := values[name]; is && len(all) > 0 {
		return all[0], true
	}
	return "", false
}

func badExecutionQuery(format string, args ...any) error {
	return &lambent.Error{Op: "list executions", Kind: lambent.KindInvalid, Message: fmt.Sprintf(format, args...)}
}
