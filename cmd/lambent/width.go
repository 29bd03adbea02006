package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

// width is how many threads the server runs Go code on at once. Most of what it
// does is to pass messages on: for that one thread is faster than two, since
// every wake-up of an idle one costs the running one an interrupt to another
// CPU, and the CPUs are the functions' too. (Measured: RATIONALE.md, "One thread
// while that is enough".) So the width follows the work: it doubles as soon as
// the server is short of CPU, and halves when half would do for a while.
type width struct {
	now, most int
	calm      time.Duration // how long half the width would have done
}

// The policy's figures.
const (
	widthEvery    = 20 * time.Millisecond  // between two looks while there is work
	widthIdle     = 100 * time.Millisecond // and while there is none
	widthShort    = 0.85                   // of the width's CPU time in use: too little
	widthSpare    = 0.6                    // of half the width's CPU time in use: half would do
	widthCalm     = 300 * time.Millisecond // for how long it must, before the width is halved
	widthIdleLoad = 0.05                   // CPUs in use below which there is no work
)

// next decides the width after a period in which load CPUs were in use.
func (w width) next(load float64, period time.Duration) width {
	switch {
	case load >= widthShort*float64(w.now):
		w.now, w.calm = min(2*w.now, w.most), 0
	case load > widthSpare*float64(w.now)/2 || w.now == 1:
		w.calm = 0
	default:
		if w.calm += period; w.calm >= widthCalm {
			w.now, w.calm = max(w.now/2, 1), 0
		}
	}
	return w
}

// followWork keeps the process's width until ctx is done, and then leaves it to
// Go again. Whoever set GOMAXPROCS has decided for himself.
func followWork(ctx context.Context) error {
	if os.Getenv("GOMAXPROCS") != "" {
		return nil
	}
	defer runtime.SetDefaultGOMAXPROCS()
	w := width{now: runtime.GOMAXPROCS(0)}
	w.most = w.now
	used, err := cpuTime()
	if err != nil {
		return err
	}
	last := time.Now()
	timer := time.NewTimer(widthIdle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		u, err := cpuTime()
		if err != nil {
			return err
		}
		now := time.Now()
		period := now.Sub(last)
		load := float64(u-used) / float64(period)
		used, last = u, now
		if next := w.next(load, period); next != w {
			if next.now != w.now {
				runtime.GOMAXPROCS(next.now) // stops the world for some 50 µs
			}
			w = next
		}
		if load < widthIdleLoad {
			timer.Reset(widthIdle)
		} else {
			timer.Reset(widthEvery)
		}
	}
}

// cpuTime is what the process has used so far, its children not counted.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read the server's own CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
