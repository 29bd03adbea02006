package placement

import (
	"fmt"
	"testing"
	"time"

	"lambent"
)

func TestAnInstanceMakesWayForWhoeverHasLess(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for _, test := range []struct {
		what             string
		claimant, holder Claimant
		takes            bool
		order            int
	}{
		{"one that has none, before many who came first", Claimant{"a", 0, late}, Claimant{"b", 4, early}, true, -1},
		{"until both have the same", Claimant{"a", 1, late}, Claimant{"b", 3, early}, true, -1},
		{"then no more", Claimant{"a", 2, early}, Claimant{"b", 2, late}, false, -1},
		{"nor back", Claimant{"a", 2, late}, Claimant{"b", 2, early}, false, 1},
		{"one is too few for both, in turns", Claimant{"a", 0, early}, Claimant{"b", 1, late}, true, -1},
		{"one is too few for both, not yet", Claimant{"a", 0, late}, Claimant{"b", 1, early}, false, -1},
		{"whoever has more waits", Claimant{"a", 3, early}, Claimant{"b", 1, late}, false, 1},
		{"of one account who waited longer", Claimant{"a", 3, early}, Claimant{"a", 3, late}, true, -1},
		{"of one account who came later", Claimant{"a", 3, late}, Claimant{"a", 3, early}, false, 1},
	} {
		if got := test.claimant.Takes(test.holder); got != test.takes {
			t.Errorf("%s: takes %v", test.what, got)
		}
		if got := test.claimant.Compare(test.holder); got != test.order {
			t.Errorf("%s: ordered %d", test.what, got)
		}
	}
}

func TestAnInstanceThatBecameIdleJustNowIsLeftToWhoHasNoMore(t *testing.T) {
	now := time.Unix(100, 0)
	for _, test := range []struct {
		what        string
		theirs, own int // instances: one of theirs is idle, all others are busy
		ago         time.Duration
		evicted     bool
	}{
		{"to one that has as many", 1, 1, 500 * time.Millisecond, false},
		{"to one that has less", 1, 3, 500 * time.Millisecond, false},
		{"not for longer", 1, 3, time.Second, true},
		{"not to one that has more", 2, 1, 0, true},
		{"not from one that has none", 1, 0, 0, true},
	} {
		var cs Containers
		add := func(account lambent.AccountID, k int, idle bool) {
			instance := lambent.InstanceID(fmt.Sprint(account, k))
			key := lambent.MatchKey{Account: account, Function: "f"}
			key.Size.MemoryMB = 512
			cs.Assign(instance, account, Configuration{}, 512)
			cs.Reserve(instance, key)
			cs.Add(key, instance, lambent.ContainerID(instance))
			if idle {
				cs.Idle(lambent.ContainerID(instance), now.Add(-test.ago))
			}
		}
		for k := range test.theirs {
			add("theirs", k, k == 0)
		}
		for k := range test.own {
			add("own", k, false)
		}
		req := Request{Key: lambent.MatchKey{Account: "own", Function: "g"}}
		req.Key.Size.MemoryMB = 512
		all := test.theirs + test.own
		plan := Decide(Snapshot{Containers: &cs, Instances: all, MaxInstances: all, MaxQueue: 10, Grace: time.Second}, req, now)
		if plan.Action != Queue || (plan.Evict == "theirs0") != test.evicted {
			t.Errorf("%s: %v, evicts %q", test.what, plan.Action, plan.Evict)
		}
	}
}
