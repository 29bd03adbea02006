package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"lambent"
	"lambent/internal/control"
)

// Declared is what a function's owner has declared of its calls.
type Declared struct {
	Expect *control.Expectation // nil: any answer is right
	Rules  control.Rules
}

// Deeds is what control functions may have done. Each tells, in words, what it
// did. Safe for concurrent use.
type Deeds interface {
	// RollBackAlias puts an alias back to a version; where to is "", to the newest
	// before the one that failed, if it is at that.
	RollBackAlias(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, alias string, to, failed lambent.Version) (string, error)
	RebuildInstances(ctx context.Context, account lambent.AccountID, name lambent.FunctionName) (string, error)
	PauseSource(ctx context.Context, account lambent.AccountID, id string) (string, error)
	ReserveConcurrency(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, value *int) (string, error)
}

// ControlOptions are what a Controls needs.
type ControlOptions struct {
	// Declared is asked for every call, and must neither block nor call back; it gives
	// the zero value of a function of which nothing is declared. When it gives another
	// one, Redeclared is told.
	Declared func(lambent.AccountID, lambent.FunctionName) Declared
	Invoke   func(context.Context, *lambent.Invocation) (*lambent.Result, error) // Service.Invoke
	Deeds    Deeds
	Log      *slog.Logger // nil: nowhere
}

// Controls asks control functions about what goes wrong (P14). A control
// function's own failures start none: its invocations are marked.
//
// Safe for concurrent use. Close it before the pool.
type Controls struct {
	opts    ControlOptions
	working context.Context
	cancel  context.CancelFunc
	asking  sync.WaitGroup // Go is called with mu held and closed false

	mu sync.Mutex // held for a microsecond
	// +checklocks:mu
	closed bool
	// +checklocks:mu
	pending int // questions of calls nobody waits with
	// +checklocks:mu
	rates map[functionOf][]*control.Rate // of functions that have rules on error rates
}

type functionOf struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// mostPending bounds the questions of calls that are settled already: those of
// synchronous callers, who do not wait for them. What comes beyond is told in the
// log, not asked.
const mostPending = 64

// NewControls makes them.
func NewControls(o ControlOptions) *Controls {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Controls{opts: o, rates: map[functionOf][]*control.Rate{}}
	c.working, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends what is being asked, and waits for it.
func (c *Controls) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.asking.Wait()
}

// incident is a call that went wrong, as control functions are told of it. Its
// names stay: functions read them.
type incident struct {
	Rule        control.Trigger      `json:"rule"`
	Account     lambent.AccountID    `json:"account"`
	Function    lambent.FunctionName `json:"function"`
	Qualifier   string               `json:"qualifier,omitempty"`
	Version     lambent.Version      `json:"version,omitempty"`
	RequestID   lambent.RequestID    `json:"request_id"`
	Async       bool                 `json:"asynchronous"`
	Reason      string               `json:"reason"`
	ErrorType   string               `json:"error_type,omitempty"`
	Message     string               `json:"error_message,omitempty"`
	Attempts    int                  `json:"attempts"`
	Share       *float64             `json:"error_rate,omitempty"` // of rules on it
	ReceivedAt  time.Time            `json:"received_at"`
	Payload     json.RawMessage      `json:"payload,omitempty"`
	Response    json.RawMessage      `json:"response,omitempty"`
	Retries     int                  `json:"control_retries,omitempty"` // that control functions had made of it
	MostRetries int                  `json:"control_retries_most"`
}

// incidentOf tells of an outcome that was none of success.
func incidentOf(inv *lambent.Invocation, out *outcome) incident {
	return incident{Account: inv.Account, Function: inv.Function, Qualifier: inv.Qualifier, Version: out.Version, RequestID: inv.RequestID,
		Async: inv.Asynchronous, Reason: out.Reason, ErrorType: out.ErrorType, Message: out.Message, Attempts: out.Attempts,
		ReceivedAt: inv.ReceivedAt, Payload: rawJSON(inv.Payload), Response: rawJSON(out.Response), MostRetries: control.MaxRetries}
}

// mostIncident is what a function can be called with: AWS's 6 MB.
const mostIncident = 6 << 20

