package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/policy"
)

const (
	owner    = lambent.AccountID("111111111111")
	stranger = lambent.AccountID("222222222222")
	function = "arn:aws:lambda:us-east-1:111111111111:function:orders"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func user(account lambent.AccountID, name string) policy.Principal {
	return policy.Principal{Type: policy.User, Account: account, Name: name, ID: "AIDA" + name, ARN: "arn:aws:iam::" + string(account) + ":user/" + name}
}

func session(account lambent.AccountID, role string) policy.Principal {
	return policy.Principal{Type: policy.Session, Account: account, ID: "AROA" + role + ":s", Role: "arn:aws:iam::" + string(account) + ":role/" + role,
		ARN: "arn:aws:sts::" + string(account) + ":assumed-role/" + role + "/s"}
}

// asking is a request to invoke the owner's function.
func asking(who policy.Principal, keys ...policy.Key) *policy.Request {
	return &policy.Request{Principal: who, Action: "lambda:InvokeFunction", Resource: function, Account: owner, Now: noon, Keys: keys}
}

func key(name string, values ...string) policy.Key { return policy.Key{Name: name, Values: values} }

func parse(t testing.TB, kind policy.Kind, statements string) *policy.Document {
	t.Helper()
	if statements == "" {
		return nil
	}
	d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`), kind)
	if err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
	return d
}

func TestAnExplicitDenyWinsAndAcrossAccountsBothMustAllow(t *testing.T) {
	const (
		allow      = `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*"}`
		deny       = `{"Sid":"D","Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}`
		allowJoe   = `{"Sid":"joe","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111111111111:user/joe","arn:aws:iam::222222222222:user/joe"]},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowRole  = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:role/R"},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowThem  = `{"Effect":"Allow","Principal":{"AWS":"222222222222"},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowUs    = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowAll   = `{"Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowAWS   = `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		allowS3    = `{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"` + function + `"}`
		denyThem   = `{"Effect":"Deny","Principal":{"AWS":"222222222222"},"Action":"*","Resource":"*"}`
		denyOthers = `{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111111111111:user/joe"},"Action":"*","Resource":"*"}`
	)
	s3 := policy.Principal{Type: policy.Service, Service: "s3.amazonaws.com"}
	for _, tc := range []struct {
		what               string
		who                policy.Principal
		identity, resource string
		want               string // Why; "" is allowed
	}{
		{"nobody says anything", user(owner, "joe"), "", "", "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"his policy", user(owner, "joe"), allow, "", ""},
		{"his policy denies too", user(owner, "joe"), allow + "," + deny, "", "with an explicit deny in an identity-based policy"},
		{"the resource names him", user(owner, "joe"), "", allowJoe, ""},
		{"the resource names another", user(owner, "jim"), "", allowJoe, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"the resource names his account, and he has no policy", user(owner, "joe"), "", allowUs, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"the resource names everyone", user(owner, "joe"), "", allowAll, ""},
		{"the resource denies", user(owner, "joe"), allow, denyOthers, ""},
		{"the resource denies others", user(owner, "jim"), allow, denyOthers, "with an explicit deny in a resource-based policy"},
		{"root of the account", policy.RootOf(owner), "", "", ""},
		{"root of the account, denied by the resource", policy.RootOf(owner), "", denyOthers, "with an explicit deny in a resource-based policy"},
		{"his own policy denies what the resource allows", user(owner, "joe"), deny, allowJoe, "with an explicit deny in an identity-based policy"},

		{"stranger without anything", user(stranger, "joe"), "", "", "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"stranger by his own policy only", user(stranger, "joe"), allow, "", "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"stranger by the resource only", user(stranger, "joe"), "", allowJoe, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"stranger by both", user(stranger, "joe"), allow, allowJoe, ""},
		{"stranger by both, through his account", user(stranger, "jim"), allow, allowThem, ""},
		{"stranger of another account", user("333333333333", "joe"), allow, allowThem, "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"stranger, denied", user(stranger, "joe"), allow, allowAll + "," + denyThem, "with an explicit deny in a resource-based policy"},
		{"stranger's session of a role", session(stranger, "R"), allow, allowRole, ""},
		{"stranger's session of another role", session(stranger, "Q"), allow, allowRole, "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"stranger's root", policy.RootOf(stranger), "", allowThem, ""},
		{"stranger's root without", policy.RootOf(stranger), "", allowJoe, "because no resource-based policy allows the lambda:InvokeFunction action"},

		{"a service", s3, "", allowS3, ""},
		{"another service", policy.Principal{Type: policy.Service, Service: "sns.amazonaws.com"}, "", allowS3, "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"a service is not an account", s3, "", allowThem, "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"anybody", policy.Principal{}, "", allowAll, ""},
		{"anybody, as AWS's principals", policy.Principal{}, "", allowAWS, ""},
		{"anybody, where an account is named", policy.Principal{}, "", allowThem, "because no resource-based policy allows the lambda:InvokeFunction action"},
	} {
		p := policy.Policies{Resource: parse(t, policy.Resource, tc.resource)}
		if tc.identity != "" {
			p.Identity = []*policy.Document{parse(t, policy.Identity, tc.identity)}
		}
		d := policy.Evaluate(asking(tc.who), p)
		if got := d.Why("lambda:InvokeFunction"); got != tc.want || d.Allowed != (tc.want == "") {
			t.Errorf("%s: allowed %t %q, want %q", tc.what, d.Allowed, got, tc.want)
		}
	}
}

func TestARolesOwnPolicyMustAllowWhoTakesIt(t *testing.T) {
	const (
		allow = `{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}`
		us    = `{"Effect":"Allow","Principal":{"AWS":"111111111111"},"Action":"sts:AssumeRole"}`
		joe   = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:user/joe"},"Action":"sts:AssumeRole"}`
		svc   = `{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}`
	)
	for _, tc := range []struct {
		what            string
		who             policy.Principal
		identity, trust string
		want            bool
	}{
		{"trusted by name", user(owner, "joe"), "", joe, true},
		{"trusted by account, without a policy", user(owner, "joe"), "", us, false},
		{"trusted by account, with a policy", user(owner, "joe"), allow, us, true},
		{"not trusted", user(owner, "jim"), allow, joe, false},
		{"root, not trusted", policy.RootOf(owner), "", joe, false},
		{"root, trusted", policy.RootOf(owner), "", us, true},
		{"lambda", policy.Principal{Type: policy.Service, Service: "lambda.amazonaws.com"}, "", svc, true},
		{"a user where lambda is trusted", user(owner, "joe"), allow, svc, false},
	} {
		p := policy.Policies{Resource: parse(t, policy.Trust, tc.trust), ResourceRules: true}
		if tc.identity != "" {
			p.Identity = []*policy.Document{parse(t, policy.Identity, tc.identity)}
		}
		r := &policy.Request{Principal: tc.who, Action: "sts:AssumeRole", Resource: "arn:aws:iam::111111111111:role/R", Account: owner, Now: noon}
		if d := policy.Evaluate(r, p); d.Allowed != tc.want {
			t.Errorf("%s: %+v", tc.what, d)
		}
	}
}

func TestADecisionNamesItsStatement(t *testing.T) {
	first := parse(t, policy.Identity, `{"Sid":"a","Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	second := parse(t, policy.Identity, `{"Effect":"Allow","Action":"lambda:Get*","Resource":"*"},{"Sid":"b","Effect":"Allow","Action":"lambda:*","Resource":"*"}`)
	got := policy.Evaluate(asking(user(owner, "joe")), policy.Policies{Identity: []*policy.Document{first, nil, second}})
	if diff := cmp.Diff(policy.Decision{Allowed: true, Source: policy.FromIdentity, Document: 2, Statement: 1, Sid: "b"}, got); diff != "" {
		t.Error(diff)
	}
	got = policy.Evaluate(asking(user(owner, "joe")), policy.Policies{Identity: []*policy.Document{first}})
	if diff := cmp.Diff(policy.Decision{Source: policy.FromIdentity, Document: -1, Statement: -1}, got); diff != "" {
		t.Error(diff)
	}
	err := policy.Denial("Invoke", asking(user(owner, "joe")), got)
	const want = "User: arn:aws:iam::111111111111:user/joe is not authorized to perform: lambda:InvokeFunction on resource: " + function +
		" because no identity-based policy allows the lambda:InvokeFunction action"
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != lambent.KindDenied || e.Message != want {
		t.Errorf("denied with %v", err)
	}
}

func TestActionsAndResourcesMatchByWildcards(t *testing.T) {
	for _, tc := range []struct {
		action, resource string // elements
		do, on           string
		want             bool
	}{
		{`"Action":"*"`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"Action":"lambda:*"`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"Action":"LAMBDA:get*"`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"Action":"lambda:Get?unction"`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"Action":"lambda:Get?Function"`, `"Resource":"*"`, "lambda:GetFunction", function, false},
		{`"Action":["s3:*","lambda:*Function"]`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"Action":"lambda:GetFunction"`, `"Resource":"*"`, "lambda:GetFunctionConfiguration", function, false},
		{`"NotAction":"lambda:Delete*"`, `"Resource":"*"`, "lambda:GetFunction", function, true},
		{`"NotAction":["iam:*","lambda:Delete*"]`, `"Resource":"*"`, "lambda:DeleteFunction", function, false},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:*:function:ord*"`, "lambda:GetFunction", function, true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:us-east-?:111111111111:function:orders"`, "lambda:GetFunction", function, true},
		{`"Action":"*"`, `"Resource":"` + function + `"`, "lambda:GetFunction", function + ":7", false},
		{`"Action":"*"`, `"Resource":"` + function + `:*"`, "lambda:GetFunction", function + ":7", true},
		{`"Action":"*"`, `"Resource":"` + function + `*"`, "lambda:GetFunction", function + ":7", true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:function:orders:x:y"`, "lambda:GetFunction", function, false},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:us-east-1:22*:function:*"`, "lambda:GetFunction", function, false},
		{`"Action":"*"`, `"Resource":"ARN:aws:lambda:*:*:*"`, "", "", false},
		{`"Action":"*"`, `"NotResource":"` + function + `"`, "lambda:GetFunction", function, false},
		{`"Action":"*"`, `"NotResource":["arn:aws:s3:::*","` + function + `x"]`, "lambda:GetFunction", function, true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:${aws:PrincipalAccount}:function:*"`, "lambda:GetFunction", function, true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:*:function:${aws:username}-*"`, "lambda:GetFunction", "arn:aws:lambda:us-east-1:111111111111:function:joe-x", true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:*:function:${aws:username}-*"`, "lambda:GetFunction", "arn:aws:lambda:us-east-1:111111111111:function:jim-x", false},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:*:function:${aws:PrincipalTag/team, 'orders'}"`, "lambda:GetFunction", function, true},
		{`"Action":"*"`, `"Resource":"arn:aws:lambda:*:*:function:${aws:PrincipalTag/team}"`, "lambda:GetFunction", function, false},
		{`"Action":"*"`, `"NotResource":"arn:aws:lambda:*:*:function:${aws:PrincipalTag/team}"`, "lambda:GetFunction", function, false},
		{`"Action":"*"`, `"Resource":"arn:aws:s3:::${*}"`, "s3:GetObject", "arn:aws:s3:::b", false},
		{`"Action":"*"`, `"Resource":"arn:aws:s3:::${*}"`, "s3:GetObject", "arn:aws:s3:::*", true},
	} {
		d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow",`+tc.action+`,`+tc.resource+`}}`), policy.Identity)
		if err != nil {
			if tc.do != "" {
				t.Errorf("%s %s: %v", tc.action, tc.resource, err)
			}
			continue
		}
		r := asking(user(owner, "joe"))
		r.Action, r.Resource = tc.do, tc.on
		if got := policy.Evaluate(r, policy.Policies{Identity: []*policy.Document{d}}); got.Allowed != tc.want {
			t.Errorf("%s %s: %s on %s is %t", tc.action, tc.resource, tc.do, tc.on, got.Allowed)
		}
	}
}

// What a caller may choose must not become a wildcard.
func TestSecurityAWildcardInAVariablesValueIsOnlyACharacter(t *testing.T) {
	d := parse(t, policy.Identity, `{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:*:*:function:${aws:username}"},`+
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:RequestTag/owner":"${aws:username}"}}}`)
	for _, name := range []string{"*", "?rders", "ord*", "\xff", "\xfe", "o\xffs"} {
		if got := policy.Evaluate(asking(user(owner, name), key("aws:RequestTag/owner", "orders")), policy.Policies{Identity: []*policy.Document{d}}); got.Allowed {
			t.Errorf("a user named %q reaches every function", name)
		}
	}
}

func TestSecurityAVariableWithoutAValueLetsNobodyInByExclusion(t *testing.T) {
	for _, statement := range []string{
		`{"Effect":"Allow","Action":"*","NotResource":"arn:aws:lambda:*:*:function:${aws:PrincipalTag/x}"}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalAccount":"${aws:PrincipalTag/x}"}}}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnNotLike":{"aws:PrincipalArn":"${aws:PrincipalTag/x}"}}}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`,
		`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericNotEquals":{"s:n":"1"}}}`,
	} {
		r := asking(user(owner, "joe"), key("aws:SourceIp", "nonsense"), key("s:n", "one"))
		allowed := policy.Policies{Identity: []*policy.Document{parse(t, policy.Identity, statement)}}
		if policy.Evaluate(r, allowed).Allowed {
			t.Errorf("allows: %s", statement)
		}
		denied := policy.Policies{Identity: []*policy.Document{parse(t, policy.Identity, strings.Replace(statement, "Allow", "Deny", 1))}}
		if !policy.Evaluate(r, denied).Explicit {
			t.Errorf("does not deny: %s", statement)
		}
	}
}

// The older language has no variables: what looks like one is text.
func TestOnlyTheNewerVersionHasVariables(t *testing.T) {
	const statement = `"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:lambda:us-east-1:111111111111:function:${aws:username}"}}`
	r := asking(user(owner, "orders"))
	for version, want := range map[string]bool{`{"Version":"2012-10-17",`: true, `{"Version":"2008-10-17",`: false, `{`: false} {
		d, err := policy.Parse([]byte(version+statement), policy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.Evaluate(r, policy.Policies{Identity: []*policy.Document{d}}); got.Allowed != want {
			t.Errorf("%s: %t", version, got.Allowed)
		}
	}
}

func TestConditions(t *testing.T) {
	for _, tc := range []struct {
		condition string
		keys      []policy.Key
		want      bool
	}{
		{`{}`, nil, true},
		{`{"StringEquals":{"s:k":"a"}}`, []policy.Key{key("s:k", "a")}, true},
		{`{"StringEquals":{"S:K":["b","a"]}}`, []policy.Key{key("s:k", "a")}, true},
		{`{"stringequals":{"s:k":"A"}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"StringEquals":{"s:k":"*"}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"StringEquals":{"s:k":[]}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"StringEquals":{"s:k":"a"}}`, nil, false},
		{`{"StringEquals":{"s:k":"a"},"StringLike":{"s:l":"b*"}}`, []policy.Key{key("s:k", "a"), key("s:l", "bc")}, true},
		{`{"StringEquals":{"s:k":"a"},"StringLike":{"s:l":"b*"}}`, []policy.Key{key("s:k", "a"), key("s:l", "c")}, false},
		{`{"StringEquals":{"s:k":"a","s:l":"b"}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"StringEqualsIfExists":{"s:k":"a"}}`, nil, true},
		{`{"StringEqualsIfExists":{"s:k":"a"}}`, []policy.Key{key("s:k", "b")}, false},
		{`{"StringNotEquals":{"s:k":"a"}}`, nil, true},
		{`{"StringNotEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "b")}, false},
		{`{"StringNotEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "c")}, true},
		{`{"StringEqualsIgnoreCase":{"s:k":"ABC"}}`, []policy.Key{key("s:k", "aBc")}, true},
		{`{"StringNotEqualsIgnoreCase":{"s:k":"ABC"}}`, []policy.Key{key("s:k", "aBc")}, false},
		{`{"StringLike":{"s:k":"a?c*"}}`, []policy.Key{key("s:k", "aécd")}, true},
		{`{"StringLike":{"s:k":["x","a*b*c"]}}`, []policy.Key{key("s:k", "a1b2b3c")}, true},
		{`{"StringNotLike":{"s:k":"a*"}}`, []policy.Key{key("s:k", "ab")}, false},
		{`{"StringEquals":{"s:k":"${aws:username}"}}`, []policy.Key{key("s:k", "joe")}, true},
		{`{"StringEquals":{"s:k":"a${$}{b"}}`, []policy.Key{key("s:k", "a${b")}, true},

		{`{"ForAnyValue:StringEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "x", "b")}, true},
		{`{"ForAnyValue:StringEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "x")}, false},
		{`{"ForAnyValue:StringEquals":{"s:k":"a"}}`, nil, false},
		{`{"ForAnyValue:StringEqualsIfExists":{"s:k":"a"}}`, nil, true},
		{`{"ForAnyValue:StringNotEquals":{"s:k":"a"}}`, []policy.Key{key("s:k", "a", "b")}, true},
		{`{"ForAnyValue:StringNotEquals":{"s:k":"a"}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"ForAllValues:StringEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "a", "b")}, true},
		{`{"ForAllValues:StringEquals":{"s:k":["a","b"]}}`, []policy.Key{key("s:k", "a", "c")}, false},
		{`{"ForAllValues:StringEquals":{"s:k":"a"}}`, nil, true},
		{`{"ForAllValues:StringNotLike":{"s:k":"a*"}}`, []policy.Key{key("s:k", "b", "ac")}, false},

		{`{"NumericLessThan":{"s:n":"10"}}`, []policy.Key{key("s:n", "9")}, true},
		{`{"NumericLessThan":{"s:n":10}}`, []policy.Key{key("s:n", "10")}, false},
		{`{"NumericLessThanEquals":{"s:n":10}}`, []policy.Key{key("s:n", "10")}, true},
		{`{"NumericGreaterThan":{"s:n":9.5}}`, []policy.Key{key("s:n", "10")}, true},
		{`{"NumericGreaterThanEquals":{"s:n":11}}`, []policy.Key{key("s:n", "10")}, false},
		{`{"NumericEquals":{"s:n":["10.0"]}}`, []policy.Key{key("s:n", "10")}, true},
		{`{"NumericNotEquals":{"s:n":"1"}}`, []policy.Key{key("s:n", "10")}, true},
		{`{"NumericEquals":{"s:n":"1"}}`, []policy.Key{key("s:n", "one")}, false},

		{`{"DateLessThan":{"aws:CurrentTime":"2026-05-04T12:00:01Z"}}`, nil, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-05-04T13:00:00+02:00"}}`, nil, true},
		{`{"DateGreaterThan":{"aws:CurrentTime":"2026-05-05"}}`, nil, false},
		{`{"DateEquals":{"aws:EpochTime":"1777896000"}}`, nil, true},
		{`{"DateLessThanEquals":{"aws:CurrentTime":1777896000}}`, nil, true},
		{`{"NumericLessThan":{"aws:EpochTime":"1777896001"}}`, nil, true},

		{`{"Bool":{"aws:SecureTransport":"true"}}`, []policy.Key{key("aws:SecureTransport", "true")}, true},
		{`{"Bool":{"aws:SecureTransport":false}}`, []policy.Key{key("aws:SecureTransport", "true")}, false},
		{`{"Bool":{"aws:SecureTransport":true}}`, nil, false},
		{`{"BoolIfExists":{"aws:MultiFactorAuthPresent":"True"}}`, nil, true},
		{`{"Bool":{"aws:PrincipalIsAWSService":"false"}}`, nil, true},
		{`{"BinaryEquals":{"s:b":"aGk="}}`, []policy.Key{key("s:b", "hi")}, true},
		{`{"BinaryEquals":{"s:b":"aGk="}}`, []policy.Key{key("s:b", "aGk=")}, false},

		{`{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`, []policy.Key{key("aws:SourceIp", "203.0.113.7")}, true},
		{`{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","203.0.113.8"]}}`, []policy.Key{key("aws:SourceIp", "203.0.113.7")}, false},
		{`{"IpAddress":{"aws:SourceIp":"203.0.113.7"}}`, []policy.Key{key("aws:SourceIp", "::ffff:203.0.113.7")}, true},
		{`{"IpAddress":{"aws:SourceIp":"::ffff:203.0.113.0/120"}}`, []policy.Key{key("aws:SourceIp", "203.0.113.7")}, true},
		{`{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`, []policy.Key{key("aws:SourceIp", "203.0.114.7")}, true},
		{`{"IpAddress":{"aws:SourceIp":"2001:db8::/32"}}`, []policy.Key{key("aws:SourceIp", "2001:db8:1::1")}, true},

		{`{"ArnLike":{"aws:SourceArn":"arn:aws:s3:::bucket-*"}}`, []policy.Key{key("aws:SourceArn", "arn:aws:s3:::bucket-1")}, true},
		{`{"ArnEquals":{"aws:SourceArn":"arn:aws:events:*:111111111111:rule/*"}}`, []policy.Key{key("aws:SourceArn", "arn:aws:events:eu-west-1:111111111111:rule/a")}, true},
		{`{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:x"}}`, nil, false},
		{`{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:1:*"}}`, []policy.Key{key("aws:SourceArn", "arn:aws:sns:a:2:1:t")}, false},
		{`{"ArnNotEquals":{"aws:PrincipalArn":"arn:aws:iam::*:user/jim"}}`, nil, true},
		{`{"ArnLike":{"aws:PrincipalArn":"*"}}`, nil, true},

		{`{"Null":{"s:k":"true"}}`, nil, true},
		{`{"Null":{"s:k":true}}`, []policy.Key{key("s:k", "a")}, false},
		{`{"Null":{"s:k":"false"}}`, []policy.Key{key("s:k", "a")}, true},
		{`{"Null":{"aws:TokenIssueTime":"false"}}`, nil, false},

		{`{"StringEquals":{"aws:PrincipalAccount":"111111111111","aws:PrincipalType":"User","aws:userid":"AIDAjoe","aws:username":"joe","aws:ResourceAccount":"111111111111"}}`, nil, true},
		{`{"StringEquals":{"aws:PrincipalAccount":"222222222222"}}`, []policy.Key{key("aws:PrincipalAccount", "222222222222")}, false},
	} {
		statement := `{"Effect":"Allow","Action":"*","Resource":"*","Condition":` + tc.condition + `}`
		d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":`+statement+`}`), policy.Identity)
		if err != nil {
			if tc.want {
				t.Errorf("%s: %v", tc.condition, err)
			}
			continue
		}
		got := policy.Evaluate(asking(user(owner, "joe"), tc.keys...), policy.Policies{Identity: []*policy.Document{d}})
		if got.Allowed != tc.want {
			t.Errorf("%s with %v is %t", tc.condition, tc.keys, got.Allowed)
		}
	}
}

func TestARoleSessionsARNInConditionsIsTheRoles(t *testing.T) {
	d := parse(t, policy.Identity, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/R"},"StringEquals":{"aws:PrincipalType":"AssumedRole"},"Null":{"aws:username":"true"}}}`)
	if got := policy.Evaluate(asking(session(owner, "R")), policy.Policies{Identity: []*policy.Document{d}}); !got.Allowed {
		t.Errorf("%+v", got)
	}
}
