package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/queue"
)

const (
	hook   = "https://hook.test/"
	queue1 = "arn:aws:sqs:eu-test-1:000000000000:q"
	topic  = "arn:aws:sns:eu-test-1:000000000000:t"
)

func unavailable(text string) error {
	return &lambent.Error{Op: "deliver", Kind: lambent.KindUnavailable, Message: text}
}

// sendTo has what is sent to each place end as it is told.
func (s *stage) sendTo(ends map[string]func() error) {
	s.send = func(_ context.Context, m *Message) error {
		if end := ends[m.To]; end != nil {
			return end()
		}
		return nil
	}
}

func (s *stage) sentTo(place string) (all []*Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.sent {
		if m.To == place {
			all = append(all, m)
		}
	}
	return all
}

// withoutTime is a record with its time, checked, left out.
func withoutTime(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var r map[string]any
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(r["timestamp"])); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("the record's time is %v", r["timestamp"])
	}
	delete(r, "timestamp")
	return r
}

func TestRecordsAreAWSsAndGoToEachPlace(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook, topic}, OnFailure: []string{queue1}, DeadLetter: topic}
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				if string(inv.Payload) == `"bad"` {
					return failed("Oops", strings.Repeat("é", 600)), nil
				}
				return answered(inv), nil
			}
		})
		s.accept(t, `f {"n":1}`)
		synctest.Wait() // so that it is the first
		s.accept(t, `f "bad"`)
		synctest.Wait()
		for _, place := range []string{hook, topic} {
			m := s.sentTo(place)[0]
			want := map[string]any{"version": "1.0", "requestContext": map[string]any{"requestId": `f {"n":1}-0`, "functionArn": "arn:aws:lambda:eu-test-1:000000000000:function:f:$LATEST", "condition": "Success", "approximateInvokeCount": 1.0},
				"requestPayload": map[string]any{"n": 1.0}, "responseContext": map[string]any{"statusCode": 200.0, "executedVersion": "7"}, "responsePayload": "done"}
			if diff := cmp.Diff(want, withoutTime(t, m.Body)); diff != "" || !m.Success || m.Account != lambent.DefaultAccount || m.Line.Function != "f" || m.Attributes != nil {
				t.Errorf("%s: %+v (-want +got):\n%s", place, m, diff)
			}
		}
		m := s.sentTo(queue1)[0]
		want := map[string]any{"version": "1.0", "requestContext": map[string]any{"requestId": `f "bad"-0`, "functionArn": "arn:aws:lambda:eu-test-1:000000000000:function:f:$LATEST", "condition": "RetriesExhausted", "approximateInvokeCount": 1.0},
			"requestPayload": "bad", "responseContext": map[string]any{"statusCode": 200.0, "executedVersion": "7", "functionError": "Unhandled"}, "responsePayload": map[string]any{"errorType": "Oops", "errorMessage": strings.Repeat("é", 600)}}
		if diff := cmp.Diff(want, withoutTime(t, m.Body)); diff != "" || m.Success {
			t.Errorf("%+v (-want +got):\n%s", m, diff)
		}
		letters := s.sentTo(topic)
		letter := letters[len(letters)-1]
		if string(letter.Body) != `"bad"` || !slices.Equal(letter.Attributes, []Attribute{{"RequestID", "String", `f "bad"-0`}, {"ErrorCode", "Number", "200"}, {"ErrorMessage", "String", strings.Repeat("é", 512)}}) {
			t.Errorf("the dead letter is %s %+v", letter.Body, letter.Attributes)
		}
		if s.failure(t).Reason != "function_error" || s.queue.unsettled() != 0 {
			t.Errorf("%+v, %d left", s.failure(t), s.queue.unsettled())
		}
	})
}

