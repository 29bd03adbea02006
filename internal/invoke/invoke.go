// Package invoke is one invocation's life: from a door's request to an answer
// with its log and its record. This file is the way of a synchronous call, top to
// bottom; it touches memory and the host only.
package invoke

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"lambent"
	"lambent/internal/control"
	"lambent/internal/host"
	"lambent/internal/obs"
	"lambent/internal/pool"
	"lambent/internal/runtimeapi"
)

// Functions finds what to run.
type Functions interface {
	// Route finds the version one call is for, and, where that is not in place yet,
	// what may stand in for it until then, best first. Where an alias shares its
	// calls between two, roll decides, which is evenly distributed in [0, 1).
	Route(account lambent.AccountID, name lambent.FunctionName, qualifier string, roll float64) (fn *lambent.Function, standIns []*lambent.Function, inPlace bool, err error)
	// Rollout is told of a call for what is not in place yet: it is to be brought
	// up. It must not block.
	Rollout(account lambent.AccountID, name lambent.FunctionName, qualifier string)
}

// Workers finds where to run it.
type Workers interface {
	Acquire(ctx context.Context, fn *lambent.Function, standIns ...*lambent.Function) (*pool.Lease, error)
}

// Recorder is told of every call for which a container was asked. It must not
// block. Safe for concurrent use.
type Recorder interface {
	Waiting(delta int)      // so many more calls wait for a container, or fewer
	Executed(obs.Execution) // a call was settled, however it ended
}

// Options are what a Service needs.
type Options struct {
	Functions Functions
	Workers   Workers
	Region    string
	Recorder  Recorder // nil: nobody
	// Declared is what is declared of a function: asked for every call, it must not
	// block. nil: nothing is of any.
	Declared func(lambent.AccountID, lambent.FunctionName) Declared
	// Judge tells why the answer to an event is not what is expected; nil where it
	// is. It is there if Declared is.
	Judge func(ctx context.Context, account lambent.AccountID, e *control.Expectation, response, event []byte) error
	// Settled is told of every synchronous call when its answer is there; it must not
	// block. nil: nobody is.
	Settled func(*lambent.Invocation, *lambent.Result, error)
	Log     *slog.Logger
}

// nobody is told nothing.
type nobody struct{}

func (nobody) Waiting(int)            {}
func (nobody) Executed(obs.Execution) {}

// Service runs invocations. Safe for use by several goroutines.
type Service struct{ opts Options }

// New makes a service.
func New(opts Options) *Service {
	if opts.Recorder == nil {
		opts.Recorder = nobody{}
	}
	return &Service{opts: opts}
}

// maxTries is how often a container is sought when one dies before the event was
// handed over: until then nothing of the function's has happened.
const maxTries = 3

// Invoke runs a function and waits for its answer. What the function did wrong is
// a Result with a FunctionError; an error is the platform's or the caller's
// (*lambent.Error). The execution goes on when ctx ends, as on AWS; only the wait
// for a container ends with it.
func (s *Service) Invoke(ctx context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
	res, err := s.invoke(ctx, inv)
	if s.opts.Settled != nil && !inv.Asynchronous && !inv.Control {
		s.opts.Settled(inv, res, err)
	}
	return res, err
}

func (s *Service) invoke(ctx context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
	asked, standIns, inPlace, err := s.opts.Functions.Route(inv.Account, inv.Function, inv.Qualifier, rand.Float64())
	if err != nil {
		return nil, err
	}
	if inv.Exact {
		standIns = nil
	}
	if err := requireRunnable(asked); err != nil && (asked.State != "Pending" || len(standIns) == 0) {
		return nil, err
	}
	if asked, standIns, err = ofTenant(asked, standIns, inv.TenantID); err != nil {
		return nil, err
	}
	if !inPlace {
		s.opts.Functions.Rollout(inv.Account, inv.Function, inv.Qualifier)
	}
	for try := 1; ; try++ {
		s.opts.Recorder.Waiting(1)
		lease, err := s.opts.Workers.Acquire(ctx, asked, standIns...)
		s.opts.Recorder.Waiting(-1)
		if err != nil {
			return s.failedStart(inv, asked, err)
		}
		if inv.Granted != nil && try == 1 {
			inv.Granted()
		}
		c, fn := lease.Container, lease.Function
		ev := host.Event{
			RequestID: inv.RequestID, Payload: inv.Payload, Timeout: fn.Timeout(),
			InvokedARN:    lambent.FunctionARN(s.opts.Region, fn.Account, fn.Name, inv.Qualifier),
			ClientContext: inv.ClientContext, TraceID: inv.TraceID, TenantID: inv.TenantID,
		}
		if inv.Stream != nil {
			ev.Stream = streamOf(inv, asked, lease)
		}
		c.Begin(inv.RequestID, fn.Version)
		answer, err := c.Invoke(&ev)
		if err != nil && answer.StartedAt.IsZero() && !isTimeout(err) && try < maxTries {
			c.End(fmt.Sprintf("RequestId: %s The container ended before it took the event; another one is given it", inv.RequestID))
			lease.Discard()
			s.opts.Log.Info("a container ended before it was handed the event; trying another", "request", inv.RequestID, "container", c.ID(), "error", err)
			continue
		}
		result := s.settle(ctx, inv, asked, lease, answer, err)
		if err != nil { // the container is of no more use
			lease.Discard()
		} else {
			lease.Release()
		}
		return result, nil
	}
}

