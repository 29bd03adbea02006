package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/api"
	"lambent/internal/bundle"
	"lambent/internal/cgroup"
	"lambent/internal/cluster"
	"lambent/internal/functionlog"
	"lambent/internal/host"
	"lambent/internal/hostinfo"
	"lambent/internal/invoke"
	"lambent/internal/judge"
	"lambent/internal/obs"
	"lambent/internal/pool"
	"lambent/internal/registry"
	"lambent/internal/sandbox/gvisor"
	"lambent/internal/stream"
)

// runServer runs the platform until ctx is done, then drains it. It calls ready
// once, with the address it serves on. What is opened is closed in the opposite
// order, each layer when those above it have ended. To be told to end while it
// starts is no error.
func runServer(ctx context.Context, cfg config.Config, log *slog.Logger, ready func(addr string)) (err error) {
	if err := clearEnvironment(); err != nil {
		return err
	}
	var undo stack
	defer func() {
		if endedEarly(ctx, err) {
			log.Info("told to end before it served")
			err = nil
		}
		err = errors.Join(err, undo.unwind())
	}()
	undo.push(background(ctx, followWork))

	node := cluster.New(cluster.Options{Dir: cfg.Data, Log: log})
	if err := node.Open(ctx); err != nil {
		return err
	}
	undo.push(node.Close)
	for _, d := range node.Damage() {
		log.Error("stored data was damaged", "damage", d.String())
	}
	if err := node.Room(); err != nil {
		log.Warn("functions cannot be created until there is room", "error", err)
	}

	var workers *pool.Pool // from below on; nobody asks before it serves
	who, err := openIdentities(ctx, cfg, node, log, func(arn string) { workers.Renew(arn) })
	if err != nil {
		return err
	}

	logs := functionlog.New(functionlog.Options{Dir: filepath.Join(cfg.Data, "logs"), MaxBytes: cfg.LogBytes, Log: log})
	if err := logs.Open(); err != nil {
		return err
	}
	undo.push(logs.Close)

	executions := obs.NewStore(obs.StoreOptions{Dir: filepath.Join(cfg.Data, "executions"), Keep: cfg.KeepExecutions, Log: log})
	if err := executions.Open(); err != nil {
		return err
	}
	undo.push(executions.Close)
	metrics := obs.NewMetrics(obs.MetricsOptions{Census: func() obs.Census { return census(workers) }, Lost: executions.Lost, Log: log})

	events, watched, err := openEvents(ctx, node, metrics, log)
	if err != nil {
		return err
	}
	undo.push(events.Close)

	runtimes, refused := hostinfo.FindRuntimes(ctx, hostinfo.System{})
	if ctx.Err() != nil { // those that had no time to answer are not refused for a fault of theirs
		return context.Cause(ctx)
	}
	runtimes = append(runtimes, hostinfo.Installed{Family: lambent.FamilyProvided})
	for _, r := range refused {
		log.Warn("a runtime is not used", "path", r.Path, "reason", r.Reason)
	}
	log.Info("runtimes", "found", runtimes)

	driver, err := gvisor.New(gvisor.Options{Dir: filepath.Join(cfg.Data, "sandbox"), Cgroups: cgroup.Mode(cfg.CgroupMode), ReadOnly: extraRoots(runtimes), Log: log})
	if err != nil {
		return err
	}
	if err := driver.Open(ctx); err != nil {
		return err
	}
	undo.push(driver.Close)
	caps := driver.Capabilities()
	log.Info("isolation", "by", caps.Isolation, "memory_limits", caps.MemoryLimits, "cpu_limits", caps.CPULimits)
	for _, w := range caps.Weaker {
		log.Warn("isolation is weaker than it could be", "how", w)
	}

	// The host fetches code from the registry, and the registry has the host
	// prepare it: the host's side waits for the registry to be open.
	var functions *registry.Registry
	opened := make(chan struct{})
	placing := make(chan struct{}) // closed once there are workers: before, nothing is warm
	images, err := openImages(cfg, log)
	if err != nil {
		return err
	}
	undo.push(images.close)
	machine := host.New(host.Options{Driver: driver, Images: images, Dir: filepath.Join(cfg.Data, "host"), Region: cfg.Region, Credentials: roleCredentials(cfg, who, log), InstanceCPUs: cfg.InstanceCPUs, Logs: logs, Observe: transitions(metrics), Log: log,
		Fetch: func(ctx context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error) {
			select {
			case <-opened:
				return functions.CodePackage(ctx, hash)
			case <-ctx.Done():
				return nil, 0, context.Cause(ctx)
			}
		}})
	if err := machine.Open(ctx); err != nil {
		return err
	}
	undo.push(machine.Close)
	functions, err = registry.Open(ctx, node, registry.Options{Region: cfg.Region, Prepare: preparing(machine.Prepare, prepareWaits(), log), Log: log,
		Stand: func(ctx context.Context, fn *lambent.Function, old ...*lambent.Function) error {
			select {
			case <-placing:
				return workers.Stand(ctx, fn, old...)
			default:
				return nil
			}
		},
		CodeDropped: func(hash lambent.CodeHash) {
			if err := machine.DropCode(hash); err != nil {
				log.Warn("unpacked code of a deleted function stays until the next start", "error", err)
			}
		}})
	if err != nil {
		return err
	}
	close(opened)
	undo.push(func() error { functions.Close(); return nil })
	known := functions.Codes()
	if err := machine.PruneCode(func(hash lambent.CodeHash) bool { return known[hash] }); err != nil {
		return err
	}

	failed, err := openFailures(ctx, cfg, node, events, functions, log)
	if err != nil {
		return err
	}
	undo.push(failed.Close)
	metrics.WatchFailures(countFailures(failed))

	limit := cfg.LimitInstances
	if limit == 0 {
		memoryMB, _ := hostinfo.Memory(hostinfo.System{})
		limit = config.Instances(memoryMB)
	}
	workers = pool.New(pool.Options{Host: machine, Runtimes: runtimes, Strict: cfg.StrictRuntimes, Targets: cfg.Pool, MaxInstances: limit, MaxQueue: maxQueue,
		InstanceMB: cfg.InstanceMemoryMB, Spares: cfg.InstanceSpares, IdleTimeout: cfg.IdleTimeout, IdleMost: idleMost(cfg), Turn: turn, ProbeEvery: probeEvery, ProbeTimeout: probeTimeout, InitTimeout: cfg.InitTimeout, BootTimeout: bootTimeout,
		MaxBoots: 2 * runtime.NumCPU(), Log: log,
		Concurrency: func(account lambent.AccountID, function lambent.FunctionName) (*int, int) {
			return functions.Concurrency(account, string(function), cfg.LimitConcurrency)
		}})
	close(placing)
	poolCtx, stopPool := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	var asynchronous *invoke.Dispatcher
	undo.push(func() error { // when what it runs has been ended with the pool
		if asynchronous != nil {
			asynchronous.Close()
		}
		return nil
	})
	// When the pool is told to end, executions have had their time: serve waits
	// for their callers.
	running.Go(func() { workers.Run(poolCtx, 0) })
	undo.push(func() error { stopPool(); running.Wait(); return nil })
	functions.Subscribe(func(c registry.Change) {
		retire(workers, c)
		if c.FunctionDeleted() {
			running.Go(func() { // a subscriber must not wait
				if err := logs.Delete(context.WithoutCancel(ctx), c.Account, c.Name); err != nil {
					log.Warn("the log of a deleted function stays", "error", err)
				}
			})
		}
	})

	undo.push(background(ctx, func(ctx context.Context) error { return images.prune(ctx, functions) }))
	kept := &provisioning{functions: functions, workers: workers}
	kept.follow()

	code, err := openCodeSources(cfg, functions, log)
	if err != nil {
		return err
	}
	undo.push(code.close)
	told := newSyncFailures(failed, functions, log)
	undo.push(told.close)
	verdicts := judge.New(judge.Options{Log: log})
	undo.push(verdicts.Close)
	var asked *invoke.Controls // from below on; nobody calls before
	calls := invoke.New(invoke.Options{Functions: functions, Workers: workers, Region: cfg.Region, Log: log,
		Recorder: obs.Recorder{Metrics: metrics, Executions: executions}, Declared: declared(functions), Judge: verdicts.Check,
		Settled: func(inv *lambent.Invocation, res *lambent.Result, err error) {
			asked.Called(inv, res, err)
			told.settled(inv, res, err)
		}})
	asked = controls(cfg, functions, workers, calls.Invoke, log)
	undo.push(func() error { asked.Close(); return nil })
	deliveries, err := openDeliveries(cfg, functions, who, log)
	if err != nil {
		return err
	}
	undo.push(deliveries.close)
	asynchronous = invoke.NewDispatcher(eventDispatcher(cfg, eventParts{deliveries: deliveries, events: events, functions: functions, invoke: calls.Invoke, failed: failed, controls: asked, watch: watched, log: log}))
	functions.Settings.Subscribe(func(c registry.ObjectChange[registry.FunctionSettings]) {
		asynchronous.Wake(c.Key.Account, lambent.FunctionName(c.Key.Parent))
	})
	undo.push(background(context.WithoutCancel(ctx), func(stopping context.Context) error {
		stop, cancel := context.WithCancel(stopping)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)() // it drains while the door does
		asynchronous.Run(stop)
		return nil
	}))
	door, err := api.New(api.Options{Authenticate: authenticate(cfg, who), Functions: functions, Objects: &functions.Objects, Policies: functions, Invoker: calls, Hosts: cfg.Names(), BodyBudget: bodyBudget(hostinfo.System{}), Region: cfg.Region, Architecture: config.Arch(), Log: log,
		Layers:       functions,
		Events:       events,
		Deliverable:  deliveries.deliverable,
		Limits:       api.Limits{Concurrency: cfg.LimitConcurrency},
		Provisioner:  kept,
		FetchObject:  code.fetch,
		PackFolder:   code.pack,
		Streaming:    stream.Limits{Most: cfg.StreamBytes, Burst: cfg.StreamBurst, Rate: cfg.StreamRate},
		Images:       images.resolver(),
		CheckPackage: func(zip []byte) (int64, error) { m, err := bundle.Inspect(zip); return m.Size, err }})
	if err != nil {
		return err
	}
	door.HandleIdentities(who)
	hostName, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find this machine's name: %w", err)
	}
	door.HandleMachine(workers, hostName)
	door.HandleLogs(logs)
	door.HandleSettings(checkedSettings{functions, deliveries.guard, verdicts})
	door.HandleFailures(failed)
	door.HandleExecutions(executions)
	door.HandleQueues(events)
	door.HandleMetrics(metrics.Handler())
	undo.push(background(ctx, func(ctx context.Context) error { return giveBack(ctx, door.Relieved()) }))
	return serve(ctx, cfg, site{Handler: door, endStreams: door.EndStreams, endExecutions: stopPool}, func(addr string) {
		if err := deliveries.guard.Own(addr); err != nil {
			log.Error("the server's own address is not known to what keeps destinations from it", "error", err)
		}
		ready(addr)
	})
}

