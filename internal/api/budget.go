package api

import (
	"sync"

	"lambent"
)

const (
	maxBodyInFlight = 1 << 30  // where the caller of New gives no budget
	leastShare      = 80 << 20 // the largest request there is, and what it grew from
	largePeak       = 64 << 20 // of bodies, after which memory is worth giving back
)

// budget is how many bytes of request bodies may be in memory at once: in all,
// and of one account, so that one alone cannot keep the others out. Requests
// that carry code leave a quarter of it to those that do not. Safe for
// concurrent use.
type budget struct {
	total int64 // bytes; never changed
	share int64 // of it, an account's; never changed

	mu sync.Mutex
	// +checklocks:mu
	held map[lambent.AccountID]int64
	// +checklocks:mu
	sum int64
	// +checklocks:mu
	peak int64
}

func newBudget(total int64) *budget {
	return &budget{total: total, share: min(total, max(total/4, leastShare)), held: map[lambent.AccountID]int64{}}
}

// take takes n bytes for a request of the account, or none.
func (b *budget) take(account lambent.AccountID, n int64, code bool) (ok bool) {
	ceiling := b.total
	if code {
		ceiling -= b.total / 4
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sum+n > ceiling || b.held[account]+n > b.share {
		return false
	}
	b.held[account] += n
	b.sum += n
	b.peak = max(b.peak, b.sum)
	return true
}

// give gives n bytes back. It reports whether a large peak has ended with that.
func (b *budget) give(account lambent.AccountID, n int64) (relieved bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[account] -= n; b.held[account] == 0 {
		delete(b.held, account)
	}
	b.sum -= n
	if b.peak < largePeak || b.sum > b.peak/16 {
		return false
	}
	b.peak = b.sum
	return true
}

// inFlight is how many bytes are taken.
func (b *budget) inFlight() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum
}
