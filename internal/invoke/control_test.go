package invoke

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/internal/control"
)

// deeds writes down what it is asked to do.
type deeds struct {
	mu   sync.Mutex
	done []string
}

func (d *deeds) did(format string, args ...any) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, fmt.Sprintf(format, args...))
	return d.done[len(d.done)-1], nil
}

func (d *deeds) RollBackAlias(_ context.Context, _ lambent.AccountID, name lambent.FunctionName, alias string, to, _ lambent.Version) (string, error) {
	return d.did("%s:%s to %s", name, alias, to)
}

func (d *deeds) RebuildInstances(_ context.Context, _ lambent.AccountID, name lambent.FunctionName) (string, error) {
	return d.did("rebuild %s", name)
}

func (d *deeds) PauseSource(_ context.Context, _ lambent.AccountID, id string) (string, error) {
	return "", &lambent.Error{Op: "pause", Resource: id, Kind: lambent.KindNotFound, Message: "there is no such mapping"}
}

func (d *deeds) ReserveConcurrency(_ context.Context, _ lambent.AccountID, name lambent.FunctionName, value *int) (string, error) {
	return d.did("reserve %d for %s", *value, name)
}

// controlled gives a stage control functions: "fixer" is asked about f by rules, in
// JSON, and answers what fix does.
func (s *stage) controlled(t *testing.T, rules string, f func(*lambent.Invocation) (*lambent.Result, error), fix func(incident) string) *deeds {
	t.Helper()
	var declared Declared
	if err := json.Unmarshal([]byte(rules), &declared.Rules); err != nil {
		t.Fatal(err)
	}
	d := &deeds{}
	s.Dispatcher.opts.Controls = NewControls(ControlOptions{
		Declared: func(_ lambent.AccountID, name lambent.FunctionName) Declared {
			if name == "f" || name == "fixer" { // which would ask itself
				return declared
			}
			return Declared{}
		},
		Invoke: s.Dispatcher.opts.Invoke, Deeds: d,
	})
	s.set(func() {
		s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
			if inv.Function != "fixer" {
				res, err := f(inv)
				if err == nil {
					granted()
				}
				return res, err
			}
			var what incident
			if err := json.Unmarshal(inv.Payload, &what); err != nil || !inv.Control {
				t.Errorf("the control function was told %s (%v), marked %v", inv.Payload, err, inv.Control)
			}
			text := fix(what)
			if strings.HasPrefix(text, "!") {
				return failed("Fixer", text[1:]), nil
			}
			return &lambent.Result{Payload: []byte(text)}, nil
		}
	})
	return d
}

// rest lets time pass, and what it brings about happen.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *stage) payloadsOf(name string) (payloads []string) {
	for _, c := range s.called() {
		if c.function == name {
			payloads = append(payloads, c.payload)
		}
	}
	return payloads
}

func TestAControlFunctionHasTheEventTriedAgainWithAnotherPayloadAndVersion(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var qualifiers []string
		s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(inv *lambent.Invocation) (*lambent.Result, error) {
			qualifiers = append(qualifiers, inv.Qualifier)
			if inv.Qualifier == "3" && string(inv.Payload) == `{"retryMode":true}` {
				return answered(inv), nil
			}
			return failed("Oops", "no"), nil
		}, func(what incident) string {
			if what.Rule != control.OnError || what.Reason != "function_error" || what.ErrorType != "Oops" || string(what.Payload) != `{"a":1}` || what.Attempts != 1 || !what.Async {
				t.Errorf("it was told %+v", what)
			}
			return `{"decision":"retry","payload":{"retryMode":true},"qualifier":"3"}`
		})
		s.accept(t, `f {"a":1}`)
		rest(time.Second)
		if !slices.Equal(qualifiers, []string{"", "3"}) || s.queue.unsettled() != 0 || len(s.failures) != 0 {
			t.Errorf("called were %q; %d events are left, %d failures", qualifiers, s.queue.unsettled(), len(s.failures))
		}
	})
}

