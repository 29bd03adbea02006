// Command figures measures lambent from outside and prints README's table of
// figures: it starts the binary on a data folder of its own, deploys functions
// through the Lambda API and calls them. Times are noisy and differ between
// machines; ratios are what counts, so the bare echo server they are compared
// with is measured in the same run, turn by turn.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("lambent", "bin/lambent", "the binary to measure")
	calls := flag.Int("calls", 4000, "how many warm calls")
	functions := flag.Int("functions", 100, "how many functions to call for the first time")
	echo := flag.Bool("echo", false, "be the bare echo server (used by figures itself)")
	verbose := flag.Bool("v", false, "show the server's log")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *echo {
		err = serveEcho()
	} else {
		err = measure(ctx, *binary, *calls, *functions, *verbose)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// serveEcho is what warm calls are compared with: the least a Go HTTP server
// does. It prints its address and serves until it is killed.
func serveEcho() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(body) // the caller sees what is missing
		}
	}))
}

// figure is a row of the table.
type figure struct{ name, value, goal string }

func measure(ctx context.Context, binary string, calls, functions int, verbose bool) (err error) {
	dir, err := os.MkdirTemp("", "lambent-figures-")
	if err != nil {
		return err
	}
	defer func() {
		if e := os.RemoveAll(dir); err == nil {
			err = e
		}
	}()
	s, err := startServer(ctx, binary, dir, verbose)
	if err != nil {
		return err
	}
	defer func() {
		if e := s.stop(); err == nil {
			err = e
		}
	}()
	rows := []figure{{"`lambent up` until it serves", millis(s.readyAfter), "≤ 1 s"}}

	if err := s.waitForPools(ctx); err != nil {
		return err
	}
	memory, err := residentMB(s.pid())
	if err != nil {
		return err
	}
	rows = append(rows, figure{"memory of the server, nothing running", fmt.Sprintf("%d MB", memory), "≤ 120 MB"})

	warm, err := measureWarm(ctx, s, calls)
	if err != nil {
		return err
	}
	rows = append(rows, warm...)

	first, err := measureFirst(ctx, s, functions, "its account's first", func(i int) user { return user{s.endpoint, fmt.Sprintf("7%011d", i)} })
	if err != nil {
		return err
	}
	rows = append(rows, first...)
	first, err = measureFirst(ctx, s, functions, "another of its account", func(int) user { return user{s.endpoint, "888888888888"} })
	if err != nil {
		return err
	}
	rows = append(rows, first...)

	fmt.Printf("\n%s\n\n| figure | measured | goal |\n|---|---|---|\n", machine())
	for _, r := range rows {
		fmt.Printf("| %s | %s | %s |\n", r.name, r.value, r.goal)
	}
	return nil
}

const echoSource = "export const handler = async (event) => event;\n"

var event = []byte(`{"hello":"world","n":42}`)

// measureWarm compares calls of a Node echo through the whole platform with
// calls of the bare echo server, in turns so that both see the same noise.
func measureWarm(ctx context.Context, s *server, calls int) ([]figure, error) {
	bare, err := startEcho(ctx)
	if err != nil {
		return nil, err
	}
	defer bare.stop()
	u := user{s.endpoint, "777777777777"}
	if err := u.deploy(ctx, "echo", echoSource); err != nil {
		return nil, err
	}
	const warmUp, turn = 300, 100
	var through, plain []time.Duration
	for len(through) < warmUp+calls {
		for range turn {
			took, err := u.timedInvoke(ctx, "echo")
			if err != nil {
				return nil, err
			}
			through = append(through, took)
		}
		for range turn {
			took, err := bare.timedPost(ctx)
			if err != nil {
				return nil, err
			}
			plain = append(plain, took)
		}
	}
	through, plain = through[warmUp:], plain[warmUp:]
	fmt.Fprintf(os.Stderr, "warm: %d calls each\n", len(through))
	ratio := float64(percentile(through, 50)) / float64(percentile(plain, 50))
	return []figure{
		{"bare Go HTTP echo, p50 / p99", micros(percentile(plain, 50)) + " / " + micros(percentile(plain, 99)), ""},
		{"warm call of a Node echo, p50 / p99", micros(percentile(through, 50)) + " / " + micros(percentile(through, 99)), ""},
		{"ratio of the p50s", fmt.Sprintf("%.1f×", ratio), "≤ 4×"},
	}, nil
}

// measureFirst calls functions that never ran, one after the other, each when
// the pools are full: a warm instance is there, and none is just being booted.
// What counts is what the server says: from receipt until the runtime was handed
// the event.
func measureFirst(ctx context.Context, s *server, n int, what string, owner func(i int) user) ([]figure, error) {
	name := func(i int) string { return fmt.Sprintf("first-%d", i) }
	for i := range n {
		// Each has code of its own, so that nothing of another one helps.
		if err := owner(i).deploy(ctx, name(i), fmt.Sprintf("%s// %s %d\n", echoSource, what, i)); err != nil {
			return nil, err
		}
	}
	var times []time.Duration
	kinds := map[string]int{}
	for i := range n {
		if err := s.waitForPools(ctx); err != nil {
			return nil, err
		}
		until, kind, err := owner(i).firstInvoke(ctx, name(i))
		if err != nil {
			return nil, err
		}
		times = append(times, until)
		kinds[kind]++
	}
	for i := range n {
		if err := owner(i).remove(ctx, name(i)); err != nil {
			return nil, err
		}
	}
	var parts []string
	for k, c := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", c, k))
	}
	slices.Sort(parts)
	return []figure{{
		fmt.Sprintf("first call of a Node function, %s, until its code has the event (%s)", what, strings.Join(parts, ", ")),
		"p50 " + millis(percentile(times, 50)) + ", p99 " + millis(percentile(times, 99)),
		"p50 ≤ 15 ms, p99 ≤ 50 ms",
	}}, nil
}

// percentile is the smallest of the times that p in a hundred do not exceed.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
func micros(d time.Duration) string { return fmt.Sprintf("%.0f µs", float64(d)/1e3) }
