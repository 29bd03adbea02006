package placement

import (
	"cmp"
	"time"

	"lambent"
)

// Claimant is those who wait, on a full machine, for a container of one function.
type Claimant struct {
	Account   lambent.AccountID
	Instances int       // that the account has, or will have once they have booted; not those of containers kept ready
	Since     time.Time // when the first of them came for whom nothing is started
}

// Compare orders claimants for room that comes free: who has least goes first, and
// of those that have the same, who has waited longest. So no account gets more of
// the machine for calling more often, or with more callers at once.
func (c Claimant) Compare(other Claimant) int {
	if c.Account != other.Account {
		if d := cmp.Compare(c.Instances, other.Instances); d != 0 {
			return d
		}
	}
	return c.Since.Compare(other.Since)
}

// Takes tells whether c may have an instance that holder is called on: always,
// where it does not come to more than the holder by that; by waiting longer, where
// there is one too few for both, or both are of one account.
func (c Claimant) Takes(holder Claimant) bool {
	longer := c.Since.Before(holder.Since)
	if c.Account == holder.Account {
		return longer
	}
	return c.Instances+1 <= holder.Instances-1 || c.Instances < holder.Instances && longer
}

// Holdings is how many instances accounts have, but for those that hold containers
// kept ready.
func (cs *Containers) Holdings() map[lambent.AccountID]int {
	n := map[lambent.AccountID]int{}
	for _, r := range cs.rooms {
		if r.dedicated == 0 {
			n[r.account]++
		}
	}
	return n
}

// longestIdle is the instance on which nothing has run for longest, of those that
// may be ended for an account: an account that has no more of them keeps one that
// became idle after since.
func (cs *Containers) longestIdle(account lambent.AccountID, since time.Time) *room {
	if cs == nil {
		return nil
	}
	for r := cs.resting.oldest; r != nil; r = r.newer {
		if !r.since.After(since) || r.account == account || len(cs.byAccount[r.account]) > len(cs.byAccount[account]) {
			return r
		}
	}
	return nil
}

// RestsSince is when the instance on which nothing has run for longest became
// idle; zero where there is none.
func (cs *Containers) RestsSince() time.Time {
	if cs.resting.oldest == nil {
		return time.Time{}
	}
	return cs.resting.oldest.since
}
