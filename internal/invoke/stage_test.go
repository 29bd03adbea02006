package invoke

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/internal/queue"
)

// fakeQueue is Events in memory.
type fakeQueue struct {
	mu sync.Mutex
	// +checklocks:mu
	lines map[queue.Line][]*fakeClaim
	// +checklocks:mu
	ready func(queue.Line)
	// +checklocks:mu
	open int // events that are not settled
	// +checklocks:mu
	writeErr error // of Accept and Retry
}

type fakeClaim struct {
	q        *fakeQueue
	event    *queue.Event
	accepted time.Time
	changed  *queue.Event // to be kept by Retry
	over     bool
}

func (q *fakeQueue) Accept(_ context.Context, events ...*queue.Event) error {
	for _, e := range events {
		c := *e
		if err := q.push(&fakeClaim{q: q, event: &c, accepted: time.Now()}, false, true); err != nil {
			return err
		}
	}
	return nil
}

func (q *fakeQueue) push(c *fakeClaim, front, isNew bool) error {
	q.mu.Lock()
	if q.writeErr != nil {
		defer q.mu.Unlock()
		return q.writeErr
	}
	l := c.event.Line
	if front {
		q.lines[l] = append([]*fakeClaim{c}, q.lines[l]...)
	} else {
		q.lines[l] = append(q.lines[l], c)
	}
	if isNew {
		q.open++
	}
	ready, first := q.ready, len(q.lines[l]) == 1
	q.mu.Unlock()
	if ready != nil && first {
		ready(l)
	}
	return nil
}

func (q *fakeQueue) Take(_ context.Context, l queue.Line) (Claim, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines[l]) == 0 {
		return nil, false, nil
	}
	c := q.lines[l][0]
	q.lines[l] = q.lines[l][1:]
	e := *c.event
	return &fakeClaim{q: q, event: c.event, accepted: c.accepted, changed: &e}, true, nil
}

func (q *fakeQueue) Due(l queue.Line) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines[l])
}

func (q *fakeQueue) Notify(ready func(queue.Line)) {
	q.mu.Lock()
	q.ready = ready
	var lines []queue.Line
	for l, cs := range q.lines {
		if len(cs) > 0 {
			lines = append(lines, l)
		}
	}
	q.mu.Unlock()
	for _, l := range lines {
		ready(l)
	}
}

func (q *fakeQueue) unsettled() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open
}

func (c *fakeClaim) Event() *queue.Event { return c.changed }
func (c *fakeClaim) Age() time.Duration  { return time.Since(c.accepted) }

func (c *fakeClaim) end() {
	if c.over {
		panic("an event was ended twice")
	}
	c.over = true
}

func (c *fakeClaim) Settle() {
	c.end()
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	c.q.open--
}

func (c *fakeClaim) Return() {
	c.end()
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	l := c.event.Line
	c.q.lines[l] = append([]*fakeClaim{{q: c.q, event: c.event, accepted: c.accepted}}, c.q.lines[l]...)
}

func (c *fakeClaim) Retry(_ context.Context, after time.Duration) error {
	c.q.mu.Lock()
	err := c.q.writeErr
	c.q.mu.Unlock()
	if n := len(c.changed.Payload); err == nil && (n > queue.MaxPayload || n+len(c.changed.State) > queue.MaxPayload+60<<10) {
		err = &lambent.Error{Op: "retry", Kind: lambent.KindTooLarge}
	}
	if err != nil {
		return err
	}
	c.end()
	e := *c.changed
	time.AfterFunc(after, func() { _ = c.q.push(&fakeClaim{q: c.q, event: &e, accepted: c.accepted}, true, false) })
	return nil
}

// call is one time a function was called.
type call struct {
	function string
	payload  string
	at       time.Duration // since the stage's begin
}