// text is the event for a control function. Where it is more than a function can
// be called with, it is without the answer, or the payload, too.
func (i incident) text() ([]byte, error) {
	for {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // which makes up to six bytes of one
		err := enc.Encode(i)
		if err != nil || b.Len() <= mostIncident || i.Response == nil && i.Payload == nil {
			return bytes.TrimRight(b.Bytes(), "\n"), err
		}
		if i.Response == nil {
			i.Payload = nil
		}
		i.Response = nil
	}
}

// rawJSON is what a function was given or gave, where it is JSON, as it should be.
func rawJSON(text []byte) json.RawMessage {
	if len(text) == 0 || !json.Valid(text) {
		return nil
	}
	return text
}

// count takes a call that ran into account for the rules on error rates, and gives
// the shares of those that it has met. What is declared is asked for with mu held,
// so that Redeclared comes after what is counted by old rules.
func (c *Controls) count(k functionOf, now time.Time, failed bool) (met []control.Rule, shares []float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on := onRate(c.opts.Declared(k.account, k.name).Rules)
	if len(on) == 0 {
		return nil, nil
	}
	rates := c.rates[k]
	if !counts(rates, on) { // they are others now, and count anew
		rates = nil
		for _, r := range on {
			rates = append(rates, control.NewRate(r))
		}
		c.rates[k] = rates
	}
	for _, r := range rates {
		if share, is := r.Count(now, failed); is {
			met, shares = append(met, r.Rule()), append(shares, share)
		}
	}
	return met, shares
}

// onRate are those of some rules that are on error rates.
func onRate(rules control.Rules) (on control.Rules) {
	for _, r := range rules {
		if r.On == control.OnErrorRate {
			on = append(on, r)
		}
	}
	return on
}

// counts tells whether rates are those of rules.
func counts(rates []*control.Rate, rules control.Rules) bool {
	return slices.EqualFunc(rates, rules, func(rate *control.Rate, rule control.Rule) bool { return rate.Rule() == rule })
}

// Redeclared says that what is declared of a function is another from now on, or
// that the function is gone: what was counted for rules that are no more is
// forgotten. It does not block.
func (c *Controls) Redeclared(account lambent.AccountID, name lambent.FunctionName) {
	k := functionOf{account, name}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !counts(c.rates[k], onRate(c.opts.Declared(account, name).Rules)) {
		delete(c.rates, k)
	}
}

// verdict is what control functions want done with a request.
type verdict struct {
	answer control.Answer // the first whose decision is not to leave it
	done   []string       // what was done, in words, for the failure's record
}

// question is a rule that an outcome concerns.
type question struct {
	rule  control.Rule
	share *float64 // of failed calls, of a rule on error rates
}

// concerned are the rules that an outcome concerns; one of success is only counted.
func (c *Controls) concerned(inv *lambent.Invocation, out *outcome, ran bool) (all []question) {
	k := functionOf{inv.Account, inv.Function}
	rules := c.opts.Declared(k.account, k.name).Rules
	if len(rules) == 0 || inv.Control {
		return nil
	}
	if ran {
		met, shares := c.count(k, time.Now(), out.failed())
		for i := range met {
			all = append(all, question{met[i], &shares[i]})
		}
	}
	if out.failed() {
		for _, r := range rules {
			if r.On == triggerOf(out) {
				all = append(all, question{rule: r})
			}
		}
	}
	return all
}

// ask asks the control functions of every rule that an outcome concerns, one after
// the other, and does what they want of the platform. What became of each is in
// done.
func (c *Controls) ask(ctx context.Context, inv *lambent.Invocation, out *outcome, all []question, retries int) (v verdict) {
	for _, q := range all {
		what := incidentOf(inv, out)
		what.Rule, what.Share, what.Retries = q.rule.On, q.share, retries
		c.one(ctx, q.rule, &what, &v)
	}
	return v
}

// triggerOf is the rule for a single failure of a reason; none for what is not the
// function's.
func triggerOf(out *outcome) control.Trigger {
	switch out.Reason {
	case reasonFunctionError, reasonTimeout, reasonOutOfMemory:
		return control.OnError
	case reasonUnexpected:
		return control.OnUnexpectedResult
	case reasonThrottled:
		return control.OnThrottle
	case reasonNoCapacity: // where it was throttled for it, as for want of concurrency
		if out.Status == statusThrottled {
			return control.OnThrottle
		}
	}
	return ""
}