func TestWhatControlFunctionsDidIsOnTheFailure(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		d := s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
			func(incident) string {
				return `{"note":"old code again","actions":[{"do":"roll_back_alias","alias":"live","version":"2"},{"do":"pause_source","uuid":"u"},{"do":"rebuild_instances"},{"do":"reserve_concurrency","value":7}]}`
			})
		s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Hour} })
		s.accept(t, `f {"a":1}`)
		rest(time.Minute)
		if want := []string{"f:live to 2", "rebuild f", "reserve 7 for f"}; !slices.Equal(d.done, want) {
			t.Errorf("done is %q, want %q", d.done, want)
		}
		told := strings.Join(s.failure(t).Actions, "\n")
		for _, part := range []string{"says: old code again", "f:live to 2", "pause_source was not done: there is no such mapping", "rebuild f"} {
			if !strings.Contains(told, part) {
				t.Errorf("the failure does not tell %q:\n%s", part, told)
			}
		}
	})
}

func TestControlFunctionsHaveAnEventTriedThreeTimesAtMost(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
			func(incident) string { return `{"decision":"retry"}` })
		s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Hour} })
		s.accept(t, `f 1`)
		rest(time.Hour)
		if n := len(s.payloadsOf("f")); n != 4 {
			t.Errorf("it was called %d times", n)
		}
		if told := strings.Join(s.failure(t).Actions, "\n"); !strings.Contains(told, "it is left") || s.queue.unsettled() != 0 {
			t.Errorf("%d events left; the failure tells:\n%s", s.queue.unsettled(), told)
		}
	})
}

func TestADroppedEventIsKeptNowhere(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
			func(incident) string { return `{"decision":"drop"}` })
		s.set(func() {
			s.rules["f"] = EventRules{Retries: 2, MaxAge: time.Hour, OnFailure: []string{"http://nowhere.test"}}
		})
		s.accept(t, `f 1`)
		rest(time.Hour)
		if n := len(s.payloadsOf("f")); n != 1 || len(s.failures) != 0 || len(s.sent) != 0 || s.queue.unsettled() != 0 {
			t.Errorf("%d calls, %d failures, %d records sent, %d events left", n, len(s.failures), len(s.sent), s.queue.unsettled())
		}
	})
}

// Depth 1: what goes wrong with a control function is told on the failure, and
// nobody is asked about it.
func TestAControlFunctionThatFailsStartsNone(t *testing.T) {
	for answer, part := range map[string]string{"!broken": "failed: Fixer: broken", `{"decision":"dance"}`: "none of", `7`: "cannot unmarshal"} {
		onStage(t, func(t *testing.T, s *stage) {
			s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
				func(incident) string { return answer })
			s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Hour} })
			s.accept(t, `f 1`)
			rest(time.Hour)
			if n := len(s.payloadsOf("fixer")); n != 1 {
				t.Errorf("it was called %d times", n)
			}
			if told := strings.Join(s.failure(t).Actions, "\n"); !strings.Contains(told, part) {
				t.Errorf("the failure tells %q, want %q", told, part)
			}
		})
	}
}

