package conformance

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// quickly has what waits by AWS's minutes wait for milliseconds.
var quickly = append([]string{"--async-retry-delays", "20ms,20ms", "--async-backoff", "50ms"}, noPools...)

// js makes a Node function.
func js(name, body string) lab.Function {
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.mjs", "export const handler = async (e, c) => {"+body+"};"), Timeout: 10}
}

// send has a function called with an event, and gives the request's id.
func send(t *testing.T, c *lab.Caller, name, payload string) string {
	t.Helper()
	a, err := c.Call(t.Context(), name, []byte(payload), func(in *lambda.InvokeInput) { in.InvocationType = types.InvocationTypeEvent })
	if err != nil || a.StatusCode != http.StatusAccepted {
		t.Fatalf("%+v, %v", a, err)
	}
	return a.RequestID()
}

// ask sends a request that is answered with a status, and gives the answer.
func ask(t *testing.T, c *lab.Caller, status int, method, path, body string) string {
	t.Helper()
	got := c.HTTP(t, method, path, []byte(body))
	if got.Status != status {
		t.Fatalf("%s %s: %d %s", method, path, got.Status, got.Body)
	}
	return string(got.Body)
}

func one(all []failure) bool { return len(all) == 1 && all[0].RedrivingSince == "" }

// settled is one failure that failed again after so many redrives.
func settled(redrives int) func([]failure) bool {
	return func(all []failure) bool { return one(all) && all[0].Redrives == redrives }
}

// said tells whether an action of a failure says something.
func (f *failure) said(part string) bool {
	for _, a := range f.Actions {
		if strings.Contains(a.What, part) {
			return true
		}
	}
	return false
}

// What becomes of a function while its events wait is why they fail.
func TestFailuresSayWhatBecameOfTheirFunction(t *testing.T) {
	t.Parallel()
	c := newServer(t, quickly...).Caller(t, fix.accounts.Next())
	for _, name := range []string{"gone", "others"} {
		c.Create(t, js(name, "throw new Error('no')"))
		send(t, c, name, `{"n":1}`)
		if f := awaitFailures(t, c, "?function="+name, one)[0]; f.Reason != "function_error" || f.Attempts != 3 {
			t.Errorf("%+v", f)
		}
		c.Delete(t, name)
	}
	// One of the name that is called for a tenant, which the event has none of.
	in := c.Input(js("others", "return 1"))
	in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
	if _, err := c.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "others")
	for name, want := range map[string]struct{ reason, kind string }{"gone": {"function_missing", "ResourceNotFoundException"}, "others": {"bad_event", "InvalidParameterValueException"}} {
		ask(t, c, http.StatusOK, http.MethodPost, "/_lambent/v1/failures/redrive", `{"filter":{"function":"`+name+`"}}`)
		f := awaitFailures(t, c, "?function="+name, settled(1))[0]
		if f.Reason != want.reason || f.Error.Type != want.kind || f.Error.Message == "" || f.Attempts != 3 || !f.said("redriven by hand, and failed again: "+want.reason) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Events that were too old before they were tried, and those of a function the
// machine has no room for, after a restart.
func TestEventsThatCannotBeTriedSayWhy(t *testing.T) {
	t.Parallel()
	data, account := newData(t), fix.accounts.Next()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: quickly})
	c := s.Caller(t, account)
	slow := js("slow", "await new Promise(r => setTimeout(r, 50000))")
	slow.Timeout = 60
	c.Create(t, slow)
	large := js("large", "return 1")
	large.Memory = 1024
	c.Create(t, large)
	if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("slow"), ReservedConcurrentExecutions: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("slow"), MaximumEventAgeInSeconds: aws.Int32(60)}); err != nil {
		t.Fatal(err)
	}
	send(t, c, "slow", `1`)
	waiting := send(t, c, "slow", `2`)
	s.Kill()

	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: append([]string{"--async-age-second", "1ms", "--instance-memory", "512"}, quickly...)})
	c = s.Caller(t, account)
	all := awaitFailures(t, c, "?function=slow", func(all []failure) bool { return len(all) == 2 })
	for _, f := range all {
		if f.Reason != "expired" || f.Error.Type != "EventAgeExceeded" || f.Attempts != 0 || f.Version != "" {
			t.Errorf("%+v", f)
		}
	}
	if all[0].RequestID != waiting && all[1].RequestID != waiting {
		t.Errorf("the event that waited is none of %+v", all)
	}
	send(t, c, "large", `{}`)
	f := awaitFailures(t, c, "?function=large", one)[0]
	if f.Reason != "no_capacity" || f.Attempts != 0 || !strings.Contains(f.Error.Message, "MemorySize 1024 MB is more than an instance") {
		t.Errorf("%+v", f)
	}
	if _, err := c.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("large"), MemorySize: aws.Int32(128)}); err != nil {
		t.Fatal(err)
	}
	c.AwaitActive(t, "large")
	ask(t, c, http.StatusAccepted, http.MethodPost, "/_lambent/v1/failures/"+f.RequestID+"/redrive", "")
	awaitFailures(t, c, "?function=large", func(all []failure) bool { return len(all) == 0 })
}

