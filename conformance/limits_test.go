package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// One constraint of the service model broken at a time: AWS answers all of them
// in one form, before it looks anything up.
func TestCreateFunctionHoldsTheModelsConstraints(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	long := func(n int) *string { return aws.String(strings.Repeat("a", n)) }
	const (
		namePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`
		rolePattern = `arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`
	)
	tests := []struct {
		name   string
		change func(*lambda.CreateFunctionInput)
		want   string // after "1 validation error detected: Value "
	}{
		{"timeout 0", func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(0) },
			"'0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"timeout 901", func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(901) },
			"'901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		{"memory 127", func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(127) },
			"'127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		{"memory 10241", func(in *lambda.CreateFunctionInput) { in.MemorySize = aws.Int32(10241) },
			"'10241' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		{"tmp 511", func(in *lambda.CreateFunctionInput) {
			in.EphemeralStorage = &types.EphemeralStorage{Size: aws.Int32(511)}
		},
			"'511' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value greater than or equal to 512"},
		{"tmp 10241", func(in *lambda.CreateFunctionInput) {
			in.EphemeralStorage = &types.EphemeralStorage{Size: aws.Int32(10241)}
		},
			"'10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		{"description", func(in *lambda.CreateFunctionInput) { in.Description = long(257) },
			"'" + *long(257) + "' at 'description' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"handler too long", func(in *lambda.CreateFunctionInput) { in.Handler = long(129) },
			"'" + *long(129) + "' at 'handler' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"handler with a space", func(in *lambda.CreateFunctionInput) { in.Handler = aws.String("a b") },
			`'a b' at 'handler' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\s]+`},
		{"role", func(in *lambda.CreateFunctionInput) { in.Role = aws.String("me") },
			"'me' at 'role' failed to satisfy constraint: Member must satisfy regular expression pattern: " + rolePattern},
		{"name", func(in *lambda.CreateFunctionInput) { in.FunctionName = aws.String("a b") },
			"'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + namePattern},
		{"name of 141", func(in *lambda.CreateFunctionInput) { in.FunctionName = long(141) },
			"'" + *long(141) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 140"},
		{"package type", func(in *lambda.CreateFunctionInput) { in.PackageType = "Tar" },
			"'Tar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Image, Zip]"},
		{"tracing", func(in *lambda.CreateFunctionInput) { in.TracingConfig = &types.TracingConfig{Mode: "Loud"} },
			"'Loud' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy enum value set: [Active, PassThrough]"},
		{"architecture", func(in *lambda.CreateFunctionInput) { in.Architectures = []types.Architecture{"mips"} },
			"'[mips]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{"variable name", func(in *lambda.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"1A": "x"}}
		}, " at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"},
	}
	for _, test := range tests {
		in := c.Input(node(t).function("constrained"))
		test.change(in)
		_, err := c.CreateFunction(t.Context(), in)
		value := "Value " + test.want
		if strings.HasPrefix(test.want, " at") { // secret: not shown
			value = "Value" + test.want
		}
		t.Run(test.name, func(t *testing.T) { wantCode(t, err, "ValidationException", "1 validation error detected: "+value) })
	}

	in := c.Input(node(t).function("constrained"))
	in.Timeout, in.MemorySize = aws.Int32(0), aws.Int32(1)
	_, err := c.CreateFunction(t.Context(), in)
	wantCode(t, err, "ValidationException", "2 validation errors detected: Value '0' at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1; "+
		"Value '1' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128")
	r := c.HTTP(t, http.MethodPost, "/2015-03-31/functions", []byte("{}"))
	checkError(t, r, http.StatusBadRequest, "ValidationException", `{"message":"3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; `+
		`Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null"}`)

	list, err := c.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 0 {
		t.Errorf("%d functions came of refused requests (%v)", len(list.Functions), err)
	}
}

