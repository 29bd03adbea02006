package placement

import (
	"cmp"
	"slices"
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

// Keep says how long an idle container is kept, counted from its last use.
type Keep struct {
	Base time.Duration // of code that is seldom used
	Most time.Duration // of code that is used much; below Base it is Base
}

// of is the time for a key with so many uses in the last Base: two of it from
// often on, three from constantly on, within the bound (P02-C3: by volume).
func (k Keep) of(uses int) time.Duration {
	keep := k.Base
	switch {
	case uses >= constantly:
		keep = 3 * k.Base
	case uses >= often:
		keep = 2 * k.Base
	}
	return max(k.Base, min(keep, k.Most))
}

// From how many uses within its basic time code counts as used much.
const (
	often      = 16
	constantly = remembered
)

// volume remembers when the containers of a key were last used. The zero value
// is a key that never was.
type volume struct {
	ends [remembered]int64 // a ring of times, in Unix nanoseconds
	next int
}

// remembered is how many uses a volume remembers.
const remembered = 64

func (v *volume) add(at time.Time) {
	v.ends[v.next] = at.UnixNano()
	v.next = (v.next + 1) % remembered
}

// within counts the remembered uses in the span before the last one.
func (v *volume) within(span time.Duration) (n int) {
	last := v.ends[(v.next+remembered-1)%remembered]
	for _, at := range v.ends {
		if at != 0 && last-at <= int64(span) {
			n++
		}
	}
	return n
}

// Expire lists the containers that have been idle for as long as they are kept,
// the longest first, and when the next one will have been (zero: none is idle).
// It changes nothing.
func Expire(cs *Containers, now time.Time, keep Keep) (expired []Expired, next time.Time) {
	if cs == nil {
		return nil, time.Time{}
	}
	for _, of := range cs.byKey {
		if of.idle.oldest == nil || of.key.Dedicated {
			continue
		}
		kept := keep.of(of.uses.within(keep.Base))
		for c := of.idle.oldest; c != nil; c = c.newer {
			due := c.lastUsed.Add(kept)
			if due.After(now) {
				if next.IsZero() || due.Before(next) {
					next = due
				}
				break
			}
			expired = append(expired, Expired{Instance: c.instance, Container: c.id, Idle: now.Sub(c.lastUsed)})
		}
	}
	slices.SortFunc(expired, func(a, b Expired) int {
		return cmp.Or(cmp.Compare(b.Idle, a.Idle), cmp.Compare(a.Container, b.Container))
	})
	return expired, next
}
