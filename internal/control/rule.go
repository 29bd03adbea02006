package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Trigger is what a rule waits for.
type Trigger string

// The triggers.
const (
	OnError            Trigger = "error"             // a call failed: an error of the function's, a timeout, its memory
	OnErrorRate        Trigger = "error_rate"        // more than a share of the calls failed
	OnUnexpectedResult Trigger = "unexpected_result" // an answer was not what is expected
	OnThrottle         Trigger = "throttle"          // a call found no concurrency left
)

// The bounds of rules.
const (
	MaxRules     = 10
	MinOver      = 100 * time.Millisecond
	MaxOver      = 24 * time.Hour
	DefaultCalls = 10
)

// Rule names the function that is asked when something has gone wrong.
type Rule struct {
	On       Trigger
	Function string // a function of the same account, as Invoke takes it: name, name:qualifier or ARN

	// Of OnErrorRate: it is met when more than Above (0 to 1) of the calls of the
	// last Over failed, at least Calls in all; and again only after no more than Below
	// did (hysteresis).
	Above, Below float64
	Over         time.Duration
	Calls        int
}

type ruleJSON struct {
	On       Trigger  `json:"on"`
	Function string   `json:"function"`
	Above    *float64 `json:"above,omitempty"`
	Below    *float64 `json:"below,omitempty"`
	Over     string   `json:"over,omitempty"`
	Calls    *int     `json:"calls,omitempty"`
}

// MarshalJSON writes every member that the trigger has.
func (r Rule) MarshalJSON() ([]byte, error) {
	doc := ruleJSON{On: r.On, Function: r.Function}
	if r.On == OnErrorRate {
		doc.Above, doc.Below, doc.Over, doc.Calls = &r.Above, &r.Below, r.Over.String(), &r.Calls
	}
	return json.Marshal(doc)
}

// UnmarshalJSON reads a rule; the error says what is wrong with it.
func (r *Rule) UnmarshalJSON(text []byte) error {
	var doc ruleJSON
	if err := strict(text, &doc); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	next := Rule{On: doc.On, Function: doc.Function}
	if doc.Function == "" {
		return errors.New("control: a rule has no function to ask")
	}
	switch doc.On {
	case OnError, OnUnexpectedResult, OnThrottle:
		if doc.Above != nil || doc.Below != nil || doc.Over != "" || doc.Calls != nil {
			return fmt.Errorf("control: above, below, over and calls are for on: %s", OnErrorRate)
		}
	case OnErrorRate:
		if err := next.readRate(&doc); err != nil {
			return fmt.Errorf("control: on %s: %w", doc.On, err)
		}
	default:
		return fmt.Errorf("control: on %.40q is none of %s, %s, %s and %s", doc.On, OnError, OnErrorRate, OnUnexpectedResult, OnThrottle)
	}
	*r = next
	return nil
}

func (r *Rule) readRate(doc *ruleJSON) error {
	if doc.Above == nil || *doc.Above < 0 || *doc.Above >= 1 {
		return errors.New("above is needed, a share of the calls from 0 to below 1")
	}
	r.Above, r.Below, r.Calls = *doc.Above, *doc.Above/2, DefaultCalls
	if doc.Below != nil {
		r.Below = *doc.Below
	}
	if r.Below < 0 || r.Below > r.Above {
		return fmt.Errorf("below is %v, which is not from 0 to above, %v", r.Below, r.Above)
	}
	var err error
	if r.Over, err = time.ParseDuration(doc.Over); err != nil || r.Over < MinOver || r.Over > MaxOver {
		return fmt.Errorf("over %.40q is no duration from %s to %s", doc.Over, MinOver, MaxOver)
	}
	if doc.Calls != nil {
		r.Calls = *doc.Calls
	}
	if r.Calls < 1 {
		return fmt.Errorf("calls is %d, and at least 1 call makes a share", r.Calls)
	}
	return nil
}

// Rules are those of one function.
type Rules []Rule

// UnmarshalJSON reads a list of at most MaxRules.
func (r *Rules) UnmarshalJSON(text []byte) error {
	var list []Rule
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	if len(list) > MaxRules {
		return fmt.Errorf("control: %d rules are over the %d a function may have", len(list), MaxRules)
	}
	*r = list
	return nil
}