// settle makes the result, the log and the record of an execution that has
// ended: with answer, or with what host.Container.Invoke failed with.
func (s *Service) settle(ctx context.Context, inv *lambent.Invocation, asked *lambent.Function, lease *pool.Lease, answer host.Answer, err error) *lambent.Result {
	c, fn := lease.Container, lease.Function
	result := &lambent.Result{
		RequestID: inv.RequestID, Payload: answer.Payload, Streamed: answer.Streamed,
		Start: startOf(inv, asked, lease, answer.StartedAt),
	}
	report := report{request: inv.RequestID, duration: answer.Duration, memoryMB: fn.MemoryMB, init: lease.Loaded.Init}
	switch {
	case err != nil:
		f := describe(inv.RequestID, fn, err)
		result.Payload, result.Outcome, result.FunctionError = f.payload, f.outcome, unhandled
		report.status, report.errorType = f.status, f.errorType
		if f.line != "" {
			c.Log(f.line)
		}
	case answer.ErrorType != "":
		result.Outcome, result.FunctionError = lambent.OutcomeFunctionError, unhandled
		report.status, report.errorType = "error", answer.ErrorType
	default:
		if miss := s.unexpected(ctx, inv, answer); miss != nil {
			result.Unexpected = answer.Payload
			result.Payload, result.Outcome, result.FunctionError = runtimeapi.ErrorPayload(typeUnexpected, string(inv.RequestID), miss.Error()), lambent.OutcomeFunctionError, unhandled
			report.status, report.errorType = "error", typeUnexpected
			c.Log(fmt.Sprintf("RequestId: %s Error: %s: %s", inv.RequestID, typeUnexpected, miss))
		}
	}
	result.ErrorType = report.errorType
	report.maxMemoryMB = c.MaxMemoryUsed()
	c.End(report.lines()...)
	if inv.WantLogTail {
		result.LogTail = c.Tail()
	}
	s.record(inv, fn, c, result, report)
	return result
}

// typeUnexpected is the error of an answer that is not what is expected.
const typeUnexpected = "Lambent.UnexpectedResult"

// unexpected tells why an answer is not what the function's owner has declared to
// be right; nil where it is. One that was streamed has gone already.
func (s *Service) unexpected(ctx context.Context, inv *lambent.Invocation, answer host.Answer) error {
	if s.opts.Declared == nil || answer.Streamed {
		return nil
	}
	e := s.opts.Declared(inv.Account, inv.Function).Expect
	if e == nil {
		return nil
	}
	return s.opts.Judge(context.WithoutCancel(ctx), inv.Account, e, answer.Payload, inv.Payload)
}

// startOf tells how an execution started that a lease was had for.
func startOf(inv *lambent.Invocation, asked *lambent.Function, lease *pool.Lease, handedAt time.Time) lambent.Start {
	start := startIn(inv, asked, lease.Function, lease.Container)
	start.Kind, start.Reason, start.ExecStartedAt = lease.Kind, lease.Reason, handedAt
	return start
}

// startIn is the part of a start that is so whatever becomes of it.
func startIn(inv *lambent.Invocation, asked, served *lambent.Function, c *host.Container) lambent.Start {
	return lambent.Start{Instance: c.Instance().ID(), Container: c.ID(), ServedVersion: served.Version, ServedCode: served.Code,
		RequestedVersion: asked.Version, RequestedCode: asked.Code, ReceivedAt: inv.ReceivedAt}
}

func isTimeout(err error) bool {
	_, is := errors.AsType[*host.TimeoutError](err)
	return is
}

// unhandled is AWS's word for every function error ("Handled" is history).
const unhandled = "Unhandled"

