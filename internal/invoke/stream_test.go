package invoke_test

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/sandbox/fake"
	"lambent/internal/stream"
)

// streamed is a call whose answer is read as it comes.
type streamed struct {
	*stream.Pipe
	done chan *lambent.Result
}

func (p *platform) stream(t *testing.T, name string, limits stream.Limits) *streamed {
	t.Helper()
	return p.streamEvent(t, name, "1", limits)
}

func (p *platform) streamEvent(t *testing.T, name, event string, limits stream.Limits) *streamed {
	t.Helper()
	s := &streamed{stream.New(limits), make(chan *lambent.Result, 1)}
	go func() {
		r, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: "r", Account: lambent.DefaultAccount, Function: lambent.FunctionName(name),
			Payload: []byte(event), ReceivedAt: time.Now(), WantLogTail: true, Stream: s})
		if err != nil {
			t.Errorf("call %s: %v", name, err)
		}
		s.End()
		s.done <- r
	}()
	return s
}

// next is what comes next, as one piece.
func (s *streamed) next(t *testing.T) string {
	t.Helper()
	b, err := s.Next(nil)
	if err != nil {
		t.Fatalf("nothing comes: %v", err)
	}
	return string(b)
}

// rest reads to the end.
func (s *streamed) rest(t *testing.T) (n int) {
	t.Helper()
	var spent []byte
	for {
		b, err := s.Next(spent)
		if err == io.EOF {
			return n
		}
		n += len(b)
		spent = b
	}
}

func (s *streamed) result(t *testing.T) *lambent.Result {
	t.Helper()
	select {
	case r := <-s.done:
		return r
	case <-time.After(20 * time.Second):
		t.Fatal("the call does not end")
		return nil
	}
}

func TestTheFirstPartOfAStreamIsThereBeforeTheLastIsWritten(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "stream gate")
	s := p.stream(t, "f", stream.AWS())
	head, begun := s.Head()
	if !begun || head.ContentType != "text/plain" || head.Start.Kind != lambent.StartWarm || head.Start.Container == "" ||
		head.Start.ServedVersion != lambent.Latest || head.Start.ExecStartedAt.Before(head.Start.ReceivedAt) {
		t.Errorf("head %+v, %v", head, begun)
	}
	if got := s.next(t); got != "first" {
		t.Fatalf("got %q", got)
	}
	p.Open("gate") // only now is the second written
	if got := s.next(t); got != "second" {
		t.Fatalf("got %q", got)
	}
	r := s.result(t)
	if r.Outcome != lambent.OutcomeSuccess || r.FunctionError != "" || !r.Streamed || r.Payload != nil {
		t.Errorf("result %+v", r)
	}
	if diff := cmp.Diff(head.Start, r.Start); diff != "" {
		t.Errorf("the start was told otherwise (-head +result):\n%s", diff)
	}
	lines := p.Logs.Of("r")
	if len(lines) != 3 || lines[0] != "START RequestId: r Version: $LATEST" || lines[1] != "END RequestId: r" || !strings.HasPrefix(lines[2], "REPORT RequestId: r\tDuration: ") {
		t.Errorf("log %q", lines)
	}
	if !strings.Contains(string(r.LogTail), "REPORT RequestId: r") {
		t.Errorf("log tail %q", r.LogTail)
	}
	if e := p.recorded(t, "r"); e.Outcome != lambent.OutcomeSuccess || e.StartKind != lambent.StartWarm || e.MaxMemoryUsedMB < 0 || e.Pool != "nodejs" {
		t.Errorf("record %+v", e)
	}
}

func TestAStreamThatNobodyStreamsIsAnsweredWhole(t *testing.T) { // alone: it computes
	p := start(t, 1, nil, fake.Options{})
	p.Open("gate")
	p.deploy("f", "stream gate")
	p.deploy("much", "stream-much 7").TimeoutSecs = 60
	p.deploy("fail", "stream-fail")
	if r := p.call(t, "f", "1"); string(r.Payload) != "firstsecond" || r.FunctionError != "" || r.Streamed {
		t.Errorf("result %+v", r)
	}
	if r := p.call(t, "much", "1"); r.FunctionError != "Unhandled" ||
		string(r.Payload) != `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}` {
		t.Errorf("result %+v", r)
	}
	if r := p.call(t, "fail", "1"); r.FunctionError != "Unhandled" || !strings.Contains(string(r.Payload), "as asked") {
		t.Errorf("result %+v", r)
	}
	if r := p.call(t, "much", "2"); r.Start.Kind != lambent.StartReuse {
		t.Errorf("after an answer too large: %s", r.Start.Reason)
	}
}

