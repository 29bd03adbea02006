package main

import (
	"strings"
	"testing"
	"time"
)

func TestPercentileIsOneOfTheTimes(t *testing.T) {
	times := func(n int) []time.Duration {
		var all []time.Duration
		for i := range n {
			all = append(all, time.Duration(n-i))
		}
		return all
	}
	for _, tc := range []struct {
		n, p int
		want time.Duration
	}{{0, 50, 0}, {1, 50, 1}, {1, 99, 1}, {100, 50, 50}, {100, 99, 99}, {101, 99, 100}, {4, 50, 2}, {10, 0, 1}} {
		if got := percentile(times(tc.n), tc.p); got != tc.want {
			t.Errorf("percentile %d of 1 to %d is %d, want %d", tc.p, tc.n, got, tc.want)
		}
	}
}

func TestTimesAreToldShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 333 * time.Microsecond: "333 µs", 12 * ms: "12 ms", 12*ms + 340*time.Microsecond: "12.3 ms", 450 * time.Microsecond: "450 µs",
		250*ms + 40*time.Microsecond: "250 ms", 3 * ms: "3 ms", 1500 * ms: "1.5 s",
	} {
		if got := short(d); got != want {
			t.Errorf("%v is told as %q, want %q", d, got, want)
		}
	}
}

func TestARowSaysWhetherItsGoalIsHeld(t *testing.T) {
	all := []time.Duration{10 * ms, 10 * ms, 50 * ms}
	for _, tc := range []struct {
		g      goal
		missed bool
		text   string
	}{{goal{}, false, ""}, {goal{p50: 10 * ms}, false, "p50 ≤ 10 ms"}, {goal{p50: 9 * ms}, true, "p50 ≤ 9 ms"},
		{goal{10 * ms, 40 * ms}, true, "p50 ≤ 10 ms, p99 ≤ 40 ms"}, {goal{p99: 50 * ms}, false, "p99 ≤ 50 ms"}} {
		f := times("x", all, tc.g)
		if f.missed != tc.missed || f.goal != tc.text || f.value != "p50 10 ms, p99 50 ms" {
			t.Errorf("goal %v makes %+v", tc.g, f)
		}
		if got := strings.Contains(table([]figure{f}), "not held"); got != tc.missed {
			t.Errorf("the table says not held: %v, of %+v", got, f)
		}
	}
}

func TestKindsAreCountedTheMostFirst(t *testing.T) {
	if got := counts(map[string]int{"on_demand": 1, "warm_pool": 98, "new_container": 1}); got != "98 warm_pool, 1 new_container, 1 on_demand" {
		t.Errorf("got %q", got)
	}
}

func TestPackagesOfFunctionsDiffer(t *testing.T) {
	for _, l := range []language{node(), python(), {name: "Go"}} {
		one, err1 := l.pack("one")
		two, err2 := l.pack("two")
		again, err3 := l.pack("one")
		if err1 != nil || err2 != nil || err3 != nil || string(one) == string(two) || string(one) != string(again) {
			t.Errorf("packages of %s: equal %v, repeatable %v, %v %v %v", l.name, string(one) == string(two), string(one) == string(again), err1, err2, err3)
		}
	}
}

func TestAServerIsSettledWhenNothingIsGoingOn(t *testing.T) {
	full := []pool{{Target: 1, Ready: 1}, {Target: 0, Ready: 0}}
	warm, active := instance{"warm", []string{"a", "b"}}, instance{"active", []string{"c", "d", "e"}}
	for name, tc := range map[string]struct {
		pools     []pool
		instances []instance
		have      int
		want      bool
	}{
		"nobody calls":                {full, []instance{warm}, 0, true},
		"with a function's":           {full, []instance{warm, active}, 3, true},
		"no pools":                    {nil, nil, 0, true},
		"a pool is not full":          {[]pool{{Target: 2, Ready: 1}}, []instance{warm}, 0, false},
		"a warm one has no spare":     {full, []instance{{"warm", []string{"a"}}}, 0, false},
		"one is being destroyed":      {full, []instance{warm, {"draining", nil}}, 0, false},
		"a runtime is missing":        {full, []instance{warm, active}, 4, false},
		"one more warm than there be": {full, []instance{warm, warm}, 0, false},
	} {
		if got := isSettled(tc.pools, tc.instances, 1, tc.have); got != tc.want {
			t.Errorf("%s: settled is %v", name, got)
		}
	}
}
