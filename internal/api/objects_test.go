package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/registry"
)

// realDoor is an API over a memory of its own, which has the function f.
func realDoor(t testing.TB, adjust ...func(*Options)) *door {
	t.Helper()
	r := openRegistry(t)
	d := newDoor(t, append([]func(*Options){func(o *Options) {
		o.Functions, o.Objects, o.Region = r, &r.Objects, "us-east-1"
	}}, adjust...)...)
	d.make(t, "f")
	return d
}

// make creates a function and waits until it can be changed.
func (d *door) make(t testing.TB, name string, extra ...any) {
	t.Helper()
	got := d.create(t, name, extra...)
	if got.status != http.StatusCreated {
		t.Fatalf("create %s: %d %s", name, got.status, got.raw)
	}
	d.settle(t, name)
}

func (d *door) settle(t testing.TB, name string) {
	t.Helper()
	for range 2000 {
		f, err := d.API.functions.Function(lambent.DefaultAccount, lambent.FunctionName(name), "")
		if err != nil {
			t.Fatal(err)
		}
		if f.State == "Active" && f.UpdateStatus == "Successful" {
			return
		}
		time.Sleep(5 * time.Millisecond) // the registry settles in the background
	}
	t.Fatalf("%s does not settle", name)
}

const (
	arnOfF     = "arn:aws:lambda:us-east-1:000000000000:function:f"
	foreignARN = "arn:aws:lambda:us-east-1:999999999999:"
)

// script is requests and what is to be answered: "METHOD path body", a status,
// and either a part of the answer or, after "error ", the exception's name and
// its message.
type script [][3]string

func (s script) run(t *testing.T, d *door) {
	t.Helper()
	for _, step := range s {
		method, rest, _ := strings.Cut(step[0], " ")
		target, body, _ := strings.Cut(rest, " ")
		got := d.do(t, method, target, body)
		want := step[2]
		if exception, ok := strings.CutPrefix(want, "error "); ok {
			name, message, _ := strings.Cut(exception, " ")
			text, _ := got.body["message"].(string)
			if text == "" {
				text, _ = got.body["Message"].(string)
			}
			if got.header.Get("x-amzn-ErrorType") != name || text != message || fmt.Sprint(got.status) != step[1] {
				t.Errorf("%s\n answered %d %s %q\n want     %s %s %q", step[0], got.status, got.header.Get("x-amzn-ErrorType"), text, step[1], name, message)
			}
			continue
		}
		if fmt.Sprint(got.status) != step[1] || !strings.Contains(got.raw, want) {
			t.Errorf("%s\n answered %d %s\n want     %s …%s…", step[0], got.status, got.raw, step[1], want)
		}
	}
}

const validation = "error ValidationException 1 validation error detected: Value "

func TestTagsOfFunctionsAreSetListedAndTakenAway(t *testing.T) {
	d := realDoor(t)
	tags := "/2017-03-31/tags/" + url.PathEscape(arnOfF)
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = "v"
	}
	tooMany, _ := json.Marshal(map[string]any{"Tags": many})
	before, _ := d.API.functions.Function(lambent.DefaultAccount, "f", "")
	script{
		{"GET " + tags, "200", `{"Tags":{}}`},
		{`POST ` + tags + ` {"Tags":{"a":"1","b":"2"}}`, "204", ""},
		{`POST ` + tags + ` {"Tags":{"b":"3"}}`, "204", ""},
		{"GET " + tags, "200", `{"Tags":{"a":"1","b":"3"}}`},
		{"GET /2015-03-31/functions/f", "200", `"Tags":{"a":"1","b":"3"}`},
		{"DELETE " + tags + "?tagKeys=a&tagKeys=none", "204", ""},
		{"GET " + tags, "200", `{"Tags":{"b":"3"}}`},
		{`POST ` + tags + ` ` + string(tooMany), "400", "error InvalidParameterValueException Number of tags exceeds resource tag limit."},
		{`POST ` + tags + ` {"Tags":{"AWS:x":"1"}}`, "400", "error InvalidParameterValueException A tag key must not start with aws: in any case."},
		{`POST ` + tags + ` {"Tags":{}}`, "400", "error InvalidParameterValueException An error occurred and the request cannot be processed."},
		{`POST ` + tags + ` {}`, "400", validation + "null at 'tags' failed to satisfy constraint: Member must not be null"},
		{"GET " + tags + "x", "404", "error ResourceNotFoundException Function not found: " + arnOfF + "x"},
		{"GET " + tags + "%3alive", "400", "error InvalidParameterValueException Tags on function aliases and versions are not supported. Please specify a function ARN."},
		{"GET /2017-03-31/tags/" + url.PathEscape(foreignARN+"function:f"), "403", ""},
		{"GET /2017-03-31/tags/f", "400", ""},
	}.run(t, d)
	after, _ := d.API.functions.Function(lambent.DefaultAccount, "f", "")
	if after.Revision != before.Revision || after.UpdateStatus != "Successful" || !after.LastModified.Equal(before.LastModified) {
		t.Errorf("tagging changed the function: %+v, %+v", before, after)
	}
}

