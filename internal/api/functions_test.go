package api

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

const functionsPath = "/2015-03-31/functions"

func TestCreateFunctionAnswersWithAWSDefaults(t *testing.T) {
	d := newDoor(t)
	got := d.create(t, "f")
	if got.status != http.StatusCreated {
		t.Fatalf("status %d: %s", got.status, got.raw)
	}
	pkg := testZip(t)
	want := map[string]any{
		"FunctionName": "f", "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f", "Runtime": "nodejs22.x", "Role": testRole,
		"Handler": "index.handler", "CodeSize": float64(len(pkg)), "Description": "", "Timeout": 3.0, "MemorySize": 128.0,
		"LastModified": "2026-11-21T03:04:05.678+0000", "CodeSha256": got.body["CodeSha256"], "Version": "$LATEST",
		"TracingConfig": map[string]any{"Mode": "PassThrough"}, "RevisionId": got.body["RevisionId"], "State": "Pending",
		"StateReason": "The function is being created.", "StateReasonCode": "Creating", "PackageType": "Zip",
		"Architectures": []any{"x86_64"}, "EphemeralStorage": map[string]any{"Size": 512.0},
		"SnapStart":            map[string]any{"ApplyOn": "None", "OptimizationStatus": "Off"},
		"RuntimeVersionConfig": got.body["RuntimeVersionConfig"],
		"LoggingConfig":        map[string]any{"LogFormat": "Text", "LogGroup": "/aws/lambda/f"},
	}
	if diff := cmp.Diff(want, got.body); diff != "" {
		t.Error(diff)
	}
}

