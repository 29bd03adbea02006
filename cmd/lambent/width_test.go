package main

import (
	"testing"
	"time"
)

// after is the width after some seconds of one load, looked at as followWork
// does.
func after(w width, load float64, d time.Duration) width {
	for t := time.Duration(0); t < d; t += widthEvery {
		w = w.next(min(load, float64(w.now)), widthEvery)
	}
	return w
}

func TestWidthFollowsTheWork(t *testing.T) {
	tests := []struct {
		name string
		from width
		load float64
		span time.Duration
		want int
	}{
		{"nothing to do: one thread, in time", width{now: 8, most: 8}, 0, 4 * time.Second, 1},
		{"nothing to do: not at once", width{now: 2, most: 2}, 0, widthCalm / 2, 2},
		{"messages only: one thread", width{now: 2, most: 2}, 0.5, 4 * time.Second, 1},
		{"messages only: stays", width{now: 1, most: 2}, 0.7, 10 * time.Second, 1},
		{"short of CPU: wider at once", width{now: 1, most: 2}, 1, widthEvery, 2},
		{"short of CPU: as wide as the machine in a tenth of a second", width{now: 1, most: 32}, 32, 5 * widthEvery, 32},
		{"never wider than the machine", width{now: 3, most: 3}, 3, time.Second, 3},
		{"work for two: stays at two", width{now: 2, most: 8}, 1.5, 10 * time.Second, 2},
		{"work for five of eight: stays at eight", width{now: 8, most: 8}, 5, 10 * time.Second, 8},
		{"one CPU only", width{now: 1, most: 1}, 1, time.Second, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := after(tt.from, tt.load, tt.span); got.now != tt.want {
				t.Errorf("the width is %d, want %d", got.now, tt.want)
			}
		})
	}
}

func TestWidthDoesNotSwing(t *testing.T) {
	for load := 0.0; load <= 8; load += 0.1 {
		w, changes := after(width{now: 8, most: 8}, load, 10*time.Second), 0
		for range 500 {
			next := w.next(min(load, float64(w.now)), widthEvery)
			if next.now != w.now {
				changes++
			}
			w = next
		}
		if changes > 0 {
			t.Errorf("at a steady load of %.1f the width changed %d times in ten seconds", load, changes)
		}
	}
}
