package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

func TestTagsConcurrencyAndConfigsWithTheSDK(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	published(t, c, "objects", 1)
	ctx, name, arn := t.Context(), aws.String("objects"), c.ARN("objects")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: map[string]string{"a": "1", "b": "2"}})
	check(err)
	_, err = c.UntagResource(ctx, &lambda.UntagResourceInput{Resource: &arn, TagKeys: []string{"a", "none"}})
	check(err)
	tags, err := c.ListTags(ctx, &lambda.ListTagsInput{Resource: &arn})
	check(err)
	if len(tags.Tags) != 1 || tags.Tags["b"] != "2" {
		t.Errorf("tags %v", tags.Tags)
	}

	settings, err := c.GetAccountSettings(ctx, &lambda.GetAccountSettingsInput{})
	check(err)
	if settings.AccountLimit.ConcurrentExecutions != 1000 || settings.AccountUsage.FunctionCount < 1 || settings.AccountUsage.TotalCodeSize < 2 {
		t.Errorf("account %+v, %+v", settings.AccountLimit, settings.AccountUsage)
	}

	retries, err := c.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{FunctionName: name, Qualifier: aws.String("1"), MaximumRetryAttempts: aws.Int32(1)})
	check(err)
	if aws.ToString(retries.FunctionArn) != arn+":1" || retries.LastModified.IsZero() {
		t.Errorf("event-invoke config %+v", retries)
	}
	configs, err := c.ListFunctionEventInvokeConfigs(ctx, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: name})
	check(err)
	if len(configs.FunctionEventInvokeConfigs) != 1 {
		t.Errorf("%d event-invoke configs", len(configs.FunctionEventInvokeConfigs))
	}

	link, err := c.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: types.FunctionUrlAuthTypeNone, Cors: &types.Cors{AllowOrigins: []string{"*"}}})
	check(err)
	if !strings.Contains(aws.ToString(link.FunctionUrl), ".lambda-url.us-east-1.localhost:") {
		t.Errorf("URL %s", aws.ToString(link.FunctionUrl))
	}
	_, err = c.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: types.FunctionUrlAuthTypeNone})
	wantError[*types.ResourceConflictException](t, err, "ResourceConflictException", "Failed to create function url config for [functionArn = "+arn+"]. Error message:  FunctionUrlConfig exists for this Lambda function")

	profile := "arn:aws:signer:us-east-1:" + string(c.Account) + ":/signing-profiles/p/abc"
	signing, err := c.CreateCodeSigningConfig(ctx, &lambda.CreateCodeSigningConfigInput{AllowedPublishers: &types.AllowedPublishers{SigningProfileVersionArns: []string{profile}}})
	check(err)
	_, err = c.PutFunctionCodeSigningConfig(ctx, &lambda.PutFunctionCodeSigningConfigInput{FunctionName: name, CodeSigningConfigArn: signing.CodeSigningConfig.CodeSigningConfigArn})
	check(err)
	signed, err := c.ListFunctionsByCodeSigningConfig(ctx, &lambda.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfig.CodeSigningConfigArn})
	check(err)
	if len(signed.FunctionArns) != 1 || signed.FunctionArns[0] != arn {
		t.Errorf("signed are %v", signed.FunctionArns)
	}

	source := "arn:aws:sqs:us-east-1:" + string(c.Account) + ":q"
	mapping, err := c.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: name, EventSourceArn: &source})
	check(err)
	again, err := c.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: mapping.UUID})
	check(err)
	if aws.ToString(mapping.State) != "Creating" || aws.ToString(again.State) != "Enabled" || aws.ToInt32(again.BatchSize) != 10 {
		t.Errorf("mapping %s, then %s of %d", aws.ToString(mapping.State), aws.ToString(again.State), aws.ToInt32(again.BatchSize))
	}
	_, err = c.DeleteEventSourceMapping(ctx, &lambda.DeleteEventSourceMappingInput{UUID: mapping.UUID})
	check(err)

	loop, err := c.PutFunctionRecursionConfig(ctx, &lambda.PutFunctionRecursionConfigInput{FunctionName: name, RecursiveLoop: types.RecursiveLoopAllow})
	check(err)
	if loop.RecursiveLoop != types.RecursiveLoopAllow {
		t.Errorf("recursion %s", loop.RecursiveLoop)
	}
	runtime, err := c.GetRuntimeManagementConfig(ctx, &lambda.GetRuntimeManagementConfigInput{FunctionName: name})
	check(err)
	if runtime.UpdateRuntimeOn != types.UpdateRuntimeOnAuto {
		t.Errorf("runtime management %s", runtime.UpdateRuntimeOn)
	}
	_, err = c.GetDurableExecution(ctx, &lambda.GetDurableExecutionInput{DurableExecutionArn: aws.String(arn + ":1/durable-execution/n/i")})
	wantCode(t, err, "NotImplementedException", "lambent does not implement the operation GetDurableExecution yet")
}