// Whatever control functions answer: what they have tried again can be written, and
// so is not tried for ever.
func TestSecurityWhatControlFunctionsAnswerAlwaysFits(t *testing.T) {
	note, _ := json.Marshal(strings.Repeat("\x01<", 600)) // six bytes each, where it is written
	rules := "[" + strings.Repeat(`{"on":"error","function":"fixer"},`, 9) + `{"on":"error","function":"fixer"}]`
	for name, c := range map[string]struct {
		answer string
		calls  int
		told   string
	}{
		"a payload of 2 MB":      {`{"decision":"retry","payload":"` + strings.Repeat("x", 2<<20) + `"}`, 1, "an event has 1048576 at most"},
		"a qualifier of 1 MB":    {`{"decision":"retry","qualifier":"` + strings.Repeat("x", 1<<20) + `"}`, 1, "128 at most"},
		"a payload of just 1 MB": {`{"decision":"retry","note":` + string(note) + `,"payload":"` + strings.Repeat("x", 1<<20-2) + `"}`, 4, "it is left"},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				s.controlled(t, rules, func(*lambent.Invocation) (*lambent.Result, error) {
					return failed("Oops", strings.Repeat("<", 1<<20)), nil
				}, func(incident) string { return c.answer })
				s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Hour} })
				s.accept(t, `f 1`)
				rest(2 * time.Hour)
				if n := len(s.payloadsOf("f")); n != c.calls || s.queue.unsettled() != 0 {
					t.Errorf("it was called %d times, want %d; %d events are left", n, c.calls, s.queue.unsettled())
				}
				if told := strings.Join(s.failure(t).Actions, "\n"); !strings.Contains(told, c.told) {
					t.Errorf("the failure tells %.2000q", told)
				}
			})
		})
	}
}

// A control function is told what it can be called with: of a large answer that
// there was one, not what it was.
func TestAnIncidentIsNoLargerThanAnEvent(t *testing.T) {
	large := func(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("<", n) + `"`) }
	for _, c := range []struct{ payload, response int }{{1 << 20, 4 << 20}, {1 << 20, 6 << 20}, {6 << 20, 1}, {0, 0}} {
		text, err := incident{Payload: large(c.payload), Response: large(c.response), Reason: "unexpected_result"}.text()
		var told incident
		if err == nil {
			err = json.Unmarshal(text, &told)
		}
		if err != nil || len(text) > mostIncident || told.Reason != "unexpected_result" {
			t.Errorf("%+v: %d bytes, %v", c, len(text), err)
		}
		if fits := c.payload+c.response < 6<<20; (told.Response != nil) != fits || (told.Payload != nil) != (c.payload < 6<<20) {
			t.Errorf("%+v: told are %d and %d bytes", c, len(told.Payload), len(told.Response))
		}
	}
}

func TestRulesAreForTheirOwnTrigger(t *testing.T) {
	for reason, f := range map[string]func(inv *lambent.Invocation) (*lambent.Result, error){
		"error":    func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
		"throttle": func(*lambent.Invocation) (*lambent.Result, error) { return nil, throttledError() },
		"unexpected_result": func(*lambent.Invocation) (*lambent.Result, error) {
			return &lambent.Result{FunctionError: "Unhandled", ErrorType: typeUnexpected, Unexpected: []byte(`"odd"`)}, nil
		},
	} {
		t.Run(reason, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				var asked []string
				s.controlled(t, `[{"on":"error","function":"fixer"},{"on":"throttle","function":"fixer"},{"on":"unexpected_result","function":"fixer"}]`, f, func(what incident) string {
					asked = append(asked, string(what.Rule))
					if what.Rule == control.OnUnexpectedResult && string(what.Response) != `"odd"` {
						t.Errorf("the answer was %s", what.Response)
					}
					return `null`
				})
				s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Minute} })
				s.accept(t, `f 1`)
				rest(time.Hour)
				if len(asked) == 0 || slices.ContainsFunc(asked, func(a string) bool { return a != reason }) {
					t.Errorf("asked were %q", asked)
				}
			})
		})
	}
}

func TestAnErrorRateIsAskedAboutOnceACrossing(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var shares []float64
		s.controlled(t, `[{"on":"error_rate","above":0.2,"over":"1m","function":"fixer"}]`, func(inv *lambent.Invocation) (*lambent.Result, error) {
			if string(inv.Payload) == "0" {
				return failed("Oops", "no"), nil
			}
			return answered(inv), nil
		}, func(what incident) string { shares = append(shares, *what.Share); return `{}` })
		s.set(func() { s.rules["f"] = EventRules{MaxAge: time.Hour} })
		for range 20 {
			s.accept(t, `f 0`)
			rest(time.Millisecond)
		}
		if !slices.Equal(shares, []float64{1}) {
			t.Errorf("asked at shares %v", shares)
		}
	})
}

