package lambent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

func TestEveryFormOfAFunctionsNameIsRead(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want lambent.FunctionRef
	}{
		{"f", lambent.FunctionRef{Name: "f"}},
		{"f:7", lambent.FunctionRef{Name: "f", Qualifier: "7"}},
		{"f:$LATEST", lambent.FunctionRef{Name: "f", Qualifier: "$LATEST"}},
		{"function:f:live", lambent.FunctionRef{Name: "f", Qualifier: "live"}},
		{"123456789012:function:f", lambent.FunctionRef{Account: "123456789012", Name: "f"}},
		{"123456789012:function:f:1", lambent.FunctionRef{Account: "123456789012", Name: "f", Qualifier: "1"}},
		{"arn:aws:lambda:eu-west-1:123456789012:function:a-b_C", lambent.FunctionRef{Partition: "aws", Region: "eu-west-1", Account: "123456789012", Name: "a-b_C"}},
		{"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f:x", lambent.FunctionRef{Partition: "aws-us-gov", Region: "us-gov-west-1", Account: "123456789012", Name: "f", Qualifier: "x"}},
		{strings.Repeat("n", 64), lambent.FunctionRef{Name: lambent.FunctionName(strings.Repeat("n", 64))}},
	} {
		got, err := lambent.ParseFunctionRef(tc.in)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", tc.in, err, diff)
		}
	}
}

func TestWhatIsNoFunctionsNameIsRefused(t *testing.T) {
	for _, in := range []string{"", ":", "f:", "f::1", "a b", "f/../g", "f\n", "f\x00", "ä", "12345:function:f", "123456789012:f",
		"arn:aws:lambda:eu-west-1:function:f", "arn:aws:lambda:eu-west-1:123456789012:layer:f", "arn:aws:s3:eu-west-1:123456789012:function:f"} {
		if ref, err := lambent.ParseFunctionRef(in); !errors.Is(err, lambent.ErrBadFunctionRef) {
			t.Errorf("%q was read as %+v, %v", in, ref, err)
		}
	}
	if _, err := lambent.ParseFunctionRef(strings.Repeat("n", 65)); !errors.Is(err, lambent.ErrLongFunctionName) {
		t.Errorf("a name of 65 characters: %v", err)
	}
}

// Whatever is read, a whole ARN made of it is read as the same.
func FuzzParseFunctionRef(f *testing.F) {
	f.Add("f")
	f.Add("123456789012:function:f:1")
	f.Add("arn:aws:lambda:eu-west-1:123456789012:function:f:$LATEST")
	f.Fuzz(func(t *testing.T, in string) {
		ref, err := lambent.ParseFunctionRef(in)
		if err != nil {
			return
		}
		if ref.Account == "" {
			ref.Account = "123456789012"
		}
		if ref.Region == "" {
			ref.Region = "us-east-1"
		}
		ref.Partition = "aws" // lambent's
		again, err := lambent.ParseFunctionRef(lambent.FunctionARN(ref.Region, ref.Account, ref.Name, ref.Qualifier))
		if diff := cmp.Diff(ref, again); err != nil || diff != "" {
			t.Errorf("%q: %v\n%s", in, err, diff)
		}
	})
}

func TestFunctionsShareContainersOnlyWhereAllThatMattersIsEqual(t *testing.T) {
	base := lambent.Function{Account: "1", Name: "f", Version: lambent.Latest, Runtime: "nodejs20.x", Handler: "a.b", MemoryMB: 128, EphemeralMB: 512,
		Code: "c", Environment: map[string]string{"A": "1", "B": "2"}, Layers: []lambent.Layer{{ARN: "l1"}, {ARN: "l2"}}}
	key := func(change func(*lambent.Function)) lambent.MatchKey {
		f := base
		change(&f)
		f.ConfigHash = f.HashConfig()
		return f.Key()
	}
	same := key(func(*lambent.Function) {})
	for what, change := range map[string]func(*lambent.Function){
		"account": func(f *lambent.Function) { f.Account = "2" }, "name": func(f *lambent.Function) { f.Name = "g" },
		"version": func(f *lambent.Function) { f.Version = "1" }, "code": func(f *lambent.Function) { f.Code = "d" },
		"memory": func(f *lambent.Function) { f.MemoryMB = 256 }, "/tmp": func(f *lambent.Function) { f.EphemeralMB = 1024 },
		"handler": func(f *lambent.Function) { f.Handler = "a.c" }, "runtime": func(f *lambent.Function) { f.Runtime = "nodejs22.x" },
		"environment": func(f *lambent.Function) { f.Environment = map[string]string{"A": "1", "B": "3"} },
		"moved bytes": func(f *lambent.Function) { f.Environment = map[string]string{"A": "1B", "": "2"} },
		"layers":      func(f *lambent.Function) { f.Layers = []lambent.Layer{{ARN: "l2"}, {ARN: "l1"}} }, "role": func(f *lambent.Function) { f.Role = "r" },
	} {
		if key(change) == same {
			t.Errorf("another %s makes no difference", what)
		}
	}
	for what, change := range map[string]func(*lambent.Function){
		"description": func(f *lambent.Function) { f.Description = "d" }, "timeout": func(f *lambent.Function) { f.TimeoutSecs = 9 },
		"tags": func(f *lambent.Function) { f.Tags = map[string]string{"t": "1"} }, "state": func(f *lambent.Function) { f.State = "Active" },
		"revision": func(f *lambent.Function) { f.Revision = "r" },
	} {
		if key(change) != same {
			t.Errorf("another %s costs the warm containers", what)
		}
	}
}

func TestEndedThingsStayEnded(t *testing.T) {
	for to := range lambent.InstanceLost + 1 {
		if lambent.InstanceGone.CanBecome(to) {
			t.Errorf("an instance that is gone becomes %s", to)
		}
		if lambent.InstanceActive.CanBecome(lambent.InstanceWarm) {
			t.Error("an account's instance becomes anybody's")
		}
	}
	for to := range lambent.ContainerStopped + 1 {
		if lambent.ContainerStopped.CanBecome(to) {
			t.Errorf("a stopped container becomes %s", to)
		}
	}
	for to := range lambent.InvocationDelivered + 1 {
		if lambent.InvocationDelivered.CanBecome(to) {
			t.Errorf("a delivered invocation becomes %s", to)
		}
	}
}