func TestReservedConcurrencyBoundsAFunction(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, lab.Function{Name: "reserved", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", `exports.handler = async () => 1`)})
	put := func(n int32) {
		t.Helper()
		if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("reserved"), ReservedConcurrentExecutions: &n}); err != nil {
			t.Fatal(err)
		}
	}
	put(0)
	_, err := c.Call(t.Context(), "reserved", nil)
	throttled, ok := errors.AsType[*types.TooManyRequestsException](err)
	if !ok || throttled.Reason != types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded {
		t.Errorf("with nothing reserved: %v", err)
	}
	put(1)
	if got, _ := lab.Do[int](t, c, "reserved", nil); got != 1 {
		t.Errorf("with one: %d", got)
	}
	_, err = c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("reserved"), ReservedConcurrentExecutions: aws.Int32(901)})
	wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException",
		"Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
}

func TestProvisionedConcurrencyIsReadyBeforeTheFirstCall(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	const source = `const made = Date.now();
exports.handler = async (e) => e && e.throw ? process.exit(1) : ({Made: made, Called: Date.now(), Kind: process.env.AWS_LAMBDA_INITIALIZATION_TYPE, Version: process.env.AWS_LAMBDA_FUNCTION_VERSION})`
	type answer struct {
		Made, Called  int64
		Kind, Version string
	}
	name := aws.String("provisioned")
	c.Create(t, lab.Function{Name: *name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", source)})
	if _, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: name, Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
		t.Fatal(err)
	}
	put, err := c.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: aws.String("live"), ProvisionedConcurrentExecutions: aws.Int32(1)})
	if err != nil || put.Status != types.ProvisionedConcurrencyStatusEnumInProgress {
		t.Fatalf("put: %+v, %v", put, err)
	}
	ready := func() error {
		got, err := c.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: aws.String("live")})
		if err == nil && (got.Status != types.ProvisionedConcurrencyStatusEnumReady || aws.ToInt32(got.AvailableProvisionedConcurrentExecutions) != 1) {
			err = fmt.Errorf("%s, %d of %d", got.Status, aws.ToInt32(got.AvailableProvisionedConcurrentExecutions), aws.ToInt32(got.RequestedProvisionedConcurrentExecutions))
		}
		return err
	}
	called := func() answer {
		t.Helper()
		got, a := lab.Do[answer](t, c, *name, nil, qualified("live"))
		if a.Header.Get("X-Lambent-Start-Kind") != "dedicated_pool" || got.Kind != "provisioned-concurrency" || got.Version != "1" {
			t.Errorf("a %s, %+v", a.Header.Get("X-Lambent-Start-Kind"), got)
		}
		return got
	}
	lab.Eventually(t, "a container is ready", ready)
	first := called()
	lab.Eventually(t, "it is ready again", ready)
	if again := called(); again.Made != first.Made {
		t.Error("the second call went to another container")
	}
	_, err = c.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: aws.Int32(1)})
	wantError[*types.ResourceConflictException](t, err, "ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")
	if _, err := c.Call(t.Context(), *name, []byte(`{"throw":true}`), qualified("live")); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, "the one that died is replaced", ready)
	if again := called(); again.Made == first.Made {
		t.Error("the dead container answered")
	}
	if _, err := c.DeleteProvisionedConcurrencyConfig(t.Context(), &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: aws.String("live")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: aws.String("live")})
	wantError[*types.ProvisionedConcurrencyConfigNotFoundException](t, err, "ProvisionedConcurrencyConfigNotFoundException", "No Provisioned Concurrency Config found for this function")
	if got, a := lab.Do[answer](t, c, *name, nil, qualified("live")); got.Kind != "on-demand" || a.Header.Get("X-Lambent-Start-Kind") == "dedicated_pool" {
		t.Errorf("after it was deleted: a %s, %+v", a.Header.Get("X-Lambent-Start-Kind"), got)
	}
}

func TestSecurityTenantsAreKeptApart(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	for _, l := range languages(t) {
		if l.name == "go" {
			continue // whose kit does not tell its tenant
		}
		in := c.Input(l.function("tenants-" + l.name))
		in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
		out, err := c.CreateFunction(t.Context(), in)
		if err != nil || out.TenancyConfig == nil {
			t.Fatalf("created %+v, %v", out, err)
		}
		name := aws.ToString(in.FunctionName)
		c.AwaitActive(t, name)
		as := func(tenant string) lab.Option { return func(in *lambda.InvokeInput) { in.TenantId = &tenant } }
		of := map[string]string{}
		for range 2 {
			for _, tenant := range []string{"blue", "red"} {
				_, a := lab.Do[string](t, c, name, op{"op": "echo", "value": tenant}, as(tenant))
				if before := of[a.ContainerID()]; before != "" && before != tenant {
					t.Errorf("%s: container %s served %s and %s", l.name, a.ContainerID(), before, tenant)
				}
				of[a.ContainerID()] = tenant
			}
		}
		_, err = c.Call(t.Context(), name, nil)
		wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	}
}