// What the model lets pass and AWS refuses still.
func TestCreateFunctionRefusesWhatCannotBeHad(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	const vars = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	tests := []struct {
		name   string
		change func(*lambda.CreateFunctionInput)
		want   string
	}{
		{"name of 65", func(in *lambda.CreateFunctionInput) { in.FunctionName = aws.String(strings.Repeat("n", 65)) },
			"1 validation error detected: Value '" + strings.Repeat("n", 65) + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"retired runtime", func(in *lambda.CreateFunctionInput) { in.Runtime = types.RuntimeNodejs12x },
			"The runtime parameter of nodejs12.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		{"reserved variables", func(in *lambda.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AWS_REGION": "x", "LAMBDA_TASK_ROOT": "y", "MINE": "z"}}
		}, vars + "contains reserved keys that are currently not supported for modification. Reserved keys used in this request: AWS_REGION, LAMBDA_TASK_ROOT"},
		{"over 4 KB of variables", func(in *lambda.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"BIG": strings.Repeat("v", 4096)}}
		}, vars + `exceeded the 4KB limit. String measured: {"BIG":"` + strings.Repeat("v", 4096) + `"}`},
		{"no code", func(in *lambda.CreateFunctionInput) { in.Code = &types.FunctionCode{} }, "Please provide a source for function code."},
		{"no handler", func(in *lambda.CreateFunctionInput) { in.Handler = nil },
			"Runtime and Handler are mandatory parameters for functions created with deployment packages."},
		{"51 tags", func(in *lambda.CreateFunctionInput) {
			in.Tags = map[string]string{}
			for n := range 51 {
				in.Tags[fmt.Sprint("k", n)] = "v"
			}
		}, "Number of tags exceeds resource tag limit."},
		{"6 layers", func(in *lambda.CreateFunctionInput) {
			for n := range 6 {
				in.Layers = append(in.Layers, fmt.Sprintf("arn:aws:lambda:us-east-1:%s:layer:l:%d", c.Account, n+1))
			}
		}, "Cannot reference more than 5 layers."},
	}
	for _, test := range tests {
		in := c.Input(node(t).function("refused"))
		test.change(in)
		_, err := c.CreateFunction(t.Context(), in)
		t.Run(test.name, func(t *testing.T) {
			wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", test.want)
		})
	}

	// Refused in words of our own: what matters is that the field is named and
	// nothing is silently dropped.
	named := map[string]func(*lambda.CreateFunctionInput){
		"java21":     func(in *lambda.CreateFunctionInput) { in.Runtime = types.RuntimeJava21 },
		"nodejs99.x": func(in *lambda.CreateFunctionInput) { in.Runtime = "nodejs99.x" },
		"VpcConfig":  func(in *lambda.CreateFunctionInput) { in.VpcConfig = &types.VpcConfig{SubnetIds: []string{"subnet-1"}} },
		"SnapStart": func(in *lambda.CreateFunctionInput) {
			in.SnapStart = &types.SnapStart{ApplyOn: types.SnapStartApplyOnPublishedVersions}
		},
		"S3Bucket": func(in *lambda.CreateFunctionInput) {
			in.Code = &types.FunctionCode{S3Bucket: aws.String("bucket"), S3Key: aws.String("key")}
		},
		"Image": func(in *lambda.CreateFunctionInput) {
			in.PackageType, in.Code = types.PackageTypeImage, &types.FunctionCode{ImageUri: aws.String("example.com/image:latest")}
		},
	}
	for field, change := range named {
		in := c.Input(node(t).function("refused"))
		change(in)
		_, err := c.CreateFunction(t.Context(), in)
		t.Run(field, func(t *testing.T) {
			wantError[*types.InvalidParameterValueException](t, err, "InvalidParameterValueException", "")
			if err != nil && !strings.Contains(err.Error(), field) {
				t.Errorf("%v does not name %s", err, field)
			}
		})
	}
}

// The largest environment AWS takes is taken: 4 KB of JSON.
func TestEnvironmentOf4KBReachesTheFunction(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	f := python(t).function("roomy")
	value := strings.Repeat("v", 4096-len(`{"BIG":""}`))
	f.Env = map[string]string{"BIG": value}
	c.Create(t, f)
	if got, _ := lab.Do[map[string]string](t, c, "roomy", op{"op": "env"}); got["BIG"] != value {
		t.Errorf("BIG arrives with %d of %d bytes", len(got["BIG"]), len(value))
	}
}
