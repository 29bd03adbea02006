package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// holder holds its container when it is told to, for as long as a function may
// run, and answers everything else at once.
const holder = `export const handler = async (event) => { if (event.hold) await new Promise((done) => setTimeout(done, 900000)); };
`

const (
	asyncClients = 64
	accepting    = 10 * time.Second // that accepts are counted for
)

// measureAsync tells of asynchronous calls: how fast they are accepted, while the
// function executes them and while it is throttled and executes nothing, how soon
// a warm function has them, and what many of them that wait cost.
func (b *bench) measureAsync(ctx context.Context, s *server) (rows []figure, err error) {
	if err := s.settle(ctx, 0); err != nil {
		return nil, err
	}
	executed, held := s.user(910), s.user(911)
	if err := executed.deploy(ctx, "echo", node()); err != nil {
		return nil, err
	}
	if err := held.deploy(ctx, "held", language{"Node", "nodejs22.x", "index.handler", "index.mjs", []byte(holder)}); err != nil {
		return nil, err
	}
	idle, err := s.restingMB(ctx)
	if err != nil {
		return nil, err
	}
	for _, measure := range []func() ([]figure, error){
		func() ([]figure, error) { return measureHanded(ctx, executed) },
		func() ([]figure, error) { return measureAccepts(ctx, executed, "echo", "while they are executed") },
		func() ([]figure, error) {
			if err := hold(ctx, held); err != nil {
				return nil, err
			}
			return measureAccepts(ctx, held, "held", "while the function is throttled and executes nothing")
		},
		func() ([]figure, error) { return b.measureBacklog(ctx, s, held, idle) },
	} {
		more, err := measure()
		if err != nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// hold has the function execute one event that does not end, and no other.
func hold(ctx context.Context, u user) error {
	if err := reserveOne(ctx, u); err != nil {
		return err
	}
	if err := u.call(ctx, http.MethodPut, "/2015-03-31/functions/held/configuration", map[string]any{"Timeout": 900}, nil); err != nil {
		return err
	}
	one, err := u.sender("held", []byte(`{"hold":true}`))
	if err != nil {
		return err
	}
	if _, _, err := one.flood(ctx, 1, 1, time.Minute, false); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		l, err := u.backlog(ctx, "held")
		return l.UnderWay == 1 && l.Waiting == 0, err
	})
}

func reserveOne(ctx context.Context, u user) error {
	return u.call(ctx, http.MethodPut, "/2017-10-31/functions/held/concurrency", map[string]any{"ReservedConcurrentExecutions": 1}, nil)
}

// measureHanded sends events one by one, each a while after the one before, and
// reads in the records when the function had them.
func measureHanded(ctx context.Context, u user) ([]figure, error) {
	const events, every, warmUp = 1000, 10 * ms, 100
	progress("%d asynchronous calls, one every %v", events, every)
	s, err := u.sender("echo", kilobyte())
	if err != nil {
		return nil, err
	}
	l, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer l.conn.Close()
	var accepted []time.Duration
	tick := time.NewTicker(every)
	defer tick.Stop()
	for range warmUp + events {
		begin := time.Now()
		if err := l.send(); err != nil {
			return nil, err
		}
		accepted = append(accepted, time.Since(begin))
		<-tick.C
	}
	if err := u.drained(ctx, "echo"); err != nil {
		return nil, err
	}
	var handed []time.Duration
	err = poll(ctx, func() (bool, error) { // a record is there a moment after the end
		var records []struct {
			ReceivedAt    time.Time `json:"received_at"`
			ExecStartedAt time.Time `json:"exec_started_at"`
		}
		err := u.call(ctx, http.MethodGet, fmt.Sprintf("/_lambent/v1/executions?function=echo&limit=%d", warmUp+events), nil, &records)
		if err != nil || len(records) < warmUp+events {
			return false, err
		}
		for _, r := range records[:events] {
			handed = append(handed, r.ExecStartedAt.Sub(r.ReceivedAt))
		}
		return true, nil
	})
	return []figure{
		times("an asynchronous call of 1 KB until it is accepted, synced; one client, 100 a second", accepted[warmUp:], goal{p50: 2 * ms}),
		times("from its receipt until the warm function has it", handed, goal{5 * ms, 50 * ms}),
	}, err
}

func measureAccepts(ctx context.Context, u user, name, meanwhile string) ([]figure, error) {
	progress("asynchronous calls of %d clients, %s", asyncClients, meanwhile)
	s, err := u.sender(name, kilobyte())
	if err != nil {
		return nil, err
	}
	const warmUp = 2 * time.Second
	if _, _, err := s.flood(ctx, asyncClients, 1<<30, warmUp, false); err != nil {
		return nil, err
	}
	took, sent, err := s.flood(ctx, asyncClients, 1<<30, accepting, true)
	if err != nil {
		return nil, err
	}
	rate := float64(sent) / accepting.Seconds()
	f := times(fmt.Sprintf("asynchronous calls of 1 KB, %d clients, %s", asyncClients, meanwhile), took, goal{})
	f.value = fmt.Sprintf("%.0f accepted/s; %s", rate, f.value)
	f.goal, f.missed = "≥ 2500 accepted/s", rate < 2500
	return []figure{f}, nil
}

