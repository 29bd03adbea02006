package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// measureFirst calls functions that never ran, each of an account of its own, one
// after the other, each when the server is settled: the pools are full, and
// nothing is being booted or destroyed. What counts is what the server says: from
// receipt until the runtime was handed the event.
func measureFirst(ctx context.Context, s *server, l language, n int, ready string, g goal) ([]figure, error) {
	progress("first calls: %d functions, %s", n, l.name)
	const name = "first"
	who := func(i int) user { return s.user(1 + i) }
	for i := range n {
		if err := who(i).deploy(ctx, name, l); err != nil {
			return nil, err
		}
	}
	var all []time.Duration
	kinds := map[string]int{}
	for i := range n {
		if err := s.settle(ctx, 0); err != nil {
			return nil, err
		}
		st, err := who(i).start(ctx, name)
		if err != nil {
			return nil, err
		}
		all = append(all, st.until)
		kinds[st.kind]++
		if err := who(i).remove(ctx, name); err != nil { // with it goes its instance
			return nil, err
		}
	}
	return []figure{times(fmt.Sprintf("first call of a function that never ran, %s, %s, until its code has the event; %d accounts (%s)", l.name, ready, n, counts(kinds)), all, g)}, nil
}

// measureFurther calls further functions of an account, which start on the
// instance it has: in the runtime that waits there, or in one that must be booted
// where none is kept waiting.
func measureFurther(ctx context.Context, s *server, l language, g goal) ([]figure, error) {
	const accounts, functions = 2, 11
	progress("further functions of an account: %d × %d, %s", accounts, functions-1, l.name)
	var all []time.Duration
	kinds := map[string]int{}
	for a := range accounts {
		u := s.user(500 + a)
		for k := range functions {
			if err := u.deploy(ctx, fmt.Sprint("further-", k), l); err != nil {
				return nil, err
			}
		}
		for k := range functions {
			settled := 0
			if k > 0 {
				settled = k + s.spares
			}
			if err := s.settle(ctx, settled); err != nil {
				return nil, err
			}
			st, err := u.start(ctx, fmt.Sprint("further-", k))
			if err != nil {
				return nil, err
			}
			if k > 0 {
				all = append(all, st.until)
				kinds[st.kind]++
			}
		}
		for k := range functions {
			if err := u.remove(ctx, fmt.Sprint("further-", k)); err != nil {
				return nil, err
			}
		}
	}
	what := "in the runtime that waits there"
	if s.spares == 0 {
		what = "in a runtime booted there"
	}
	return []figure{times(fmt.Sprintf("first call of an account's further function on its instance, %s, %s (%s)", l.name, what, counts(kinds)), all, g)}, nil
}

// measureIdle tells what a further idle container on a shared instance costs, and
// whether very many keep answering.
func measureIdle(ctx context.Context, s *server, n int) ([]figure, error) {
	const perAccount, one = 16, 11 // what an instance of 2,048 MB holds of 128; of which one account has some first
	progress("idle containers: %d", n)
	if err := s.settle(ctx, 0); err != nil { // what is still being destroyed would be told as memory gained
		return nil, err
	}
	who := func(i int) (user, string) { return s.user(800 + i/perAccount), fmt.Sprint("idle-", i) }
	for i := range n {
		u, name := who(i)
		if err := u.deploy(ctx, name, node()); err != nil {
			return nil, err
		}
	}
	var rows []figure
	first := min(one, n)
	var before int
	for i := range first {
		u, name := who(i)
		if _, err := u.invoke(ctx, name); err != nil {
			return nil, err
		}
		if i > 0 && i < first-1 {
			continue
		}
		if err := rest(ctx); err != nil {
			return nil, err
		}
		available, err := meminfoKB("MemAvailable")
		if err != nil {
			return nil, err
		}
		if i == 0 {
			before = available
			continue
		}
		instances, err := s.instances(ctx)
		if err != nil {
			return nil, err
		}
		each := float64(before-available) / 1024 / float64(i)
		rows = append(rows, figure{fmt.Sprintf("memory of a further idle Node container (mean of %d beside one another, instances: %d)", i, len(instances)), fmt.Sprintf("%.0f MB", each), "≤ 35 MB", each > 35})
	}

	var mu sync.Mutex
	var callers sync.WaitGroup
	var failed error
	next := first
	for range 2 { // as many as boot at once
		callers.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				stop := i >= n || failed != nil
				mu.Unlock()
				if stop {
					return
				}
				u, name := who(i)
				if _, err := u.invoke(ctx, name); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	callers.Wait()
	if failed != nil {
		return nil, failed
	}
	if err := rest(ctx); err != nil {
		return nil, err
	}
	instances, err := s.instances(ctx)
	if err != nil {
		return nil, err
	}
	kinds := map[string]int{}
	var all []time.Duration
	for i := range n {
		u, name := who(i)
		st, err := u.start(ctx, name)
		if err != nil {
			return nil, err
		}
		kinds[st.kind]++
		all = append(all, st.until)
	}
	reused := kinds["container_reuse"]
	f := times(fmt.Sprintf("%d idle Node containers on %d instances keep answering (%s)", n, len(instances), counts(kinds)), all, goal{})
	f.value = fmt.Sprintf("%d of %d right, until its code has the event %s", reused, n, f.value)
	f.goal, f.missed = fmt.Sprintf("%d reused", n), reused < n
	return append(rows, f), nil
}

// rest lets what has just run become idle for the server and the kernel, too.
func rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Second):
		return nil
	}
}