func TestReservedConcurrencyKeepsAHundredForAll(t *testing.T) {
	d := realDoor(t)
	d.make(t, "g")
	const put, get, low = "/2017-10-31/functions/%s/concurrency", "/2019-09-30/functions/%s/concurrency", "error InvalidParameterValueException Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
	f, g := fmt.Sprintf(put, "f"), fmt.Sprintf(put, "g")
	script{
		{"GET " + fmt.Sprintf(get, "f"), "200", "{}"},
		{`PUT ` + f + ` {"ReservedConcurrentExecutions":901}`, "400", low},
		{`PUT ` + f + ` {"ReservedConcurrentExecutions":600}`, "200", `{"ReservedConcurrentExecutions":600}`},
		{`PUT ` + g + ` {"ReservedConcurrentExecutions":301}`, "400", low},
		{`PUT ` + f + ` {"ReservedConcurrentExecutions":599}`, "200", `{"ReservedConcurrentExecutions":599}`},
		{`PUT ` + g + ` {"ReservedConcurrentExecutions":301}`, "200", `{"ReservedConcurrentExecutions":301}`},
		{"GET /2016-08-19/account-settings", "200", `"ConcurrentExecutions":1000,"UnreservedConcurrentExecutions":100}`},
		{"GET /2016-08-19/account-settings", "200", `"FunctionCount":2}`},
		{"GET /2015-03-31/functions/f", "200", `"Concurrency":{"ReservedConcurrentExecutions":599}`},
		{"GET " + fmt.Sprintf(get, "f"), "200", `{"ReservedConcurrentExecutions":599}`},
		{"DELETE " + f, "204", ""},
		{"DELETE " + f, "204", ""},
		{"GET " + fmt.Sprintf(get, "f"), "200", "{}"},
		{`PUT ` + f + ` {"ReservedConcurrentExecutions":0}`, "200", `{"ReservedConcurrentExecutions":0}`},
		{"GET /2016-08-19/account-settings", "200", `"UnreservedConcurrentExecutions":699}`},
		{"DELETE /2015-03-31/functions/g", "204", ""},
		{"GET /2016-08-19/account-settings", "200", `"UnreservedConcurrentExecutions":1000}`},
		{`PUT ` + f + `%3alive {"ReservedConcurrentExecutions":0}`, "404", ""},
		{`PUT ` + fmt.Sprintf(put, "f%3A1") + ` {"ReservedConcurrentExecutions":0}`, "400", "error InvalidParameterValueException This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN."},
		{`PUT ` + fmt.Sprintf(put, "none") + ` {"ReservedConcurrentExecutions":0}`, "404", "error ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
		{"DELETE " + fmt.Sprintf(put, "none"), "404", "error ResourceNotFoundException Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
	}.run(t, d)
}

func TestProvisionedConcurrencyIsForPublishedVersionsOnly(t *testing.T) {
	const path = "/2019-09-30/functions/f/provisioned-concurrency"
	script{
		{`PUT ` + path + `?Qualifier=$LATEST {"ProvisionedConcurrentExecutions":1}`, "400", "error InvalidParameterValueException Provisioned Concurrency Configs cannot be applied to unpublished function versions."},
		{`PUT ` + path + `?Qualifier=1 {"ProvisionedConcurrentExecutions":0}`, "400", validation + "'0' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{`PUT ` + path + `?Qualifier=7 {"ProvisionedConcurrentExecutions":1}`, "404", "error ResourceNotFoundException Function not found: " + arnOfF + ":7"},
		{`PUT ` + path + `?Qualifier=live {"ProvisionedConcurrentExecutions":1}`, "404", "error ResourceNotFoundException Cannot find alias arn: " + arnOfF + ":live"},
		{`GET ` + path + `?Qualifier=$LATEST`, "400", "error InvalidParameterValueException The function resource provided must be an alias or a published version."},
		{`DELETE ` + path + `?Qualifier=$LATEST`, "400", "error InvalidParameterValueException The function resource provided must be an alias or a published version."},
		{`GET ` + path, "400", validation + "null at 'qualifier' failed to satisfy constraint: Member must not be null"},
		{`GET ` + path + `?List=ALL`, "200", `{"ProvisionedConcurrencyConfigs":[]}`},
	}.run(t, realDoor(t))
}

// fakeProvisioner has containers for whatever is asked for, as many as it says.
type fakeProvisioner struct {
	allocated, available int
	failure              string
}

func (f *fakeProvisioner) Provisioned(lambent.AccountID, lambent.FunctionName, string) (allocated, available int, failure string) {
	return f.allocated, f.available, f.failure
}

func TestProvisionedConcurrencyOfVersionsAndAliases(t *testing.T) {
	have := &fakeProvisioner{}
	d := realDoor(t, func(o *Options) { o.Provisioner = have })
	const path, of = "/2019-09-30/functions/f/provisioned-concurrency", `{"ProvisionedConcurrentExecutions":%d}`
	const state = `{"RequestedProvisionedConcurrentExecutions":%d,"AvailableProvisionedConcurrentExecutions":%d,"AllocatedProvisionedConcurrentExecutions":%d,"Status":"%s",%s"LastModified":"2026-11-21T03:00:00+0000"`
	const none = "error ProvisionedConcurrencyConfigNotFoundException No Provisioned Concurrency Config found for this function"
	script{
		{`POST /2015-03-31/functions/f/versions {}`, "201", `"Version":"1"`},
		{`POST /2015-03-31/functions/f/aliases {"Name":"live","FunctionVersion":"1"}`, "201", ""},
		{"GET " + path + "?Qualifier=live", "404", none},
		{"DELETE " + path + "?Qualifier=live", "204", ""},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 901), "400", "error InvalidParameterValueException Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 1001), "400", "error InvalidParameterValueException Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000]."},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 2), "202", fmt.Sprintf(state, 2, 0, 0, "IN_PROGRESS", "")},
		{"PUT " + path + "?Qualifier=1 " + fmt.Sprintf(of, 2), "409", "error ResourceConflictException Version is pointed by a Provisioned Concurrency alias"},
		{"GET /2016-08-19/account-settings", "200", `"UnreservedConcurrentExecutions":998`},
		{`PUT /2017-10-31/functions/f/concurrency {"ReservedConcurrentExecutions":1}`, "400", ""},
		{`PUT /2017-10-31/functions/f/concurrency {"ReservedConcurrentExecutions":3}`, "200", ""},
		{"GET /2016-08-19/account-settings", "200", `"UnreservedConcurrentExecutions":997`},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 4), "400", "error InvalidParameterValueException Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"},
	}.run(t, d)
	for _, tc := range []struct {
		have fakeProvisioner
		want string
	}{
		{fakeProvisioner{1, 1, ""}, fmt.Sprintf(state, 2, 1, 1, "IN_PROGRESS", "")},
		{fakeProvisioner{2, 1, ""}, fmt.Sprintf(state, 2, 1, 2, "READY", "")},
		{fakeProvisioner{0, 0, "no handler"}, fmt.Sprintf(state, 2, 0, 0, "FAILED", `"StatusReason":"no handler",`)},
	} {
		*have = tc.have
		script{{"GET " + path + "?Qualifier=live", "200", tc.want}}.run(t, d)
	}
	*have = fakeProvisioner{}
	script{
		{"GET " + path + "?List=ALL", "200", `{"ProvisionedConcurrencyConfigs":[{"FunctionArn":"` + arnOfF + `:live",`},
		{"DELETE " + path + "?Qualifier=live", "204", ""},
		{"PUT " + path + "?Qualifier=1 " + fmt.Sprintf(of, 2), "202", ""},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 1), "409", "error ResourceConflictException Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"},
		{"DELETE " + path + "?Qualifier=1", "204", ""},
		{`POST /2015-03-31/functions/f/aliases {"Name":"other","FunctionVersion":"1"}`, "201", ""},
		{"PUT " + path + "?Qualifier=other " + fmt.Sprintf(of, 2), "202", ""},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 1), "409", "error ResourceConflictException Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"},
		{"DELETE /2015-03-31/functions/f/aliases/other", "204", ""},
		{`PUT /2015-03-31/functions/f/configuration {"Description":"second"}`, "200", ""},
	}.run(t, d)
	d.settle(t, "f")
	script{
		{`POST /2015-03-31/functions/f/versions {}`, "201", `"Version":"2"`},
		{`PUT /2015-03-31/functions/f/aliases/live {"RoutingConfig":{"AdditionalVersionWeights":{"2":0.5}}}`, "200", ""},
		{"PUT " + path + "?Qualifier=live " + fmt.Sprintf(of, 1), "400", "error InvalidParameterValueException Alias with weights can not be used with Provisioned Concurrency"},
		{"DELETE /2015-03-31/functions/f/aliases/live", "204", ""},
		{"DELETE /2015-03-31/functions/f?Qualifier=1", "204", ""},
		{"GET /2016-08-19/account-settings", "200", `"UnreservedConcurrentExecutions":997`},
		{"GET " + path + "?List=ALL", "200", `{"ProvisionedConcurrencyConfigs":[]}`},
	}.run(t, d)
}

