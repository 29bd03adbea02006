package conformance

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"lambent/conformance/lab"
)

// jump sets the server's clock and checks that it believes it: off is how far it
// is then from the machine's.
func jump(t *testing.T, s *lab.Server, by, off time.Duration) {
	t.Helper()
	if err := s.JumpClock(by); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, "wait for the server's clock to be another", func() error {
		resp, err := http.Get(s.URL + "/_lambent/health")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if err == nil && (time.Until(date)-off).Abs() > time.Minute {
			err = errors.New("the server's clock says " + date.String())
		}
		return err
	})
}

// sendWaiting sends events of which many fail once or more, so that they wait.
func sendWaiting(t *testing.T, p *proofs, s *lab.Server) {
	t.Helper()
	for n := range 20 {
		if !p.send(t.Context(), http.DefaultClient, s.URL, workEvent{Never: n%10 == 0, Unlucky: 0.6}) {
			t.Fatal("the server is gone")
		}
	}
}

// The machine's clock is set an hour forward, and back, and back again, while events
// wait to be tried once more. None is held up by it, and none is too old by it:
// they may be a minute old, and wait for seconds. Nor is a call that is under way.
func TestClockThatJumpsAnHourHoldsUpNoEventAndExpiresNone(t *testing.T) {
	t.Parallel()
	p := newProofs()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: newData(t), Flags: append([]string{"--async-retry-delays", "2s,2s"}, noPools...)})
	p.deploy(t, s)
	c := s.Caller(t, p.account)
	c.Create(t, node(t).function("sleeper"))
	_, err := c.UpdateFunctionEventInvokeConfig(t.Context(), &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: aws.String("work"), MaximumEventAgeInSeconds: aws.Int32(60)})
	if err != nil {
		t.Fatal(err)
	}
	off := time.Duration(0)
	for _, by := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
		sendWaiting(t, p, s)
		slept := make(chan error, 1)
		go func() {
			a, err := c.Call(t.Context(), "sleeper", op{"op": "sleep", "ms": 1000})
			if err == nil && string(a.Payload) != `"slept"` {
				err = errors.New(string(a.Payload))
			}
			slept <- err
		}()
		off += by
		jump(t, s, by, off)
		sendWaiting(t, p, s)
		if err := <-slept; err != nil {
			t.Errorf("a call during which the clock jumped by %v: %v", by, err)
		}
	}
	v := p.await(t, s)
	t.Log(v)
	if v.accepted != 120 || v.stored < 12 {
		t.Errorf("of 120 events: %s", v)
	}
}

// The same, with the server killed in between: what it wrote is an hour from the
// future, or an hour old.
func TestEventsWrittenAnHourOffAreExecutedAfterAKill(t *testing.T) {
	t.Parallel()
	p := newProofs()
	cfg := lab.Config{Bin: fix.bin, Data: newData(t), Flags: append([]string{"--async-retry-delays", "2s,2s"}, noPools...)}
	s := lab.Run(t, cfg)
	p.deploy(t, s)
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		jump(t, s, by, by)
		sendWaiting(t, p, s)
		s.Kill()
		s = lab.Run(t, cfg)
	}
	v := p.await(t, s)
	t.Log(v)
	if v.accepted != 40 || v.stored < 4 {
		t.Errorf("of 40 events: %s", v)
	}
}
