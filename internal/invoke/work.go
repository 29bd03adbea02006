package invoke

import (
	"context"
	"time"

	"lambent"
	"lambent/internal/control"
)

// work does what is to be done with an event now, and tells what that was: of a
// step that holds the line, the event is back in it.
func (d *Dispatcher) work(j *job, c Claim) step {
	e := c.Event()
	p := readProgress(e.State)
	if p.Final != nil {
		j.needsNone()
		return d.finish(c, *p.Final)
	}
	rules := d.opts.Rules(e.Line)
	if s, ok := before(rules, d.opts.Times, c.Age(), e.Attempts, d.lastOf(j, p)); ok {
		j.needsNone()
		if len(p.Done) > 0 { // on this event, whatever became of others of its line
			s.out.Done = p.Done
		}
		return d.finish(c, s.out)
	}
	inv := &lambent.Invocation{
		RequestID: e.ID, Account: e.Line.Account, Function: e.Line.Function, Qualifier: p.qualifier(e), Payload: e.Payload,
		ReceivedAt: e.AcceptedAt, ClientContext: e.ClientContext, TraceID: e.TraceID, TenantID: e.TenantID,
		Asynchronous: true, Granted: j.hasContainer,
		Exact: p.Retries > 0, // a control function chose: what it chose against does not stand in
	}
	if len(e.State) > 0 { // the times of a retry are its own
		inv.ReceivedAt = time.Now()
	}
	ctx, cancel := context.WithTimeout(d.working, containerWait)
	res, err := d.opts.Invoke(ctx, inv)
	cancel()
	if d.interrupted(res, err) {
		c.Return()
		return step{}
	}
	attempts := e.Attempts
	if err == nil {
		attempts++
	}
	s := after(res, err, rules, d.opts.Times, c.Age(), attempts, p.Faults)
	if end, decided := d.control(j, c, inv, &p, &s, attempts); decided {
		return end
	}
	switch s.kind {
	case stepFinish:
		e.Attempts = attempts
		if end := d.finish(c, s.out); end.kind == stepHold {
			return end
		}
	case stepHold:
		s.after = max(time.Millisecond, rules.maxAge(d.opts.Times)-c.Age()) // to be told of in time
		d.opts.Watch.Retried(s.out.Reason)
		c.Return()
	case stepRetry:
		e.Attempts = attempts
		p.Last = &s.out
		if p.Faults++; s.counts {
			p.Faults = 0
		}
		if end := d.again(c, p, s.after, s.out.Reason); end.kind == stepHold {
			return end
		}
	}
	return s
}

// control asks control functions about a call, before anything is settled, and
// does what they decide; decided is false where that is to leave it.
func (d *Dispatcher) control(j *job, c Claim, inv *lambent.Invocation, p *progress, s *step, attempts int) (end step, decided bool) {
	if d.opts.Controls == nil || s.kind == stepHold && !d.firstHold(j) {
		return step{}, false
	}
	v := d.opts.Controls.ask(d.working, inv, &s.out, d.opts.Controls.concerned(inv, &s.out, s.counts), p.Retries)
	p.tell(v.done)
	s.out.Done = p.Done
	e := c.Event()
	switch v.answer.Decision {
	case control.Drop:
		e.Attempts = attempts
		s.out.Dropped = true
		return d.finish(c, s.out), true
	case control.Retry:
		e.Attempts = attempts
		p.Last, p.Faults = &s.out, 0
		p.Retries++
		if v.answer.Payload != nil {
			e.Payload = v.answer.Payload
		}
		if v.answer.Qualifier != nil {
			p.Qualifier = v.answer.Qualifier
		}
		end := d.again(c, *p, 0, s.out.Reason)
		end.counts = s.counts
		return end, true
	}
	return step{}, false
}

// firstHold tells whether the line of a job that is held was not before.
func (d *Dispatcher) firstHold(j *job) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return j.line.faults == 0
}