func TestTenancyIsShownAndExcludesWhatAWSExcludes(t *testing.T) {
	d := realDoor(t)
	d.make(t, "tenants", "TenancyConfig", map[string]any{"TenantIsolationMode": "PER_TENANT"})
	script{
		{"GET /2015-03-31/functions/tenants/configuration", "200", `"TenancyConfig":{"TenantIsolationMode":"PER_TENANT"}`},
		{`POST /2015-03-31/functions/tenants/versions {}`, "201", `"TenancyConfig":{"TenantIsolationMode":"PER_TENANT"}`},
		{`PUT /2019-09-30/functions/tenants/provisioned-concurrency?Qualifier=1 {"ProvisionedConcurrentExecutions":1}`, "400", "error InvalidParameterValueException Provisioned concurrency is not supported for functions with tenant isolation."},
		{`POST /2021-10-31/functions/tenants/url {"AuthType":"NONE"}`, "400", "error InvalidParameterValueException Function URLs are not supported for functions with tenant isolation."},
	}.run(t, d)
	got := d.do(t, "POST", "/2015-03-31/functions/tenants/invocations", "{}", "X-Amz-Tenant-Id", "blue")
	if got.status != http.StatusOK || d.invoker.last.TenantID != "blue" {
		t.Errorf("%d %s, %+v", got.status, got.raw, d.invoker.last)
	}
}

