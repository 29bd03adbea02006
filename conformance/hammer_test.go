package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// What the hammered functions do: say who they are, what they were asked, and
// whether they were asked twice at once; or end their runtime.
const (
	hammeredNode = `
let running = 0;
export const handler = async (event, context) => {
  if (event.die) process.kill(process.pid, 'SIGKILL');
  running++;
  await new Promise((done) => setTimeout(done, event.ms));
  return { arn: context.invokedFunctionArn, id: event.id, alone: running-- === 1 };
};`
	hammeredPython = `
import os, signal, threading, time
lock = threading.Lock()
def handler(event, context):
    if event['die']:
        os.kill(os.getpid(), signal.SIGKILL)
    alone = lock.acquire(blocking=False)
    time.sleep(event['ms'] / 1000)
    if alone:
        lock.release()
    return {'arn': context.invoked_function_arn, 'id': event['id'], 'alone': alone}
`
)

// hammered is a function that is called by many.
type hammered struct {
	caller *lab.Caller
	name   string
}

// hammer calls, and keeps what the answers say.
type hammer struct {
	t      *testing.T
	client *http.Client
	fns    []hammered
	end    time.Time

	mu sync.Mutex
	// +checklocks:mu
	outcomes map[string]int
	// +checklocks:mu
	account map[string]string // by instance
	// +checklocks:mu
	function map[string]string // by container
}

// Many callers of functions of several accounts, while sandboxes and runtimes are
// killed: each answer is right, or an error in AWS's shape; no instance and no
// container is ever seen with two accounts or functions; and nothing is left.
// HAMMER says how long. It has the machine for itself: it is not parallel. With
// `make hammer` it goes on for a minute, and the server looks for data races: one
// that found any does not end well.
func TestUnderTheHammerAnswersAreRightOrErrorsAndNothingIsLeft(t *testing.T) {
	const accounts, functions, callers = 6, 18, 500
	long := 15 * time.Second
	if text, given := os.LookupEnv("HAMMER"); given {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("HAMMER: %v", err)
		}
	}
	s := newServer(t, "--limits-instances", "10", "--instance-memory", "512", "--idle-timeout", "5s",
		"--pool-nodejs", "2", "--pool-python", "1", "--pool-provided", "0")
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	defer transport.CloseIdleConnections()
	h := &hammer{t: t, client: &http.Client{Transport: transport}, outcomes: map[string]int{}, account: map[string]string{}, function: map[string]string{}}
	for a := range accounts {
		c := s.Caller(t, fix.accounts.Next())
		for n := range functions / accounts {
			f := lab.Function{Name: fmt.Sprint("hammered-", n), Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
				Zip: lab.File("index.mjs", hammeredNode), Memory: 128 << (n % 2), Timeout: 30}
			if (a+n)%3 == 2 {
				f.Runtime, f.Handler, f.Zip = types.RuntimePython313, "app.handler", lab.File("app.py", hammeredPython)
			}
			c.Create(t, f)
			h.fns = append(h.fns, hammered{c, f.Name})
		}
	}

	h.end = time.Now().Add(long)
	var all sync.WaitGroup
	for n := range callers {
		all.Go(func() { h.call(n) })
	}
	kills := 0
	all.Go(func() { kills = h.kill(s) })
	all.Wait()

	h.mu.Lock()
	defer h.mu.Unlock()
	for _, outcome := range slices.Sorted(maps.Keys(h.outcomes)) {
		t.Logf("%6d × %s", h.outcomes[outcome], outcome)
	}
	t.Logf("%d sandboxes killed; %d instances and %d containers answered", kills, len(h.account), len(h.function))
	if h.outcomes[answeredRight] == 0 || kills == 0 {
		t.Error("it did not hit")
	}
	for _, f := range h.fns {
		c := f.caller
		if got, err := c.Call(t.Context(), f.name, op{"id": "last", "ms": 0, "die": false}); err != nil || got.FunctionError != nil {
			t.Errorf("afterwards %s answers %v, %v", f.name, got, err)
		}
		c.Delete(t, f.name)
	}
	lab.AwaitCensus(t, s, before)
}

func (h *hammer) over() bool { return !time.Now().Before(h.end) }

