package control

import "time"

// steps is how many parts the time of a Rate is counted in: what is older than it
// goes a thirtieth of it late.
const steps = 30

// Rate counts the calls of one rule on error rates, over a time that slides. It is
// not for several goroutines. Make it with NewRate.
type Rate struct {
	rule  Rule
	step  time.Duration
	parts [steps]count
	at    int64 // the step that is counted in; steps before it are in parts
	fired bool  // it was met, and the share has not been low since
}

type count struct{ calls, failed int }

// NewRate begins to count for a rule of trigger OnErrorRate.
func NewRate(rule Rule) *Rate { return &Rate{rule: rule, step: max(1, rule.Over/steps)} }

// Rule is what is counted for.
func (r *Rate) Rule() Rule { return r.rule }

// Count takes one call into account, and tells the share of the calls that failed,
// and whether the rule is met by it: once for each time the share rises above,
// until it has been low.
//
//	armed ── share > above, calls enough ──► fired (met, once)
//	fired ── share ≤ below ──► armed
func (r *Rate) Count(now time.Time, failed bool) (share float64, met bool) {
	r.slide(now)
	part := &r.parts[r.at%steps]
	part.calls++
	if failed {
		part.failed++
	}
	var all count
	for _, p := range r.parts {
		all.calls += p.calls
		all.failed += p.failed
	}
	share = float64(all.failed) / float64(all.calls)
	switch {
	case r.fired && share <= r.rule.Below:
		r.fired = false
	case !r.fired && share > r.rule.Above && all.calls >= r.rule.Calls:
		r.fired = true
		return share, true
	}
	return share, false
}

// slide empties the parts that have become too old. A clock that went back counts
// where it was.
func (r *Rate) slide(now time.Time) {
	at := now.UnixNano() / int64(r.step)
	if at-r.at >= steps {
		r.parts = [steps]count{}
		r.at = at
	}
	for r.at < at {
		r.at++
		r.parts[r.at%steps] = count{}
	}
}