func TestEventInvokeConfigIsPutUpdatedAndDeleted(t *testing.T) {
	d := realDoor(t)
	d.make(t, "g")
	const path, missing = "/2019-09-25/functions/f/event-invoke-config", "error ResourceNotFoundException The function " + arnOfF + ":$LATEST doesn't have an EventInvokeConfig"
	const queue = "arn:aws:sqs:us-east-1:000000000000:q"
	other := strings.TrimSuffix(arnOfF, "f") + "g"
	script{
		{"GET " + path, "404", missing},
		{`POST ` + path + ` {"MaximumRetryAttempts":1}`, "404", missing},
		{"DELETE " + path, "404", missing},
		{`PUT ` + path + ` {}`, "400", "error InvalidParameterValueException You must specify at least one of error handling or destination setting."},
		{`PUT ` + path + ` {"MaximumRetryAttempts":3}`, "400", validation + "'3' at 'maximumRetryAttempts' failed to satisfy constraint: Member must have value less than or equal to 2"},
		{`PUT ` + path + ` {"MaximumRetryAttempts":1}`, "200", `"FunctionArn":"` + arnOfF + `:$LATEST","MaximumRetryAttempts":1,"DestinationConfig":{"OnSuccess":{},"OnFailure":{}}}`},
		{`POST ` + path + ` {"MaximumEventAgeInSeconds":60,"DestinationConfig":{"OnFailure":{"Destination":"` + other + `"}}}`, "200", `"MaximumRetryAttempts":1,"MaximumEventAgeInSeconds":60,"DestinationConfig":{"OnSuccess":{},"OnFailure":{"Destination":"` + other + `"}}}`},
		{"GET " + path + "?Qualifier=$LATEST", "200", other},
		{"GET " + path + "/list", "200", `{"FunctionEventInvokeConfigs":[{"LastModified":`},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"` + arnOfF + `"}}}`, "400", "error InvalidParameterValueException You can't specify the function as a destination for itself."},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"` + arnOfF + `x"}}}`, "400", "error InvalidParameterValueException The destination ARN " + arnOfF + "x is invalid."},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"arn:aws:iam::000000000000:role/r"}}}`, "400", "error InvalidParameterValueException The provided destination config DestinationConfig(onSuccess=OnSuccess(destination=arn:aws:iam::000000000000:role/r), onFailure=null) is invalid."},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"` + arnOfF[:len(arnOfF)-1] + `g"}}}`, "200", `"OnFailure":{}`},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"` + queue + `"}}}`, "400", "error InvalidParameterValueException This server delivers to functions only: " + queue + " would get nothing."},
		{`PUT ` + path + ` {"DestinationConfig":{"OnSuccess":{"Destination":"arn:aws:lambda:us-east-1:999999999999:function:g"}}}`, "400", "error InvalidParameterValueException This server delivers records of asynchronous invocations to functions of the same account only: the destination arn:aws:lambda:us-east-1:999999999999:function:g would get nothing."},
		{`PUT /2019-09-25/functions/none/event-invoke-config {"MaximumRetryAttempts":1}`, "404", "error ResourceNotFoundException The function doesn't exist."},
		{"DELETE " + path, "204", ""},
		{"GET " + path, "404", missing},
	}.run(t, d)
}

func TestManagementOfRuntimesLoopsAndScaling(t *testing.T) {
	d := realDoor(t)
	arn := d.runtimeVersionARN("nodejs22.x")
	script{
		{"GET /2021-07-20/functions/f/runtime-management-config", "200", `{"UpdateRuntimeOn":"Auto","FunctionArn":"` + arnOfF + `:$LATEST"}`},
		{`PUT /2021-07-20/functions/f/runtime-management-config {"UpdateRuntimeOn":"Manual"}`, "400", ""},
		{`PUT /2021-07-20/functions/f/runtime-management-config {"UpdateRuntimeOn":"Manual","RuntimeVersionArn":"` + arn + `"}`, "200", arn},
		{"GET /2021-07-20/functions/f/runtime-management-config", "200", `"UpdateRuntimeOn":"Manual"`},
		{"GET /2024-08-31/functions/f/recursion-config", "200", `{"RecursiveLoop":"Terminate"}`},
		{`PUT /2024-08-31/functions/f/recursion-config {"RecursiveLoop":"Allow"}`, "200", `{"RecursiveLoop":"Allow"}`},
		{"GET /2024-08-31/functions/f/recursion-config", "200", `{"RecursiveLoop":"Allow"}`},
		{`PUT /2024-08-31/functions/f/recursion-config {"RecursiveLoop":"x"}`, "400", validation + "'x' at 'recursiveLoop' failed to satisfy constraint: Member must satisfy enum value set: [Allow, Terminate]"},
		{`PUT /2025-11-30/functions/f/function-scaling-config?Qualifier=1 {"FunctionScalingConfig":{"MinExecutionEnvironments":1}}`, "404", "error ResourceNotFoundException Function not found: " + arnOfF + ":1"},
	}.run(t, d)
}

func TestFunctionURLIsOnePerFunctionAndAlias(t *testing.T) {
	d := realDoor(t)
	const path, none = "/2021-10-31/functions/f/url", "error ResourceNotFoundException The resource you requested does not exist."
	script{
		{"GET " + path, "404", none},
		{"DELETE " + path, "404", none},
		{`PUT ` + path + ` {"AuthType":"NONE"}`, "404", none},
		{`POST ` + path + ` {"AuthType":"NONE","Cors":{"AllowOrigins":["*"],"MaxAge":60}}`, "201", `"FunctionArn":"` + arnOfF + `","AuthType":"NONE","Cors":{"AllowOrigins":["*"],"MaxAge":60},"CreationTime":"2026-11-21T03:00:00Z","InvokeMode":"BUFFERED"}`},
		{`POST ` + path + ` {"AuthType":"NONE"}`, "409", "error ResourceConflictException Failed to create function url config for [functionArn = " + arnOfF + "]. Error message:  FunctionUrlConfig exists for this Lambda function"},
		{`PUT ` + path + ` {"InvokeMode":"RESPONSE_STREAM","Cors":{}}`, "200", `"AuthType":"NONE","Cors":{},`},
		{"GET " + path, "200", `"InvokeMode":"RESPONSE_STREAM"`},
		{"GET " + path, "200", `.lambda-url.us-east-1.example.com/"`},
		{"GET " + path + "s", "200", `{"FunctionUrlConfigs":[{"FunctionUrl":"http://`},
		{"GET " + path + "?Qualifier=$LATEST", "400", validation + `'$LATEST' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)`},
		{`POST ` + path + `?Qualifier=live {"AuthType":"NONE"}`, "404", "error ResourceNotFoundException Function does not exist"},
		{"GET /2021-10-31/functions/f:$LATEST/url", "400", validation + `'$LATEST' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ((?!^\d+$)^[0-9a-zA-Z-_]+$)`},
		{"DELETE " + path, "204", ""},
		{"GET " + path, "404", none},
	}.run(t, d)
}

