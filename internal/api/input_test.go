package api

import (
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asked is a request for an operation as the routes hand it on.
func asked(path []string, query, body string) *call {
	c := &call{w: httptest.NewRecorder(), r: httptest.NewRequest("POST", "/", strings.NewReader(body))}
	copy(c.params[:], path)
	c.values, _ = url.ParseQuery(query)
	return c
}

func TestModelHasNoPatternThatCannotBeCompiled(t *testing.T) {
	m, err := loadModel()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range m.Shapes {
		if s.Type == "string" {
			s.rules()
		}
	}
	for name, tc := range map[string][2]string{ // one that is right, one that is wrong
		"Alias": {"v1", "1"}, "FunctionUrlQualifier": {"live-1", "$LATEST"}, "CollectionName": {"c", "system.c"}, "S3Bucket": {"a.b", "ab."},
		"DestinationArn": {"", "nowhere"}, "CodeSigningConfigArn": {"arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdefg", "csc"},
	} {
		for k, value := range tc {
			if broken := breaksAny(value, m.Shapes[name].rules()); broken != (k == 1) {
				t.Errorf("%s %q breaks a rule: %t", name, value, broken)
			}
		}
	}
}

func TestInputIsReadFromPathQueryAndBodyByTheModel(t *testing.T) {
	d := newDoor(t)
	type onDestination struct{ Destination *string }
	var q struct {
		FunctionName             string
		Qualifier                *string
		MaximumRetryAttempts     *int
		MaximumEventAgeInSeconds *int
		DestinationConfig        *struct{ OnSuccess, OnFailure *onDestination }
	}
	c := asked([]string{"f"}, "Qualifier=live", `{"MaximumRetryAttempts":0,"MaximumEventAgeInSeconds":null,"Unknown":[{}],"FunctionName":"other",
		"DestinationConfig":{"OnFailure":{"Destination":"arn:aws:sqs:us-east-1:000000000000:q"}}}`)
	if err := d.input(c, "PutFunctionEventInvokeConfig", &q); err != nil {
		t.Fatal(err)
	}
	if q.FunctionName != "f" || *q.Qualifier != "live" || *q.MaximumRetryAttempts != 0 || q.MaximumEventAgeInSeconds != nil ||
		q.DestinationConfig.OnSuccess != nil || *q.DestinationConfig.OnFailure.Destination != "arn:aws:sqs:us-east-1:000000000000:q" {
		t.Errorf("%+v", q)
	}
	var tags struct {
		Resource string
		TagKeys  []string
	}
	if err := d.input(asked([]string{"arn:aws:lambda:us-east-1:000000000000:function:f"}, "tagKeys=a&tagKeys=b", ""), "UntagResource", &tags); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, tags.TagKeys); diff != "" {
		t.Error(diff)
	}
	var alias struct {
		RoutingConfig struct{ AdditionalVersionWeights map[string]float64 }
	}
	if err := d.input(asked([]string{"f"}, "", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":0.5}}}`), "CreateAlias", &alias); err != nil {
		t.Fatal(err)
	}
	if alias.RoutingConfig.AdditionalVersionWeights["2"] != 0.5 {
		t.Errorf("%+v", alias)
	}
}

func TestInputThatTheModelForbidsIsToldAsAWSDoes(t *testing.T) {
	d := newDoor(t)
	arn := "arn:aws:lambda:us-east-1:000000000000:function:f"
	for _, tc := range []struct {
		operation, param, query, body, want string
	}{
		{"PutFunctionConcurrency", "f", "", `{}`, "1 validation error detected: Value null at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must not be null"},
		{"PutFunctionConcurrency", "f", "", `{"ReservedConcurrentExecutions":-1}`, "1 validation error detected: Value '-1' at 'reservedConcurrentExecutions' failed to satisfy constraint: Member must have value greater than or equal to 0"},
		{"PutFunctionConcurrency", "f", "", `{"ReservedConcurrentExecutions":"1"}`, "STRING_VALUE can not be converted to an Integer"},
		{"PutFunctionConcurrency", "f", "", `{"ReservedConcurrentExecutions":99999999999}`, "The value 99999999999 can not be converted to an Integer"},
		{"PutFunctionConcurrency", "f", "", `[]`, "Start of list found where not expected."},
		{"ListFunctionUrlConfigs", "f", "MaxItems=x", ``, "STRING_VALUE can not be converted to an Integer"},
		{"ListFunctionUrlConfigs", "f", "MaxItems=51", ``, "1 validation error detected: Value '51' at 'maxItems' failed to satisfy constraint: Member must have value less than or equal to 50"},
		{"UntagResource", arn, "", ``, "1 validation error detected: Value null at 'tagKeys' failed to satisfy constraint: Member must not be null"},
		{"TagResource", arn, "", `{"Tags":{"a":null}}`, "1 validation error detected: Value '{a=null}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must not be null]"},
		{"CreateFunctionUrlConfig", "f", "", `{"AuthType":"X","Cors":{"MaxAge":-1}}`, "2 validation errors detected: Value 'X' at 'authType' failed to satisfy constraint: Member must satisfy enum value set: [NONE, AWS_IAM]; Value '-1' at 'cors.maxAge' failed to satisfy constraint: Member must have value greater than or equal to 0"},
		{"CreateAlias", "f", "", `{"Name":"a","FunctionVersion":"1","RoutingConfig":{"AdditionalVersionWeights":{"2":1.5}}}`,
			"1 validation error detected: Value '{2=1.5}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map value must satisfy constraint: [Member must have value less than or equal to 1.0, Member must have value greater than or equal to 0.0, Member must not be null]"},
	} {
		var q struct{}
		_, message, _ := describe(d.input(asked([]string{tc.param}, tc.query, tc.body), tc.operation, &q))
		if diff := cmp.Diff(tc.want, message); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", tc.operation, tc.body, diff)
		}
	}
}

func TestFillTakesEveryTypeOfTheModel(t *testing.T) {
	var got struct {
		S    string
		N    *int
		F    float64
		B    *bool
		Blob []byte
		L    []string
		LL   []struct{ A *string }
		M    map[string][]string
	}
	fill(reflect.ValueOf(&got).Elem(), map[string]any{"S": "s", "N": int64(1), "F": 0.5, "B": true, "Blob": []byte("b"), "L": []any{"l"},
		"LL": []any{map[string]any{"A": "a"}, map[string]any{}}, "M": map[string]any{"m": []any{"v"}}, "NoSuchField": "x"})
	if got.S != "s" || *got.N != 1 || got.F != 0.5 || !*got.B || string(got.Blob) != "b" || got.L[0] != "l" || *got.LL[0].A != "a" || got.LL[1].A != nil || got.M["m"][0] != "v" {
		t.Errorf("%+v", got)
	}
}
