package registry

import (
	"sync"

	"lambent"
)

// reservations is what of each account's concurrency is spoken for. It follows
// the tables, so that an invocation need not add it up.
type reservations struct {
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