func TestCodeSigningConfigGuardsTheCodeOfItsFunctions(t *testing.T) {
	d := realDoor(t)
	profile := `"AllowedPublishers":{"SigningProfileVersionArns":["arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abc"]}`
	got := d.do(t, "POST", "/2020-04-22/code-signing-configs", `{`+profile+`,"Description":"d"}`)
	config, _ := got.body["CodeSigningConfig"].(map[string]any)
	arn, _ := config["CodeSigningConfigArn"].(string)
	if got.status != http.StatusCreated || arn == "" {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	at, none := "/2020-04-22/code-signing-configs/"+arn, arn[:len(arn)-3]+"xyz"
	const of = "/2020-06-30/functions/f/code-signing-config"
	const missing = "error CodeSigningConfigNotFoundException The code signing configuration cannot be found. Check that the provided configuration is not deleted: "
	script{
		{"GET " + at, "200", `"Description":"d",` + profile + `,"CodeSigningPolicies":{"UntrustedArtifactOnDeployment":"Warn"}`},
		{"GET /2020-04-22/code-signing-configs/" + none, "404", "error ResourceNotFoundException The Lambda code signing configuration " + none + " can not be found."},
		{"GET /2020-04-22/code-signing-configs", "200", arn},
		{"GET " + of, "200", "{}"},
		{`PUT ` + of + ` {"CodeSigningConfigArn":"` + none + `"}`, "404", missing + none + "."},
		{`PUT ` + of + ` {"CodeSigningConfigArn":"` + arn + `"}`, "200", `{"CodeSigningConfigArn":"` + arn + `","FunctionName":"f"}`},
		{"GET " + of, "200", arn},
		{"GET " + at + "/functions", "200", `{"FunctionArns":["` + arnOfF + `"]}`},
		{"DELETE " + at, "409", "in use by functions"},
		{`PUT ` + at + ` {"CodeSigningPolicies":{"UntrustedArtifactOnDeployment":"Enforce"}}`, "200", `"UntrustedArtifactOnDeployment":"Enforce"`},
		{`PUT /2015-03-31/functions/f/code {"ZipFile":"` + b64Zip(t) + `"}`, "400", "error CodeVerificationFailedException The code signature failed one or more of the validation checks for signature mismatch or expiry, and the code signing policy is set to ENFORCE. Lambda blocks the deployment."},
		{`PUT ` + at + ` {"CodeSigningPolicies":{"UntrustedArtifactOnDeployment":"Warn"}}`, "200", `"UntrustedArtifactOnDeployment":"Warn"`},
		{`PUT /2015-03-31/functions/f/code {"ZipFile":"` + b64Zip(t) + `"}`, "200", `"LastUpdateStatus":"InProgress"`},
		{"DELETE " + of, "204", ""},
		{"DELETE " + of, "204", ""},
		{`POST /2017-03-31/tags/` + url.PathEscape(arn) + ` {"Tags":{"a":"b"}}`, "204", ""},
		{"GET /2017-03-31/tags/" + url.PathEscape(arn), "200", `{"Tags":{"a":"b"}}`},
	}.run(t, d)
	d.make(t, "signed", "CodeSigningConfigArn", arn)
	script{
		{"GET " + strings.Replace(of, "/f/", "/signed/", 1), "200", arn},
		{"DELETE /2015-03-31/functions/signed", "204", ""},
		{"DELETE " + at, "204", ""},
		{"GET " + at, "404", "error ResourceNotFoundException The Lambda code signing configuration " + arn + " can not be found."},
	}.run(t, d)
	got = d.create(t, "unsigned", "CodeSigningConfigArn", none)
	got.wantError(t, http.StatusNotFound, "CodeSigningConfigNotFoundException")
	if f, err := d.API.functions.Function(lambent.DefaultAccount, "unsigned", ""); err == nil {
		t.Errorf("a function was made all the same: %+v", f)
	}
}

func TestEventSourceMappingIsAnObjectWithItsStates(t *testing.T) {
	d := realDoor(t)
	const path, queue = "/2015-03-31/event-source-mappings", "arn:aws:sqs:us-east-1:000000000000:q"
	const stream = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	create := func(body string) string { return "POST " + path + ` {"FunctionName":"f",` + body + `}` }
	got := d.do(t, "POST", path+"/", `{"FunctionName":"f","EventSourceArn":"`+queue+`","Tags":{"a":"b"}}`)
	id, _ := got.body["UUID"].(string)
	if got.status != http.StatusAccepted || got.body["State"] != "Creating" || got.body["BatchSize"] != 10.0 || got.body["FunctionArn"] != arnOfF || id == "" {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	at := path + "/" + id
	script{
		{"GET " + at, "200", `"State":"Enabled"`},
		{create(`"EventSourceArn":"` + queue + `"`), "409", `error ResourceConflictException An event source mapping with SQS arn (" ` + queue + ` ") and function (" ` + arnOfF + ` ") already exists. Please update or delete the existing mapping with UUID ` + id},
		{create(`"EventSourceArn":"` + queue + `2","BatchSize":11`), "400", "error InvalidParameterValueException Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"},
		{create(`"EventSourceArn":"` + queue + `.fifo","BatchSize":11`), "400", ""},
		{create(`"EventSourceArn":"` + queue + `2","FilterCriteria":{"Filters":[{"Pattern":"x"}]}`), "400", "error InvalidParameterValueException Invalid filter pattern definition."},
		{create(`"EventSourceArn":"` + stream + `"`), "400", "error InvalidParameterValueException 1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."},
		{create(`"EventSourceArn":"arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/x","StartingPosition":"AT_TIMESTAMP","StartingPositionTimestamp":1.5`), "400", "error InvalidParameterValueException Unsupported starting position for arn type: arn:aws:dynamodb:us-east-1:000000000000:table/t/stream/x"},
		{create(`"EventSourceArn":"` + stream + `","StartingPosition":"LATEST","Enabled":false`), "202", `"LastProcessingResult":"No records processed","State":"Disabled"`},
		{create(`"BatchSize":1`), "400", "error InvalidParameterValueException Unrecognized event source."},
		{create(`"EventSourceArn":"arn:aws:s3:::bucket"`), "400", "error InvalidParameterValueException Unrecognized event source."},
		{`POST ` + path + ` {"FunctionName":"none","EventSourceArn":"` + queue + `"}`, "400", "error InvalidParameterValueException Function does not exist"},
		{`PUT ` + at + ` {"Enabled":false,"BatchSize":5}`, "202", `"State":"Disabling"`},
		{"GET " + at, "200", `"State":"Disabled"`},
		{`PUT ` + at + ` {"BatchSize":20}`, "400", "error InvalidParameterValueException Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"},
		{`PUT ` + at + ` {"BatchSize":20,"MaximumBatchingWindowInSeconds":1}`, "202", `"BatchSize":20,"MaximumBatchingWindowInSeconds":1`},
		{"GET " + path + "?FunctionName=f&EventSourceArn=" + url.QueryEscape(queue), "200", `"UUID":"` + id + `"`},
		{"GET " + path + "?FunctionName=g", "200", `{"EventSourceMappings":[]}`},
		{"GET " + path + "?MaxItems=1", "200", `"NextMarker":"`},
		{"GET " + path + "?Marker=!", "400", ""},
		{"GET /2017-03-31/tags/" + url.PathEscape("arn:aws:lambda:us-east-1:000000000000:event-source-mapping:"+id), "200", `{"Tags":{"a":"b"}}`},
		{"DELETE " + at, "202", `"State":"Deleting"`},
		{"GET " + at, "404", "error ResourceNotFoundException The resource you requested does not exist."},
		{"DELETE " + at, "404", "error ResourceNotFoundException The resource you requested does not exist."},
	}.run(t, d)
}

func TestCapacityProviderIsAnObject(t *testing.T) {
	const path, arn = "/2025-11-30/capacity-providers", "arn:aws:lambda:us-east-1:000000000000:capacity-provider:p"
	body := `{"CapacityProviderName":"p","VpcConfig":{"SubnetIds":["s"],"SecurityGroupIds":["g"]},"PermissionsConfig":{"CapacityProviderOperatorRoleArn":"` + testRole + `"}}`
	script{
		{"POST " + path + " " + body, "202", `"CapacityProviderArn":"` + arn + `","State":"Pending"`},
		{"POST " + path + " " + body, "409", ""},
		{"GET " + path + "/p", "200", `"State":"Active"`},
		{"GET " + path + "/" + arn, "200", `"VpcConfig":{"SubnetIds":["s"],"SecurityGroupIds":["g"]}`},
		{"GET " + path + "/" + foreignARN + "capacity-provider:p", "403", ""},
		{`PUT ` + path + `/p {"CapacityProviderScalingConfig":{"MaxVCpuCount":4}}`, "202", `"CapacityProviderScalingConfig":{"MaxVCpuCount":4}`},
		{"GET " + path, "200", `{"CapacityProviders":[{`},
		{"GET " + path + "/p/function-versions", "200", `{"CapacityProviderArn":"` + arn + `","FunctionVersions":[]}`},
		{"GET /2017-03-31/tags/" + url.PathEscape(arn), "200", `{"Tags":{}}`},
		{"DELETE " + path + "/p", "202", `"State":"Deleting"`},
		{"GET " + path + "/p", "404", "error ResourceNotFoundException Capacity provider not found: " + arn},
	}.run(t, realDoor(t))
}

func TestObjectsOfAFunctionGoWithIt(t *testing.T) {
	d := realDoor(t)
	script{
		{`PUT /2017-10-31/functions/f/concurrency {"ReservedConcurrentExecutions":5}`, "200", ""},
		{`POST /2021-10-31/functions/f/url {"AuthType":"NONE"}`, "201", ""},
		{"DELETE /2015-03-31/functions/f", "204", ""},
	}.run(t, d)
	d.make(t, "f")
	script{
		{"GET /2019-09-30/functions/f/concurrency", "200", "{}"},
		{"GET /2021-10-31/functions/f/urls", "200", `{"FunctionUrlConfigs":[]}`},
	}.run(t, d)
}

func TestSecurityObjectsOfAnotherAccountAreOutOfReach(t *testing.T) {
	d := realDoor(t)
	theirs := lambent.AccountID("999999999999")
	ctx := context.Background()
	spec := &lambent.Function{Account: theirs, Name: "secret", Runtime: "nodejs22.x", Handler: "h", Role: testRole, TimeoutSecs: 3, MemoryMB: 128, PackageType: "Zip", Tags: map[string]string{"SECRET": "SECRET"}}
	r := d.API.functions.(*registry.Registry)
	if _, err := r.CreateFunction(ctx, spec, testZip(t), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	const mapping, csc = "00000000-0000-4000-8000-000000000000", "csc-0123456789abcdefg"
	for _, err := range []error{
		r.CodeSigningConfigs.Create(ctx, "", registry.ObjectKey{Account: theirs, Name: csc}, &registry.CodeSigningConfig{Description: "SECRET"}, ""),
		r.EventSourceMappings.Create(ctx, "", registry.ObjectKey{Account: theirs, Name: mapping}, &registry.EventSourceMapping{Function: "SECRET"}, ""),
		r.CapacityProviders.Create(ctx, "", registry.ObjectKey{Account: theirs, Name: "p"}, &registry.CapacityProvider{Tags: map[string]string{"SECRET": ""}}, ""),
		r.URLs.Create(ctx, "", registry.ObjectKey{Account: theirs, Parent: "secret"}, &registry.FunctionURL{ID: "SECRET"}, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	names := []string{foreignARN + "function:secret", "999999999999:function:secret", foreignARN + "function:secret:1", foreignARN + "code-signing-config:" + csc,
		foreignARN + "capacity-provider:p", foreignARN + "event-source-mapping:" + mapping, mapping, "secret", "p"}
	for _, op := range operations {
		for _, name := range names {
			for _, body := range []string{"{}", `{"FunctionName":"` + name + `","EventSourceArn":"arn:aws:sqs:us-east-1:999999999999:q","AuthType":"NONE","Tags":{"a":"b"},"ReservedConcurrentExecutions":0,"MaximumRetryAttempts":0,"CodeSigningConfigArn":"` + name + `"}`} {
				target := strings.ReplaceAll(op.path, "{}", url.PathEscape(name))
				query := op.query + "&Qualifier=1&tagKeys=SECRET&FunctionName=" + url.QueryEscape(name)
				got := d.do(t, op.method, target+"?"+strings.TrimPrefix(query, "&"), body)
				if got.status >= 500 && got.status != http.StatusNotImplemented || strings.Contains(got.raw, "SECRET") {
					t.Errorf("%s %s: %d %s", op.name, name, got.status, got.raw)
				}
				if got.status < 300 && strings.HasPrefix(name, foreignARN) && strings.Contains(op.path, "{}") {
					t.Errorf("%s of another account's %s: %d %s", op.name, name, got.status, got.raw)
				}
			}
		}
	}
	if f, err := r.Function(theirs, "secret", ""); err != nil || f.Tags["SECRET"] != "SECRET" {
		t.Errorf("it was changed: %+v, %v", f, err)
	}
}

func b64Zip(t testing.TB) string { return base64.StdEncoding.EncodeToString(testZip(t)) }