// One that is down is tried again alone, with the same id, and the event stays
// until it has got its record.
func TestADestinationThatIsDownIsTriedAgainAndHoldsNoOther(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var at []time.Duration
		up := false
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook, queue1}}
			s.sendTo(map[string]func() error{hook: func() error {
				if at = append(at, time.Since(s.begin)); up {
					return nil
				}
				return unavailable("it is down")
			}})
		})
		s.accept(t, "f 1")
		synctest.Wait()
		if len(s.sentTo(queue1)) != 1 || s.queue.unsettled() != 1 {
			t.Fatalf("the other got %d, %d events are left", len(s.sentTo(queue1)), s.queue.unsettled())
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		s.set(func() { up = true })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("tried at %v, want %v", at, want)
		}
		got := s.sentTo(hook)
		if len(got) != 1 || len(s.sentTo(queue1)) != 1 || s.queue.unsettled() != 0 || len(s.failures) != 0 || len(s.called()) != 1 {
			t.Errorf("delivered %d and %d times, %d events left, failures %v, %d calls", len(got), len(s.sentTo(queue1)), s.queue.unsettled(), s.failures, len(s.called()))
		}
	})
}

func TestWhatCannotBeDeliveredIsAFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		err    error
		tries  int
		reason string
	}{"down": {unavailable("it is down"), mostTries, "destination_failed"}, "refused": {&lambent.Error{Kind: lambent.KindDenied, Message: "it is down there"}, 1, "permission"}} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(t *testing.T, s *stage) {
				tries := 0
				s.set(func() {
					s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook}}
					s.sendTo(map[string]func() error{hook: func() error { tries++; return tc.err }})
				})
				s.accept(t, "f 1")
				time.Sleep(time.Hour)
				synctest.Wait()
				f := s.failure(t)
				if tries != tc.tries || f.Reason != tc.reason || !strings.Contains(f.Message, hook+": it is down") || string(f.Event.Payload) != "1" || s.queue.unsettled() != 0 {
					t.Errorf("tried %d times; %+v; %d left", tries, f, s.queue.unsettled())
				}
			})
		})
	}
}

// A redrive of what was processed delivers what could not be delivered, and calls
// nobody; what cannot be delivered still is the failure again.
func TestARedriveOfWhatCouldNotBeDeliveredDeliversIt(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		down := map[string]bool{hook: true, queue1: true}
		end := func(place string) func() error {
			return func() error {
				if down[place] {
					return permanent(errors.New("it is not there"))
				}
				return nil
			}
		}
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook, topic, queue1}}
			s.sendTo(map[string]func() error{hook: end(hook), queue1: end(queue1)})
		})
		redrive := func() *Failure {
			t.Helper()
			f := s.failure(t)
			e := *f.Event
			e.Source, e.State, e.Attempts = SourceRedrive, f.State, 0
			if err := s.queue.Accept(t.Context(), &e); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return s.failure(t)
		}
		s.accept(t, "f 1")
		synctest.Wait()
		if f := s.failure(t); f.Reason != "destination_failed" || len(f.State) == 0 {
			t.Fatalf("%+v", f)
		}
		delete(down, queue1)
		if f := redrive(); f.Reason != "destination_failed" || f.Attempts != 0 || !strings.Contains(f.Message, hook) {
			t.Errorf("not delivered again: %+v", f)
		}
		delete(down, hook)
		redrive()
		for _, place := range []string{hook, topic, queue1} {
			got := s.sentTo(place)
			if len(got) != 1 || !strings.Contains(string(got[0].Body), `"approximateInvokeCount":1`) || !strings.Contains(string(got[0].Body), `"responsePayload":"done"`) {
				t.Errorf("%s got %d: %+v", place, len(got), got)
			}
		}
		if n := len(s.called()); n != 1 || len(s.redone) != 1 || s.queue.unsettled() != 0 {
			t.Errorf("%d calls, %d settled, %d events left", n, len(s.redone), s.queue.unsettled())
		}
	})
}

// Too much under way is no try, however often.
func TestADeliveryThatWasNotTriedIsNotGivenUp(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		busy := true
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook}}
			s.sendTo(map[string]func() error{hook: func() error {
				if busy {
					return &lambent.Error{Kind: lambent.KindThrottled}
				}
				return nil
			}})
		})
		s.accept(t, "f 1")
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if len(s.failures) != 0 || s.queue.unsettled() != 1 {
			t.Fatalf("failures %v, %d left", s.failures, s.queue.unsettled())
		}
		s.set(func() { busy = false })
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.sentTo(hook)) != 1 || s.queue.unsettled() != 0 || len(s.failures) != 0 {
			t.Errorf("delivered %d times, %d left, failures %v", len(s.sentTo(hook)), s.queue.unsettled(), s.failures)
		}
	})
}

