package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"lambent/conformance/lab"
)

// controlled are two functions of an account: "fragile" fails of every event that
// says what is to be answered about it, and of others succeeds; "doctor", which
// is asked by these rules, answers that.
func controlled(t *testing.T, rules string) *lab.Caller {
	t.Helper()
	c := newServer(t, quickly...).Caller(t, fix.accounts.Next())
	c.Create(t, js("fragile", `console.log("given", JSON.stringify(e)); if (e.answer) throw new TypeError("bad event"); return 1`))
	c.Create(t, js("doctor", `console.log("asked", e.rule, e.request_id); if (e.payload.answer === "broken") throw new Error("broken"); return e.payload.answer`))
	ask(t, c, http.StatusOK, http.MethodPut, "/_lambent/v1/functions/fragile/settings", `{"control":`+rules+`}`)
	if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("fragile"), MaximumRetryAttempts: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	return c
}

const onError = `[{"on":"error","function":"doctor"}]`

// failed is the failure that an event becomes of which an answer is given.
func failedOf(t *testing.T, c *lab.Caller, name, answer string) failure {
	t.Helper()
	id := send(t, c, name, `{"answer":`+answer+`}`)
	var found failure
	awaitFailures(t, c, "?function=fragile", func(all []failure) bool {
		at := slices.IndexFunc(all, func(f failure) bool { return f.RequestID == id })
		if at >= 0 {
			found = all[at]
		}
		return at >= 0
	})
	return found
}

func TestControlFunctionsRebuildInstances(t *testing.T) {
	t.Parallel()
	c := controlled(t, onError)
	call := func() string {
		t.Helper()
		a, err := c.Call(t.Context(), "fragile", op{})
		if err != nil {
			t.Fatal(err)
		}
		return a.ContainerID()
	}
	before := call()
	if again := call(); again != before {
		t.Fatalf("the container was not kept: %s, then %s", before, again)
	}
	f := failedOf(t, c, "fragile", `{"actions":[{"do":"rebuild_instances"}],"note":"it leaks"}`)
	if after := call(); after == before || !f.said("its containers are made anew") || !f.said("control function doctor (on error): says: it leaks") {
		t.Errorf("served by %s before and by %s after; the failure is %+v", before, after, f)
	}
}

func TestControlFunctionsRollBackAliases(t *testing.T) {
	t.Parallel()
	c := controlled(t, onError)
	publish := func() string {
		t.Helper()
		v, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("fragile")})
		if err != nil {
			t.Fatal(err)
		}
		c.AwaitActive(t, "fragile:"+*v.Version)
		return *v.Version
	}
	// Version 1 takes everything, version 2 is the one that fails.
	good := js("fragile", `console.log("given to 1"); return 1`)
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("fragile"), ZipFile: good.Zip}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "fragile")
	first := publish()
	bad := js("fragile", `throw new TypeError("version 2")`)
	if _, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("fragile"), ZipFile: bad.Zip}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "fragile")
	second := publish()
	if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("fragile"), Name: aws.String("live"), FunctionVersion: &second}); err != nil {
		t.Fatal(err)
	}
	at := func() string {
		t.Helper()
		a, err := c.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: aws.String("fragile"), Name: aws.String("live")})
		if err != nil {
			t.Fatal(err)
		}
		return *a.FunctionVersion
	}
	// It is asked before the event is settled: what it puts back serves the next try.
	send(t, c, "fragile:live", `{"answer":{"decision":"retry","actions":[{"do":"roll_back_alias","alias":"live"}]}}`)
	lab.Eventually(t, "version 1 is given the event", func() error {
		if text := ask(t, c, http.StatusOK, http.MethodGet, "/_lambent/v1/functions/fragile/logs", ""); !strings.Contains(text, "given to 1") {
			return fmt.Errorf("the log is %s", text)
		}
		return nil
	})
	if v := at(); v != first {
		t.Errorf("the alias is at %s, want %s", v, first)
	}
	if all := failuresOf(t, c, ""); len(all) != 0 {
		t.Errorf("the failures are %+v", all)
	}
	if _, err := c.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: aws.String("fragile"), Name: aws.String("live"), FunctionVersion: &second}); err != nil {
		t.Fatal(err)
	}
	f := failedOf(t, c, "fragile:live", `{"actions":[{"do":"roll_back_alias","alias":"live","version":"`+first+`"},{"do":"roll_back_alias","alias":"live"},{"do":"roll_back_alias","alias":"absent"}]}`)
	if v := at(); v != first || f.Version != second {
		t.Errorf("the alias is at %s, want %s; served was %s", v, first, f.Version)
	}
	for _, part := range []string{"the alias live was put back from version 2 to 1", "the alias live is at version 1 already", "roll_back_alias was not done: Alias not found: "} {
		if !f.said(part) {
			t.Errorf("the failure does not say %q: %+v", part, f.Actions)
		}
	}
}

