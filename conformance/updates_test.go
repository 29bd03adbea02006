package conformance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// slow is code that takes a while to be there.
func slow(n int, takes time.Duration) []byte {
	return lab.File("index.mjs", fmt.Sprintf(`await new Promise((r) => setTimeout(r, %d));
let calls = 0;
export const handler = async (e) => {
  if (e?.wait) await new Promise((r) => setTimeout(r, e.wait));
  return {Code: %d, Calls: ++calls, Version: process.env.AWS_LAMBDA_FUNCTION_VERSION};
}`, takes.Milliseconds(), n))
}

func slowFunction(name string, n int) lab.Function {
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: slow(n, 0)}
}

// counted is what that code answers.
type counted struct {
	Code, Calls int
	Version     string
}

func update(t *testing.T, c *lab.Caller, name string, pkg []byte) *lambda.UpdateFunctionCodeOutput {
	t.Helper()
	out, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: pkg})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// exactly calls a function that must not be served by other code than its own.
func exactly(t *testing.T, c *lab.Caller, name string) (counted, http.Header) {
	t.Helper()
	r := c.HTTP(t, http.MethodPost, "/2015-03-31/functions/"+name+"/invocations", []byte("{}"), "X-Lambent-Exact", "true")
	var got counted
	if err := json.Unmarshal(r.Body, &got); err != nil || r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	return got, r.Header
}

// wantServed holds the headers about who served against who was asked for.
func wantServed(t *testing.T, h http.Header, servedVersion, servedCode, requestedVersion, requestedCode string) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Lambent-Served-Version": servedVersion, "X-Lambent-Served-Code-Sha256": servedCode, "X-Lambent-Requested-Version": requestedVersion,
		"X-Lambent-Requested-Code-Sha256": requestedCode, "X-Amz-Executed-Version": servedVersion,
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// P09-T1, T2, T4, T5: calls get the old code at once until the new one stands
// beside it, then the new one, and what runs is not interrupted.
func TestNoCallWaitsForAnUpdate(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	created := c.Create(t, slowFunction("smooth", 1))
	_, first := lab.Do[counted](t, c, "smooth", nil)
	one := aws.ToString(created.CodeSha256)
	wantServed(t, first.Header, "$LATEST", one, "$LATEST", one)

	updated := update(t, c, "smooth", slow(2, 3*time.Second))
	two := aws.ToString(updated.CodeSha256)
	if updated.LastUpdateStatus != types.LastUpdateStatusInProgress {
		t.Errorf("updated with %s", updated.LastUpdateStatus)
	}
	_, err := c.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("smooth"), ZipFile: slow(3, 0)})
	wantError[*types.ResourceConflictException](t, err, "ResourceConflictException", "The operation cannot be performed at this time. An update is in progress for resource: "+c.ARN("smooth"))
	running := make(chan counted)
	go func() {
		got, _ := lab.Do[counted](t, c, "smooth", map[string]int{"wait": 4000})
		running <- got
	}()
	exact := make(chan counted)
	go func() { got, _ := exactly(t, c, "smooth"); exact <- got }()
	stood := 0
	for range 20 {
		got, a := lab.Do[counted](t, c, "smooth", nil)
		if got.Code == 2 {
			break // the machine is so slow that the code was faster
		}
		stood++
		wantServed(t, a.Header, "$LATEST", one, "$LATEST", two)
		if !strings.Contains(a.Header.Get("X-Lambent-Reason"), "stood in") {
			t.Errorf("the reason is %s", a.Header.Get("X-Lambent-Reason"))
		}
	}
	if stood == 0 {
		t.Error("no call was served while the new code came up")
	}
	c.AwaitActive(t, "smooth")
	got, after := lab.Do[counted](t, c, "smooth", nil)
	if got.Code != 2 || after.ContainerID() == first.ContainerID() {
		t.Errorf("after the update code %d answers, from container %s; the old one was %s", got.Code, after.ContainerID(), first.ContainerID())
	}
	if now, before := after.Header.Get("X-Lambent-Instance-Id"), first.Header.Get("X-Lambent-Instance-Id"); now != before {
		t.Errorf("it is on instance %s, the old one was on %s", now, before)
	}
	wantServed(t, after.Header, "$LATEST", two, "$LATEST", two)
	if got := <-exact; got.Code != 2 {
		t.Errorf("a call that wanted the new code exactly got %d", got.Code)
	}
	if got := <-running; got.Code != 1 {
		t.Errorf("the call that ran through the switch was answered by code %d", got.Code)
	}
	lab.Eventually(t, "the old container is gone", func() error {
		all, err := c.Server.Containers()
		if err != nil {
			return err
		}
		for _, container := range all {
			if container.ContainerID == first.ContainerID() {
				return fmt.Errorf("it is %s", container.State)
			}
		}
		return nil
	})
	execs, err := c.Server.Executions("function=smooth&limit=1000&account=" + c.Account)
	if err != nil {
		t.Fatal(err)
	}
	marked := 0
	for _, e := range execs {
		if e.RequestedCode != "" {
			marked++
			if e.RequestedCode != two || e.Code != one || e.RequestedVersion != "$LATEST" || !strings.Contains(e.Reason, "stood in") {
				t.Errorf("recorded as %+v", e)
			}
		}
	}
	if marked < stood {
		t.Errorf("%d records say that old code stood in, of at least %d calls", marked, stood)
	}
}

