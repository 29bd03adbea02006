package pool

import (
	"lambent"
	"lambent/internal/placement"
)

// Concurrency tells what of an account's concurrency is reserved for a function,
// nil for nothing, and what is left for all functions without a reservation. It
// is asked on every call, and must not block.
type Concurrency func(account lambent.AccountID, function lambent.FunctionName) (reserved *int, unreserved int)

// functionName is what simultaneous executions are counted by: all versions of
// a function are one.
type functionName struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// usage counts the executions that were let in and have not ended, those that
// wait for a container included.
type usage struct {
	functions  map[functionName]int
	unreserved map[lambent.AccountID]int // of functions without a reservation, not on dedicated containers
}

// quotas are what a call of a function is held against.
type quotas struct{ function, account placement.Quota }

// charge is one execution as it is counted.
type charge struct {
	of         functionName
	unreserved bool
}

// quotasOf asks what holds for a function. Executions are added by quotas.used.
func (p *Pool) quotasOf(fn *lambent.Function) (q quotas) {
	if p.opts.Concurrency == nil {
		return q
	}
	reserved, unreserved := p.opts.Concurrency(fn.Account, fn.Name)
	if reserved != nil {
		q.function = placement.Quota{Max: *reserved, Bounded: true}
	} else {
		q.account = placement.Quota{Max: unreserved, Bounded: true}
	}
	return q
}

// used fills in what is in use.
//
// +checklocks:p.mu
func (p *Pool) used(q quotas, fn *lambent.Function) quotas {
	q.function.InUse = p.usage.functions[functionName{fn.Account, fn.Name}]
	q.account.InUse = p.usage.unreserved[fn.Account]
	return q
}

// letIn counts an execution that a plan lets in.
//
// +checklocks:p.mu
func (p *Pool) letIn(fn *lambent.Function, q quotas, plan placement.Plan) charge {
	ch := charge{functionName{fn.Account, fn.Name}, !q.function.Bounded && plan.Kind() != lambent.StartDedicated}
	p.usage.functions[ch.of]++
	if ch.unreserved {
		p.usage.unreserved[ch.of.account]++
	}
	return ch
}

// letOut takes an execution off the count.
//
// +checklocks:p.mu
func (p *Pool) letOut(ch charge) {
	if p.usage.functions[ch.of]--; p.usage.functions[ch.of] == 0 {
		delete(p.usage.functions, ch.of)
	}
	if !ch.unreserved {
		return
	}
	if p.usage.unreserved[ch.of.account]--; p.usage.unreserved[ch.of.account] == 0 {
		delete(p.usage.unreserved, ch.of.account)
	}
}
