package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/policy"
)

func TestWhatIsNoPolicyIsRefusedWithItsPlace(t *testing.T) {
	statement := func(members string) string { return `{"Version":"2012-10-17","Statement":[{` + members + `}]}` }
	const whole = `"Effect":"Allow","Action":"lambda:*","Resource":"*"`
	for _, tc := range []struct {
		text string
		kind policy.Kind
		want string // part of the message
	}{
		{``, policy.Identity, "cut short"},
		{`[]`, policy.Identity, "is a JSON object"},
		{`{"Version":"2012-10-17"`, policy.Identity, "cut short"},
		{`{"Version" "2012-10-17"}`, policy.Identity, "broken near byte"},
		{`{}`, policy.Identity, "no Statement"},
		{`{"Statement":[]}`, policy.Identity, "no Statement"},
		{`{"Statement":null}`, policy.Identity, "a statement is an object"},
		{`{"Statement":{` + whole + `}} x`, policy.Identity, "follows the end"},
		{`{"Version":"2012-10-18","Statement":{` + whole + `}}`, policy.Identity, "Version must be"},
		{`{"Id":7,"Statement":{` + whole + `}}`, policy.Identity, "Id must be"},
		{`{"statement":{` + whole + `}}`, policy.Identity, `no member "statement"`},
		{statement(whole + `,"Effect":"Deny"`), policy.Identity, `"Effect" is given twice`},
		{statement(whole + `,"Conditions":{}`), policy.Identity, "no such member"},
		{statement(`"Sid":"x",` + whole + `,"Condition":[]`), policy.Identity, `statement 1 (Sid "x"): Condition`},
		{statement(`"Sid":"x y",` + whole), policy.Identity, "letters and digits"},
		{statement(`"Action":"*","Resource":"*"`), policy.Identity, "no Effect"},
		{statement(`"Effect":"allow","Action":"*","Resource":"*"`), policy.Identity, "Effect: "},
		{statement(`"Effect":"Allow","Resource":"*"`), policy.Identity, "no Action"},
		{statement(`"Effect":"Allow","Action":"*"`), policy.Identity, "no Resource"},
		{statement(`"Effect":"Allow","Action":[],"Resource":"*"`), policy.Identity, "list is empty"},
		{statement(`"Effect":"Allow","Action":["lambda:*",1],"Resource":"*"`), policy.Identity, "list of strings"},
		{statement(`"Effect":"Allow","Action":"lambda","Resource":"*"`), policy.Identity, "is no action"},
		{statement(`"Effect":"Allow","Action":"*","NotAction":"lambda:*","Resource":"*"`), policy.Identity, "both Action and NotAction"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"orders"`), policy.Identity, "six parts"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*"`), policy.Identity, "six parts"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:a:b:${aws:username"`), policy.Identity, "does not end"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:a:b:${user name}"`), policy.Identity, "not a condition key"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:a:b:${aws:username, x}"`), policy.Identity, "single quotes"},
		{statement(`"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:a:b:` + strings.Repeat("x", 2048) + `"`), policy.Identity, "at most 2048"},
		{statement(whole + `,"Principal":"*"`), policy.Identity, "attached to"},
		{statement(whole), policy.Resource, "no Principal"},
		{statement(whole + `,"Principal":"*"`), policy.Trust, "attached to"},
		{statement(whole + `,"Principal":{}`), policy.Resource, "Principal: "},
		{statement(whole + `,"Principal":"123456789012"`), policy.Resource, "Principal: "},
		{statement(whole + `,"Principal":{"AWS":"arn:aws:iam::111111111111:user/*"}`), policy.Resource, "without wildcards"},
		{statement(whole + `,"Principal":{"AWS":"1234"}`), policy.Resource, "is no principal"},
		{statement(whole + `,"Principal":{"AWS":"arn:aws:lambda::111111111111:user/x"}`), policy.Resource, "is no principal"},
		{statement(whole + `,"Principal":{"Service":"*"}`), policy.Resource, "is no service"},
		{statement(whole + `,"Principal":{"Aws":"*"}`), policy.Resource, "no such kind of principal"},
		{statement(whole + `,"Principal":"*","NotPrincipal":"*"`), policy.Resource, "both Principal and NotPrincipal"},
		{statement(whole + `,"Condition":{"StringEquals":"x"}`), policy.Identity, "object of keys"},
		{statement(whole + `,"Condition":{"StringIs":{"s:k":"x"}}`), policy.Identity, "no condition operator"},
		{statement(whole + `,"Condition":{"NullIfExists":{"s:k":"true"}}`), policy.Identity, "no such form"},
		{statement(whole + `,"Condition":{"Null":{"s:k":"yes"}}`), policy.Identity, "neither true nor false"},
		{statement(whole + `,"Condition":{"Bool":{"s:k":"yes"}}`), policy.Identity, "neither true nor false"},
		{statement(whole + `,"Condition":{"StringEquals":{"username":"x"}}`), policy.Identity, "not a condition key"},
		{statement(whole + `,"Condition":{"StringEquals":{"s:k":{"a":"b"}}}`), policy.Identity, "a string, number"},
		{statement(whole + `,"Condition":{"NumericEquals":{"s:k":"NaN"}}`), policy.Identity, "not a number"},
		{statement(whole + `,"Condition":{"NumericEquals":{"s:k":"Inf"}}`), policy.Identity, "not a number"},
		{statement(whole + `,"Condition":{"DateEquals":{"s:k":"yesterday"}}`), policy.Identity, "not a time"},
		{statement(whole + `,"Condition":{"BinaryEquals":{"s:k":"!"}}`), policy.Identity, "not base64"},
		{statement(whole + `,"Condition":{"IpAddress":{"s:k":"10.0.0.0/33"}}`), policy.Identity, "neither an IP address"},
		{statement(whole + `,"Condition":{"IpAddress":{"s:k":"::ffff:0:0/80"}}`), policy.Identity, "neither an IP address"},
		{statement(whole + `,"Condition":{"ArnLike":{"s:k":"bucket"}}`), policy.Identity, "six parts"},
		{`{"Statement":[{"Sid":"a",` + whole + `},{"Sid":"a",` + whole + `}]}`, policy.Identity, "statement 2"},
		{strings.Repeat("[", 100_00), policy.Identity, "nested deeper"},
		{strings.Repeat(" ", policy.MaxSize+1), policy.Identity, "at most 20480"},
		{"{\"Id\":\"\xff\"}", policy.Identity, "not UTF-8"},
	} {
		d, err := policy.Parse([]byte(tc.text), tc.kind)
		if err == nil || lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%.100s: %v, %v; want %q", tc.text, d, err, tc.want)
		}
	}
}