// What is waited for by a destination that does not answer is only its event.
func TestADestinationThatHangsHoldsNoLine(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook}}
			s.send = func(ctx context.Context, _ *Message) error {
				<-ctx.Done()
				return unavailable("it did not answer in time")
			}
		})
		for range 100 {
			s.accept(t, "f 1", "g 2")
		}
		time.Sleep(deliverTime - time.Second)
		synctest.Wait()
		n := map[string]int{}
		for _, c := range s.called() {
			n[c.function]++
		}
		if n["f"] != 100 || n["g"] != 100 {
			t.Errorf("called %v", n)
		}
	})
}

func TestALargeAnswerIsKeptUntilItsRecordIsDelivered(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		up := false
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook}}
			s.sendTo(map[string]func() error{hook: func() error {
				if !up {
					return unavailable("it is down")
				}
				return nil
			}})
			s.answer = func(inv *lambent.Invocation, granted func()) (*lambent.Result, error) {
				granted()
				r := answered(inv)
				n := 600 << 10
				if string(inv.Payload) == "2" {
					n = 6 << 20
				}
				r.Payload = []byte(`"` + strings.Repeat("x", n) + `"`)
				return r, nil
			}
		})
		s.accept(t, "f 1", "f 2")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if f := s.failure(t); string(f.Event.Payload) != "2" || f.Reason != "destination_failed" { // more than the queue keeps
			t.Errorf("kept is %+v", f.Event)
		}
		s.set(func() { up = true })
		time.Sleep(time.Minute)
		synctest.Wait()
		got := s.sentTo(hook)
		if len(got) != 1 || !strings.Contains(string(got[0].Body), strings.Repeat("x", 600<<10)) || s.queue.unsettled() != 0 {
			t.Errorf("%d were delivered, %d left", len(got), s.queue.unsettled())
		}
	})
}

func TestALoopOfDestinationsEndsAfterSixteen(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		s.set(func() {
			for from, to := range map[string]string{"a": "b", "b": "a"} {
				s.rules[from] = EventRules{MaxAge: time.Hour, OnSuccess: []string{"arn:aws:lambda:eu-test-1:000000000000:function:" + to}}
			}
		})
		s.accept(t, "a 1")
		time.Sleep(time.Hour)
		synctest.Wait()
		if f := s.failure(t); len(s.called()) != mostDepth+1 || f.Reason != "destination_failed" || !strings.Contains(f.Message, "in a loop") || s.queue.unsettled() != 0 {
			t.Errorf("%d calls, %+v", len(s.called()), f)
		}
	})
}

func TestAMessageHasItsOwnIDHoweverOftenItIsSent(t *testing.T) {
	onStage(t, func(t *testing.T, s *stage) {
		var ids []string
		s.set(func() {
			s.rules["f"] = EventRules{MaxAge: time.Hour, OnSuccess: []string{hook}}
			s.send = func(_ context.Context, m *Message) error {
				if ids = append(ids, m.ID); len(ids)%3 != 0 {
					return errors.New("down")
				}
				return nil
			}
		})
		s.accept(t, "f 1")
		time.Sleep(time.Minute)
		// As one that is redriven: the same request, accepted anew.
		if err := s.queue.Accept(t.Context(), &queue.Event{ID: "f 1-0", Line: queue.Line{Account: lambent.DefaultAccount, Function: "f"}, Payload: []byte("1"), Source: SourceRedrive, AcceptedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(ids) != 6 || ids[0] != ids[2] || ids[3] != ids[5] || ids[0] == ids[3] || !strings.HasPrefix(ids[0], "f 1-0-") {
			t.Errorf("the ids are %q", ids)
		}
	})
}
