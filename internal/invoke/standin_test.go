package invoke_test

import (
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

// update gives a function other code, which is not in place yet.
func (p *platform) update(old *lambent.Function, code string) *lambent.Function {
	next := hosttest.Updated(old, code)
	next.Previous = old
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fns[old.Name] = next
	return next
}

func TestACallServedByOldCodeSaysSoAndIsRecordedSo(t *testing.T) {
	p := start(t, 1, nil, fake.Options{})
	old := p.deploy("f", "count")
	first := p.call(t, "f", "1")
	if got := first.Start; got.ServedCode != old.Code || got.RequestedCode != old.Code || got.RequestedVersion != lambent.Latest || got.StoodIn() {
		t.Errorf("at first %+v", got)
	}
	next := p.update(old, "two")
	release := p.Hold(next.Code)
	r := p.call(t, "f", "2")
	if got := r.Start; string(r.Payload) != "2" || got.Container != first.Start.Container || got.ServedCode != old.Code || got.RequestedCode != next.Code || !got.StoodIn() ||
		got.Kind != lambent.StartReuse || !strings.Contains(got.Reason, "stood in") {
		t.Errorf("answered %s, %+v", r.Payload, got)
	}
	e := p.recorded(t, r.RequestID)
	if e.Version != lambent.Latest || e.RequestedVersion != lambent.Latest || e.Code != old.Code || e.RequestedCode != next.Code || e.Reason != r.Start.Reason {
		t.Errorf("the record is %+v", e)
	}
	if e := p.recorded(t, first.RequestID); e.StoodIn() || e.Code != "" {
		t.Errorf("the record of the call before is %+v", e)
	}
	p.mu.Lock()
	if len(p.rollouts) != 1 {
		t.Errorf("the rollout was asked for %d times", len(p.rollouts))
	}
	p.mu.Unlock()

	exact := make(chan *lambent.Result)
	go func() {
		r, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: "exact", Account: lambent.DefaultAccount, Function: "f", Payload: []byte("3"), ReceivedAt: time.Now(), Exact: true})
		if err != nil {
			t.Error(err)
		}
		exact <- r
	}()
	release(nil) // for which it waits
	if r := <-exact; r != nil && (string(r.Payload) != "1" || r.Start.ServedCode != next.Code || r.Start.StoodIn() || r.Start.Container == first.Start.Container) {
		t.Errorf("exactly: answered %s, %+v", r.Payload, r.Start)
	}
}

func TestAnOldVersionThatServesLogsAsItself(t *testing.T) {
	p := start(t, 1, nil, fake.Options{})
	one := p.deploy("f", "echo")
	one.Version, one.TimeoutSecs = "1", 1
	p.call(t, "f", "1")
	two := *one
	two.Version, two.TimeoutSecs, two.Previous = "2", 9, one
	p.mu.Lock()
	p.fns["f"] = &two
	p.mu.Unlock()
	r := p.call(t, "f", "2")
	if r.Start.ServedVersion != "1" || r.Start.RequestedVersion != "2" || !strings.HasPrefix(r.Start.Reason, "version 2 is not ready yet, version 1 stood in") {
		t.Errorf("%+v", r.Start)
	}
	if lines := p.Logs.Of(r.RequestID); len(lines) == 0 || !strings.HasSuffix(lines[0], "Version: 1") {
		t.Errorf("log %q", lines)
	}
	if e := p.recorded(t, r.RequestID); e.Version != "1" || e.RequestedVersion != "2" {
		t.Errorf("the record is %+v", e)
	}
}

// That old code may serve no longer, or not this call, does not keep the new code
// from being brought up; nor does it keep old code from serving that it is not.
func TestACallForWhatIsNotInPlaceHasItBroughtUp(t *testing.T) {
	p := start(t, 1, nil, fake.Options{})
	old := p.deploy("f", "count")
	p.call(t, "f", "1")
	next := p.update(old, "two")
	next.State = "Pending" // a version that was published with the update
	release := p.Hold(next.Code)
	if r := p.call(t, "f", "2"); r.Start.ServedCode != old.Code {
		t.Errorf("served by %+v", r.Start)
	}
	_, err := p.Invoke(t.Context(), &lambent.Invocation{RequestID: "exact", Account: lambent.DefaultAccount, Function: "f", ReceivedAt: time.Now(), Exact: true})
	if lambent.KindOf(err) != lambent.KindExists {
		t.Errorf("exactly: %v", err)
	}
	p.mu.Lock()
	next.State, p.standInsEnd = "Active", true
	p.mu.Unlock()
	go release(nil)
	if r := p.call(t, "f", "3"); r.Start.ServedCode != next.Code {
		t.Errorf("when old code may serve no longer, by %+v", r.Start)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.rollouts) != 2 {
		t.Errorf("the rollout was asked for %d times", len(p.rollouts))
	}
}
