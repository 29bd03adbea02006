package invoke

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
	"lambent/internal/queue"
)

func TestAFunctionErrorIsRetriedAfterAMinuteAndAfterTwoAndThenStored(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.answer = func(_ *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				return failed("Oops", "no"), nil
			}
		})
		s.accept(t, `f {"a":1}`)
		time.Sleep(time.Hour)
		if got, want := times(s.called()), []time.Duration{0, time.Minute, 3 * time.Minute}; !slices.Equal(got, want) {
			t.Errorf("it was called at %v, want %v", got, want)
		}
		f := s.failure(t)
		if f.Reason != "function_error" || f.ErrorType != "Oops" || f.Message != "no" || f.Attempts != 3 || f.Version != "7" || string(f.Event.Payload) != `{"a":1}` {
			t.Errorf("stored is %+v", f)
		}
		if n := s.queue.unsettled(); n != 0 {
			t.Errorf("%d events are left", n)
		}
	})
}

func TestRetriesAreAsManyAsConfigured(t *testing.T) {
	for retries := range 3 {
		onStage(t, func(t *testing.T, s *stage) {
			s.set(func() {
				s.rules["f"] = EventRules{Retries: retries, MaxAge: time.Hour}
				s.answer = func(_ *lambent.Invocation, granted func()) (*lambent.Result, error) {
					granted()
					return &lambent.Result{FunctionError: "Unhandled", Outcome: lambent.OutcomeTimedOut, Payload: []byte(`{"errorType":"Sandbox.Timedout"}`)}, nil
				}
			})
			s.accept(t, `f 1`)
			time.Sleep(time.Hour)
			if n := len(s.called()); n != retries+1 {
				t.Errorf("%d retries: it was called %d times", retries, n)
			}
			if f := s.failure(t); f.Reason != "timeout" {
				t.Errorf("the reason is %s", f.Reason)
			}
		})
	}
}

func TestAThrottledEventWaitsLongerEachTimeUntilItIsTooOld(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.rules["f"] = EventRules{Retries: 2, MaxAge: 10 * time.Minute}
			s.answer = func(*lambent.Invocation, func()) (*lambent.Result, error) { return nil, throttledError() }
		})
		s.accept(t, `f 1`, `f 2`)
		time.Sleep(time.Hour)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 600}
		got := times(s.called())
		for i := range want {
			want[i] *= time.Second
		}
		if !slices.Equal(got, want) {
			t.Errorf("it was tried at %v, want %v", got, want)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.failures) != 2 {
			t.Errorf("%d failures", len(s.failures))
		}
		for _, f := range s.failures {
			if f.Reason != "throttled" || f.Attempts != 0 {
				t.Errorf("stored is %+v", f)
			}
		}
	})
}

func TestAThrottledLineGoesOnAtOnceWhenItsFunctionIsGivenMoreConcurrency(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		isFull := true
		s.set(func() {
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				s.mu.Lock()
				full := isFull
				s.mu.Unlock()
				if full {
					return nil, throttledError()
				}
				granted()
				return answered(inv), nil
			}
		})
		s.accept(t, "f 1", "g 2")
		time.Sleep(300 * time.Second) // the next time is after 511
		s.set(func() { isFull = false })
		s.Wake(lambent.DefaultAccount, "f")
		s.Wake("999999999999", "g")
		s.Wake(lambent.DefaultAccount, "nobody")
		synctest.Wait()
		last := s.called()[len(s.called())-1]
		if last.function != "f" || last.at != 300*time.Second || s.queue.unsettled() != 1 {
			t.Errorf("called last is %+v, and %d events are left", last, s.queue.unsettled())
		}
	})
}

