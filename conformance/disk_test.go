package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"lambent/conformance/lab"
)

// fastAsync has what waits between attempts wait shortly.
var fastAsync = []string{"--async-retry-delays", "20ms,20ms", "--async-backoff", "20ms", "--async-backoff-most", "200ms"}

// wantNoRoom sends events that must be refused since the disk is full.
func wantNoRoom(t *testing.T, c *lab.Caller, function string) {
	t.Helper()
	_, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &function, Payload: []byte("{}"), InvocationType: types.InvocationTypeEvent})
	wantError[*types.ServiceException](t, err, "ServiceException", "")
}

// Somebody else fills the disk. Events are refused from then on, callers who wait
// are served, also by functions that were not running, and what was accepted stays
// where it is if it cannot be written where it belongs: through a restart, too. When
// there is room again all goes on by itself.
func TestFullDiskLosesNoEventAndServesWhoWaits(t *testing.T) {
	t.Parallel()
	disk := lab.SmallDisk(t, 400<<20)
	p := newProofs()
	cfg := lab.Config{Bin: fix.bin, Data: filepath.Join(disk.Dir, "data"),
		Flags: append([]string{"--async-retry-delays", "1s,1s", "--async-backoff", "20ms", "--async-backoff-most", "200ms"}, noPools...)}
	s := lab.Run(t, cfg)
	p.deploy(t, s)
	c := s.Caller(t, p.account)
	for _, name := range []string{"warm", "cold"} {
		c.Create(t, node(t).function(name))
	}
	echo := func(c *lab.Caller, name string) {
		t.Helper()
		if got, _ := lab.Do[string](t, c, name, op{"op": "echo", "value": "served"}); got != "served" {
			t.Errorf("%s answers %q", name, got)
		}
	}
	echo(c, "warm")
	for n := range 60 {
		if !p.send(t.Context(), http.DefaultClient, s.URL, workEvent{Never: n%2 == 0, Unlucky: 0.2}) {
			t.Fatal("the server is gone")
		}
	}
	disk.Fill(t, 0)
	for range 10 {
		wantNoRoom(t, c, "work")
		echo(c, "warm")
	}
	echo(c, "cold")
	lab.Eventually(t, "wait for a failure that finds no room", func() error {
		if !strings.Contains(s.Log(), "in the queue") && !strings.Contains(s.Log(), "could not be written; its line rests") {
			return errors.New("nothing of it is in the log")
		}
		return nil
	})

	s.Kill()
	s = lab.Run(t, cfg)
	c = s.Caller(t, p.account)
	wantNoRoom(t, c, "work")
	echo(c, "warm")

	disk.MakeRoom(t)
	if !p.send(t.Context(), http.DefaultClient, s.URL, workEvent{}) {
		t.Fatal("the server is gone")
	}
	v := p.await(t, s)
	t.Log(v)
	if v.accepted != 61 || v.stored == 0 || v.executed == 0 {
		t.Errorf("of 61 events: %s", v)
	}
	for _, name := range []string{"warm", "cold"} {
		c.Delete(t, name)
	}
}

// The events themselves fill the disk, since their function is held up. They are
// all executed when it no more is, and with them room comes back.
func TestDiskFullOfEventsIsEmptiedByTheirExecution(t *testing.T) {
	t.Parallel()
	disk := lab.SmallDisk(t, 160<<20)
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: filepath.Join(disk.Dir, "data"), Flags: append(fastAsync, noPools...)})
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, node(t).function("other"))
	letGo := hold(t, c, "held")
	payload, err := json.Marshal(op{"op": "echo", "value": strings.Repeat("x", 1_000_000)})
	if err != nil {
		t.Fatal(err)
	}
	accepted := map[string]bool{}
	for {
		out, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("held"), Payload: payload, InvocationType: types.InvocationTypeEvent})
		if api, is := errors.AsType[smithy.APIError](err); is && api.ErrorCode() == "ServiceException" {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		accepted[requestID(out)] = true
	}
	t.Logf("%d events of 1 MB fit", len(accepted))
	if len(accepted) < 50 {
		t.Errorf("only %d events of 1 MB fit", len(accepted))
	}
	lab.Do[string](t, c, "other", op{"op": "echo", "value": "served"})
	letGo()
	awaitExecuted(t, c, "held", accepted)
	lab.Eventually(t, "wait for events to be accepted again", func() error {
		_, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("held"), Payload: payload, InvocationType: types.InvocationTypeEvent})
		return err
	})
}

// A failure store that has all it may have keeps no failure from being kept: it
// waits in the queue.
func TestEventsWhoseFailuresFindNoRoomStayInTheQueue(t *testing.T) {
	t.Parallel()
	const room, failing = 50, 130 // an account has half of the entries
	cfg := lab.Config{Bin: fix.bin, Data: newData(t), Flags: append([]string{"--failures-max-entries", fmt.Sprint(2 * room)}, append(fastAsync, noPools...)...)}
	s := lab.Run(t, cfg)
	account := fix.accounts.Next()
	c := s.Caller(t, account)
	c.Create(t, node(t).function("failing"))
	left := map[string]bool{}
	for range failing {
		out, err := c.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("failing"), Payload: []byte(`{"op":"throw"}`), InvocationType: types.InvocationTypeEvent})
		if err != nil {
			t.Fatal(err)
		}
		left[requestID(out)] = true
	}
	awaitFailures(t, c, "", func(all []failure) bool { return len(all) == room })
	s.Kill()
	s = lab.Run(t, cfg)
	c = s.Caller(t, account)
	for len(left) > 0 {
		want := min(room, len(left))
		for _, f := range awaitFailures(t, c, "", func(all []failure) bool { return len(all) >= want }) {
			if len(left) == failing && f.Reason != "function_error" || !left[f.RequestID] {
				t.Errorf("kept is %+v", f)
			}
			delete(left, f.RequestID)
			if got := c.HTTP(t, http.MethodDelete, "/_lambent/v1/failures/"+f.RequestID, nil); got.Status >= 300 {
				t.Fatalf("delete: %d %s", got.Status, got.Body)
			}
		}
	}
}

// hold creates a function that has one execution at a time, and occupies that, so
// that its events wait in their line until letGo is called.
func hold(t *testing.T, c *lab.Caller, name string) (letGo func()) {
	t.Helper()
	f := node(t).function(name)
	f.Timeout = 600
	c.Create(t, f)
	if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Call(t.Context(), name, op{"op": "sleep", "ms": 500_000}) // its sandbox is killed, or the server
	}()
	awaitBusy(t, c.Server, 1)
	return func() {
		if _, err := c.Server.KillSandboxes(func() bool { return true }); err != nil {
			t.Error(err)
		}
		<-ended
	}
}

// requestID is the id of an accepted event.
func requestID(out *lambda.InvokeOutput) string {
	return lab.NewAnswer(out).RequestID()
}

// awaitExecuted waits until the records say that each of these requests was
// executed with success.
func awaitExecuted(t *testing.T, c *lab.Caller, function string, ids map[string]bool) {
	t.Helper()
	lab.Eventually(t, "wait for the events to be executed", func() error {
		records, err := c.Server.Executions("limit=100000&function=" + function)
		if err != nil {
			return err
		}
		done := map[string]bool{}
		for _, r := range records {
			done[r.RequestID] = done[r.RequestID] || r.Status == "success"
		}
		for id := range ids {
			if !done[id] {
				return fmt.Errorf("%s is not, of %d records", id, len(records))
			}
		}
		return nil
	})
}
