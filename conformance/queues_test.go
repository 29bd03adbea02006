package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// Events that wait behind a function that takes one at a time are seen, with the
// age of the next one, by their account, in the metrics and by lambent ps, until
// it is given more concurrency and they are done: they wait for no back-off then.
func TestABacklogIsSeenUntilItIsWorkedOff(t *testing.T) {
	t.Parallel()
	s := newServer(t, "--pool-nodejs", "1", "--pool-python", "0", "--pool-provided", "0", "--async-backoff", "1h", "--async-backoff-most", "1h")
	c, other := s.Caller(t, fix.accounts.Next()), s.Caller(t, fix.accounts.Next())
	c.Create(t, sleeping("slow"))
	reserve := func(n int32) {
		if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("slow"), ReservedConcurrentExecutions: aws.Int32(n)}); err != nil {
			t.Fatal(err)
		}
	}
	reserve(1)
	const events = 20
	for range events {
		_, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("slow"), Payload: []byte("400"), InvocationType: types.InvocationTypeEvent})
		if err != nil {
			t.Fatal(err)
		}
	}
	of := func(state string) string {
		return fmt.Sprintf(`lambent_events{account="%s",function="slow",state="%s"}`, c.Account, state)
	}
	age := fmt.Sprintf(`lambent_events_oldest_seconds{account="%s",function="slow"}`, c.Account)
	lab.Eventually(t, "the backlog and its age are seen", func() error {
		m, err := s.Metrics()
		if err != nil {
			return err
		}
		if m[of("waiting")] < 2 || m[of("under_way")] < 1 || m[age] < 1 || m["lambent_event_queue_bytes"] < 1 {
			return fmt.Errorf("%v waiting, %v under way, the oldest of %v s", m[of("waiting")], m[of("under_way")], m[age])
		}
		q, err := s.Queues()
		if err != nil {
			return err
		}
		if len(q) != 1 || q[0].Account != c.Account || q[0].Function != "slow" || q[0].Waiting < 1 || q[0].OldestSeconds < 1 {
			return fmt.Errorf("the queues are %+v", q)
		}
		ps := exec.CommandContext(t.Context(), fix.bin, "ps")
		ps.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+s.URL, "AWS_ACCESS_KEY_ID="+c.Account)
		out, err := ps.Output()
		if err != nil || !strings.Contains(string(out), "EVENTS OF") {
			return fmt.Errorf("lambent ps: %v, and shows\n%s", err, out)
		}
		return nil
	})
	if got := other.HTTP(t, "GET", "/_lambent/v1/queues", nil); strings.TrimSpace(string(got.Body)) != "[]" {
		t.Errorf("another account is shown %s", got.Body)
	}
	reserve(10)
	lab.Eventually(t, "all are done, and counted", func() error {
		m, err := s.Metrics()
		if err != nil {
			return err
		}
		for _, state := range []string{"waiting", "delayed", "under_way"} {
			if n := m[of(state)]; n != 0 {
				return fmt.Errorf("%v events are %s", n, state)
			}
		}
		for name, want := range map[string]float64{`lambent_events_accepted_total{source="caller"}`: events, `lambent_events_settled_total{outcome="success"}`: events,
			"lambent_event_latency_seconds_count": events} {
			if m[name] != want {
				return fmt.Errorf("%s is %v", name, m[name])
			}
		}
		return nil
	})
	if q, err := s.Queues(); err != nil || len(q) != 0 {
		t.Errorf("queues afterwards: %+v, %v", q, err)
	}
}