func TestControlFunctionsReserveConcurrencyAndPauseSources(t *testing.T) {
	t.Parallel()
	c := controlled(t, onError)
	source, err := c.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{FunctionName: aws.String("fragile"), EventSourceArn: aws.String("arn:aws:sqs:" + lab.Region + ":" + c.Account + ":orders")})
	if err != nil {
		t.Fatal(err)
	}
	f := failedOf(t, c, "fragile", `{"actions":[{"do":"reserve_concurrency","value":950},{"do":"reserve_concurrency","value":7},{"do":"pause_source","uuid":"`+*source.UUID+`"},{"do":"pause_source","uuid":"absent"}]}`)
	for _, part := range []string{
		"reserve_concurrency was not done: Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].",
		"7 of the account's concurrency are reserved for it", "the event source mapping " + *source.UUID + " was disabled", "pause_source was not done: there is no event source mapping absent",
	} {
		if !f.said(part) {
			t.Errorf("the failure does not say %q: %+v", part, f.Actions)
		}
	}
	reserved := func() *int32 {
		t.Helper()
		got, err := c.GetFunctionConcurrency(t.Context(), &lambda.GetFunctionConcurrencyInput{FunctionName: aws.String("fragile")})
		if err != nil {
			t.Fatal(err)
		}
		return got.ReservedConcurrentExecutions
	}
	if n := reserved(); aws.ToInt32(n) != 7 {
		t.Errorf("reserved are %d", aws.ToInt32(n))
	}
	lab.Eventually(t, "the mapping is disabled", func() error {
		m, err := c.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: source.UUID})
		if err != nil || aws.ToString(m.State) != "Disabled" {
			return fmt.Errorf("its state is %s, %w", aws.ToString(m.State), err)
		}
		return nil
	})
	if f = failedOf(t, c, "fragile", `{"actions":[{"do":"reserve_concurrency"}]}`); reserved() != nil || !f.said("no concurrency is reserved for it any more") {
		t.Errorf("reserved are %v: %+v", reserved(), f)
	}
}

// What is tried again may be another event for another version; the failure that
// comes of it tells both. What is dropped is nowhere.
func TestControlFunctionsChangeAndDropEvents(t *testing.T) {
	t.Parallel()
	c := controlled(t, onError)
	v, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("fragile")})
	if err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "fragile:"+*v.Version)
	dropped := send(t, c, "fragile", `{"answer":{"decision":"drop"}}`)
	f := failedOf(t, c, "fragile", `{"decision":"retry","qualifier":"1","payload":{"retryMode":true,"answer":"broken"}}`)
	if f.Version != "1" || f.Attempts != 2 || !strings.Contains(string(f.Payload), "retryMode") {
		t.Errorf("%+v", f)
	}
	for _, part := range []string{`the request is tried again, with "1" in place of ""`, `with the event {"retryMode":true,"answer":"broken"} in place of {"answer":{"decision":"retry"`, "control function doctor (on error): failed: Error: broken"} {
		if !f.said(part) {
			t.Errorf("the failure does not say %q: %+v", part, f.Actions)
		}
	}
	lab.Eventually(t, "both are settled", func() error {
		queues, err := c.Server.Queues()
		if err != nil || len(queues) != 0 {
			return fmt.Errorf("events wait: %+v, %w", queues, err)
		}
		return nil
	})
	if all := failuresOf(t, c, ""); len(all) != 1 || all[0].RequestID == dropped {
		t.Errorf("the failures are %+v", all)
	}
}

// asked counts how often the doctor was asked by a rule.
func askedBy(t *testing.T, c *lab.Caller, rule string) int {
	t.Helper()
	return strings.Count(ask(t, c, http.StatusOK, http.MethodGet, "/_lambent/v1/functions/doctor/logs", ""), "asked "+rule)
}

// Depth 1: nobody is asked about a control function's own failure.
func TestAControlFunctionsOwnFailureStartsNone(t *testing.T) {
	t.Parallel()
	c := controlled(t, onError)
	ask(t, c, http.StatusOK, http.MethodPut, "/_lambent/v1/functions/doctor/settings", `{"control":`+onError+`}`)
	f := failedOf(t, c, "fragile", `"broken"`)
	if !f.said("control function doctor (on error): failed: Error: broken") {
		t.Errorf("%+v", f)
	}
	if f = failedOf(t, c, "fragile", `{"decision":"dance"}`); !f.said(`decision "dance" is none of`) {
		t.Errorf("%+v", f)
	}
	if n := askedBy(t, c, "error"); n != 2 {
		t.Errorf("it was asked %d times", n)
	}
}

// Once a crossing: again only after the share of failures was low.
func TestAnErrorRateIsToldOnceACrossing(t *testing.T) {
	t.Parallel()
	c := controlled(t, `[{"on":"error_rate","above":0.5,"below":0.25,"over":"1h","calls":4,"function":"doctor"}]`)
	calls := func(n int, event op) {
		t.Helper()
		for range n {
			if _, err := c.Call(t.Context(), "fragile", event); err != nil {
				t.Fatal(err)
			}
		}
	}
	told := func(n int) {
		t.Helper()
		lab.Eventually(t, fmt.Sprintf("it is told %d times", n), func() error {
			if got := askedBy(t, c, "error_rate"); got != n {
				return fmt.Errorf("it was told %d times", got)
			}
			return nil
		})
	}
	fails := op{"answer": nil, "n": 1}
	fails["answer"] = op{}
	calls(3, fails)
	if n := askedBy(t, c, "error_rate"); n != 0 {
		t.Errorf("told %d times of 3 calls", n)
	}
	calls(3, fails) // the fourth is enough, and the next two are the same crossing
	told(1)
	calls(10, op{}) // 6 of 16: over what is low
	calls(8, fails) // 14 of 24
	calls(32, op{}) // 14 of 56: low
	calls(30, fails)
	told(2) // 29 of 71 + …: above once more at 43 of 85
}