// A record that nobody took is delivered when there is somebody, and the function
// that made it is not called for it; unless the request was made another one.
func TestARedriveDeliversARecordThatCouldNotBeDelivered(t *testing.T) {
	t.Parallel()
	c := newServer(t, quickly...).Caller(t, fix.accounts.Next())
	c.Create(t, js("work", "console.log('worked on', e.n); return { done: e.n, for: c.awsRequestId }"))
	next := js("next", "console.log('told', e.requestContext.condition, e.requestContext.approximateInvokeCount, e.requestPayload.n, e.responsePayload.done, e.requestContext.requestId === e.responsePayload.for)")
	c.Create(t, next)
	if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("work"),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: aws.String(c.ARN("next"))}}}); err != nil {
		t.Fatal(err)
	}
	c.Delete(t, "next")
	send(t, c, "work", `{"n":1}`)
	send(t, c, "work", `{"n":2}`)
	all := awaitFailures(t, c, "?function=work", func(all []failure) bool { return len(all) == 2 })
	for _, f := range all {
		if f.Reason != "destination_failed" || f.Error.Type != "DestinationDeliveryFailed" || !strings.Contains(f.Error.Message, "Function not found: "+c.ARN("next")) || f.Attempts != 1 || f.Version != "$LATEST" {
			t.Errorf("%+v", f)
		}
	}
	// Still nobody.
	ask(t, c, http.StatusAccepted, http.MethodPost, "/_lambent/v1/failures/"+all[0].RequestID+"/redrive", "")
	awaitFailures(t, c, "?function=work", func(all []failure) bool {
		return len(all) == 2 && all[0].Redrives == 1 && all[0].RedrivingSince == "" && all[0].Attempts == 1
	})
	c.Create(t, next)
	log := func(name string) string {
		return ask(t, c, http.StatusOK, http.MethodGet, "/_lambent/v1/functions/"+name+"/logs", "")
	}
	ask(t, c, http.StatusOK, http.MethodPost, "/_lambent/v1/failures/redrive", `{"filter":{"reason":"destination_failed"}}`)
	lab.Eventually(t, "both are told of", func() error {
		if text := log("next"); !strings.Contains(text, "told Success 1 1 1 true") || !strings.Contains(text, "told Success 1 2 2 true") {
			return fmt.Errorf("the log is %s", text)
		}
		return nil
	})
	awaitFailures(t, c, "", func(all []failure) bool { return len(all) == 0 })
	if n := strings.Count(log("work"), "worked on"); n != 2 {
		t.Errorf("the function was called %d times", n)
	}

	c.Delete(t, "next")
	send(t, c, "work", `{"n":3}`)
	f := awaitFailures(t, c, "?function=work", one)[0]
	c.Create(t, next)
	ask(t, c, http.StatusAccepted, http.MethodPost, "/_lambent/v1/failures/"+f.RequestID+"/redrive", `{"payload":{"n":4}}`)
	lab.Eventually(t, "the edited request is worked on", func() error {
		if text := log("next"); !strings.Contains(text, "told Success 1 4 4 true") {
			return fmt.Errorf("the log is %s", text)
		}
		return nil
	})
	awaitFailures(t, c, "", func(all []failure) bool { return len(all) == 0 })
}

