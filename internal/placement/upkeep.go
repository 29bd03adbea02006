package placement

import (
	"time"

	"lambent"
)

// Supply is the state of one warming pool.
type Supply struct {
	Configuration Configuration
	Target        int // ready instances it should have
	Ready         int
	Starting      int       // instances being booted
	Claimed       int       // of Starting: for callers, not for the pool
	RestUntil     time.Time // after failed boots: starts nothing before; zero for none
}

// lacks is how many more the pool should start.
func (s Supply) lacks(extra int) int {
	return s.Target - s.Ready - (s.Starting - s.Claimed) - extra
}

// Room is how much refilling may take.
type Room struct {
	Instances int // instances the machine may still run
	Boots     int // boots that may still run at once, so that refilling never starves running work
}

// Refill says how many instances to boot now for each pool, in the pools' own
// order, and when to look again because a resting pool lacks instances then
// (zero: not before something changes). The pool that is furthest below its
// target, in proportion, is served first; the earlier of equals.
func Refill(pools []Supply, room Room, now time.Time) (boots []int, again time.Time) {
	boots = make([]int, len(pools))
	for _, s := range pools {
		if s.resting(now) && s.lacks(0) > 0 && (again.IsZero() || s.RestUntil.Before(again)) {
			again = s.RestUntil
		}
	}
	for left := min(room.Instances, room.Boots); left > 0; left-- {
		neediest := -1
		for k, s := range pools {
			if s.resting(now) || s.lacks(boots[k]) <= 0 {
				continue
			}
			// lacks/Target of each, compared without division
			if neediest < 0 || s.lacks(boots[k])*pools[neediest].Target > pools[neediest].lacks(boots[neediest])*s.Target {
				neediest = k
			}
		}
		if neediest < 0 {
			break
		}
		boots[neediest]++
	}
	return boots, again
}

func (s Supply) resting(now time.Time) bool { return s.RestUntil.After(now) }

// Expired is a container to stop.
type Expired struct {
	Instance  lambent.InstanceID
	Container lambent.ContainerID
	Idle      time.Duration // since its last use
}

// Expire lists the containers that have been idle for timeout or longer, the
// longest first, and when the next one will have been (zero: none is idle).
// It changes nothing and looks only at what it returns.
func Expire(cs *Containers, now time.Time, timeout time.Duration) (expired []Expired, next time.Time) {
	c, ok := cs.oldestIdle()
	for ; ok && c != nil; c = c.all.newer {
		due := c.lastUsed.Add(timeout)
		if due.After(now) {
			return expired, due
		}
		expired = append(expired, Expired{Instance: c.instance, Container: c.id, Idle: now.Sub(c.lastUsed)})
	}
	return expired, time.Time{}
}