// Whatever is read decides without a panic, and who has no policy but it never
// gets more than its Allow.
func FuzzPolicy(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:*","Resource":"*"}}`, "joe", "lambda:GetFunction", function)
	f.Add(`{"Version":"2012-10-17","Statement":[{"Sid":"1","Effect":"Deny","NotAction":"l*:?et*","NotResource":"arn:aws:lambda:*:${aws:PrincipalAccount}:${x:y, 'z'}","Condition":{"ForAnyValue:StringLikeIfExists":{"a:b":["*${*}?"]}}}]}`, "*", "x:y", "arn:a:b:c:d:e:f")
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"AWS":["111111111111"],"Service":"s3.amazonaws.com"},"Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2027-01-01"},"NotIpAddress":{"aws:SourceIp":"::/0"}}}}`, "", "", "")
	f.Fuzz(func(t *testing.T, text, name, action, resource string) {
		for _, kind := range []policy.Kind{policy.Identity, policy.Resource, policy.Trust} {
			d, err := policy.Parse([]byte(text), kind)
			if err != nil {
				if lambent.KindOf(err) != lambent.KindInvalid {
					t.Errorf("%q: %v", text, err)
				}
				continue
			}
			r := &policy.Request{Principal: user(owner, name), Action: action, Resource: resource, Account: owner, Now: noon,
				Keys: []policy.Key{key("a:b", name, resource), key("aws:SourceIp", name)}}
			p := policy.Policies{Identity: []*policy.Document{d}}
			if kind != policy.Identity {
				p = policy.Policies{Resource: d}
			}
			got := policy.Evaluate(r, p)
			if got.Allowed && (got.Explicit || got.Statement < 0 || !strings.Contains(text, "Allow") && !strings.Contains(text, `\u`)) {
				t.Errorf("%q allows by %+v", text, got)
			}
			if !got.Allowed && got.Why(action) == "" {
				t.Errorf("%q denies without a reason", text)
			}
		}
	})
}

// A policy of a working team: five statements, ten actions, conditions.
func BenchmarkEvaluate(b *testing.B) {
	d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":["arn:aws:s3:::app-*","arn:aws:s3:::app-*/*"]},
		{"Effect":"Allow","Action":["lambda:List*","lambda:Get*"],"Resource":"*"},
		{"Effect":"Allow","Action":["lambda:UpdateFunctionCode","lambda:InvokeFunction"],"Resource":"arn:aws:lambda:*:${aws:PrincipalAccount}:function:ord*",
		 "Condition":{"StringEquals":{"aws:RequestedRegion":"us-east-1"},"IpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.0/24"]}}},
		{"Effect":"Deny","Action":"lambda:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2030-01-01T00:00:00Z"}}},
		{"Effect":"Deny","Action":"iam:*","Resource":"*"}]}`), policy.Identity)
	if err != nil {
		b.Fatal(err)
	}
	r := asking(user(owner, "joe"), key("aws:RequestedRegion", "us-east-1"), key("aws:SourceIp", "203.0.113.9"))
	b.ReportAllocs()
	for b.Loop() {
		if !policy.Evaluate(r, policy.Policies{Identity: []*policy.Document{d}}).Allowed {
			b.Fatal("denied")
		}
	}
}

// The worst a policy of the full size can ask of one decision.
func BenchmarkEvaluateHostile(b *testing.B) {
	value := "*" + strings.Repeat("a?", 900) + "b*"
	var values []string
	for range 9 {
		values = append(values, fmt.Sprintf("%q", value))
	}
	d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"s:k":[`+strings.Join(values, ",")+`]}}}}`), policy.Identity)
	if err != nil {
		b.Fatal(err)
	}
	r := asking(user(owner, "joe"), key("s:k", strings.Repeat("a", 2048)))
	for b.Loop() {
		if policy.Evaluate(r, policy.Policies{Identity: []*policy.Document{d}}).Allowed {
			b.Fatal("allowed")
		}
	}
}
