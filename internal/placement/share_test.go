package placement

import (
	"testing"
	"time"
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