func TestAWholeAnswerToSomebodyWhoStreamsIsTheResults(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "echo")
	s := p.stream(t, "f", stream.AWS())
	if _, begun := s.Head(); begun {
		t.Error("it was streamed")
	}
	if r := s.result(t); string(r.Payload) != "1" || r.Streamed || r.FunctionError != "" {
		t.Errorf("result %+v", r)
	}
}

func TestWhatGoesWrongWithinAStreamIsAFunctionError(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		handler            string
		limits             stream.Limits
		errorType, message string
		outcome            lambent.Outcome
		reused             bool
	}{
		{"stream-fail", stream.AWS(), "Oops", "as asked", lambent.OutcomeFunctionError, true},
		{"stream-exit 3", stream.AWS(), "Runtime.ExitError", "RequestId: r Error: Runtime exited with error: exit status 3", lambent.OutcomeFunctionError, false},
		{"stream-hang 1", stream.AWS(), "Sandbox.Timedout", "RequestId: r Error: Task timed out after 1.00 seconds", lambent.OutcomeTimedOut, false},
		{"stream-hang", stream.Limits{Most: 4}, "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (4 bytes).", lambent.OutcomeFunctionError, false},
	} {
		t.Run(tc.handler, func(t *testing.T) {
			t.Parallel()
			p := start(t, 1, nil, fake.Options{})
			p.deploy("f", tc.handler).TimeoutSecs = 1
			s := p.stream(t, "f", tc.limits)
			if got := s.next(t); !strings.HasPrefix("first", got) {
				t.Errorf("got %q", got)
			}
			r := s.result(t)
			var body struct{ ErrorType, ErrorMessage string }
			if err := json.Unmarshal(r.Payload, &body); err != nil {
				t.Fatalf("payload %q: %v", r.Payload, err)
			}
			if r.FunctionError != "Unhandled" || r.Outcome != tc.outcome || body.ErrorType != tc.errorType || body.ErrorMessage != tc.message {
				t.Errorf("%s %q %+v", r.Outcome, r.FunctionError, body)
			}
			if e := p.recorded(t, "r"); e.Outcome != tc.outcome || e.Error != tc.errorType {
				t.Errorf("record %+v", e)
			}
			again := p.streamEvent(t, "f", "2", tc.limits)
			again.rest(t)
			if kind := again.result(t).Start.Kind; (kind == lambent.StartReuse) != tc.reused {
				t.Errorf("the next call: %s", kind)
			}
		})
	}
}

func TestACallerWhoDoesNotReadIsTimedOutAndHoldsNothing(t *testing.T) {
	t.Parallel()
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "stream-much 32").TimeoutSecs = 1
	s := p.stream(t, "f", stream.Limits{})
	r := s.result(t) // though nothing was read
	if r.Outcome != lambent.OutcomeTimedOut {
		t.Errorf("result %+v", r)
	}
	if left := s.rest(t); left > 2*stream.BufferSize {
		t.Errorf("%d bytes were held for a caller who does not read", left)
	}
}

func TestTheFunctionGoesOnWhenItsCallerHasGone(t *testing.T) { // alone: it computes
	p := start(t, 1, nil, fake.Options{})
	p.deploy("f", "stream-much 32").TimeoutSecs = 60
	s := p.stream(t, "f", stream.AWS())
	s.Head()
	s.Leave()
	if r := s.result(t); r.Outcome != lambent.OutcomeSuccess || !r.Streamed {
		t.Errorf("result %+v", r)
	}
	s = p.stream(t, "f", stream.Limits{})
	if got := s.rest(t); got != 32<<20 {
		t.Errorf("the next caller got %d bytes", got)
	}
	if r := s.result(t); r.Start.Kind != lambent.StartReuse {
		t.Errorf("the container was not kept: %s", r.Start.Reason)
	}
}

func TestSlowReadersCostLittleMemory(t *testing.T) { // alone: it computes
	const calls = 20
	p := start(t, 0, nil, fake.Options{})
	p.deploy("f", "stream-much 16").TimeoutSecs = 60
	all := make([]*streamed, calls)
	for i := range all {
		all[i] = p.stream(t, "f", stream.Limits{})
		all[i].next(t)
	}
	for _, s := range all { // what the platform holds of it is what is still to be read once nothing more is taken
		s.Leave()
		if left := s.rest(t); left > 2*stream.BufferSize {
			t.Errorf("%d bytes were held", left)
		}
		if r := s.result(t); r.Outcome != lambent.OutcomeSuccess {
			t.Errorf("result %+v", r)
		}
	}
}
