package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"lambent/conformance/lab"
)

// redriveAll redrives an account's failures, as often as it takes, and tells how
// many were.
func redriveAll(t *testing.T, c *lab.Caller) (redriven int) {
	t.Helper()
	for cursor := ""; ; {
		var done struct {
			Redriven    int
			Next, Error string
		}
		text := ask(t, c, http.StatusOK, http.MethodPost, "/_lambent/v1/failures/redrive", `{"cursor":"`+cursor+`"}`)
		if err := json.Unmarshal([]byte(text), &done); err != nil || done.Error != "" {
			t.Fatalf("%s, %v", text, err)
		}
		redriven += done.Redriven
		if cursor = done.Next; cursor == "" {
			return redriven
		}
	}
}

// Of many failures each is redriven once by whoever asks, however many do at once;
// none is lost by a kill meanwhile; and what is too old goes.
func TestManyFailuresAreRedrivenAndNoneIsLost(t *testing.T) {
	t.Parallel()
	const many = 600
	data, account, other := newData(t), fix.accounts.Next(), fix.accounts.Next()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: quickly})
	closed := func(s *lab.Server, account string, n *int32) *lab.Caller {
		t.Helper()
		c := s.Caller(t, account)
		var err error
		if n == nil {
			_, err = c.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")})
		} else {
			_, err = c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: n})
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s.Caller(t, account).Create(t, js("f", "return e"))
	s.Caller(t, other).Create(t, js("f", "return e"))
	c, theirs := closed(s, account, aws.Int32(0)), closed(s, other, aws.Int32(0))
	ids := map[string]bool{}
	var mu sync.Mutex
	var sending sync.WaitGroup
	for range 8 {
		sending.Go(func() {
			for range many / 8 {
				id := send(t, c, "f", `{}`)
				mu.Lock()
				ids[id] = true
				mu.Unlock()
			}
		})
	}
	send(t, theirs, "f", `{}`)
	sending.Wait()
	// pages lists all, in answers of a hundred.
	pages := func(c *lab.Caller) (all []failure) {
		t.Helper()
		for before := ""; ; {
			got := c.HTTP(t, http.MethodGet, "/_lambent/v1/failures?limit=100"+before, nil)
			var some []failure
			if err := json.Unmarshal(got.Body, &some); err != nil || len(some) > 100 {
				t.Fatalf("%d failures, %v", len(some), err)
			}
			all = append(all, some...)
			next := got.Header.Get("X-Lambent-Next")
			if next == "" {
				return all
			}
			before = "&before=" + next
		}
	}
	// there waits until all are there, and not in the queue, redriven so often.
	there := func(c *lab.Caller, redrives int) {
		t.Helper()
		lab.Eventually(t, fmt.Sprintf("all failures were redriven %d times", redrives), func() error {
			left := map[string]bool{}
			for _, f := range pages(c) {
				if f.RedrivingSince != "" || redrives >= 0 && f.Redrives != redrives {
					return fmt.Errorf("%+v", f)
				}
				left[f.RequestID] = ids[f.RequestID]
			}
			if len(left) != many {
				return fmt.Errorf("there are %d", len(left))
			}
			return nil
		})
	}
	there(c, 0)
	var redriving sync.WaitGroup
	sum := make(chan int, 4)
	for range cap(sum) {
		redriving.Go(func() { sum <- redriveAll(t, c) })
	}
	redriving.Wait()
	total := 0
	for range cap(sum) {
		total += <-sum
	}
	if total < many {
		t.Errorf("%d were redriven", total)
	}
	there(c, -1)
	redrives := func() (sum int) {
		t.Helper()
		for _, f := range pages(c) {
			sum += f.Redrives
		}
		return sum
	}
	if n := redrives(); n != total {
		t.Errorf("%d redrives are told of, and %d on the failures", total, n)
	}

	for range 3 {
		asked := make(chan struct{})
		go func() { // it ends with the server
			defer close(asked)
			resp, err := http.Post(s.URL+"/_lambent/v1/failures/redrive", "", strings.NewReader(`{"filter":{"account":"`+account+`"},"rate":1000}`))
			if err == nil {
				_ = resp.Body.Close()
			}
		}()
		lab.Eventually(t, "some are redriven", func() error {
			if n := redrives(); n <= total {
				return fmt.Errorf("there are %d redrives, and were %d", n, total)
			}
			return nil
		})
		s.Kill()
		<-asked
		s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: quickly})
		c = s.Caller(t, account)
		there(c, -1)
		total = redrives()
	}
	closed(s, account, nil)
	redriveAll(t, c)
	awaitFailures(t, c, "", func(all []failure) bool { return len(all) == 0 })
	theirs = s.Caller(t, other)
	if all := failuresOf(t, theirs, ""); len(all) != 1 || all[0].Redrives != 0 {
		t.Errorf("of the other account there are %+v", all)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: append([]string{"--failures-retention", "1s"}, quickly...)})
	awaitFailures(t, s.Caller(t, other), "", func(all []failure) bool { return len(all) == 0 })
}