// endedEarly reports whether err is only that ctx has ended.
func endedEarly(ctx context.Context, err error) bool {
	return ctx.Err() != nil && err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx)))
}

// site is what serve serves, and how its answers are brought to an end.
type site struct {
	http.Handler
	endStreams    func() // of those that go on by themselves
	endExecutions func() // of those that wait for functions
}

// serve answers until ctx is done, then lets what is being answered end. What is
// not answered in the time to drain is ended, and its callers are told before
// their connections close.
func serve(ctx context.Context, cfg config.Config, site site, ready func(addr string)) error {
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; is another server running there? choose another with --listen", cfg.Listen, err)
	}
	// Requests outlive ctx: they are what draining waits for.
	base := context.WithoutCancel(ctx)
	server := &http.Server{Handler: site, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 2 * time.Minute, IdleTimeout: 5 * time.Minute,
		MaxHeaderBytes: 64 << 10, BaseContext: func(net.Listener) context.Context { return base }}
	server.RegisterOnShutdown(site.endStreams)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ends with Shutdown or Close, and is waited for below
	ready(listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", cfg.Listen, err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.DrainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		site.endExecutions()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			_ = server.Close() // what is left are callers that do not read
		}
	}
	<-failed
	return nil
}

const (
	maxQueue    = 10_000           // callers waiting for a container, all functions together
	turn        = time.Second      // an instance that makes way costs two or three tenths of it
	lastAnswers = 5 * time.Second  // for callers to be told that their executions were ended
	relievedFor = 2 * time.Second  // before memory is given back, which costs a whole collection
	bootTimeout = 30 * time.Second // an instance with its runtime takes 0.15 s; a machine under load some seconds

	probeEvery   = 10 * time.Second // how often warm instances are asked whether they are well
	probeTimeout = 3 * time.Second  // a well one answers in a millisecond
)