// requireRunnable refuses a function that is not Active, in AWS's words.
func requireRunnable(fn *lambent.Function) error {
	switch fn.State {
	case "Pending":
		return &lambent.Error{Op: "invoke", Resource: string(fn.Name), Kind: lambent.KindExists,
			Message: "The operation cannot be performed at this time. The function is currently in the following state: Pending"}
	case "Failed":
		return &lambent.Error{Op: "invoke", Resource: string(fn.Name), Kind: lambent.KindExists,
			Message: "The operation cannot be performed at this time. The function is currently in the following state: Failed (" + fn.StateReason + ")"}
	}
	return nil
}

// failedStart answers a call for which no container came up. The function's own
// failure is a function error, as for a handler; anything else the platform's.
func (s *Service) failedStart(inv *lambent.Invocation, asked *lambent.Function, err error) (*lambent.Result, error) {
	var failed *pool.StartError
	if !errors.As(err, &failed) {
		s.recordRefusal(inv, asked, lambent.Start{}, err)
		return nil, err
	}
	fn := failed.Function
	start := startIn(inv, asked, fn, failed.Container)
	start.Kind, start.Reason = failed.Kind, failed.Reason
	f := describe(inv.RequestID, fn, failed.Err)
	if f.payload == nil {
		s.recordRefusal(inv, fn, start, err)
		return nil, &lambent.Error{Op: "invoke", Resource: string(fn.Name), Kind: lambent.KindInternal, Err: err}
	}
	c := failed.Container
	c.Begin(inv.RequestID, fn.Version)
	if f.line != "" {
		c.Log(f.line)
	}
	report := report{request: inv.RequestID, duration: failed.Took, memoryMB: fn.MemoryMB, maxMemoryMB: c.MaxMemoryUsed(), status: f.status, errorType: f.errorType}
	c.End(report.lines()...)
	result := &lambent.Result{
		RequestID: inv.RequestID, Payload: f.payload, FunctionError: unhandled, ErrorType: f.errorType, Outcome: f.outcome,
		Start: start,
	}
	if inv.WantLogTail {
		result.LogTail = c.Tail()
	}
	s.record(inv, fn, c, result, report)
	return result, nil
}

// failure is what a caller is told when a runtime failed instead of answering.
type failure struct {
	payload   []byte // nil: it was not the function's fault
	outcome   lambent.Outcome
	status    string // of the REPORT line
	errorType string
	line      string // in the log, before END
}

// describe makes AWS's shapes of a host's error.
func describe(id lambent.RequestID, fn *lambent.Function, err error) failure {
	if timeout, ok := errors.AsType[*host.TimeoutError](err); ok {
		message := fmt.Sprintf("Task timed out after %.2f seconds", timeout.Limit.Seconds())
		return failure{payload: runtimeapi.ErrorPayload(typeTimeout, string(id), message), outcome: lambent.OutcomeTimedOut,
			status: "timeout", line: fmt.Sprintf("%s %s %s", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), id, message)}
	}
	if exit, ok := errors.AsType[*host.ExitError](err); ok {
		f := failure{payload: exit.Payload(string(id)), outcome: lambent.OutcomeFunctionError, status: "error", errorType: runtimeapi.TypeExit,
			line: fmt.Sprintf("RequestId: %s Error: %s\n%s", id, exit.ExitError.Error(), runtimeapi.TypeExit)}
		if exit.OutOfMemory {
			f.errorType = "Runtime.OutOfMemory"
		}
		return f
	}
	if init, ok := errors.AsType[*runtimeapi.InitError](err); ok {
		return failure{payload: init.Payload(string(id)), outcome: lambent.OutcomeFunctionError, status: "error", errorType: init.Type}
	}
	if full, ok := errors.AsType[*runtimeapi.StreamError](err); ok {
		return failure{payload: runtimeapi.PlainErrorPayload(runtimeapi.TypeResponseTooLarge, full.Err.Error()), outcome: lambent.OutcomeFunctionError,
			status: "error", errorType: runtimeapi.TypeResponseTooLarge, line: fmt.Sprintf("RequestId: %s Error: %s", id, full.Err)}
	}
	if broke, ok := errors.AsType[*runtimeapi.ProtocolError](err); ok {
		return failure{payload: runtimeapi.ErrorPayload(runtimeapi.TypeExit, string(id), "Runtime exited without providing a reason"), outcome: lambent.OutcomeFunctionError,
			status: "error", errorType: runtimeapi.TypeExit, line: fmt.Sprintf("RequestId: %s Error: %s", id, broke)}
	}
	return failure{outcome: lambent.OutcomeLost, status: "error", errorType: "Runtime.Unknown"}
}