func TestCreateFunctionKeepsWhatTheCallerGave(t *testing.T) {
	d := newDoor(t)
	got := d.create(t, "123456789012:function:g", "Timeout", 900)
	got.wantError(t, 403, "AccessDeniedException")
	got = d.create(t, "arn:aws:lambda:us-east-1:000000000000:function:g", "Timeout", 900, "MemorySize", 10240, "Description", "<d>",
		"Environment", map[string]any{"Variables": map[string]any{"AB": "1"}}, "Tags", map[string]any{"k": "v"}, "KMSKeyArn", "",
		"TracingConfig", map[string]any{"Mode": "PassThrough"}, "EphemeralStorage", map[string]any{"Size": 1024}, "Architectures", []any{"x86_64"},
		"LoggingConfig", map[string]any{"LogFormat": "JSON", "LogGroup": "mine"}, "Publish", false, "Layers", []any{}, "VpcConfig", map[string]any{"SubnetIds": []any{}},
		"SnapStart", map[string]any{"ApplyOn": "None"}, "UnknownMember", map[string]any{"x": []any{1, "2", nil}})
	if got.status != http.StatusCreated {
		t.Fatalf("status %d: %s", got.status, got.raw)
	}
	want := &lambent.Function{
		Account: lambent.DefaultAccount, Name: "g", Version: lambent.Latest, Runtime: "nodejs22.x", Role: testRole, Handler: "index.handler",
		Description: "<d>", TimeoutSecs: 900, MemoryMB: 10240, EphemeralMB: 1024, PackageType: "Zip", Architectures: []string{"x86_64"},
		Environment: map[string]string{"AB": "1"}, Tags: map[string]string{"k": "v"}, TracingMode: "PassThrough",
		LoggingFormat: "JSON", LogGroup: "mine", Unpacked: int64(len("export const handler = async (e) => e")),
	}
	f := *d.functions.byName["g"]
	f.Code, f.CodeSize, f.Revision, f.LastModified = "", 0, "", time.Time{}
	f.State, f.StateReason, f.StateReasonCode = "", "", ""
	if diff := cmp.Diff(want, &f); diff != "" {
		t.Error(diff)
	}
	wantLogging := map[string]any{"LogFormat": "JSON", "LogGroup": "mine", "ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
	if diff := cmp.Diff(wantLogging, got.body["LoggingConfig"]); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(got.raw, `"<d>"`) {
		t.Errorf("the description is escaped beyond need: %s", got.raw)
	}
}

func TestCreateFunctionRefusesInAWSWords(t *testing.T) {
	big := map[string]any{}
	for i := range 5 {
		big[fmt.Sprintf("VAR%d", i)] = strings.Repeat("x", 1000)
	}
	many := map[string]any{}
	for i := range 51 {
		many[fmt.Sprintf("t%d", i)] = "v"
	}
	long := strings.Repeat("n", 65)
	tests := []struct {
		name    string
		extra   []any
		status  int
		kind    string
		message string // exactly, or with a final "…" its start
	}{
		{"no members at all", []any{"FunctionName", nil, "Role", nil, "Code", nil}, 400, "ValidationException",
			"3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null"},
		{"timeout zero", []any{"Timeout", 0}, 400, "ValidationException",
			"1 validation error detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"timeout 901 and memory 127", []any{"Timeout", 901, "MemorySize", 127}, 400, "ValidationException",
			"2 validation errors detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900; Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		{"ephemeral storage", []any{"EphemeralStorage", map[string]any{"Size": 511}}, 400, "ValidationException",
			"1 validation error detected: Value '511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512"},
		{"role", []any{"Role", "nobody"}, 400, "ValidationException",
			`1 validation error detected: Value 'nobody' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
		{"two architectures", []any{"Architectures", []any{"x86_64", "arm64"}}, 400, "ValidationException",
			"1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		{"unknown architecture", []any{"Architectures", []any{"sparc"}}, 400, "ValidationException",
			"1 validation error detected: Value '[sparc]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{"null in a list", []any{"Architectures", []any{nil}}, 400, "ValidationException", "1 validation error detected: Value '[null]' at 'architectures'…"},
		{"other architecture", []any{"Architectures", []any{"arm64"}}, 400, "InvalidParameterValueException", "This machine runs functions of the architecture x86_64 only, not arm64."},
		{"variable name", []any{"Environment", map[string]any{"Variables": map[string]any{"1A": "s3cret"}}}, 400, "ValidationException",
			"1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"},
		{"reserved variables", []any{"Environment", map[string]any{"Variables": map[string]any{"AWS_REGION": "x", "AWS_ACCESS_KEY_ID": "y"}}}, 400, "InvalidParameterValueException",
			"Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_ACCESS_KEY_ID, AWS_REGION"},
		{"environment over 4 KB", []any{"Environment", map[string]any{"Variables": big}}, 400, "InvalidParameterValueException",
			`Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: {"VAR0":"xxx…`},
		{"unknown runtime", []any{"Runtime", "cobol85"}, 400, "InvalidParameterValueException",
			"Value cobol85 at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: [nodejs20.x, …"},
		{"retired runtime", []any{"Runtime", "nodejs14.x"}, 400, "InvalidParameterValueException",
			"The runtime parameter of nodejs14.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		{"runtime of no family", []any{"Runtime", "java21"}, 400, "InvalidParameterValueException", "lambent does not run the runtime java21. It runs the families nodejs, python, provided;…"},
		{"no handler", []any{"Handler", nil}, 400, "InvalidParameterValueException", "Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		{"empty handler", []any{"Handler", ""}, 400, "ValidationException", `1 validation error detected: Value '' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\s]+`},
		{"no code", []any{"Code", map[string]any{}}, 400, "InvalidParameterValueException", "Please provide a source for function code."},
		{"code in S3", []any{"Code", map[string]any{"S3Bucket": "bucket", "S3Key": "k"}}, 400, "InvalidParameterValueException", "This server knows no S3 to take S3Bucket and S3Key from…"},
		{"code as image", []any{"Code", map[string]any{"ImageUri": "x"}, "PackageType", "Image"}, 400, "InvalidParameterValueException", "Please don't provide Handler or Runtime or Layer when the intended function PackageType is Image."},
		{"package type", []any{"PackageType", "Tar"}, 400, "ValidationException", "1 validation error detected: Value 'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Image, Zip]"},
		{"broken zip", []any{"Code", map[string]any{"ZipFile": "AAAA"}}, 400, "InvalidParameterValueException", "Could not unzip uploaded file. Please check your file, then try to upload again."},
		{"bad layer", []any{"Layers", []any{"l"}}, 400, "ValidationException",
			"1 validation error detected: Value '[l]' at 'layers' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 140, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: …"},
		{"network", []any{"VpcConfig", map[string]any{"SubnetIds": []any{"subnet-1"}}}, 400, "InvalidParameterValueException", "lambent does not support VpcConfig yet: leave it out, or empty."},
		{"snapshots", []any{"SnapStart", map[string]any{"ApplyOn": "PublishedVersions"}}, 400, "InvalidParameterValueException", "lambent does not support SnapStart yet…"},
		{"tracing", []any{"TracingConfig", map[string]any{"Mode": "Active"}}, 400, "InvalidParameterValueException", "lambent does not trace yet…"},
		{"key", []any{"KMSKeyArn", "arn:aws:kms:us-east-1:000000000000:key/x"}, 400, "InvalidParameterValueException", "lambent does not support KMSKeyArn yet…"},
		{"log level", []any{"LoggingConfig", map[string]any{"LogFormat": "JSON", "SystemLogLevel": "WARN"}}, 400, "InvalidParameterValueException", "lambent does not filter logs by level…"},
		{"too many tags", []any{"Tags", many}, 400, "InvalidParameterValueException", "Number of tags exceeds resource tag limit."},
		{"name of 65", []any{"FunctionName", long}, 400, "InvalidParameterValueException",
			"1 validation error detected: Value '" + long + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"name with a space", []any{"FunctionName", "a b"}, 400, "ValidationException",
			`1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`},
		{"foreign region", []any{"FunctionName", "arn:aws:lambda:eu-west-1:000000000000:function:f"}, 404, "ResourceNotFoundException",
			"Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
		{"string for a number", []any{"Timeout", "3"}, 400, "SerializationException", "STRING_VALUE can not be converted to an Integer"},
		{"number for a string", []any{"Description", 3}, 400, "SerializationException", "NUMBER_VALUE can not be converted to a String"},
		{"scalar for a structure", []any{"TracingConfig", 5}, 400, "SerializationException", "Unexpected value type in payload: expected a structure"},
		{"structure for a string", []any{"Role", map[string]any{}}, 400, "SerializationException", "Start of structure or map found where not expected."},
		{"list for a string", []any{"Role", []any{}}, 400, "SerializationException", "Start of list found where not expected."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDoor(t)
			got := d.create(t, "f", tt.extra...).wantError(t, tt.status, tt.kind)
			if start, ok := strings.CutSuffix(tt.message, "…"); ok && strings.HasPrefix(got, start) {
				return
			}
			if got != tt.message {
				t.Errorf("message\n%s\nwant\n%s", got, tt.message)
			}
			if d.functions.changes != 0 {
				t.Error("a refused request changed something")
			}
		})
	}
}

func TestSecurityValidationNeverRepeatsVariables(t *testing.T) {
	d := newDoor(t)
	got := d.create(t, "f", "Environment", map[string]any{"Variables": map[string]any{"1bad": "hunter2", "GOOD": nil}})
	got.wantError(t, 400, "ValidationException")
	if strings.Contains(got.raw, "hunter2") {
		t.Errorf("the answer repeats a secret: %s", got.raw)
	}
}

func TestCreateFunctionLimitsItsSize(t *testing.T) {
	d := newDoor(t)
	_, err := d.zip(&call{}, "CreateFunction", &codeSource{ZipFile: make([]byte, lambent.MaxZipped+1)})
	if e, message, _ := describe(err); e.status != 413 || e.name != "RequestEntityTooLargeException" || message != "Zipped size must be smaller than 52428800 bytes" {
		t.Errorf("%+v %s", e, message)
	}
	for path, method := range map[string]string{functionsPath: "POST", functionsPath + "/f/code": "PUT"} {
		r := httptest.NewRequest(method, path, strings.NewReader("{}"))
		r.ContentLength = maxCodeBody + 1
		rec := httptest.NewRecorder()
		d.ServeHTTP(rec, r)
		operation := map[string]string{"POST": "CreateFunction", "PUT": "UpdateFunctionCode"}[method]
		want := `{"message":"Request must be smaller than 70167211 bytes for the ` + operation + ` operation"}`
		if rec.Code != 413 || rec.Header().Get("x-amzn-ErrorType") != "RequestEntityTooLargeException" || rec.Body.String() != want {
			t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
		}
	}
}

func TestCreateFunctionThatExistsConflicts(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	got := d.create(t, "f")
	if m := got.wantError(t, 409, "ResourceConflictException"); m != "Function already exist: f" {
		t.Error(m)
	}
	if diff := cmp.Diff(map[string]any{"Type": "User", "message": "Function already exist: f"}, got.body); diff != "" {
		t.Error(diff)
	}
}

func TestGetFunctionInEveryFormOfName(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f", "Tags", map[string]any{"k": "v"})
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	tests := []struct{ path, arn string }{
		{"f", arn}, {"f/", arn}, {"f?Qualifier=$LATEST", arn + ":$LATEST"}, {"f:$LATEST", arn + ":$LATEST"},
		{"f%3A%24LATEST", arn + ":$LATEST"}, {"function:f", arn}, {"000000000000:function:f", arn}, {arn, arn},
		{url.PathEscape(arn), arn}, {strings.ReplaceAll(arn, ":", "%3A") + "%3A$LATEST?Qualifier=%24LATEST", arn + ":$LATEST"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			got := d.do(t, "GET", functionsPath+"/"+tt.path, "")
			if got.status != 200 {
				t.Fatalf("%d %s", got.status, got.raw)
			}
			if have := got.body["Configuration"].(map[string]any)["FunctionArn"]; have != tt.arn {
				t.Errorf("ARN %v, want %v", have, tt.arn)
			}
			if diff := cmp.Diff(map[string]any{"k": "v"}, got.body["Tags"]); diff != "" {
				t.Error(diff)
			}
			path, query, _ := strings.Cut(tt.path, "?")
			got = d.do(t, "GET", functionsPath+"/"+strings.TrimSuffix(path, "/")+"/configuration?"+query, "")
			if got.status != 200 || got.body["FunctionArn"] != tt.arn {
				t.Errorf("configuration: %d %s", got.status, got.raw)
			}
		})
	}
}

func TestNamesThatReachNothing(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	const mismatch = "The derived qualifier from the function name does not match the specified qualifier."
	tests := []struct {
		method, path string
		status       int
		kind         string
		message      string
	}{
		{"GET", "/none", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
		{"GET", "/f?Qualifier=7", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:7"},
		{"GET", "/a.b", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:a.b"},
		{"GET", "/f:1?Qualifier=$LATEST", 400, "InvalidParameterValueException", mismatch},
		{"GET", "/f:1/configuration?Qualifier=2", 400, "InvalidParameterValueException", mismatch},
		{"DELETE", "/f:1?Qualifier=2", 400, "InvalidParameterValueException", mismatch},
		{"DELETE", "/f:$LATEST", 400, "InvalidParameterValueException", "$LATEST version cannot be deleted without deleting the function."},
		{"DELETE", "/none?Qualifier=3", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
		{"DELETE", "/none", 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"},
		{"GET", "/arn:aws:lambda:eu-central-1:000000000000:function:f", 404, "ResourceNotFoundException", "Functions from 'eu-central-1' are not reachable in this region ('us-east-1')"},
		{"GET", "/arn:aws-cn:lambda:us-east-1:000000000000:function:f", 404, "ResourceNotFoundException", "Functions from the partition 'aws-cn' are not reachable in this partition ('aws')"},
		{"DELETE", "/arn:aws-us-gov:lambda:us-east-1:000000000000:function:f", 404, "ResourceNotFoundException", "Functions from the partition 'aws-us-gov' are not reachable in this partition ('aws')"},
		{"GET", "/111111111111:function:f", 403, "AccessDeniedException",
			"User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:GetFunction on resource: arn:aws:lambda:us-east-1:111111111111:function:f because no resource-based policy allows the lambda:GetFunction action"},
		{"GET", "/f?Qualifier=" + strings.Repeat("q", 129), 400, "ValidationException",
			"1 validation error detected: Value '" + strings.Repeat("q", 129) + "' at 'qualifier' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"GET", "/f?Qualifier=a%20b", 400, "ValidationException",
			`1 validation error detected: Value 'a b' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`},
	}
	for _, tt := range tests {
		t.Run(tt.method+tt.path, func(t *testing.T) {
			if m := d.do(t, tt.method, functionsPath+tt.path, "").wantError(t, tt.status, tt.kind); m != tt.message {
				t.Errorf("message\n%s\nwant\n%s", m, tt.message)
			}
		})
	}
}

func TestSecurityAccountsDoNotSeeEachOther(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	auth := []string{"Authorization", "AWS4-HMAC-SHA256 Credential=111111111111/20261121/eu-west-3/lambda/aws4_request, SignedHeaders=host, Signature=0"}
	d.do(t, "GET", functionsPath+"/f", "", auth...).wantError(t, 404, "ResourceNotFoundException")
	d.do(t, "DELETE", functionsPath+"/f", "", auth...).wantError(t, 404, "ResourceNotFoundException")
	d.do(t, "GET", functionsPath+"/000000000000:function:f", "", auth...).wantError(t, 403, "AccessDeniedException")
	got := d.do(t, "GET", functionsPath, "", auth...)
	if got.raw != `{"Functions":[]}` {
		t.Errorf("another account lists %s", got.raw)
	}
	presigned := d.do(t, "GET", functionsPath+"/f?X-Amz-Credential=111111111111%2F20261121%2Fus-east-1%2Flambda%2Faws4_request", "")
	presigned.wantError(t, 404, "ResourceNotFoundException")
}

func TestDeleteFunction(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	if got := d.do(t, "DELETE", functionsPath+"/f?Qualifier=7", ""); got.status != 204 {
		t.Errorf("deleting a version that is not there: %d %s", got.status, got.raw)
	}
	got := d.do(t, "DELETE", functionsPath+"/f", "")
	if got.status != 204 || got.raw != "" || got.header.Get("x-amzn-RequestId") == "" {
		t.Errorf("answer %d %q %v", got.status, got.raw, got.header)
	}
	if len(d.functions.byName) != 0 {
		t.Error("the function is still there")
	}
}

func TestListFunctionsPages(t *testing.T) {
	d := newDoor(t)
	for i := range 60 {
		d.create(t, fmt.Sprintf("f%02d", i))
	}
	var names []string
	pages := 0
	for marker := "?MaxItems=1000"; marker != ""; pages++ {
		got := d.do(t, "GET", functionsPath+"/"+marker, "")
		if got.status != 200 {
			t.Fatalf("%d %s", got.status, got.raw)
		}
		for _, f := range got.body["Functions"].([]any) {
			f := f.(map[string]any)
			names = append(names, f["FunctionName"].(string))
			for _, left := range []string{"State", "LastUpdateStatus", "RuntimeVersionConfig"} {
				if _, ok := f[left]; ok {
					t.Fatalf("a list shows %s", left)
				}
			}
		}
		marker = ""
		if next, ok := got.body["NextMarker"].(string); ok {
			marker = "?Marker=" + url.QueryEscape(next)
		}
	}
	if len(names) != 60 || pages != 2 || names[0] != "f00" || names[59] != "f59" {
		t.Errorf("%d names on %d pages: %v", len(names), pages, names)
	}
	got := d.do(t, "GET", functionsPath+"?MaxItems=1&FunctionVersion=ALL", "")
	if arn := got.body["Functions"].([]any)[0].(map[string]any)["FunctionArn"]; arn != "arn:aws:lambda:us-east-1:000000000000:function:f00:$LATEST" {
		t.Errorf("ARN %v", arn)
	}
}

func TestListFunctionsRefuses(t *testing.T) {
	tests := []struct{ query, kind, message string }{
		{"MaxItems=0", "ValidationException", "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"MaxItems=x", "SerializationException", "STRING_VALUE can not be converted to an Integer"},
		{"FunctionVersion=1", "ValidationException", "1 validation error detected: Value '1' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]"},
		{"Marker=%00", "InvalidParameterValueException", "The Marker is not one that this service gave out as NextMarker."},
	}
	for _, tt := range tests {
		t.Run(tt.query, func(t *testing.T) {
			if m := newDoor(t).do(t, "GET", functionsPath+"?"+tt.query, "").wantError(t, 400, tt.kind); m != tt.message {
				t.Error(m)
			}
		})
	}
}

func TestUpdateFunctionConfigurationChangesOnlyWhatIsGiven(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f", "Description", "old", "Environment", map[string]any{"Variables": map[string]any{"AB": "1"}})
	before := d.functions.byName["f"]
	got := d.do(t, "PUT", functionsPath+"/f/configuration", `{"Timeout":10,"Environment":{},"Runtime":"python3.12","Handler":null,"RevisionId":"`+before.Revision+`"}`)
	if got.status != 200 || got.body["LastUpdateStatus"] != "InProgress" || got.body["LastUpdateStatusReasonCode"] != "Creating" {
		t.Fatalf("%d %s", got.status, got.raw)
	}
	after := *d.functions.byName["f"]
	if after.TimeoutSecs != 10 || after.Runtime != "python3.12" || after.Handler != "index.handler" || after.Description != "old" || len(after.Environment) != 0 {
		t.Errorf("%+v", after)
	}
	if before.TimeoutSecs != 3 || before.Environment["AB"] != "1" {
		t.Error("a record that was handed out has changed")
	}
	if diff := cmp.Diff(map[string]any{"Variables": map[string]any{}}, got.body["Environment"]); diff != "" {
		t.Error(diff)
	}
	m := d.do(t, "PUT", functionsPath+"/f/configuration", `{"RevisionId":"other"}`).wantError(t, 412, "PreconditionFailedException")
	if m != "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id" {
		t.Error(m)
	}
	d.do(t, "PUT", functionsPath+"/f/configuration", `{"Runtime":"go1.x"}`).wantError(t, 400, "InvalidParameterValueException")
	d.do(t, "PUT", functionsPath+"/f:1/configuration", `{}`).wantError(t, 400, "InvalidParameterValueException")
	d.do(t, "PUT", functionsPath+"/none/configuration", `{}`).wantError(t, 404, "ResourceNotFoundException")
}

func TestUpdateFunctionCode(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	before := *d.functions.byName["f"]
	changes := d.functions.changes
	other := base64.StdEncoding.EncodeToString(append(testZip(t), make([]byte, 0)...))
	put := func(body string) answer { return d.do(t, "PUT", functionsPath+"/f/code", body) }

	dry := put(`{"DryRun":true,"ZipFile":"` + other + `"}`)
	if dry.status != 200 || d.functions.changes != changes {
		t.Errorf("a dry run: %d %s, %d changes", dry.status, dry.raw, d.functions.changes-changes)
	}
	put(`{"DryRun":true,"RevisionId":"x","ZipFile":"`+other+`"}`).wantError(t, 412, "PreconditionFailedException")
	if m := put(`{"ImageUri":"x"}`).wantError(t, 400, "InvalidParameterValueException"); m != "Please don't provide ImageUri when updating a function with packageType Zip." {
		t.Error(m)
	}
	if m := put(`{}`).wantError(t, 400, "InvalidParameterValueException"); m != "Please provide a source for function code." {
		t.Error(m)
	}
	if m := put(`{"ZipFile":"`+other+`","S3Bucket":"bbb"}`).wantError(t, 400, "InvalidParameterValueException"); m != "Please do not provide other FunctionCode parameters when providing a ZipFile." {
		t.Error(m)
	}
	put(`{"ZipFile":"not base64!"}`).wantError(t, 400, "SerializationException")
	put(`{"ZipFile":`).wantError(t, 400, "SerializationException")
	if d.functions.changes != changes {
		t.Error("a refused update changed something")
	}
	got := put(`{"ZipFile":"` + other + `","Publish":false,"RevisionId":"` + before.Revision + `","Architectures":["x86_64"]}`)
	if got.status != 200 || got.body["LastUpdateStatus"] != "InProgress" || got.body["RevisionId"] == before.Revision {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

func TestCodeLocationServesThePackageForTenMinutes(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	d := newDoor(t, func(o *Options) { o.Now = func() time.Time { return now } })
	d.create(t, "f")
	location := func() string {
		return d.do(t, "GET", functionsPath+"/f", "").body["Code"].(map[string]any)["Location"].(string)
	}
	fetch := func(location string) (int, string) {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		got := d.do(t, "GET", u.RequestURI(), "")
		return got.status, got.raw
	}
	loc := location()
	if status, body := fetch(loc); status != 200 || body != string(testZip(t)) {
		t.Errorf("fetched %d %q", status, body)
	}
	now = now.Add(codeLifetime)
	if status, _ := fetch(loc); status != 200 {
		t.Errorf("at ten minutes: %d", status)
	}
	now = now.Add(time.Second)
	if status, _ := fetch(loc); status != 403 {
		t.Errorf("after ten minutes: %d", status)
	}
	loc = location()
	for name, forged := range map[string]string{
		"no token":    loc[:strings.Index(loc, "&token=")],
		"other token": loc[:len(loc)-2] + "xx",
		"later":       strings.Replace(loc, "expires=17", "expires=18", 1),
		"other code":  strings.Replace(loc, codePath, codePath+"AAAA", 1),
	} {
		if status, _ := fetch(forged); status != 403 {
			t.Errorf("%s: %d", name, status)
		}
	}
	other := newDoor(t)
	other.create(t, "f")
	u, err := url.Parse(loc)
	if err != nil {
		t.Fatal(err)
	}
	if got := other.do(t, "GET", u.RequestURI(), ""); got.status != 403 {
		t.Errorf("another process's key: %d", got.status)
	}
}
