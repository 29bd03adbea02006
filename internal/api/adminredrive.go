package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lambent"
	"lambent/internal/failures"
)

// find finds the failure a path names, for a caller who may do an action with it.
func (h failuresDoor) find(v *visit, action string) (*failures.Record, error) {
	k := failures.Key{Account: v.caller.Account, RequestID: lambent.RequestID(v.PathValue("id"))}
	if account, is := first(v.URL.Query(), "account"); is {
		k.Account = lambent.AccountID(account)
	} else if v.caller.Operator {
		if keys := h.store.Locate(k.RequestID); len(keys) > 0 {
			k = keys[0]
		}
	}
	if !v.caller.Operator && k.Account != v.caller.Account {
		return nil, h.may(v, action, k.Account, "*")
	}
	r, err := h.store.Get(v.Context(), k)
	if err != nil {
		return nil, err
	}
	return r, h.may(v, action, r.Account, r.Function)
}

func (h failuresDoor) get(v *visit) (int, any, error) {
	r, err := h.find(v, "lambent:GetFailure")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newFailureDoc(r, true), nil
}

func (h failuresDoor) remove(v *visit) (int, any, error) {
	r, err := h.find(v, "lambent:DeleteFailure")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, h.store.Delete(v.Context(), r.Key)
}

// editDoc is what is to be another of a failure. What is not there stays.
type editDoc struct {
	Function  string          `json:"function"`  // a name, perhaps with a version or alias
	Qualifier *string         `json:"qualifier"` // of a function that is named without; "" is $LATEST
	Payload   json.RawMessage `json:"payload"`
}

// target is the function that a document names for a failure, nil where it names
// none. It must be there, and the caller be allowed to call it.
func (h failuresDoor) target(v *visit, account lambent.AccountID, function string, qualifier *string, otherwise *failures.Record) (*failures.Target, error) {
	const operation = "RedriveFailure"
	var to failures.Target
	switch {
	case function != "":
		if account == "" {
			return nil, invalid(operation, "Say whose failures are to go to another function: filter.account.")
		}
		as := v.caller
		as.Account = account
		var violations violations
		h.api.checkName(&violations, function, h.api.shapes.functionName, nil)
		if err := violations.err(); err != nil {
			return nil, err
		}
		ref, err := h.api.target(as, operation, function, nil)
		if err != nil {
			return nil, err
		}
		to = failures.Target{Function: ref.Name, Qualifier: ref.Qualifier}
		if qualifier != nil {
			to.Qualifier = *qualifier
		}
	case qualifier != nil && otherwise != nil:
		to = failures.Target{Function: otherwise.Function, Qualifier: *qualifier}
	default:
		return nil, nil
	}
	if to.Qualifier == string(lambent.Latest) {
		to.Qualifier = ""
	}
	if _, err := h.api.functions.Function(account, to.Function, to.Qualifier); err != nil {
		return nil, err
	}
	return &to, h.may(v, "lambda:InvokeFunction", account, to.Function)
}

// change edits a failure as a document says; nothing where it says nothing.
func (h failuresDoor) change(v *visit, r *failures.Record, in editDoc) (*failures.Record, error) {
	to, err := h.target(v, r.Account, in.Function, in.Qualifier, r)
	if err != nil {
		return r, err
	}
	edit := failures.Edit{Payload: in.Payload}
	var what []string
	if in.Payload != nil {
		what = append(what, "payload")
	}
	if to != nil && (to.Function != r.Function || to.Qualifier != r.Qualifier) {
		edit.Function, edit.Qualifier = &to.Function, &to.Qualifier
		what = append(what, fmt.Sprintf("function from %s to %s", qualified(r.Function, r.Qualifier), qualified(to.Function, to.Qualifier)))
	}
	if len(what) == 0 {
		return r, nil
	}
	return h.store.Edit(v.Context(), r.Key, edit, "edited by "+h.who(v)+": "+strings.Join(what, ", "))
}

func qualified(function lambent.FunctionName, qualifier string) string {
	if qualifier == "" {
		qualifier = string(lambent.Latest)
	}
	return string(function) + ":" + qualifier
}

// who names a caller to people.
func (h failuresDoor) who(v *visit) string {
	if v.caller.Operator {
		return "the operator"
	}
	return v.caller.Principal.ARN
}

func (h failuresDoor) edit(v *visit) (int, any, error) {
	r, err := h.find(v, "lambent:EditFailure")
	if err != nil {
		return 0, nil, err
	}
	var in editDoc
	if err := v.read(&in); err != nil {
		return 0, nil, err
	}
	if in.Function == "" && in.Qualifier == nil && in.Payload == nil {
		return 0, nil, invalid("EditFailure", "Nothing is to be changed: give payload, function or qualifier.")
	}
	// Rules may have it processed without anybody else being asked.
	if err := h.may(v, "lambda:InvokeFunction", r.Account, r.Function); err != nil {
		return 0, nil, err
	}
	if r, err = h.change(v, r, in); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, newFailureDoc(r, true), nil
}