// P09-T6, and what never is substituted: with nothing warm, or another
// configuration, calls wait for what they ask for.
func TestCallsWaitWhereOldCodeMayNotStandIn(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, slowFunction("cold", 1)) // never called
	update(t, c, "cold", slow(2, time.Second))
	if got, _ := lab.Do[counted](t, c, "cold", nil); got.Code != 2 {
		t.Errorf("with nothing warm, code %d answers", got.Code)
	}
	c.AwaitActive(t, "cold")
	changes := map[string]*lambda.UpdateFunctionConfigurationInput{
		"environment": {Environment: &types.Environment{Variables: map[string]string{"AB": "c"}}},
		"role":        {Role: aws.String("arn:aws:iam::" + c.Account + ":role/other")},
		"memory":      {MemorySize: aws.Int32(192)},
	}
	for what, in := range changes {
		_, before := lab.Do[counted](t, c, "cold", nil)
		in.FunctionName = aws.String("cold")
		if _, err := c.UpdateFunctionConfiguration(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if got, a := lab.Do[counted](t, c, "cold", nil); got.Calls != 1 || a.ContainerID() == before.ContainerID() || strings.Contains(a.Header.Get("X-Lambent-Reason"), "stood in") {
			t.Errorf("after a change of the %s: call %d of its container, %s", what, got.Calls, a.Header.Get("X-Lambent-Reason"))
		}
		c.AwaitActive(t, "cold")
	}
}

// P09-T8 and the first of a numbered version through an alias that was moved to
// it: forth, twice in quick succession, and back.
func TestAnAliasThatIsMovedKeepsItsCallersServed(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, slowFunction("moved", 1))
	name, alias := aws.String("moved"), aws.String("live")
	var shas [4]string
	for n := 1; n <= 3; n++ {
		if n > 1 {
			update(t, c, "moved", slow(n, 2*time.Second))
			c.AwaitActive(t, "moved")
		}
		out, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name})
		if err != nil {
			t.Fatal(err)
		}
		shas[n] = aws.ToString(out.CodeSha256)
	}
	if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: name, Name: alias, FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	move := func(to string) {
		t.Helper()
		if _, err := c.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: name, Name: alias, FunctionVersion: &to}); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := lab.Do[counted](t, c, "moved", nil, qualified("live")); got.Version != "1" {
		t.Fatalf("version %s", got.Version)
	}
	move("2")
	got, a := lab.Do[counted](t, c, "moved", nil, qualified("live"))
	if got.Version != "1" {
		t.Errorf("the first call after the move is served by version %s", got.Version)
	}
	wantServed(t, a.Header, "1", shas[1], "2", shas[2])
	move("3")
	got, a = lab.Do[counted](t, c, "moved", nil, qualified("live"))
	if got.Version == "2" {
		t.Errorf("it is served by version %s", got.Version)
	}
	if got.Version == "1" {
		wantServed(t, a.Header, "1", shas[1], "3", shas[3])
	}
	if got, _ := lab.Do[counted](t, c, "moved", nil, qualified("2")); got.Version != "2" {
		t.Errorf("asked for version 2 by its number, version %s serves", got.Version)
	}
	until := func(version string) {
		t.Helper()
		lab.Eventually(t, "version "+version+" serves", func() error {
			got, _ := lab.Do[counted](t, c, "moved", nil, qualified("live"))
			if got.Version != version {
				return fmt.Errorf("version %s does", got.Version)
			}
			return nil
		})
		for range 5 {
			if got, _ := lab.Do[counted](t, c, "moved", nil, qualified("live")); got.Version != version {
				t.Errorf("then version %s serves", got.Version)
			}
		}
	}
	until("3")
	move("1")
	until("1")
}