// interrupted tells whether a call was ended by the end of the server.
func (d *Dispatcher) interrupted(res *lambent.Result, err error) bool {
	if err == nil && res.FunctionError == "" {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.giveUp
}

// lastOf is what became of an event when it was tried last, or of the last of its
// line when that was held.
func (d *Dispatcher) lastOf(j *job, p progress) *outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if j.line.last != nil {
		return j.line.last
	}
	return p.Last
}

// again has an event come again after a time. Where that cannot be written it
// goes back as it was, and its line rests: what was done is done once more, which
// is what at least once means.
func (d *Dispatcher) again(c Claim, p progress, after time.Duration, reason string) step {
	e := c.Event()
	state, ok := p.write(room(e))
	if !ok {
		state = p.brief(room(e))
	}
	e.State = state
	d.opts.Watch.Retried(reason)
	if err := c.Retry(context.WithoutCancel(d.working), after); err != nil {
		d.opts.Log.Error("an event that is to come again could not be written; its line rests", "line", e.Line.String(), "request", e.ID, "error", err)
		c.Return()
		return step{kind: stepHold, out: outcome{Reason: reasonPlatform, Status: 500, ErrorType: "ServiceException", Message: "The event could not be stored."}}
	}
	return step{kind: stepRetry}
}

// mostTries is how often the delivery of records is tried: for some 17 minutes by
// AWS's times.
const mostTries = 12

// finish sees to all that is to be done for an event that is processed, or never
// will be, and settles it: the failure store, then destinations. What cannot be
// done now is tried later.
func (d *Dispatcher) finish(c Claim, out outcome) step {
	e := c.Event()
	rules := d.opts.Rules(e.Line)
	if out.failed() && !out.Stored && !out.Dropped {
		if err := d.store(c, &out, &Failure{}); err != nil {
			out.Tries++
			d.opts.Log.Error("a failed event could not be stored as a failure; it stays in the queue", "line", e.Line.String(), "request", e.ID, "error", err)
			return d.again(c, progress{Final: &out}, d.opts.Times.backoff(out.Tries), reasonPlatform)
		}
		out.Stored, out.Tries = true, 0
	}
	if d.deliverAll(e, rules, &out) {
		if d.working.Err() == nil {
			out.Tries++
		}
		return d.again(c, progress{Final: &out}, d.opts.Times.backoff(out.Tries), reasonUndelivered)
	}
	if len(out.Lost) > 0 {
		if err := d.storeUndelivered(c, &out); err != nil {
			out.Tries++
			d.opts.Log.Error("an undelivered record could not be stored as a failure; the event stays in the queue", "line", e.Line.String(), "request", e.ID, "error", err)
			return d.again(c, progress{Final: &out}, d.opts.Times.backoff(out.Tries), reasonPlatform)
		}
		out.Stored = true
	}
	out.Tries = 0
	if e.Source == SourceRedrive && !out.Stored && d.opts.Failures != nil {
		if err := d.opts.Failures.Succeeded(context.WithoutCancel(d.working), e.Line.Account, e.ID); err != nil {
			out.Tries++
			d.opts.Log.Error("a failure that was processed could not be removed; that is tried again", "line", e.Line.String(), "request", e.ID, "error", err)
			out.Response = nil
			return d.again(c, progress{Final: &out}, d.opts.Times.backoff(out.Tries), reasonPlatform)
		}
	}
	if out.Dropped {
		out.Reason = reasonDropped
	}
	d.opts.Watch.Settled(out.Reason)
	c.Settle()
	return step{}
}

// store puts an event where failures are kept, with what else is in f.
func (d *Dispatcher) store(c Claim, out *outcome, f *Failure) error {
	e := c.Event()
	if d.opts.Failures == nil {
		d.opts.Log.Error("an asynchronous call failed for good", "line", e.Line.String(), "request", e.ID, "reason", out.Reason, "error", out.Message)
		return nil
	}
	f.Event, f.Version, f.Reason, f.ErrorType, f.Message, f.Response, f.Actions = e, out.Version, out.Reason, out.ErrorType, out.Message, out.Response, out.Done
	if !out.Stored { // its calls are counted once, and those before a redrive were
		f.Attempts = e.Attempts
	}
	return d.opts.Failures.Put(context.WithoutCancel(d.working), f)
}