// one asks one control function.
func (c *Controls) one(ctx context.Context, r control.Rule, what *incident, v *verdict) {
	say := func(format string, args ...any) {
		v.done = append(v.done, fmt.Sprintf("control function %s (on %s): ", r.Function, r.On)+fmt.Sprintf(format, args...))
	}
	ref, err := lambent.ParseFunctionRef(r.Function)
	if err == nil && ref.Account != "" && ref.Account != what.Account {
		err = &lambent.Error{Op: "ask", Resource: r.Function, Kind: lambent.KindDenied, Message: "it is another account's"}
	}
	if err != nil {
		say("cannot be called: %s", told(err))
		return
	}
	payload, err := what.text()
	if err != nil {
		say("cannot be told: %s", err)
		return
	}
	res, err := c.opts.Invoke(ctx, &lambent.Invocation{RequestID: lambent.RequestID(uuid.NewString()), Account: what.Account, Function: ref.Name, Qualifier: ref.Qualifier,
		Payload: payload, ReceivedAt: time.Now(), Control: true})
	switch {
	case err != nil:
		say("could not be called: %s", told(err))
		return
	case res.FunctionError != "":
		kind, message := errorIn(res.Payload)
		say("failed: %s: %s", kind, message)
		return
	}
	answer, err := control.ReadAnswer(res.Payload)
	if err != nil {
		say("%s", err)
		return
	}
	if answer.Note != "" {
		say("says: %s", answer.Note)
	}
	for _, a := range answer.Actions {
		done, err := c.do(ctx, what, a)
		if err != nil {
			say("%s was not done: %s", a.Do, told(err))
			continue
		}
		say("%s", done)
	}
	if answer.Decision == control.Leave || v.answer.Decision != control.Leave {
		return
	}
	if answer.Decision == control.Retry && what.Retries >= control.MaxRetries {
		say("wants another try, of which there were %d by control functions already: it is left", what.Retries)
		return
	}
	v.answer = answer
	switch {
	case answer.Decision == control.Drop:
		say("the request is dropped")
	default:
		text := "the request is tried again"
		if answer.Qualifier != nil {
			text += fmt.Sprintf(", with %q in place of %q", *answer.Qualifier, what.Qualifier)
		}
		if answer.Payload != nil {
			text += fmt.Sprintf(", with the event %.512s in place of %.512s", answer.Payload, what.Payload)
		}
		say("%s", text)
	}
}

// do does one action on what the incident is of.
func (c *Controls) do(ctx context.Context, what *incident, a control.Action) (string, error) {
	switch a.Do {
	case control.RollBackAlias:
		return c.opts.Deeds.RollBackAlias(ctx, what.Account, what.Function, a.Alias, a.Version, what.Version)
	case control.RebuildInstances:
		return c.opts.Deeds.RebuildInstances(ctx, what.Account, what.Function)
	case control.PauseSource:
		return c.opts.Deeds.PauseSource(ctx, what.Account, a.UUID)
	case control.ReserveConcurrency:
		return c.opts.Deeds.ReserveConcurrency(ctx, what.Account, what.Function, a.Value)
	}
	return "", fmt.Errorf("do %s: there is no such action", a.Do)
}

// Called is told of every synchronous call that was settled. Its caller has the
// answer, and waits for nothing here: control functions are asked afterwards, and
// what they decide about the request comes too late.
func (c *Controls) Called(inv *lambent.Invocation, res *lambent.Result, err error) {
	if inv.Control || inv.Asynchronous || len(c.opts.Declared(inv.Account, inv.Function).Rules) == 0 {
		return
	}
	s := after(res, err, EventRules{}, AWSTimes(), 0, 1, 0)
	all := c.concerned(inv, &s.out, s.counts)
	if len(all) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if c.pending >= mostPending {
		c.opts.Log.Warn("control functions are asked about too many calls at once; they are not asked about this one", "function", inv.Function, "request", inv.RequestID)
		return
	}
	c.pending++
	c.asking.Go(func() {
		v := c.ask(c.working, inv, &s.out, all, control.MaxRetries)
		for _, done := range v.done {
			c.opts.Log.Info("a control function was asked", "function", inv.Function, "request", inv.RequestID, "done", done)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pending--
	})
}
