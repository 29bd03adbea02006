package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const ms = time.Millisecond

// figure is a row of the table.
type figure struct {
	name, value, goal string
	missed            bool // the goal
}

// goal is what times are to be at most; zero is no bound.
type goal struct{ p50, p99 time.Duration }

// times is the row of some times with their goal.
func times(name string, all []time.Duration, g goal) figure {
	p50, p99 := percentile(all, 50), percentile(all, 99)
	f := figure{name: name, value: "p50 " + short(p50) + ", p99 " + short(p99), missed: g.p50 > 0 && p50 > g.p50 || g.p99 > 0 && p99 > g.p99}
	var bounds []string
	if g.p50 > 0 {
		bounds = append(bounds, "p50 ≤ "+short(g.p50))
	}
	if g.p99 > 0 {
		bounds = append(bounds, "p99 ≤ "+short(g.p99))
	}
	f.goal = strings.Join(bounds, ", ")
	return f
}

// percentile is the smallest of the times that p in a hundred do not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// short is a time as the table tells it: in µs below a millisecond, in ms with
// one digit below ten, in s from a second on.
func short(d time.Duration) string {
	switch {
	case d < ms:
		return fmt.Sprintf("%d µs", d.Round(time.Microsecond).Microseconds())
	case d < 100*ms && d%ms != 0:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// counts tells how often there was what, the most first.
func counts(of map[string]int) string {
	names := slices.SortedFunc(maps.Keys(of), func(a, b string) int {
		if of[a] != of[b] {
			return of[b] - of[a]
		}
		return strings.Compare(a, b)
	})
	var parts []string
	for _, n := range names {
		parts = append(parts, fmt.Sprintf("%d %s", of[n], n))
	}
	return strings.Join(parts, ", ")
}

func table(rows []figure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n\n| figure | measured | goal |\n|---|---|---|\n", machine())
	for _, r := range rows {
		value := r.value
		if r.missed {
			value += ": not held"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r.name, value, r.goal)
	}
	return b.String()
}