// few are so many events that wait as are nothing to speak of.
const few = 20_000

// measureBacklog fills a function's queue while it executes nothing and then has it
// executed: a few at first, to compare with, then many. idle is the server's memory
// before anything was called, in MB.
func (b *bench) measureBacklog(ctx context.Context, s *server, u user, idle int) ([]figure, error) {
	if b.events == 0 {
		return nil, nil
	}
	send, err := u.sender("held", kilobyte())
	if err != nil {
		return nil, err
	}
	fill := func(events int) (float64, error) {
		if err := reserveOne(ctx, u); err != nil { // which is held
			return 0, err
		}
		progress("%d asynchronous calls that wait", events)
		began := time.Now()
		_, sent, err := send.flood(ctx, asyncClients, events, time.Hour, false)
		return float64(sent) / time.Since(began).Seconds(), err
	}
	execute := func(long time.Duration) (float64, error) {
		if err := u.release(ctx); err != nil {
			return 0, err
		}
		progress("… are executed")
		return u.drain(ctx, "held", long)
	}
	if _, err := execute(time.Hour); err != nil { // what the ones before it left
		return nil, err
	}
	if _, err := fill(few); err != nil {
		return nil, err
	}
	last, err := execute(time.Hour)
	if err != nil {
		return nil, err
	}
	peak := s.watchMemory()
	accepted, err := fill(b.events)
	filling := peak()
	if err != nil {
		return nil, err
	}
	waiting, err := s.restingMB(ctx)
	if err != nil {
		return nil, err
	}
	peak = s.watchMemory()
	first, err := execute(b.executing)
	executing := peak()
	most := max(waiting, filling, executing) - idle
	n := fmt.Sprintf("%d asynchronous calls that wait", b.events)
	return []figure{
		{n + ": accepted", fmt.Sprintf("%.0f/s", accepted), "", false},
		{n + ": memory of the server, at most while they are accepted; then; at most while they are executed",
			fmt.Sprintf("+ %d MB; + %d MB; + %d MB to the %d MB when there were no calls yet", filling-idle, waiting-idle, executing-idle, idle), "+ ≤ 100 MB", most > 100},
		{n + fmt.Sprintf(": executed of the first in %v; of the last %d", b.executing, few), fmt.Sprintf("%.0f/s; %.0f/s", first, last), "no slower", first < 0.9*last},
	}, err
}

// release has the function execute all that waits.
func (u user) release(ctx context.Context) error {
	return u.call(ctx, http.MethodDelete, "/2017-10-31/functions/held/concurrency", nil, nil)
}

// backlog is what waits for a function, as the admin API shows it.
type backlog struct {
	Waiting  int `json:"waiting"`
	UnderWay int `json:"under_way"`
}

func (u user) backlog(ctx context.Context, name string) (b backlog, err error) {
	var all []backlog
	err = u.call(ctx, http.MethodGet, "/_lambent/v1/queues?function="+name, nil, &all)
	if len(all) > 0 {
		b = all[0]
	}
	return b, err
}

// drained waits until nothing waits for a function any more.
func (u user) drained(ctx context.Context, name string) error {
	_, err := u.drain(ctx, name, time.Hour)
	return err
}

const (
	stalled  = time.Minute     // a queue may stay as it is; then that is an error
	underWay = 3 * time.Second // until as many containers run as are of use
)

// drain waits until no event waits for a function, or for so long, and tells how
// many a second were taken once they were under way.
func (u user) drain(ctx context.Context, name string, long time.Duration) (rate float64, err error) {
	began := time.Now()
	var from time.Time
	tick := time.NewTicker(20 * ms)
	defer tick.Stop()
	for had, left, moved := 0, -1, began; ; {
		b, err := u.backlog(ctx, name)
		now := time.Now()
		switch {
		case err != nil:
			return 0, err
		case b.Waiting != left:
			left, moved = b.Waiting, now
		case now.Sub(moved) > stalled:
			return 0, fmt.Errorf("%d events have waited for %v, and none was executed", left, stalled)
		}
		if from.IsZero() && now.Sub(began) > underWay {
			from, had = now, left
		}
		if left == 0 || now.Sub(began) > long {
			if !from.IsZero() && now.After(from) {
				rate = float64(had-left) / now.Sub(from).Seconds()
			}
			return rate, nil
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// watchMemory looks for the most memory the server has resident until the function
// it returns is called.
func (s *server) watchMemory() (peak func() int) {
	stop := make(chan struct{})
	most := 0
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(20 * ms)
		defer tick.Stop()
		for {
			if mb, err := residentMB(s.pid()); err == nil {
				most = max(most, mb)
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	return func() int {
		close(stop)
		watching.Wait()
		return most
	}
}
