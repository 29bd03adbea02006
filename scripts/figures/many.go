package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// measureMany fills a registry with functions, each of its own code and in
// accounts of 500, and tells what they cost: memory, reading one, listing a page,
// and starting a server on them.
func (b *bench) measureMany(ctx context.Context) (rows []figure, err error) {
	if b.many == 0 {
		return nil, nil
	}
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	empty := settings{flags: noPools()}
	s, err := startServer(ctx, b.binary, data, empty, b.verbose)
	if err != nil {
		return nil, err
	}
	before, err := s.restingMB(ctx)
	if err == nil {
		progress("%d functions", b.many)
		err = s.fill(ctx, b.many)
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return nil, err
	}
	// Measured on a server that did not receive their packages, which it holds
	// in memory for a while.
	if s, err = startServer(ctx, b.binary, data, empty, b.verbose); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	after, err := s.restingMB(ctx)
	if err != nil {
		return nil, err
	}
	get, list := make([]time.Duration, 2000), make([]time.Duration, 2000)
	for i := range get {
		n := i * 7 % b.many
		u := s.user(n / inAccount)
		if get[i], err = u.timed(ctx, "/2015-03-31/functions/"+manyName(n)); err != nil {
			return nil, err
		}
		if list[i], err = u.timed(ctx, "/2015-03-31/functions"); err != nil {
			return nil, err
		}
	}
	return []figure{
		{fmt.Sprintf("memory of the server for %d functions", b.many), fmt.Sprintf("%d MB", after-before), "≤ 50 MB", after-before > 50},
		{fmt.Sprintf("`lambent up` with %d functions until it serves", b.many), short(s.readyAfter), "≤ 3 s", s.readyAfter > 3*time.Second},
		times(fmt.Sprintf("GetFunction among %d", b.many), get, goal{p99: 2 * ms}),
		times(fmt.Sprintf("ListFunctions, a page of 50 among %d", b.many), list, goal{p99: 2 * ms}),
	}, nil
}

// restingMB is what a server has resident that has given back what its start left.
func (s *server) restingMB(ctx context.Context) (int, error) {
	for range 2 {
		if err := rest(ctx); err != nil {
			return 0, err
		}
	}
	return residentMB(s.pid())
}

// inAccount is how many functions an account has, of many.
const inAccount = 500

func manyName(n int) string { return fmt.Sprint("many-", n) }

// fill deploys functions, several at a time.
func (s *server) fill(ctx context.Context, n int) error {
	var workers sync.WaitGroup
	next := make(chan int)
	failed := make(chan error, 16)
	for range cap(failed) {
		workers.Go(func() {
			for i := range next {
				if err := s.user(i/inAccount).deploy(ctx, manyName(i), node()); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < n && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		}
	}
	close(next)
	workers.Wait()
	select {
	case last := <-failed:
		return errors.Join(err, last)
	default:
		return err
	}
}

// timed is how long a read takes, its answer included.
func (u user) timed(ctx context.Context, path string) (time.Duration, error) {
	begin := time.Now()
	resp, err := u.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	drop(resp.Body)
	return time.Since(begin), nil
}
