package registry

import (
	"context"
	"fmt"
	"sync"

	"lambent"
)

// reservations is what of each account's concurrency is spoken for. It follows
// the tables, so that an invocation need not add it up.
type reservations struct {
	deciding sync.Mutex // held while what is left of an account's concurrency is decided on; before mu

	mu sync.RWMutex
	// +checklocks:mu
	byFunction map[functionKey]*reservation
	// +checklocks:mu
	byAccount map[lambent.AccountID]int // sum of reservation.taken
}

// reservation is what one function has.
type reservation struct {
	reserved    *int
	provisioned int // sum over its versions and aliases
}

// taken is what others cannot have: what is provisioned is a part of what is
// reserved, where something is.
func (r *reservation) taken() int {
	if r.reserved != nil {
		return *r.reserved
	}
	return r.provisioned
}

// follow keeps the reservations up to date with the tables.
func (rs *reservations) follow(o *Objects) {
	rs.mu.Lock()
	rs.byFunction, rs.byAccount = map[functionKey]*reservation{}, map[lambent.AccountID]int{}
	rs.mu.Unlock()
	o.Settings.Subscribe(func(c ObjectChange[FunctionSettings]) {
		rs.change(c.Key.function(), func(r *reservation) {
			r.reserved = nil
			if c.After != nil {
				r.reserved = c.After.ReservedConcurrency
			}
		})
	})
	o.Provisioned.Subscribe(func(c ObjectChange[Provisioned]) {
		rs.change(c.Key.function(), func(r *reservation) {
			if c.Before != nil {
				r.provisioned -= c.Before.Requested
			}
			if c.After != nil {
				r.provisioned += c.After.Requested
			}
		})
	})
}

func (rs *reservations) change(k functionKey, change func(*reservation)) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.byFunction[k]
	if r == nil {
		r = &reservation{}
		rs.byFunction[k] = r
	}
	before := r.taken()
	change(r)
	rs.byAccount[k.account] += r.taken() - before
	if rs.byAccount[k.account] == 0 {
		delete(rs.byAccount, k.account)
	}
	if *r == (reservation{}) {
		delete(rs.byFunction, k)
	}
}

// Concurrency tells what of an account's concurrency, limit in all, is reserved
// for a function, nil for none, and what of it is left for all functions
// without a reservation. It allocates nothing and takes no lock that is held for
// long.
func (o *Objects) Concurrency(account lambent.AccountID, function string, limit int) (reserved *int, unreserved int) {
	rs := o.reservations
	if rs == nil {
		return nil, limit
	}
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if r := rs.byFunction[functionKey{account, lambent.FunctionName(function)}]; r != nil {
		reserved = r.reserved
	}
	return reserved, max(0, limit-rs.byAccount[account])
}

// minUnreserved is how much of an account's concurrency cannot be reserved, so
// that functions without a reservation go on (developer guide, "Reserved
// concurrency").
const minUnreserved = 100

// Unreservable is how much of an account's concurrency, limit in all, must stay
// unreserved: AWS's 100, or a tenth where the whole is less than 1,000.
func Unreservable(limit int) int { return min(minUnreserved, limit/10) }

// Reserve sets a part of an account's concurrency, limit in all, aside for a
// function; nil gives it back. KindInvalid, in AWS's words, where that is less
// than is provisioned for the function, or leaves too little for the others.
func (o *Objects) Reserve(ctx context.Context, op string, account lambent.AccountID, function lambent.FunctionName, value *int, limit int) error {
	if rs := o.reservations; rs != nil {
		rs.deciding.Lock() // what is left is one number for all functions of an account
		defer rs.deciding.Unlock()
	}
	key := ObjectKey{Account: account, Parent: string(function)}
	_, err := o.Settings.Edit(ctx, op, key, func(old *FunctionSettings) (*FunctionSettings, error) {
		var next FunctionSettings
		if old != nil {
			next = *old
		}
		if value != nil {
			if err := o.checkReserved(op, key, next.ReservedConcurrency, *value, limit); err != nil {
				return nil, err
			}
		}
		if next.ReservedConcurrency = value; next == (FunctionSettings{}) {
			return nil, nil
		}
		return &next, nil
	})
	return err
}

func (o *Objects) checkReserved(op string, key ObjectKey, before *int, value, limit int) error {
	refuse := func(format string, args ...any) error {
		return &lambent.Error{Op: op, Resource: key.Parent, Kind: lambent.KindInvalid, Message: fmt.Sprintf(format, args...)}
	}
	provisioned := 0
	all, _ := o.Provisioned.List(key.Account, key.Parent, ObjectKey{}, noLimit, nil)
	for _, p := range all {
		provisioned += p.Value.Requested
	}
	if value < provisioned {
		return refuse("ReservedConcurrentExecutions %d should not be lower than function's total provisioned concurrency [%d].", value, provisioned)
	}
	_, unreserved := o.Concurrency(key.Account, key.Parent, limit)
	if before != nil {
		unreserved += *before
	} else {
		unreserved += provisioned // which is a part of what is reserved from now on
	}
	if unreserved-value < Unreservable(limit) {
		return refuse("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", Unreservable(limit))
	}
	return nil
}

// Provision has containers of a version or alias kept initialised, as p says.
// KindInvalid, in AWS's words, where its function or account, limit in all, cannot
// have so many; then what conflict says of the others there are.
func (o *Objects) Provision(ctx context.Context, op string, key ObjectKey, p Provisioned, limit int, conflict func(others []Object[Provisioned]) error) (*Provisioned, error) {
	if rs := o.reservations; rs != nil {
		rs.deciding.Lock()
		defer rs.deciding.Unlock()
	}
	return o.Provisioned.Edit(ctx, op, key, func(old *Provisioned) (*Provisioned, error) {
		refuse := func(format string, args ...any) (*Provisioned, error) {
			return nil, &lambent.Error{Op: op, Resource: key.Parent, Kind: lambent.KindInvalid, Message: fmt.Sprintf(format, args...)}
		}
		sum, before := p.Requested, 0
		if old != nil {
			before = old.Requested
		}
		others, _ := o.Provisioned.List(key.Account, key.Parent, ObjectKey{}, noLimit, func(other Object[Provisioned]) bool { return other.Key != key })
		for _, other := range others {
			sum += other.Value.Requested
		}
		reserved, unreserved := o.Concurrency(key.Account, key.Parent, limit)
		switch {
		case reserved != nil && *reserved < sum:
			return refuse("Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
		case p.Requested > limit:
			return refuse("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", limit)
		case reserved == nil && unreserved+before-p.Requested < Unreservable(limit):
			return refuse("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", Unreservable(limit))
		}
		if err := conflict(others); err != nil {
			return nil, err
		}
		return &p, nil
	})
}
