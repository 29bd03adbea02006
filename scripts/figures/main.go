// Command figures measures lambent from outside and prints README's table of
// figures: it starts the binary on a data folder of its own, deploys functions
// through the Lambda API and calls them. Times are noisy and differ between
// machines; ratios are what counts, so what lambent is compared with is measured
// in the same run, turn by turn.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.binary, "lambent", "bin/lambent", "the binary to measure")
	flag.IntVar(&b.calls, "calls", 4000, "how many warm calls")
	flag.IntVar(&b.functions, "functions", 100, "how many Node functions to call for the first time; two fifths of it of the others")
	flag.IntVar(&b.idle, "idle", 200, "how many idle containers to keep")
	flag.IntVar(&b.updates, "updates", 20, "how many updates of a function's code to make under load")
	flag.IntVar(&b.many, "many", 10000, "how many functions to fill a registry with; 0 leaves it out")
	flag.IntVar(&b.events, "events", 1_000_000, "how many asynchronous calls to have waiting at once; 0 leaves it out")
	flag.DurationVar(&b.executing, "executing", time.Minute, "how long to watch them being executed")
	flag.StringVar(&b.only, "only", "", "measure this alone: warm, updates, cold, many, async or runners")
	echo := flag.Bool("echo", false, "be the bare echo server (used by figures itself)")
	flag.BoolVar(&b.verbose, "v", false, "show the server's log")
	flag.Parse()
	keepConnections(64)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *echo {
		err = serveEcho()
	} else {
		err = b.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

// bench is what to measure, and how much of it.
type bench struct {
	binary                 string
	calls, functions, idle int
	updates, many, events  int
	executing              time.Duration
	only                   string
	verbose                bool
	dir                    string // for everything; removed at the end
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.calls < 1 || b.functions < 5 || b.idle < 1 || b.many < 0 || b.events < 0 {
		return errors.New("the least is 1 call, 5 functions and 1 idle container")
	}
	if b.dir, err = os.MkdirTemp("", "lambent-figures-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	golang, err := buildBootstrap(ctx, b.dir)
	if err != nil {
		return err
	}
	var rows []figure
	defer func() { fmt.Print(table(rows)) }() // what there is, however it ends
	for _, part := range []struct {
		name    string
		measure func() ([]figure, error)
	}{
		{"warm", func() ([]figure, error) {
			return b.with(ctx, settings{flags: []string{"--pool-nodejs", "4"}, spares: 1}, func(s *server) ([]figure, error) {
				return b.measureWarmServer(ctx, s, golang)
			})
		}},
		{"updates", func() ([]figure, error) {
			return b.with(ctx, settings{flags: []string{"--pool-nodejs", "4"}, spares: 1}, func(s *server) ([]figure, error) {
				return measureUpdates(ctx, s, b.updates)
			})
		}},
		{"cold", func() ([]figure, error) {
			return b.with(ctx, settings{flags: noPools()}, func(s *server) ([]figure, error) {
				return b.measureColdServer(ctx, s)
			})
		}},
		{"many", func() ([]figure, error) { return b.measureMany(ctx) }},
		{"async", func() ([]figure, error) {
			return b.with(ctx, settings{flags: []string{"--pool-nodejs", "4"}, spares: 1}, func(s *server) ([]figure, error) {
				return b.measureAsync(ctx, s)
			})
		}},
		{"runners", func() ([]figure, error) { return measureRunners(ctx, b.dir), nil }},
	} {
		if b.only != "" && b.only != part.name {
			continue
		}
		more, err := part.measure()
		rows = append(rows, more...)
		if err != nil {
			return err
		}
	}
	return nil
}

// noPools are the flags of a server that keeps no warm instances.
func noPools() []string {
	return []string{"--pool-nodejs", "0", "--pool-python", "0", "--pool-provided", "0"}
}

// with measures with a server of the given settings, on a folder of its own.
func (b *bench) with(ctx context.Context, set settings, measure func(*server) ([]figure, error)) (rows []figure, err error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	s, err := startServer(ctx, b.binary, data, set, b.verbose)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return measure(s)
}

// measureWarmServer measures what takes warm instances or containers.
func (b *bench) measureWarmServer(ctx context.Context, s *server, golang language) ([]figure, error) {
	if err := s.settle(ctx, 0); err != nil {
		return nil, err
	}
	memory, err := residentMB(s.pid())
	if err != nil {
		return nil, err
	}
	rows := []figure{
		{"`lambent up` until it serves", short(s.readyAfter), "≤ 1 s", s.readyAfter > time.Second},
		{"memory of the server, nothing running", fmt.Sprintf("%d MB", memory), "≤ 120 MB", memory > 120},
	}
	others := b.functions * 2 / 5
	for _, measure := range []func() ([]figure, error){
		func() ([]figure, error) { return b.measureEcho(ctx, s) },
		func() ([]figure, error) { return measureThroughput(ctx, s) },
		func() ([]figure, error) {
			return measureFirst(ctx, s, node(), b.functions, "a warm instance ready", goal{12 * ms, 40 * ms})
		},
		func() ([]figure, error) {
			return measureFirst(ctx, s, python(), others, "a warm instance ready", goal{p50: 12 * ms})
		},
		func() ([]figure, error) {
			return measureFirst(ctx, s, golang, others, "a warm instance ready", goal{p50: 25 * ms})
		},
		func() ([]figure, error) { return measureFurther(ctx, s, node(), goal{p50: 20 * ms}) },
		func() ([]figure, error) { return measureFurther(ctx, s, golang, goal{p50: 40 * ms}) },
	} {
		more, err := measure()
		if err != nil {
			return rows, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

// measureColdServer measures what finds nothing ready: no instance is warm, and
// no runtime waits on those there are.
func (b *bench) measureColdServer(ctx context.Context, s *server) ([]figure, error) {
	onDemand, err := measureFirst(ctx, s, node(), b.functions/5, "no instance ready", goal{p50: 300 * ms})
	if err != nil {
		return nil, err
	}
	booted, err := measureFurther(ctx, s, node(), goal{p50: 250 * ms})
	if err != nil {
		return onDemand, err
	}
	idle, err := measureIdle(ctx, s, b.idle)
	return slices.Concat(onDemand, booted, idle), err
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