// call is one caller. A call that was begun is waited for, however long it takes:
// that all are answered is what the test is about, too.
func (h *hammer) call(n int) {
	r := rand.New(rand.NewPCG(5, uint64(n)))
	for k := 0; !h.over(); k++ {
		f := h.fns[r.IntN(len(h.fns))]
		event := op{"id": fmt.Sprint(n, "-", k), "ms": r.IntN(20), "die": r.IntN(50) == 0}
		outcome, err := h.once(f, event)
		if err != nil {
			h.t.Errorf("%s of %s, asked %v: %v", f.name, f.caller.Account, event, err)
			return
		}
		h.mu.Lock()
		h.outcomes[outcome]++
		h.mu.Unlock()
	}
}

const answeredRight = "right answers"

// once calls a function and tells what came of it in a word, or what is wrong
// with it.
func (h *hammer) once(f hammered, event op) (outcome string, err error) {
	payload, err := json.Marshal(event)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost,
		f.caller.Server.URL+"/2015-03-31/functions/"+f.name+"/invocations", bytes.NewReader(payload))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/%s/lambda/aws4_request, SignedHeaders=host, Signature=%s",
		f.caller.Account, lab.Region, strings.Repeat("0", 64)))
	resp, err := h.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if err := h.place(f, resp.Header); err != nil {
		return "", err
	}
	switch {
	case resp.StatusCode != http.StatusOK:
		var refusal struct{ Message string }
		code := resp.Header.Get("X-Amzn-Errortype")
		if json.Unmarshal(body, &refusal) != nil || code == "" || refusal.Message == "" ||
			resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < http.StatusInternalServerError {
			return "", fmt.Errorf("status %d, %q, %.300s", resp.StatusCode, code, body)
		}
		return fmt.Sprintf("%d %s: %s", resp.StatusCode, code, refusal.Message), nil
	case resp.Header.Get("X-Amz-Function-Error") != "":
		var failure lab.FunctionError
		if json.Unmarshal(body, &failure) != nil || failure.Type != "Runtime.ExitError" && failure.Type != "Sandbox.Timedout" || failure.Message == "" {
			return "", fmt.Errorf("function error %.300s", body)
		}
		_, what, _ := strings.Cut(failure.Message, " Error: ")
		return failure.Type + ": " + what, nil
	}
	var answer struct {
		ARN   string `json:"arn"`
		ID    string `json:"id"`
		Alone bool   `json:"alone"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.ARN != f.caller.ARN(f.name) || answer.ID != event["id"] || !answer.Alone {
		return "", fmt.Errorf("the answer is %.300s", body)
	}
	return answeredRight, nil
}

// place checks where a call ran against where all others did.
func (h *hammer) place(f hammered, header http.Header) error {
	instance, container := header.Get("X-Lambent-Instance-Id"), header.Get("X-Lambent-Container-Id")
	if instance == "" {
		return nil // it ran nowhere
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other, seen := h.account[instance]; seen && other != f.caller.Account {
		return fmt.Errorf("instance %s served account %s before", instance, other)
	}
	if other, seen := h.function[container]; seen && other != f.caller.ARN(f.name) {
		return fmt.Errorf("container %s was %s before", container, other)
	}
	h.account[instance], h.function[container] = f.caller.Account, f.caller.ARN(f.name)
	return nil
}

// kill kills the process that is the kernel of some sandbox, again and again, and
// counts.
func (h *hammer) kill(s *lab.Server) (kills int) {
	r := rand.New(rand.NewPCG(6, 0))
	for !h.over() {
		containers, err := s.Containers()
		if err != nil {
			h.t.Errorf("list the containers: %v", err)
			return kills
		}
		if len(containers) > 0 && killKernel(containers[r.IntN(len(containers))].PID) {
			kills++
		}
		time.Sleep(200 * time.Millisecond) // so that some of them live
	}
	return kills
}

// killKernel kills a process that is the kernel of a sandbox, if it still is one:
// its number may be another's by now.
func killKernel(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasPrefix(name, []byte("runsc-sandbox")) && syscall.Kill(pid, syscall.SIGKILL) == nil
}
