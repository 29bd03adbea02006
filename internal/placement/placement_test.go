package placement

import (
	"fmt"
	"testing"
	"time"

	"lambent"
)

// key makes the match key of the n-th of many functions.
func key(n int) lambent.MatchKey {
	f := lambent.Function{Account: lambent.AccountID(fmt.Sprintf("%012d", n%100)), Name: lambent.FunctionName(fmt.Sprint("function-", n)),
		Version: lambent.Latest, Code: "4vF3kUYzYuLqZKd4rAQzqAOEgUgpzmqXDFbnlTvzDwE=",
		ConfigHash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", MemoryMB: 128, EphemeralMB: 512}
	return f.Key()
}

func node() Configuration {
	return Configuration{Family: lambent.FamilyNode, Version: "22.1.0", EphemeralMB: 512}
}

// busyMachine has 10,000 containers of 2,000 functions, of which a half is idle,
// and 1,000 warm instances.
func busyMachine(now time.Time) Snapshot {
	cs := &Containers{}
	for n := range 1_000 {
		cs.Assign(lambent.InstanceID(fmt.Sprint("i-", n)), key(n).Account, node(), 2048)
	}
	for n := range 10_000 {
		id, instance := lambent.ContainerID(fmt.Sprint("c-", n)), lambent.InstanceID(fmt.Sprint("i-", n%1_000))
		cs.Reserve(instance, key(n%2_000))
		cs.Add(key(n%2_000), instance, id)
		if n%2_000 < 1_000 {
			cs.Idle(id, now.Add(-time.Minute+time.Duration(n)*time.Millisecond))
		}
	}
	warm := map[Configuration][]Warm{}
	for n := range 1_000 {
		warm[node()] = append(warm[node()], Warm{Instance: lambent.InstanceID(fmt.Sprint("w-", n))})
	}
	return Snapshot{Containers: cs, Warm: warm, Instances: 11_000, MaxInstances: 11_000, MaxQueue: 100}
}

func TestReuseAllocatesNothing(t *testing.T) {
	now := time.Now()
	s := busyMachine(now)
	req := Request{Key: key(7), Configuration: node()}
	allocs := testing.AllocsPerRun(100, func() {
		p := Decide(s, req, now)
		if p.Action != Reuse || !s.Containers.Busy(p.Container) || !s.Containers.Idle(p.Container, now) {
			t.Fatalf("plan %+v", p)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestZeroSnapshotRefuses(t *testing.T) {
	p := Decide(Snapshot{}, Request{Key: key(1), Configuration: node()}, time.Now())
	if p.Action != Refuse || p.Throttle != ThrottleCapacity || p.Reason() == "" || p.Kind() != "" {
		t.Errorf("plan %v: %s", p.Action, p.Reason())
	}
	if expired, next := Expire(nil, time.Now(), Keep{}); expired != nil || !next.IsZero() {
		t.Errorf("expired %v, next %v", expired, next)
	}
	if got := (Plan{}).Reason(); got != "nothing was decided" {
		t.Errorf("reason of no plan: %s", got)
	}
}

func TestAddingAContainerTwicePanics(t *testing.T) {
	var cs Containers
	cs.Add(key(1), "i-1", "c-1")
	defer func() {
		if recover() == nil {
			t.Error("it was taken")
		}
	}()
	cs.Add(key(2), "i-1", "c-1")
}

func TestEmptiedContainersHoldNothing(t *testing.T) {
	var cs Containers
	for n := range 10 {
		id := lambent.ContainerID(fmt.Sprint("c-", n))
		cs.Add(key(n%3), "i-1", id)
		cs.Idle(id, time.Unix(int64(n%4), 0))
	}
	if all, idle := cs.Count(key(0)); all != 4 || idle != 4 {
		t.Errorf("of a key: %d, %d idle", all, idle)
	}
	if !cs.Busy("c-4") || cs.Busy("c-4") || cs.Busy("c-none") || cs.Idle("c-none", time.Time{}) {
		t.Error("busy and idle are mistaken")
	}
	if all, idle := cs.Len(); all != 10 || idle != 9 {
		t.Errorf("%d containers, %d idle", all, idle)
	}
	for n := range 10 {
		if !cs.Remove(lambent.ContainerID(fmt.Sprint("c-", n))) {
			t.Errorf("c-%d was not known", n)
		}
	}
	if all, idle := cs.Len(); all != 0 || idle != 0 || len(cs.byKey) != 0 || cs.idle != 0 {
		t.Errorf("left: %d, %d idle, %d keys, %+v", all, idle, len(cs.byKey), cs.idle)
	}
}

// The index must agree with a plain list after any sequence of events.
func FuzzContainersAgreeWithAPlainList(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 64, 65, 128, 129, 192})
	f.Add([]byte{0, 64, 1, 65, 2, 66, 130, 64, 66, 192, 0})
	f.Fuzz(func(t *testing.T, events []byte) {
		type plain struct {
			key  lambent.MatchKey
			idle bool
			at   time.Time
			seq  int
		}
		var cs Containers
		model := map[lambent.ContainerID]*plain{}
		for seq, e := range events {
			n := int(e & 63)
			id := lambent.ContainerID(fmt.Sprint("c-", n))
			at := time.Unix(int64(e&7), 0)
			m := model[id]
			switch e >> 6 {
			case 0:
				if m == nil {
					model[id] = &plain{key: key(n % 3)}
					cs.Add(key(n%3), "i", id)
				}
			case 1:
				if cs.Idle(id, at) != (m != nil) {
					t.Fatalf("idle %s", id)
				}
				if m != nil && !m.idle {
					m.idle, m.at, m.seq = true, at, seq
				}
			case 2:
				if cs.Busy(id) != (m != nil && m.idle) {
					t.Fatalf("busy %s", id)
				}
				if m != nil {
					m.idle = false
				}
			case 3:
				if cs.Remove(id) != (m != nil) {
					t.Fatalf("remove %s", id)
				}
				delete(model, id)
			}
		}
		for k := range 3 {
			var newest lambent.ContainerID
			for id, m := range model {
				if b := model[newest]; m.idle && m.key == key(k) && (b == nil || m.at.After(b.at) || m.at.Equal(b.at) && m.seq > b.seq) {
					newest = id
				}
			}
			got, ok := cs.newestIdle(key(k))
			if ok != (newest != "") || ok && got.id != newest {
				t.Fatalf("key %d: newest idle %+v, want %s", k, got, newest)
			}
		}
		expired, next := Expire(&cs, time.Unix(100, 0), Keep{})
		_, idle := cs.Len()
		if len(expired) != idle || !next.IsZero() {
			t.Fatalf("%d expired of %d idle, next %v", len(expired), idle, next)
		}
		for k, e := range expired {
			if m := model[e.Container]; m == nil || !m.idle || k > 0 && m.at.Before(model[expired[k-1].Container].at) {
				t.Fatalf("expired %+v at %d", e, k)
			}
		}
	})
}

// Every rung on a machine with 1,000 warm instances and 10,000 containers; the
// bound is 5 µs.
func BenchmarkDecide(b *testing.B) {
	now := time.Now()
	full := busyMachine(now)
	cold := Configuration{Family: lambent.FamilyProvided, EphemeralMB: 512}
	room := full
	room.MaxInstances++
	for _, c := range []struct {
		name string
		snap Snapshot
		req  Request
		want Action
	}{
		{"reuse", full, Request{Key: key(7), Configuration: node()}, Reuse},
		{"warm", full, Request{Key: key(1_500), Configuration: node()}, TakeWarm},
		{"on demand", room, Request{Key: key(1_500), Configuration: cold}, StartOnDemand},
		{"queue with eviction", full, Request{Key: key(1_500), Configuration: cold}, Queue},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if p := Decide(c.snap, c.req, now); p.Action != c.want {
					b.Fatalf("plan %v: %s", p.Action, p.Reason())
				}
			}
		})
	}
	b.Run("reuse, busy and idle again", func(b *testing.B) {
		b.ReportAllocs()
		req := Request{Key: key(7), Configuration: node()}
		for b.Loop() {
			p := Decide(full, req, now)
			full.Containers.Busy(p.Container)
			full.Containers.Idle(p.Container, now)
		}
	})
	b.Run("reason", func(b *testing.B) {
		b.ReportAllocs()
		p := Decide(full, Request{Key: key(7), Configuration: node()}, now)
		for b.Loop() {
			_ = p.Reason()
		}
	})
}
