package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// measureUpdates calls a function a hundred times a second, whatever earlier
// calls do, first as it is and then while its code is updated time and again,
// each update as soon as the one before is in place. A call's time counts from
// when it was due.
func measureUpdates(ctx context.Context, s *server, updates int) (rows []figure, err error) {
	const every, calm = 10 * time.Millisecond, 5 * time.Second
	progress("%d updates of code under 100 calls/s", updates)
	if err := s.settle(ctx, 0); err != nil {
		return nil, err
	}
	u := s.user(902)
	const name = "updated"
	if err := u.deploy(ctx, name, node()); err != nil {
		return nil, err
	}
	defer func() { err = joined(err, u.remove(ctx, name)) }()
	for range 20 {
		if _, err := u.invoke(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := s.settle(ctx, 1+s.spares); err != nil {
		return nil, err
	}
	before, failed := u.steadily(ctx, name, every, func() error { return pause(ctx, calm) })
	if failed != nil {
		return nil, failed
	}
	stood := 0
	during, failed := u.steadily(ctx, name, every, func() error {
		for n := range updates {
			pkg, err := node().pack(fmt.Sprint("update ", n))
			if err != nil {
				return err
			}
			if err := u.call(ctx, http.MethodPut, "/2015-03-31/functions/"+name+"/code", map[string]any{"ZipFile": pkg}, nil); err != nil {
				return err
			}
			if err := u.updated(ctx, name); err != nil {
				return err
			}
			stood++
		}
		return pause(ctx, time.Second)
	})
	f := times(fmt.Sprintf("call at 100 calls/s across %d updates of the code (without updates: p99 %s, slowest %s)", stood, short(percentile(before, 99)), short(slices.Max(before))), during, goal{})
	worst := slices.Max(during)
	f.value += fmt.Sprintf(", slowest %s; %d calls, none failed", short(worst), len(during))
	if failed != nil {
		f.value += ", but for " + failed.Error()
	}
	f.goal, f.missed = "none fails, slowest ≤ 50 ms", failed != nil || worst > 50*ms
	return []figure{f}, nil
}

// updated waits until an update is in place.
func (u user) updated(ctx context.Context, name string) error {
	return poll(ctx, func() (bool, error) {
		var c struct{ LastUpdateStatus, LastUpdateStatusReason string }
		if err := u.call(ctx, http.MethodGet, "/2015-03-31/functions/"+name+"/configuration", nil, &c); err != nil {
			return false, err
		}
		if c.LastUpdateStatus == "Failed" {
			return false, fmt.Errorf("the update of %s failed: %s", name, c.LastUpdateStatusReason)
		}
		return c.LastUpdateStatus == "Successful", nil
	})
}

// steadily calls a function every so often until meanwhile is done, and gives how
// long each call took from when it was due, and what went wrong first.
func (u user) steadily(ctx context.Context, name string, every time.Duration, meanwhile func() error) (took []time.Duration, failed error) {
	over := make(chan error, 1)
	go func() { over <- meanwhile() }()
	var calls sync.WaitGroup
	var mu sync.Mutex
	next := time.Now()
	for {
		select {
		case err := <-over:
			calls.Wait()
			return took, joined(failed, err)
		case <-time.After(time.Until(next)):
		}
		due := next
		calls.Go(func() {
			_, err := u.invoke(ctx, name)
			t := time.Since(due)
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, t); err != nil && failed == nil {
				failed = err
			}
		})
		next = next.Add(every)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// joined is the first of two errors that there is.
func joined(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