func TestCallersOfWhatFailsDoNotWaitForControlFunctions(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var asked atomic.Int32
		d := s.controlled(t, `[{"on":"error","function":"fixer"}]`, func(*lambent.Invocation) (*lambent.Result, error) { return failed("Oops", "no"), nil },
			func(incident) string {
				time.Sleep(time.Minute)
				asked.Add(1)
				return `{"decision":"retry","actions":[{"do":"rebuild_instances"}]}`
			})
		c := s.Dispatcher.opts.Controls
		for i := range mostPending + 10 {
			c.Called(&lambent.Invocation{RequestID: lambent.RequestID(fmt.Sprint(i)), Account: lambent.DefaultAccount, Function: "f"}, failed("Oops", "no"), nil)
		}
		if time.Since(s.begin) != 0 {
			t.Error("Called waits")
		}
		rest(2 * time.Minute)
		if asked.Load() != mostPending || len(d.done) != mostPending || len(s.payloadsOf("f")) != 0 {
			t.Errorf("asked %d times, done %d, tried again %d", asked.Load(), len(d.done), len(s.payloadsOf("f")))
		}
		c.Close()
	})
}

// Every call of a synchronous caller counts, also while as many control functions
// are asked as may be; and what was counted goes with what it was counted for.
func TestRatesCountEveryCallAndGoWithTheirFunctions(t *testing.T) {
	synctest.Test(t, ratesCountEveryCallAndGo)
}

func ratesCountEveryCallAndGo(t *testing.T) {
	var declared Declared
	if err := json.Unmarshal([]byte(`[{"on":"error_rate","above":0.5,"over":"1h","calls":100,"function":"fixer"},{"on":"error","function":"fixer"}]`), &declared.Rules); err != nil {
		t.Fatal(err)
	}
	there := map[lambent.FunctionName]bool{}
	held, asked := make(chan struct{}), make(chan incident, 1000)
	c := NewControls(ControlOptions{
		Declared: func(_ lambent.AccountID, name lambent.FunctionName) Declared {
			if there[name] {
				return declared
			}
			return Declared{}
		},
		Invoke: func(_ context.Context, inv *lambent.Invocation) (*lambent.Result, error) {
			var what incident
			if err := json.Unmarshal(inv.Payload, &what); err != nil {
				t.Error(err)
			}
			if asked <- what; what.Rule == control.OnError {
				<-held
			}
			return &lambent.Result{}, nil
		},
	})
	called := func(name lambent.FunctionName, n int, fails bool) {
		for i := range n {
			res := answered(&lambent.Invocation{Payload: []byte("1")})
			if fails {
				res = failed("Oops", "no")
			}
			c.Called(&lambent.Invocation{RequestID: lambent.RequestID(fmt.Sprint(i)), Account: lambent.DefaultAccount, Function: name}, res, nil)
		}
	}
	there["f"] = true
	called("f", mostPending, true) // the functions that are asked hold all there may be
	called("f", 30, true)
	close(held)
	for range mostPending {
		<-asked
	}
	synctest.Wait()
	called("f", 6, true) // the hundredth that failed
	share := 0.0
	for what := range asked {
		if what.Share != nil {
			share = *what.Share
			break
		}
	}
	if share != 1 {
		t.Errorf("the share is %v", share)
	}
	for i := range 1000 {
		name := lambent.FunctionName(fmt.Sprint("g", i))
		there[name] = true
		called(name, 1, false)
	}
	counted := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.rates)
	}
	if n := counted(); n != 1001 {
		t.Errorf("%d functions are counted", n)
	}
	for name := range there {
		delete(there, name)
		c.Redeclared(lambent.DefaultAccount, name)
		called(name, 1, false) // one that ended when its function was gone
	}
	c.Close()
	if n := counted(); n != 0 {
		t.Errorf("%d functions that are gone are counted still", n)
	}
}
