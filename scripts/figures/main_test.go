package main

import (
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