// The setting "lazy": the update is done at once, and the first call begins to
// bring the new code up. "exact": no call ever gets old code. DELETE: as before.
func TestUpdatesFollowTheFunctionsSettings(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, slowFunction("set", 1))
	const path = "/_lambent/v1/functions/set/settings"
	if r := c.HTTP(t, http.MethodPut, path, []byte(`{"update":"lazy"}`)); r.Status != 200 || string(r.Body) != `{"update":"lazy"}` {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	if r := c.HTTP(t, http.MethodPut, path, []byte(`{"updates":"lazy"}`)); r.Status != 400 || !strings.Contains(string(r.Body), "updates") {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	lab.Do[counted](t, c, "set", nil)
	for n := 2; n <= 3; n++ { // 2 is never called
		if out := update(t, c, "set", slow(n, time.Second)); out.LastUpdateStatus != types.LastUpdateStatusSuccessful {
			t.Errorf("updated with %s", out.LastUpdateStatus)
		}
	}
	if got, a := lab.Do[counted](t, c, "set", nil); got.Code != 1 || a.Header.Get("X-Lambent-Served-Code-Sha256") == a.Header.Get("X-Lambent-Requested-Code-Sha256") {
		t.Errorf("the first call is served by code %d", got.Code)
	}
	lab.Eventually(t, "the new code serves", func() error {
		if got, _ := lab.Do[counted](t, c, "set", nil); got.Code != 3 {
			return fmt.Errorf("code %d does", got.Code)
		}
		return nil
	})
	if r := c.HTTP(t, http.MethodPut, path, []byte(`{"update":{"mode":"exact"}}`)); r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	update(t, c, "set", slow(4, time.Second))
	if got, _ := lab.Do[counted](t, c, "set", nil); got.Code != 4 {
		t.Errorf("exactly, code %d answers", got.Code)
	}
	c.AwaitActive(t, "set")
	if r := c.HTTP(t, http.MethodPut, path, []byte(`{"update":{"max_staleness":"400ms"}}`)); r.Status != 200 {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	update(t, c, "set", slow(5, 3*time.Second))
	waited := false // P09-T9: after the time that calls may get old code they wait
	for !waited {
		got, _ := lab.Do[counted](t, c, "set", nil)
		waited = got.Code == 5
	}
	if conf, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("set")}); err != nil || aws.ToString(conf.CodeSha256) == "" {
		t.Error(err)
	}
	c.AwaitActive(t, "set")
	if r := c.HTTP(t, http.MethodDelete, path, nil); r.Status != 204 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
	if r := c.HTTP(t, http.MethodGet, path, nil); r.Status != 200 || string(r.Body) != "{}" {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}

// P09-T3, T8: calls come all the time across twenty updates. None fails, each is
// served by the code before or after, and the last code is the one that stays.
func TestTwentyUpdatesUnderLoadFailNoCall(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, slowFunction("loaded", 1))
	lab.Do[counted](t, c, "loaded", nil)
	const updates, callers = 20, 4
	var oldest, newest atomic.Int64 // what may serve
	oldest.Store(1)
	newest.Store(1)
	over := make(chan struct{})
	var all sync.WaitGroup
	var calls atomic.Int64
	for range callers {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(20 * time.Millisecond): // 50 calls a second each
				}
				least := oldest.Load()
				a, err := c.Call(t.Context(), "loaded", nil)
				if err != nil || a.FunctionError != nil {
					t.Errorf("a call failed: %v, %+v", err, a)
					return
				}
				var got counted
				if err := json.Unmarshal(a.Payload, &got); err != nil || int64(got.Code) < least || int64(got.Code) > newest.Load() {
					t.Errorf("code %d served a call that began after %d was in place, %v", got.Code, least, err)
				}
				calls.Add(1)
			}
		})
	}
	for n := 2; n <= updates+1; n++ {
		newest.Store(int64(n))
		update(t, c, "loaded", slow(n, 0))
		c.AwaitActive(t, "loaded")
		oldest.Store(int64(n))
	}
	close(over)
	all.Wait()
	if got, _ := lab.Do[counted](t, c, "loaded", nil); got.Code != updates+1 {
		t.Errorf("in the end code %d serves", got.Code)
	}
	t.Logf("%d calls across %d updates", calls.Load(), updates)
}

// An update that kill -9 interrupts goes on with the next start, and one whose
// function is deleted meanwhile leaves nothing behind.
func TestAnUpdateSurvivesItsServerAndEndsWithItsFunction(t *testing.T) {
	t.Parallel()
	data, account := newData(t), fix.accounts.Next()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
	c := s.Caller(t, account)
	for _, name := range []string{"killed", "deleted"} {
		c.Create(t, slowFunction(name, 1))
		lab.Do[counted](t, c, name, nil)
	}
	update(t, c, "deleted", slow(2, 5*time.Second))
	if got, _ := lab.Do[counted](t, c, "deleted", nil); got.Code != 1 {
		t.Errorf("code %d answers while the new one comes up", got.Code)
	}
	if _, err := c.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("deleted")}); err != nil {
		t.Fatal(err)
	}
	c.Create(t, slowFunction("deleted", 3))
	if got, _ := lab.Do[counted](t, c, "deleted", nil); got.Code != 3 {
		t.Errorf("deleted in the middle of an update and made anew, code %d answers", got.Code)
	}
	two := aws.ToString(update(t, c, "killed", slow(2, 5*time.Second)).CodeSha256)
	if got, _ := lab.Do[counted](t, c, "killed", nil); got.Code != 1 {
		t.Errorf("code %d answers while the new one comes up", got.Code)
	}
	s.Kill()

	c = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools}).Caller(t, account)
	c.AwaitActive(t, "killed")
	out, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("killed")})
	if err != nil || out.LastUpdateStatus != types.LastUpdateStatusSuccessful || aws.ToString(out.CodeSha256) != two {
		t.Errorf("after the next start: %+v, %v", out, err)
	}
	if got, _ := lab.Do[counted](t, c, "killed", nil); got.Code != 2 {
		t.Errorf("then code %d answers", got.Code)
	}
}