// A call over what is reserved for its function is refused at once, recorded and
// counted with the reason.
func TestACallOverTheReservedConcurrencyIsThrottledRecordedAndCounted(t *testing.T) {
	t.Parallel()
	const reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
	s := newServer(t, noPools...)
	c := s.Caller(t, fix.accounts.Next())
	f := node(t).function("bounded")
	c.Create(t, f)
	published, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &f.Name})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &f.Name, ReservedConcurrentExecutions: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	busy := make(chan error, 1)
	go func() {
		_, err := c.Call(t.Context(), f.Name, op{"op": "sleep", "ms": 5000})
		busy <- err
	}()
	lab.Eventually(t, "the function runs", func() error {
		containers, err := s.Containers()
		if err == nil && !slices.ContainsFunc(containers, func(c lab.Container) bool { return c.State == "busy" }) { // one may be starting beside it
			err = fmt.Errorf("containers %+v", containers)
		}
		return err
	})
	_, err = c.Call(t.Context(), f.Name, nil, qualified(aws.ToString(published.Version))) // all versions are one
	throttled, ok := errors.AsType[*types.TooManyRequestsException](err)
	if !ok || throttled.Reason != reason || throttled.ErrorMessage() != "Rate Exceeded." || aws.ToString(throttled.Type) != "User" {
		t.Fatalf("the call over the limit: %v", err)
	}
	lab.Eventually(t, "it is recorded", func() error {
		got, err := s.Executions("")
		if err != nil {
			return err
		}
		if len(got) != 1 { // the other still runs
			return fmt.Errorf("%d executions", len(got))
		}
		e := got[0]
		if e.Function != f.Name || e.Status != "throttled" || e.Error != reason || e.StartKind != "" || e.ExecStartedAt != "" || e.ContainerID != "" || e.Reason != "the function's reserved concurrency of 1 is in use" {
			t.Errorf("its record is %+v", e)
		}
		return nil
	})
	m, err := s.Metrics()
	if err != nil || m[`lambent_throttles_total{reason="`+reason+`"}`] != 1 || m[`lambent_invocations_total{outcome="throttled"}`] != 1 {
		t.Errorf("%v: the metrics do not tell of it: %v", err, m)
	}
	if err := <-busy; err != nil {
		t.Error(err)
	}
	lab.Do[any](t, c, f.Name, op{"op": "nothing"}) // there is room again
}

// What is provisioned is there again after the server was killed, for versions
// and aliases alike, without a call.
func TestProvisionedConcurrencyComesBackAfterAKill(t *testing.T) {
	t.Parallel()
	data, account := newData(t), fix.accounts.Next()
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
	c := s.Caller(t, account)
	const source = `let calls = 0; exports.handler = async () => [process.env.AWS_LAMBDA_INITIALIZATION_TYPE, ++calls]`
	functions := map[string]string{"of-a-version": "1", "of-an-alias": "live"}
	for name, qualifier := range functions {
		c.Create(t, lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", source)})
		if _, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: &name, Name: aws.String("live"), FunctionVersion: aws.String("1")}); err != nil {
			t.Fatal(err)
		}
		_, err := c.PutProvisionedConcurrencyConfig(t.Context(), &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: aws.Int32(1)})
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(c *lab.Caller) {
		t.Helper()
		for name, qualifier := range functions {
			lab.Eventually(t, name+" is ready", func() error {
				got, err := c.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier})
				if err == nil && (got.Status != types.ProvisionedConcurrencyStatusEnumReady || aws.ToInt32(got.AvailableProvisionedConcurrentExecutions) != 1 || aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions) != 1) {
					err = fmt.Errorf("%+v", got)
				}
				return err
			})
			got, a := lab.Do[[]any](t, c, name, nil, qualified(qualifier))
			if kind := a.Header.Get("X-Lambent-Start-Kind"); kind != "dedicated_pool" || len(got) != 2 || got[0] != "provisioned-concurrency" || got[1] != 1.0 {
				t.Errorf("%s: a %s (%s) answered %v", name, kind, a.Header.Get("X-Lambent-Reason"), got)
			}
		}
	}
	check(c)
	s.Kill()
	s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
	check(s.Caller(t, account))
	m, err := s.Metrics()
	if err != nil || m[`lambent_starts_total{kind="dedicated_pool"}`] != 2 {
		t.Errorf("%v: the starts are not counted: %v", err, m)
	}
}