func TestAThrottledLineHoldsNoOther(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				if inv.Function == "full" {
					return nil, throttledError()
				}
				granted()
				return answered(inv), nil
			}
		})
		for i := range 1000 {
			s.accept(t, fmt.Sprintf("full %d", i))
		}
		for i := range 1000 {
			s.accept(t, fmt.Sprintf("free %d", i))
		}
		synctest.Wait()
		free, full := 0, 0
		for _, c := range s.called() {
			if c.function == "free" {
				free++
			} else {
				full++
			}
		}
		if free != 1000 || full > 20 {
			t.Errorf("at once %d of the free function's events ran, and the throttled one was tried %d times", free, full)
		}
	})
}

func TestAWaitingFunctionHoldsNoOther(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		release := make(chan struct{})
		s.set(func() {
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				if inv.Function != "free" {
					<-release // no container comes
				}
				granted()
				return answered(inv), nil
			}
		})
		for line := range 20 {
			for i := range 50 {
				s.accept(t, fmt.Sprintf("full%d %d", line, i))
			}
		}
		s.accept(t, "free 1", "free 2")
		synctest.Wait()
		waiting := map[string]int{}
		for _, c := range s.called() {
			waiting[c.function]++
		}
		if waiting["free"] != 2 {
			t.Errorf("of the free function's events %d ran", waiting["free"])
		}
		for f, n := range waiting {
			if n > mostWaitingLine {
				t.Errorf("%d events of %s wait for containers", n, f)
			}
		}
		close(release)
		synctest.Wait()
		if n := s.queue.unsettled(); n != 0 {
			t.Errorf("%d events are left", n)
		}
	})
}

func TestSlowEventsDoNotHoldTheirLine(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				if string(inv.Payload) == `"slow"` {
					time.Sleep(10 * time.Minute)
				}
				return answered(inv), nil
			}
		})
		s.accept(t, `f 0`, `f 0`)
		time.Sleep(time.Second) // so that the line is known to be fast
		for range 10 {
			s.accept(t, `f "slow"`)
		}
		s.accept(t, `f "quick"`)
		time.Sleep(15 * time.Second)
		ran := s.called() // of those that begin at the same moment, in any order
		if n := len(ran); n != 13 || !slices.ContainsFunc(ran, func(c call) bool { return c.payload == `"quick"` }) {
			t.Errorf("%d ran: %+v", n, ran)
		}
	})
}

func TestAPoisonousEventDoesNotHoldItsLine(t *testing.T) {
	for name, poison := range map[string]func(granted func()) (*lambent.Result, error){
		"that fails":                  func(granted func()) (*lambent.Result, error) { granted(); return failed("Bad", "bad"), nil },
		"that the platform cannot do": func(func()) (*lambent.Result, error) { return nil, errors.New("cannot") },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				s.set(func() {
					s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
						if string(inv.Payload) == "0" {
							return poison(granted)
						}
						granted()
						return answered(inv), nil
					}
				})
				for i := range 100 {
					s.accept(t, fmt.Sprintf("f %d", i))
				}
				synctest.Wait()
				if n := s.queue.unsettled(); n != 1 {
					t.Errorf("%d events are left, want the poisonous one", n)
				}
				time.Sleep(7 * time.Hour)
				s.failure(t)
			})
		})
	}
}

func TestAFunctionWithNoConcurrencyReservedIsNotCalled(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.rules["f"] = EventRules{Closed: true, MaxAge: time.Hour, OnFailure: []string{"https://there"}}
		})
		s.accept(t, `f {}`)
		synctest.Wait()
		if len(s.called()) != 0 || s.failure(t).Reason != "throttled" || !strings.Contains(string(s.sent[0].Body), `"condition":"ZeroReservedConcurrency","approximateInvokeCount":0`) {
			t.Errorf("calls %v, failure %+v, sent %s", s.called(), s.failure(t), s.sent[0].Body)
		}
	})
}

func TestWhatCannotBeCalledIsStoredWithItsReason(t *testing.T) {
	for kind, reason := range map[lambent.Kind]string{lambent.KindNotFound: "function_missing", lambent.KindDenied: "permission", lambent.KindInvalid: "bad_event"} {
		onStage(t, func(t *testing.T, s *stage) {
			s.set(func() {
				s.answer = func(*lambent.Invocation, func()) (*lambent.Result, error) {
					return nil, &lambent.Error{Kind: kind, Message: "why"}
				}
			})
			s.accept(t, `f {}`)
			synctest.Wait()
			if f := s.failure(t); f.Reason != reason || f.Message != "why" || len(s.called()) != 1 {
				t.Errorf("%v: %+v", kind, f)
			}
		})
	}
}