// redrive answers 202 when the failure is in the queue. The body may be empty.
func (h failuresDoor) redrive(v *visit) (int, any, error) {
	r, err := h.find(v, "lambent:RedriveFailure")
	if err != nil {
		return 0, nil, err
	}
	var in editDoc
	if v.ContentLength != 0 {
		if err := v.read(&in); err != nil {
			return 0, nil, err
		}
	}
	if err := h.may(v, "lambda:InvokeFunction", r.Account, r.Function); err != nil {
		return 0, nil, err
	}
	if in.Payload != nil {
		if r, err = h.change(v, r, editDoc{Payload: in.Payload}); err != nil {
			return 0, nil, err
		}
	}
	to, err := h.target(v, r.Account, in.Function, in.Qualifier, r)
	if err != nil {
		return 0, nil, err
	}
	if err := h.store.Redrive(v.Context(), r.Key, to); err != nil {
		return 0, nil, err
	}
	if r, err = h.store.Get(v.Context(), r.Key); err != nil { // it may have been processed already
		return http.StatusAccepted, struct{}{}, nil
	}
	return http.StatusAccepted, newFailureDoc(r, true), nil
}

// batchDoc asks for many failures to be redriven.
type batchDoc struct {
	Filter filterDoc `json:"filter"`
	Rate   float64   `json:"rate"` // a second; 0: as fast as the queue takes them
	To     string    `json:"to"`   // a function, perhaps with a version or alias; empty: each to its own
	Limit  int       `json:"limit"`
	Cursor string    `json:"cursor"` // next of the answer before
}

// batchAnswer tells what was done. It is not empty where an error came after
// some were redriven.
type batchAnswer struct {
	Redriven int    `json:"redriven"`
	Skipped  int    `json:"skipped"` // are being redriven already, or went
	Next     string `json:"next"`    // the cursor to go on with; empty: all is done
	Error    string `json:"error,omitempty"`
}

const (
	// redriveFor is how long one request redrives; a client goes on with the next.
	redriveFor     = 10 * time.Second
	maxRedriveRate = 100_000
)

// redriveAll redrives for some time, or up to a limit, and tells how to go on.
func (h failuresDoor) redriveAll(v *visit) (int, any, error) {
	const operation = "RedriveFailures"
	var in batchDoc
	if err := v.read(&in); err != nil {
		return 0, nil, err
	}
	f, err := in.Filter.read(v.caller)
	if err != nil {
		return 0, nil, err
	}
	if !(in.Rate >= 0 && in.Rate <= maxRedriveRate) || in.Rate > 0 && in.Rate < 0.1 {
		return 0, nil, invalid(operation, fmt.Sprintf("rate is %v; it must be from 0.1 to %d a second, or 0: no bound.", in.Rate, maxRedriveRate))
	}
	if in.Limit < 0 {
		return 0, nil, invalid(operation, "limit is less than 0.")
	}
	function := f.Function
	if function == "" {
		function = "*"
	}
	for _, action := range []string{"lambent:RedriveFailure", "lambda:InvokeFunction"} {
		if err := h.may(v, action, f.Account, function); err != nil {
			return 0, nil, err
		}
	}
	to, err := h.target(v, f.Account, in.To, nil, nil)
	if err != nil {
		return 0, nil, err
	}
	f.Before = h.store.Newest() + 1
	if in.Cursor != "" {
		after, before, _ := strings.Cut(in.Cursor, "-")
		var errAfter, errBefore error
		f.After, errAfter = strconv.ParseUint(after, 10, 64)
		f.Before, errBefore = strconv.ParseUint(before, 10, 64)
		if errAfter != nil || errBefore != nil || f.Before == 0 {
			return 0, nil, invalid(operation, "cursor is not the next of an answer of this path.")
		}
	}
	p, err := h.store.RedriveAll(v.Context(), f, failures.Batch{Limit: in.Limit, For: redriveFor, Rate: in.Rate, To: to})
	if err != nil && p.Redriven == 0 {
		return 0, nil, err
	}
	out := batchAnswer{Redriven: p.Redriven, Skipped: p.Skipped}
	if p.Next > 0 {
		out.Next = fmt.Sprintf("%d-%d", p.Next, f.Before)
	}
	if err != nil {
		_, out.Error, _ = describe(err)
	}
	return http.StatusOK, out, nil
}