// idleMost bounds how long code that is used much is kept.
func idleMost(cfg config.Config) time.Duration {
	if cfg.IdleTimeoutMax > 0 {
		return cfg.IdleTimeoutMax
	}
	return 3 * cfg.IdleTimeout
}

// bodyBudget is how much memory the bodies of requests may take: a sixteenth of
// the machine's, 128 MiB at least and 1 GiB at most. Go's collector may let
// twice as much of the process grow.
func bodyBudget(p hostinfo.Probe) int64 {
	total, _ := hostinfo.Memory(p)
	return min(max(int64(total)<<20/16, 128<<20), 1<<30)
}

// giveBack gives free memory back to the machine a while after the start, which
// reads all there is, and after it is told to, until ctx ends. The collector would
// take minutes to.
func giveBack(ctx context.Context, relieved <-chan struct{}) error {
	for {
		select {
		case <-time.After(relievedFor):
			debug.FreeOSMemory()
		case <-ctx.Done():
			return nil
		}
		select {
		case <-relieved:
		case <-ctx.Done():
			return nil
		}
	}
}

// extraRoots are the folders of runtimes outside /usr, to be shown in sandboxes.
func extraRoots(runtimes []hostinfo.Installed) (roots []string) {
	for _, r := range runtimes {
		if r.Root != "" && r.Root != "/usr" {
			roots = append(roots, r.Root)
		}
	}
	return roots
}

// background runs f until the returned function is called, which waits for its
// end and tells its error.
func background(ctx context.Context, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	return func() error { cancel(); return <-ended }
}

// stack releases what was acquired, last first.
type stack []func() error

func (s *stack) push(f func() error) { *s = append(*s, f) }

func (s *stack) unwind() (err error) {
	for k := len(*s) - 1; k >= 0; k-- {
		err = errors.Join(err, (*s)[k]())
	}
	return err
}