// stage is a dispatcher over twins, in a bubble of synctest.
type stage struct {
	*Dispatcher
	queue *fakeQueue
	begin time.Time
	stop  func()

	mu       sync.Mutex
	rules    map[string]EventRules
	answer   func(inv *lambent.Invocation, granted func()) (*lambent.Result, error)
	calls    []call
	failures map[lambent.RequestID]*Failure
	storeErr error
	sent     []*Message
	send     func(context.Context, *Message) error // nil: all is taken
	redone   []lambent.RequestID                   // that succeeded
}

func (s *stage) Put(_ context.Context, f *Failure) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storeErr != nil {
		return s.storeErr
	}
	s.failures[f.Event.ID] = f
	return nil
}

func (s *stage) Succeeded(_ context.Context, _ lambent.AccountID, id lambent.RequestID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.redone = append(s.redone, id)
	return nil
}

// onStage runs a test in a bubble.
func onStage(t *testing.T, test func(t *testing.T, s *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{queue: &fakeQueue{lines: map[queue.Line][]*fakeClaim{}}, begin: time.Now(), rules: map[string]EventRules{}, failures: map[lambent.RequestID]*Failure{}}
		s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
			granted()
			return answered(inv), nil
		}
		s.Dispatcher = NewDispatcher(DispatcherOptions{
			Events: s.queue, Region: "eu-test-1", Failures: s, Drain: time.Hour,
			Rules: func(l queue.Line) EventRules {
				s.mu.Lock()
				defer s.mu.Unlock()
				if r, ok := s.rules[string(l.Function)]; ok {
					return r
				}
				return EventRules{Retries: 2, MaxAge: DefaultMaxEventAge}
			},
			Invoke: func(ctx context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
				s.mu.Lock()
				s.calls = append(s.calls, call{string(inv.Function), string(inv.Payload), time.Since(s.begin)})
				answer := s.answer
				s.mu.Unlock()
				return answer(inv, inv.Granted)
			},
			Send: func(ctx context.Context, m *Message) error {
				s.mu.Lock()
				send := s.send
				s.mu.Unlock()
				if send != nil {
					if err := send(ctx, m); err != nil {
						return err
					}
				}
				s.mu.Lock()
				defer s.mu.Unlock()
				s.sent = append(s.sent, m)
				return nil
			},
		})
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { s.Run(ctx) })
		s.stop = func() { cancel(); running.Wait(); s.Close() }
		test(t, s)
		s.stop()
	})
}

// accept lines up events of functions: "f payload".
func (s *stage) accept(t *testing.T, texts ...string) {
	t.Helper()
	for i, text := range texts {
		function, payload, _ := strings.Cut(text, " ")
		e := &queue.Event{ID: lambent.RequestID(fmt.Sprintf("%s-%d", text, i)), Line: queue.Line{Account: lambent.DefaultAccount, Function: lambent.FunctionName(function)}, Payload: []byte(payload), AcceptedAt: time.Now()}
		if err := s.queue.Accept(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *stage) called() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *stage) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// failure is the only one that there is.
func (s *stage) failure(t *testing.T) *Failure {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) != 1 {
		t.Fatalf("%d failures are stored", len(s.failures))
	}
	for _, f := range s.failures {
		return f
	}
	return nil
}

func answered(inv *lambent.Invocation) *lambent.Result {
	return &lambent.Result{RequestID: inv.RequestID, Payload: []byte(`"done"`), Start: lambent.Start{ServedVersion: "7"}}
}

func failed(kind, message string) *lambent.Result {
	return &lambent.Result{Payload: []byte(fmt.Sprintf(`{"errorType":%q,"errorMessage":%q}`, kind, message)), FunctionError: "Unhandled", Outcome: lambent.OutcomeFunctionError, Start: lambent.Start{ServedVersion: "7"}}
}

func throttledError() error {
	return &lambent.Error{Kind: lambent.KindThrottled, Reason: "ReservedFunctionConcurrentInvocationLimitExceeded", Message: "Rate Exceeded."}
}

func times(calls []call) (at []time.Duration) {
	for _, c := range calls {
		at = append(at, c.at)
	}
	return at
}
