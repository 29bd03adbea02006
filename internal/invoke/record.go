package invoke

import (
	"errors"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/obs"
	"lambent/internal/pool"
)

// record tells of an execution that has ended in a container.
func (s *Service) record(inv *lambent.Invocation, fn *lambent.Function, c *host.Container, r *lambent.Result, rep report) {
	e := execution(inv, fn, r.Start)
	if r.Start.Kind == lambent.StartWarm {
		e.Pool = string(c.Snapshot().Runtime.Family)
	}
	e.MaxMemoryUsedMB, e.CPU = rep.maxMemoryMB, rep.cpu
	e.Outcome, e.Error = r.Outcome, rep.errorType
	if r.Outcome == lambent.OutcomeTimedOut {
		e.Error = typeTimeout
	}
	s.opts.Recorder.Executed(e)
}

// typeTimeout is AWS's errorType of a timeout, which its REPORT line leaves out.
const typeTimeout = "Sandbox.Timedout"

// recordRefusal tells of a call that no container took: it was throttled, or the
// platform failed. The texts of the platform's own failures are for its log; the
// record has the kind of trouble.
func (s *Service) recordRefusal(inv *lambent.Invocation, fn *lambent.Function, start lambent.Start, err error) {
	kind := lambent.KindOf(err)
	if kind == lambent.KindInvalid {
		return // nothing was decided: this machine has no runtime for the function
	}
	start.ReceivedAt = inv.ReceivedAt
	e := execution(inv, fn, start)
	e.Outcome, e.Error = lambent.OutcomeLost, kind.String()
	if refused, ok := errors.AsType[*lambent.Error](err); ok && kind == lambent.KindThrottled {
		e.Outcome, e.Error = lambent.OutcomeThrottled, refused.Reason
		if e.Reason = refused.Message; refused.Err != nil {
			e.Reason = refused.Err.Error()
		}
		if errors.Is(err, pool.ErrLeft) { // not for want of capacity
			e.Outcome, e.Error = lambent.OutcomeAbandoned, ""
		}
	} else if ok && kind != lambent.KindInternal && e.Reason == "" {
		e.Reason = refused.Message // made for the caller
	}
	s.opts.Recorder.Executed(e)
}

// execution is the part of a record that all have.
func execution(inv *lambent.Invocation, fn *lambent.Function, start lambent.Start) obs.Execution {
	e := obs.Execution{
		RequestID: inv.RequestID, Asynchronous: inv.Asynchronous, Account: fn.Account, Function: fn.Name, Version: fn.Version,
		ReceivedAt: start.ReceivedAt, ExecStartedAt: start.ExecStartedAt, FinishedAt: time.Now(),
		StartKind: start.Kind, Reason: start.Reason, Instance: start.Instance, Container: start.Container,
		MemoryMB: fn.MemoryMB,
	}
	if start.StoodIn() {
		e.RequestedVersion, e.Code, e.RequestedCode = start.RequestedVersion, start.ServedCode, start.RequestedCode
	}
	return e
}
