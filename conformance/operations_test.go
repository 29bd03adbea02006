package conformance

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-cmp/cmp"

	"lambent/conformance/lab"
)

// walk is a way through the operations: which of them it came by.
type walk struct {
	t    *testing.T
	came map[string]bool
}

// do has the SDK carry out an operation, which must succeed.
func do[I, O any](w walk, operation func(context.Context, *I, ...func(*lambda.Options)) (*O, error), in *I) *O {
	w.t.Helper()
	name := strings.TrimSuffix(reflect.TypeFor[I]().Name(), "Input")
	w.came[name] = true
	out, err := operation(w.t.Context(), in)
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	return out
}

// is compares a part of an answer.
func is[T any](w walk, what string, got, want T) {
	w.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// notThere are the operations that answer that they are not implemented.
var notThere = []string{
	"CheckpointDurableExecution", "GetDurableExecution", "GetDurableExecutionHistory", "GetDurableExecutionState", "ListDurableExecutionsByFunction",
	"SendDurableExecutionCallbackFailure", "SendDurableExecutionCallbackHeartbeat", "SendDurableExecutionCallbackSuccess", "StopDurableExecution",
}

// newer are the operations of the SDK that the service model lambent goes by does
// not have yet.
var newer = []string{"PutResourcePolicy", "GetResourcePolicy", "DeleteResourcePolicy"}

// The SDK for Go comes through every operation that it has, makes what each is
// for, reads it back and takes it away again.
func TestTheSDKComesThroughEveryOperation(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	w := walk{t, map[string]bool{}}
	str, i32 := aws.String, aws.Int32
	f := str("every")

	// Layers first: the function has one.
	layer := do(w, c.PublishLayerVersion, &lambda.PublishLayerVersionInput{LayerName: str("shared"), Content: &types.LayerVersionContentInput{ZipFile: lab.File("text", "of a layer")}})
	do(w, c.AddLayerVersionPermission, &lambda.AddLayerVersionPermissionInput{LayerName: str("shared"), VersionNumber: aws.Int64(1), StatementId: str("all"), Action: str("lambda:GetLayerVersion"), Principal: str("*")})
	is(w, "a layer's policy", strings.Contains(*do(w, c.GetLayerVersionPolicy, &lambda.GetLayerVersionPolicyInput{LayerName: str("shared"), VersionNumber: aws.Int64(1)}).Policy, `"Sid":"all"`), true)
	do(w, c.RemoveLayerVersionPermission, &lambda.RemoveLayerVersionPermissionInput{LayerName: str("shared"), VersionNumber: aws.Int64(1), StatementId: str("all")})
	is(w, "a layer by its ARN", do(w, c.GetLayerVersionByArn, &lambda.GetLayerVersionByArnInput{Arn: layer.LayerVersionArn}).Version, 1)
	is(w, "a layer", do(w, c.GetLayerVersion, &lambda.GetLayerVersionInput{LayerName: str("shared"), VersionNumber: aws.Int64(1)}).Version, 1)
	is(w, "layers", len(do(w, c.ListLayers, &lambda.ListLayersInput{}).Layers), 1)
	is(w, "versions of a layer", len(do(w, c.ListLayerVersions, &lambda.ListLayerVersionsInput{LayerName: str("shared")}).LayerVersions), 1)

	// A function, its version and its alias.
	in := c.Input(codedFunction(*f, 1))
	in.Layers = []string{*layer.LayerVersionArn}
	made := do(w, c.CreateFunction, in)
	is(w, "a new function's ARN", *made.FunctionArn, c.ARN(*f))
	c.AwaitActive(t, *f)
	is(w, "functions", len(do(w, c.ListFunctions, &lambda.ListFunctionsInput{}).Functions), 1)
	is(w, "a function's layers", len(do(w, c.GetFunction, &lambda.GetFunctionInput{FunctionName: f}).Configuration.Layers), 1)
	do(w, c.UpdateFunctionConfiguration, &lambda.UpdateFunctionConfigurationInput{FunctionName: f, Description: str("of every operation")})
	c.AwaitActive(t, *f)
	is(w, "a description", *do(w, c.GetFunctionConfiguration, &lambda.GetFunctionConfigurationInput{FunctionName: f}).Description, "of every operation")
	do(w, c.UpdateFunctionCode, &lambda.UpdateFunctionCodeInput{FunctionName: f, ZipFile: coded(2)})
	c.AwaitActive(t, *f)
	is(w, "a published version", *do(w, c.PublishVersion, &lambda.PublishVersionInput{FunctionName: f}).Version, "1")
	is(w, "versions", len(do(w, c.ListVersionsByFunction, &lambda.ListVersionsByFunctionInput{FunctionName: f}).Versions), 2)
	live := str("live")
	do(w, c.CreateAlias, &lambda.CreateAliasInput{FunctionName: f, Name: live, FunctionVersion: str("1")})
	do(w, c.UpdateAlias, &lambda.UpdateAliasInput{FunctionName: f, Name: live, Description: str("what is served")})
	is(w, "an alias", *do(w, c.GetAlias, &lambda.GetAliasInput{FunctionName: f, Name: live}).Description, "what is served")
	is(w, "aliases", len(do(w, c.ListAliases, &lambda.ListAliasesInput{FunctionName: f}).Aliases), 1)

	// Calls.
	is(w, "what an event is answered", do(w, c.InvokeAsync, &lambda.InvokeAsyncInput{FunctionName: f, InvokeArgs: strings.NewReader("{}")}).Status, http.StatusAccepted)
	is(w, "an answer's version", *do(w, c.Invoke, &lambda.InvokeInput{FunctionName: f, Qualifier: live, Payload: []byte("{}")}).ExecutedVersion, "1")
	stream := do(w, c.InvokeWithResponseStream, &lambda.InvokeWithResponseStreamInput{FunctionName: f, Payload: []byte("{}")}).GetStream()
	var streamed []byte
	for event := range stream.Events() {
		if chunk, ok := event.(*types.InvokeWithResponseStreamResponseEventMemberPayloadChunk); ok {
			streamed = append(streamed, chunk.Value.Payload...)
		}
	}
	is(w, "the end of a stream", stream.Close(), nil)
	is(w, "a streamed answer", strings.Contains(string(streamed), `"Code":2`), true)

	// Who may call it.
	do(w, c.AddPermission, &lambda.AddPermissionInput{FunctionName: f, StatementId: str("s3"), Action: str("lambda:InvokeFunction"), Principal: str("s3.amazonaws.com")})
	is(w, "a policy", strings.Contains(*do(w, c.GetPolicy, &lambda.GetPolicyInput{FunctionName: f}).Policy, `"Sid":"s3"`), true)
	do(w, c.RemovePermission, &lambda.RemovePermissionInput{FunctionName: f, StatementId: str("s3")})

	do(w, c.TagResource, &lambda.TagResourceInput{Resource: made.FunctionArn, Tags: map[string]string{"team": "a", "stage": "test"}})
	do(w, c.UntagResource, &lambda.UntagResourceInput{Resource: made.FunctionArn, TagKeys: []string{"stage"}})
	is(w, "tags", do(w, c.ListTags, &lambda.ListTagsInput{Resource: made.FunctionArn}).Tags, map[string]string{"team": "a"})

	// How much of it runs.
	is(w, "reserved", *do(w, c.PutFunctionConcurrency, &lambda.PutFunctionConcurrencyInput{FunctionName: f, ReservedConcurrentExecutions: i32(5)}).ReservedConcurrentExecutions, 5)
	is(w, "reserved", *do(w, c.GetFunctionConcurrency, &lambda.GetFunctionConcurrencyInput{FunctionName: f}).ReservedConcurrentExecutions, 5)
	usage := do(w, c.GetAccountSettings, &lambda.GetAccountSettingsInput{})
	is(w, "functions of the account", usage.AccountUsage.FunctionCount, 1)
	is(w, "not reserved", *usage.AccountLimit.UnreservedConcurrentExecutions, usage.AccountLimit.ConcurrentExecutions-5)
	do(w, c.PutProvisionedConcurrencyConfig, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: f, Qualifier: live, ProvisionedConcurrentExecutions: i32(1)})
	is(w, "provisioned", *do(w, c.GetProvisionedConcurrencyConfig, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: f, Qualifier: live}).RequestedProvisionedConcurrentExecutions, 1)
	is(w, "provisioned", len(do(w, c.ListProvisionedConcurrencyConfigs, &lambda.ListProvisionedConcurrencyConfigsInput{FunctionName: f}).ProvisionedConcurrencyConfigs), 1)
	do(w, c.DeleteProvisionedConcurrencyConfig, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: f, Qualifier: live})
	do(w, c.DeleteFunctionConcurrency, &lambda.DeleteFunctionConcurrencyInput{FunctionName: f})
	do(w, c.PutFunctionScalingConfig, &lambda.PutFunctionScalingConfigInput{FunctionName: f, Qualifier: str("1"), FunctionScalingConfig: &types.FunctionScalingConfig{MinExecutionEnvironments: i32(0), MaxExecutionEnvironments: i32(3)}})
	is(w, "scaling", *do(w, c.GetFunctionScalingConfig, &lambda.GetFunctionScalingConfigInput{FunctionName: f, Qualifier: str("1")}).RequestedFunctionScalingConfig.MaxExecutionEnvironments, 3)

	// What becomes of its events.
	do(w, c.PutFunctionEventInvokeConfig, &lambda.PutFunctionEventInvokeConfigInput{FunctionName: f, MaximumRetryAttempts: i32(1)})
	do(w, c.UpdateFunctionEventInvokeConfig, &lambda.UpdateFunctionEventInvokeConfigInput{FunctionName: f, MaximumEventAgeInSeconds: i32(60)})
	events := do(w, c.GetFunctionEventInvokeConfig, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: f})
	is(w, "retries, age", []int32{*events.MaximumRetryAttempts, *events.MaximumEventAgeInSeconds}, []int32{1, 60})
	is(w, "event-invoke configurations", len(do(w, c.ListFunctionEventInvokeConfigs, &lambda.ListFunctionEventInvokeConfigsInput{FunctionName: f}).FunctionEventInvokeConfigs), 1)
	do(w, c.DeleteFunctionEventInvokeConfig, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: f})

	mapping := do(w, c.CreateEventSourceMapping, &lambda.CreateEventSourceMappingInput{FunctionName: f, EventSourceArn: str("arn:aws:sqs:us-east-1:" + c.Account + ":jobs"), BatchSize: i32(2)})
	awaitMapping := func(state string) {
		lab.Eventually(t, "the mapping is "+state, func() error {
			if got := do(w, c.GetEventSourceMapping, &lambda.GetEventSourceMappingInput{UUID: mapping.UUID}); *got.State != state {
				return io.EOF
			}
			return nil
		})
	}
	awaitMapping("Enabled")
	do(w, c.UpdateEventSourceMapping, &lambda.UpdateEventSourceMappingInput{UUID: mapping.UUID, Enabled: aws.Bool(false)})
	awaitMapping("Disabled")
	is(w, "mappings", len(do(w, c.ListEventSourceMappings, &lambda.ListEventSourceMappingsInput{FunctionName: f}).EventSourceMappings), 1)
	do(w, c.DeleteEventSourceMapping, &lambda.DeleteEventSourceMappingInput{UUID: mapping.UUID})

	// Its URL.
	at := do(w, c.CreateFunctionUrlConfig, &lambda.CreateFunctionUrlConfigInput{FunctionName: f, AuthType: types.FunctionUrlAuthTypeNone})
	do(w, c.UpdateFunctionUrlConfig, &lambda.UpdateFunctionUrlConfigInput{FunctionName: f, AuthType: types.FunctionUrlAuthTypeAwsIam})
	url := do(w, c.GetFunctionUrlConfig, &lambda.GetFunctionUrlConfigInput{FunctionName: f})
	is(w, "a URL", *url.FunctionUrl, *at.FunctionUrl)
	is(w, "who may use a URL", url.AuthType, types.FunctionUrlAuthTypeAwsIam)
	is(w, "URLs", len(do(w, c.ListFunctionUrlConfigs, &lambda.ListFunctionUrlConfigsInput{FunctionName: f}).FunctionUrlConfigs), 1)
	do(w, c.DeleteFunctionUrlConfig, &lambda.DeleteFunctionUrlConfigInput{FunctionName: f})

	// Who signed its code, and how it is run.
	signing := do(w, c.CreateCodeSigningConfig, &lambda.CreateCodeSigningConfigInput{AllowedPublishers: &types.AllowedPublishers{
		SigningProfileVersionArns: []string{"arn:aws:signer:us-east-1:" + c.Account + ":/signing-profiles/ours/abcdefghij"}}}).CodeSigningConfig
	do(w, c.UpdateCodeSigningConfig, &lambda.UpdateCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfigArn, Description: str("ours")})
	is(w, "a code-signing configuration", *do(w, c.GetCodeSigningConfig, &lambda.GetCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfigArn}).CodeSigningConfig.Description, "ours")
	is(w, "code-signing configurations", len(do(w, c.ListCodeSigningConfigs, &lambda.ListCodeSigningConfigsInput{}).CodeSigningConfigs), 1)
	do(w, c.PutFunctionCodeSigningConfig, &lambda.PutFunctionCodeSigningConfigInput{FunctionName: f, CodeSigningConfigArn: signing.CodeSigningConfigArn})
	is(w, "a function's code signing", *do(w, c.GetFunctionCodeSigningConfig, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: f}).CodeSigningConfigArn, *signing.CodeSigningConfigArn)
	is(w, "whose code must be signed", do(w, c.ListFunctionsByCodeSigningConfig, &lambda.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfigArn}).FunctionArns, []string{*made.FunctionArn})
	do(w, c.DeleteFunctionCodeSigningConfig, &lambda.DeleteFunctionCodeSigningConfigInput{FunctionName: f})
	do(w, c.DeleteCodeSigningConfig, &lambda.DeleteCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfigArn})
	do(w, c.PutRuntimeManagementConfig, &lambda.PutRuntimeManagementConfigInput{FunctionName: f, UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate})
	is(w, "runtime updates", do(w, c.GetRuntimeManagementConfig, &lambda.GetRuntimeManagementConfigInput{FunctionName: f}).UpdateRuntimeOn, types.UpdateRuntimeOnFunctionUpdate)
	do(w, c.PutFunctionRecursionConfig, &lambda.PutFunctionRecursionConfigInput{FunctionName: f, RecursiveLoop: types.RecursiveLoopAllow})
	is(w, "recursion", do(w, c.GetFunctionRecursionConfig, &lambda.GetFunctionRecursionConfigInput{FunctionName: f}).RecursiveLoop, types.RecursiveLoopAllow)

	// Machines of one's own.
	provider := str("own")
	do(w, c.CreateCapacityProvider, &lambda.CreateCapacityProviderInput{CapacityProviderName: provider,
		PermissionsConfig: &types.CapacityProviderPermissionsConfig{CapacityProviderOperatorRoleArn: c.Role()},
		VpcConfig:         &types.CapacityProviderVpcConfig{SubnetIds: []string{"subnet-0123456789abcdef0"}, SecurityGroupIds: []string{"sg-0123456789abcdef0"}}})
	lab.Eventually(t, "the capacity provider is active", func() error {
		if got := do(w, c.GetCapacityProvider, &lambda.GetCapacityProviderInput{CapacityProviderName: provider}); got.CapacityProvider.State != types.CapacityProviderStateActive {
			return io.EOF
		}
		return nil
	})
	do(w, c.UpdateCapacityProvider, &lambda.UpdateCapacityProviderInput{CapacityProviderName: provider, CapacityProviderScalingConfig: &types.CapacityProviderScalingConfig{MaxVCpuCount: i32(24)}})
	is(w, "capacity providers", len(do(w, c.ListCapacityProviders, &lambda.ListCapacityProvidersInput{}).CapacityProviders), 1)
	is(w, "versions on a capacity provider", len(do(w, c.ListFunctionVersionsByCapacityProvider, &lambda.ListFunctionVersionsByCapacityProviderInput{CapacityProviderName: provider}).FunctionVersions), 0)
	do(w, c.DeleteCapacityProvider, &lambda.DeleteCapacityProviderInput{CapacityProviderName: provider})

	do(w, c.DeleteAlias, &lambda.DeleteAliasInput{FunctionName: f, Name: live})
	do(w, c.DeleteFunction, &lambda.DeleteFunctionInput{FunctionName: f})
	do(w, c.DeleteLayerVersion, &lambda.DeleteLayerVersionInput{LayerName: str("shared"), VersionNumber: aws.Int64(1)})
	is(w, "functions at the end", len(do(w, c.ListFunctions, &lambda.ListFunctionsInput{}).Functions), 0)

	execution := str(c.ARN("every") + ":1/durable-execution/name/14e0db71-5d35-4eb5-b481-8945cf9d10c2")
	for _, name := range notThere {
		w.came[name] = true
		in := reflect.New(reflect.ValueOf(c.Client).MethodByName(name).Type().In(1).Elem())
		for field, value := range map[string]any{
			"FunctionName": f, "DurableExecutionArn": execution, "CallbackId": str("1234"),
			"CheckpointToken": str("1234"), "Updates": []types.OperationUpdate{}, "Payload": []byte("{}"), "Error": &types.ErrorObject{},
		} {
			if at := in.Elem().FieldByName(field); at.IsValid() && reflect.TypeOf(value).AssignableTo(at.Type()) {
				at.Set(reflect.ValueOf(value))
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out := reflect.ValueOf(c.Client).MethodByName(name).Call([]reflect.Value{reflect.ValueOf(ctx), in})
		cancel()
		err, _ := out[1].Interface().(error)
		wantCode(t, err, "NotImplementedException", "")
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name the operation", err)
		}
	}

	var missed []string
	for m := range reflect.TypeFor[*lambda.Client]().Methods() {
		if m.Type.NumIn() == 4 && strings.HasSuffix(m.Type.In(2).String(), m.Name+"Input") && !w.came[m.Name] && !slices.Contains(newer, m.Name) {
			missed = append(missed, m.Name)
		}
	}
	slices.Sort(missed)
	is(w, "operations that it did not come by", missed, nil)
}
