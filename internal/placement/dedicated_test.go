package placement

import (
	"testing"
	"time"

	"lambent"
)

func TestDedicatedContainersServeFirstAndAreKept(t *testing.T) {
	var cs Containers
	now := time.Unix(1000, 0)
	key := lambent.MatchKey{Account: "1", Function: "f", Size: lambent.Size{MemoryMB: 128}}
	dedicated := key
	dedicated.Dedicated = true
	cs.Assign("i-d", "1", Configuration{}, 128)
	cs.Assign("i-o", "1", Configuration{}, 128)
	for id, in := range map[lambent.ContainerID]lambent.InstanceID{"c-d": "i-d", "c-o": "i-o"} {
		k := key
		if id == "c-d" {
			k = dedicated
		}
		cs.Reserve(in, k)
		cs.Add(k, in, id)
		cs.Idle(id, now)
	}
	full := Quota{InUse: 1, Max: 1, Bounded: true}
	decide := func(r Request) Plan {
		r.Key = key
		return Decide(Snapshot{Containers: &cs, MaxInstances: 2, Instances: 2, MaxQueue: 1}, r, now.Add(time.Hour))
	}
	if p := decide(Request{}); p.Action != Reuse || p.Container != "c-d" || p.Kind() != lambent.StartDedicated {
		t.Errorf("%v %s %s", p.Action, p.Container, p.Kind())
	}
	if p := decide(Request{Account: full}); p.Container != "c-d" {
		t.Errorf("what is provisioned does not depend on what is left of the account: %v %s", p.Action, p.Reason())
	}
	if p := decide(Request{Function: full}); p.Action != Refuse || p.Throttle != ThrottleFunction {
		t.Errorf("what is provisioned is a part of what is reserved: %v", p.Action)
	}
	if p := decide(Request{Fresh: true}); p.Action != Queue || p.Evict != "i-o" {
		t.Errorf("a fresh one: %v, to end %q: %s", p.Action, p.Evict, p.Reason())
	}
	expired, next := Expire(&cs, now.Add(time.Hour), Keep{Base: time.Minute})
	if len(expired) != 1 || expired[0].Container != "c-o" || !next.IsZero() {
		t.Errorf("expired are %+v, the next at %v", expired, next)
	}
	if p := decide(Request{Fresh: true, Within: true}); p.Action != Refuse || cs.Dedicated() != 1 {
		t.Errorf("within %d full instances: %v: %s", cs.Dedicated(), p.Action, p.Reason())
	}
	cs.Assign("i-2", "1", Configuration{}, 256)
	if p := decide(Request{Fresh: true, Within: true}); p.Action != Refuse {
		t.Errorf("on an instance without dedicated containers: %v: %s", p.Action, p.Reason())
	}
	cs.Reserve("i-2", dedicated)
	if p := decide(Request{Fresh: true, Within: true}); p.Action != NewContainer || p.Instance != "i-2" || cs.Dedicated() != 2 {
		t.Errorf("on one that has some, of %d: %v: %s", cs.Dedicated(), p.Action, p.Reason())
	}
	cs.Vacate("i-2", dedicated)
	cs.Close("i-2")
	cs.Busy("c-d")
	if p := decide(Request{}); p.Container != "c-o" || p.Kind() != lambent.StartReuse {
		t.Errorf("%v %s", p.Action, p.Container)
	}
	if p := decide(Request{Account: full}); p.Action != Refuse || p.Throttle != ThrottleCapacity {
		t.Errorf("%v", p.Action)
	}
	cs.Busy("c-o")
	cs.Remove("c-o")
	cs.Close("i-o")
	cs.Idle("c-d", now)
	if p := decide(Request{Fresh: true}); p.Evict != "" {
		t.Errorf("the instance of a dedicated container was to be ended: %s", p.Evict)
	}
	cs.Remove("c-d")
	if _, ok := cs.newestDedicated(key); ok || cs.dedicated != 0 {
		t.Errorf("%d are left", cs.dedicated)
	}
}