// With callers who prove who they are, a function's records go where its role lets
// it call.
func TestSecurityARecordGoesWhereTheRoleLetsItGo(t *testing.T) {
	t.Parallel()
	c := newClosed(t, quickly[:4]...)
	create := func(f lab.Function, role string) {
		t.Helper()
		in := c.caller.Input(f)
		in.Role = aws.String("arn:aws:iam::" + c.account + ":role/" + role)
		if _, err := c.caller.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		c.caller.AwaitActive(t, f.Name)
	}
	command := func(args ...string) string { return lambentCommand(t, c.Server, c.root, args...) }
	may := func(name string) string {
		return policyFile(t, `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"`+c.caller.ARN(name)+`"}`)
	}
	command("role", "create", "sender", "--policy", may("next"))
	create(js("work", "console.log('worked'); return 1"), "sender")
	create(js("next", "console.log('told')"), "sender")
	if _, err := c.caller.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("work"),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: aws.String(c.caller.ARN("next"))}}}); err != nil {
		t.Fatal(err)
	}
	command("role", "policy", "sender", "--policy", may("other"))
	id := send(t, c.caller, "work", `{}`)
	lab.Eventually(t, "it may not tell", func() error {
		if text := command("failures", "ls", "--quiet"); !strings.Contains(text, id) {
			return fmt.Errorf("the failures are %s", text)
		}
		return nil
	})
	text := command("failures", "show", id)
	for _, part := range []string{`"permission"`, "AccessDeniedException", c.caller.ARN("next") + ": the function's execution role arn:aws:iam::" + c.account + ":role/sender does not allow lambda:InvokeFunction"} {
		if !strings.Contains(text, part) {
			t.Errorf("there is no %s in %s", part, text)
		}
	}
	command("role", "policy", "sender", "--policy", may("next"))
	command("failures", "redrive", "--function", "work")
	lab.Eventually(t, "it is told", func() error {
		if text := command("logs", "next"); !strings.Contains(text, "told") {
			return fmt.Errorf("the log is %s", text)
		}
		return nil
	})
	if text := command("logs", "work"); strings.Count(text, "worked") != 1 {
		t.Errorf("it was called again: %s", text)
	}
	lab.Eventually(t, "nothing is left", func() error {
		if text := command("failures", "ls", "--quiet"); text != "" {
			return fmt.Errorf("the failures are %s", text)
		}
		return nil
	})
}

// Rules hold for what is there when they are set, and as often as they say.
func TestFailuresAreReprocessedByRules(t *testing.T) {
	t.Parallel()
	var asked, well atomic.Int32
	dependency := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1); well.Load() == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer dependency.Close()
	c := newServer(t, append([]string{"--failures-health-hosts", strings.TrimPrefix(dependency.URL, "http://")}, quickly...)...).Caller(t, fix.accounts.Next())
	for _, name := range []string{"timed", "waits"} {
		c.Create(t, js(name, "throw new Error('no')"))
		if _, err := c.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String(name), MaximumRetryAttempts: aws.Int32(0)}); err != nil {
			t.Fatal(err)
		}
		send(t, c, name, `{}`)
		awaitFailures(t, c, "?function="+name, one)
	}
	settings := func(name, reprocess string) {
		t.Helper()
		ask(t, c, http.StatusOK, http.MethodPut, "/_lambent/v1/functions/"+name+"/settings", `{"failures":{"reprocess":`+reprocess+`}}`)
	}
	settings("timed", `[{"after":"24h"}],"max":2`)
	settings("timed", `[{"after":"10ms"}],"max":2`)
	f := awaitFailures(t, c, "?function=timed", settled(2))[0]
	if f.Attempts != 3 || f.Reason != "function_error" || !f.said("redriven by after, and failed again: function_error") {
		t.Errorf("%+v", f)
	}

	settings("waits", `[{"when_healthy":"`+dependency.URL+`/health"}],"max":1`)
	lab.Eventually(t, "the dependency is asked again", func() error {
		if n := asked.Load(); n < 2 {
			return fmt.Errorf("it was asked %d times", n)
		}
		return nil
	})
	if got := failuresOf(t, c, "?function=waits"); !settled(0)(got) {
		t.Errorf("redriven before the dependency was well: %+v", got)
	}
	well.Store(1)
	f = awaitFailures(t, c, "?function=waits", settled(1))[0]
	if !f.said("redriven by when_healthy, and failed again: function_error") {
		t.Errorf("%+v", f)
	}
	if got := failuresOf(t, c, "?function=timed"); !settled(2)(got) {
		t.Errorf("redriven more often than it may be: %+v", got)
	}
}