func TestAFullFailureStoreKeepsTheEventInTheQueue(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Minute}
			s.storeErr = &lambent.Error{Kind: lambent.KindUnavailable, Reason: "FailureStoreFull"}
			s.answer = func(_ *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				return failed("Oops", "no"), nil
			}
		})
		s.accept(t, `f {}`)
		time.Sleep(time.Hour)
		if n := s.queue.unsettled(); n != 1 || len(s.failures) != 0 {
			t.Fatalf("%d events are left, %d stored", n, len(s.failures))
		}
		s.set(func() { s.storeErr = nil })
		time.Sleep(5 * time.Minute)
		if f := s.failure(t); f.Reason != "function_error" || f.Attempts != 1 || len(s.called()) != 1 || s.queue.unsettled() != 0 {
			t.Errorf("stored is %+v after %d calls", f, len(s.called()))
		}
	})
}

func TestADiskThatTakesNothingMakesALineRest(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.answer = func(_ *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				return failed("Oops", "no"), nil
			}
		})
		s.accept(t, `f {}`)
		s.queue.mu.Lock()
		s.queue.writeErr = &lambent.Error{Kind: lambent.KindUnavailable, Reason: "DiskFull"}
		s.queue.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if n := len(s.called()); n > 620 {
			t.Errorf("it was called %d times", n)
		}
		s.queue.mu.Lock()
		s.queue.writeErr = nil
		s.queue.mu.Unlock()
		time.Sleep(time.Hour)
		if f := s.failure(t); f.Reason != "function_error" {
			t.Errorf("stored is %+v", f)
		}
	})
}

func TestARedrivenEventThatSucceedsIsNoFailureAnyMore(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		e := &queue.Event{ID: "again", Line: queue.Line{Account: lambent.DefaultAccount, Function: "f"}, Source: SourceRedrive}
		if err := s.queue.Accept(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !slices.Equal(s.redone, []lambent.RequestID{"again"}) || s.queue.unsettled() != 0 {
			t.Errorf("told was %v", s.redone)
		}
	})
}

func TestWhatTheEndOfTheServerInterruptsComesAgain(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		end := make(chan struct{})
		s.set(func() {
			s.answer = func(_ *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				<-end
				return failed("Runtime.ExitError", "killed"), nil
			}
		})
		s.accept(t, `f 1`)
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { s.stop(); close(stopped) }()
		time.Sleep(2 * time.Hour) // it has drained
		close(end)
		<-stopped
		if n := s.queue.Due(queue.Line{Account: lambent.DefaultAccount, Function: "f"}); n != 1 || len(s.failures) != 0 {
			t.Errorf("%d events are in line, %d failures", n, len(s.failures))
		}
		s.stop = func() {}
	})
}

func TestAccountsHaveTheirTurnsOneAfterTheOther(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		release := make(chan struct{})
		s.set(func() {
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				<-release
				granted()
				return answered(inv), nil
			}
		})
		for i := range 300 { // one account with many lines
			s.accept(t, fmt.Sprintf("f%d x", i))
		}
		other := &queue.Event{ID: "other", Line: queue.Line{Account: "111111111111", Function: "o"}, Payload: []byte("other")}
		if err := s.queue.Accept(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		calls := s.called()
		if len(calls) != mostWaitingAccount+1 || !slices.ContainsFunc(calls, func(c call) bool { return c.payload == "other" }) {
			t.Errorf("%d events wait for containers", len(calls))
		}
		close(release)
		synctest.Wait()
		if n := s.queue.unsettled(); n != 0 {
			t.Errorf("%d events are left", n)
		}
	})
}
