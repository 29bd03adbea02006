package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/policy"
)

// fakePolicies keeps the policies of functions and aliases in memory, by ARN.
type fakePolicies struct {
	functions *fakeFunctions
	aliases   []string // qualifiers that every function has

	mu       sync.Mutex
	attached map[string]*policy.Attached
}

func policyARN(account lambent.AccountID, name lambent.FunctionName, qualifier string) string {
	return lambent.FunctionARN("us-east-1", account, name, strings.TrimPrefix(qualifier, "$LATEST"))
}

func (f *fakePolicies) FunctionPolicy(account lambent.AccountID, name lambent.FunctionName, qualifier string) *policy.Attached {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attached[policyARN(account, name, qualifier)]
}

func (f *fakePolicies) RevisionOf(account lambent.AccountID, name lambent.FunctionName, qualifier string) (string, error) {
	for _, a := range f.aliases {
		if a == qualifier {
			return "alias", nil
		}
	}
	fn, err := f.functions.Function(account, name, qualifier)
	if err != nil {
		return "", err
	}
	return fn.Revision, nil
}

func (f *fakePolicies) EditFunctionPolicy(_ context.Context, account lambent.AccountID, name lambent.FunctionName, qualifier string,
	change func(*policy.Attached, string) (*policy.Attached, error)) error {
	revision, err := f.RevisionOf(account, name, qualifier)
	if err != nil {
		return err
	}
	next, err := change(f.FunctionPolicy(account, name, qualifier), revision)
	if err != nil {
		return err
	}
	f.functions.mu.Lock()
	fn := *f.functions.byName[name]
	f.functions.stamp(&fn)
	f.functions.byName[name] = &fn
	f.functions.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attached[policyARN(account, name, qualifier)] = next; next == nil {
		delete(f.attached, policyARN(account, name, qualifier))
	}
	return nil
}

// permit adds a permission with what a caller must give and members besides.
func (d *door) permit(t testing.TB, function string, members ...string) answer {
	t.Helper()
	q := map[string]any{"StatementId": "s", "Action": "lambda:InvokeFunction", "Principal": "222222222222"}
	for i := 0; i < len(members); i += 2 {
		q[members[i]] = members[i+1]
		if members[i+1] == "" {
			delete(q, members[i])
		}
	}
	if q["InvokedViaFunctionUrl"] != nil {
		q["InvokedViaFunctionUrl"] = q["InvokedViaFunctionUrl"] == "true"
	}
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(function, "?")
	return d.do(t, "POST", functionsPath+"/"+path+"/policy?"+query, string(body))
}

func TestPermissionsAreAddedShownAndRemoved(t *testing.T) {
	d := newDoor(t)
	d.policies.aliases = []string{"live"}
	d.create(t, "f")
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	d.do(t, "GET", functionsPath+"/f/policy", "").wantError(t, 404, "ResourceNotFoundException")

	got := d.permit(t, "f", "StatementId", "s3", "Principal", "s3.amazonaws.com", "SourceArn", "arn:aws:s3:::b", "SourceAccount", "111111111111")
	s3 := `{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"` + arn +
		`","Condition":{"StringEquals":{"AWS:SourceAccount":"111111111111"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}`
	if diff := cmp.Diff(map[string]any{"Statement": s3}, got.body); got.status != http.StatusCreated || diff != "" {
		t.Errorf("%d %s", got.status, diff)
	}
	got = d.permit(t, arn, "StatementId", "acct", "Action", "lambda:*")
	acct := `{"Sid":"acct","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":"lambda:*","Resource":"` + arn + `"}`
	if got.body["Statement"] != acct {
		t.Error(got.raw)
	}
	got = d.permit(t, "f?Qualifier=live", "StatementId", "url", "Action", "lambda:InvokeFunction", "Principal", "*", "InvokedViaFunctionUrl", "true")
	live := `{"Sid":"url","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"` + arn + `:live","Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`
	if got.body["Statement"] != live {
		t.Error(got.raw)
	}

	revision := d.functions.byName["f"].Revision
	got = d.do(t, "GET", functionsPath+"/f/policy", "")
	want := map[string]any{"Policy": `{"Version":"2012-10-17","Id":"default","Statement":[` + s3 + `,` + acct + `]}`, "RevisionId": revision}
	if diff := cmp.Diff(want, got.body); got.status != http.StatusOK || diff != "" {
		t.Errorf("%d %s", got.status, diff)
	}
	got = d.do(t, "GET", functionsPath+"/f:live/policy", "")
	if got.body["Policy"] != `{"Version":"2012-10-17","Id":"default","Statement":[`+live+`]}` {
		t.Error(got.raw)
	}

	if m := d.do(t, "DELETE", functionsPath+"/f/policy/url", "").wantError(t, 404, "ResourceNotFoundException"); m != "Statement url is not found in resource policy." {
		t.Error(m)
	}
	for _, sid := range []string{"s3?RevisionId=" + revision, "acct"} {
		if got := d.do(t, "DELETE", functionsPath+"/f/policy/"+sid, ""); got.status != http.StatusNoContent || got.raw != "" {
			t.Errorf("%d %s", got.status, got.raw)
		}
	}
	if m := d.do(t, "GET", functionsPath+"/f/policy", "").wantError(t, 404, "ResourceNotFoundException"); m != "The resource you requested does not exist." {
		t.Error(m)
	}
}

func TestPermissionsThatCannotBeAreRefusedInAWSsWords(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	d.permit(t, "f", "StatementId", "taken")
	const pattern = "failed to satisfy constraint: Member must satisfy regular expression pattern: "
	for _, tc := range []struct {
		function string
		members  []string
		status   int
		name     string
		message  string
	}{
		{"f", []string{"StatementId", "", "Action", "", "Principal", ""}, 400, "ValidationException", "3 validation errors detected: Value null at 'action' failed to satisfy constraint: Member must not be null; Value null at 'principal' failed to satisfy constraint: Member must not be null; Value null at 'statementId' failed to satisfy constraint: Member must not be null"},
		{"f", []string{"StatementId", "a.b"}, 400, "ValidationException", "1 validation error detected: Value 'a.b' at 'statementId' " + pattern + "([a-zA-Z0-9-_]+)"},
		{"f", []string{"Action", "s3:GetObject"}, 400, "ValidationException", "1 validation error detected: Value 's3:GetObject' at 'action' " + pattern + "(lambda:[*]|lambda:[a-zA-Z]+|[*])"},
		{"f", []string{"Principal", "a b"}, 400, "ValidationException", "1 validation error detected: Value 'a b' at 'principal' " + pattern + `[^\s]+`},
		{"f", []string{"SourceAccount", "12"}, 400, "ValidationException", "1 validation error detected: Value '12' at 'sourceAccount' " + pattern + `\d{12}`},
		{"f", []string{"SourceArn", "b"}, 400, "ValidationException", "1 validation error detected: Value 'b' at 'sourceArn' " + pattern + `arn:(aws[a-zA-Z0-9-]*):([a-zA-Z0-9\-])+:([a-z]{2}(-gov)?-[a-z]+-\d{1})?:(\d{12})?:(.*)`},
		{"f", []string{"FunctionUrlAuthType", "none"}, 400, "ValidationException", "1 validation error detected: Value 'none' at 'functionUrlAuthType' failed to satisfy constraint: Member must satisfy enum value set: [NONE, AWS_IAM]"},
		{"f", []string{"FunctionUrlAuthType", "NONE"}, 400, "InvalidParameterValueException", "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action"},
		{"f", []string{"InvokedViaFunctionUrl", "true", "Action", "lambda:GetFunction"}, 400, "InvalidParameterValueException", "InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action"},
		{"f", []string{"Principal", "joe"}, 400, "InvalidParameterValueException", "The provided principal was invalid. Please check the principal and try again."},
		{"f", []string{"StatementId", "taken"}, 409, "ResourceConflictException", "The statement id (taken) provided already exists. Please provide a new statement id, or remove the existing statement."},
		{"f", []string{"RevisionId", "wrong"}, 412, "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id"},
		{"f?Qualifier=$LATEST", nil, 400, "InvalidParameterValueException", "We currently do not support adding policies for $LATEST."},
		{"f:$LATEST", nil, 400, "InvalidParameterValueException", "We currently do not support adding policies for $LATEST."},
		{"f:1?Qualifier=2", nil, 400, "InvalidParameterValueException", "The derived qualifier from the function name does not match the specified qualifier."},
		{"f:7", nil, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:7"},
		{"g", nil, 404, "ResourceNotFoundException", "Function not found: arn:aws:lambda:us-east-1:000000000000:function:g"},
		{"f", []string{"SourceArn", "arn:aws:s3:::${x"}, 400, "InvalidParameterValueException", ""},
	} {
		m := d.permit(t, tc.function, tc.members...).wantError(t, tc.status, tc.name)
		if tc.message != "" && m != tc.message {
			t.Errorf("%s %v: %s", tc.function, tc.members, m)
		}
	}
	for _, tc := range []struct{ path, message string }{
		{"g/policy/s", "No policy found for: arn:aws:lambda:us-east-1:000000000000:function:g"},
		{"f/policy/s", "Statement s is not found in resource policy."},
	} {
		if m := d.do(t, "DELETE", functionsPath+"/"+tc.path, "").wantError(t, 404, "ResourceNotFoundException"); m != tc.message {
			t.Error(m)
		}
	}
	if m := d.do(t, "DELETE", functionsPath+"/f/policy/taken?RevisionId=wrong", "").wantError(t, 412, "PreconditionFailedException"); !strings.Contains(m, "GetFunction/GetAlias") {
		t.Error(m)
	}
	d.do(t, "DELETE", functionsPath+"/f/policy/"+url.PathEscape("a b"), "").wantError(t, 400, "ValidationException")
	if got := d.do(t, "DELETE", functionsPath+"/f/policy/taken", ""); got.status != 204 {
		t.Errorf("%d %s", got.status, got.raw)
	}
	if m := d.do(t, "DELETE", functionsPath+"/f/policy/taken", "").wantError(t, 404, "ResourceNotFoundException"); m != "No policy is associated with the given resource." {
		t.Error(m)
	}
}

func TestAPolicyOverItsLimitIsRefused(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	for i := range 300 {
		got := d.permit(t, "f", "StatementId", strings.Repeat("x", 90)+string(rune('a'+i%26))+string(rune('a'+i/26)))
		if got.status == http.StatusCreated {
			continue
		}
		m := got.wantError(t, 400, "PolicyLengthExceededException")
		if got.body["Type"] != "User" || !strings.HasPrefix(m, "The final policy size (20") || !strings.HasSuffix(m, ") is bigger than the limit (20480).") {
			t.Error(got.raw)
		}
		return
	}
	t.Error("a policy of 300 statements is none too long")
}

const stranger = "AWS4-HMAC-SHA256 Credential=222222222222/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=x"

func TestAnotherAccountDoesWhatTheFunctionsPolicyAllows(t *testing.T) {
	d := newDoor(t)
	d.policies.aliases = []string{"live"}
	d.create(t, "f")
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	invoke := func(name string) answer {
		return d.do(t, "POST", functionsPath+"/"+name+"/invocations", `{"a":1}`, "Authorization", stranger)
	}
	invoke(arn).wantError(t, 403, "AccessDeniedException")
	d.permit(t, "f")
	for _, name := range []string{arn, "000000000000:function:f"} {
		if got := invoke(name); got.status != 200 || got.raw != `{"a":1}` {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
		if inv := d.invoker.last; inv.Account != lambent.DefaultAccount || inv.Function != "f" {
			t.Errorf("%s runs as %s %s", name, inv.Account, inv.Function)
		}
	}
	if invoke("f"); d.invoker.last.Account != "222222222222" {
		t.Errorf("a bare name is of %s, not of the caller's account", d.invoker.last.Account)
	}
	d.do(t, "GET", functionsPath+"/"+arn, "", "Authorization", stranger).wantError(t, 403, "AccessDeniedException")
	d.permit(t, "f", "StatementId", "get", "Action", "lambda:GetFunction")
	if got := d.do(t, "GET", functionsPath+"/"+arn, "", "Authorization", stranger); got.status != 200 {
		t.Errorf("%d %s", got.status, got.raw)
	}
	d.do(t, "DELETE", functionsPath+"/f/policy/s", "")
	invoke(arn).wantError(t, 403, "AccessDeniedException")
}

func TestSecurityAPolicyOpensNothingButWhatItSays(t *testing.T) {
	d := newDoor(t)
	d.policies.aliases = []string{"live"}
	d.create(t, "f")
	d.create(t, "g")
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	ask := func(method, path, body string) answer {
		return d.do(t, method, path, body, "Authorization", stranger)
	}
	for _, members := range [][]string{
		{"Principal", "333333333333"},
		{"Principal", "arn:aws:iam::222222222222:user/joe"},
		{"Principal", "arn:aws:iam::222222222222:role/r"},
		{"Principal", "s3.amazonaws.com"},
		{"Action", "lambda:GetFunction"},
		{"Action", "lambda:InvokeFunctionUrl", "FunctionUrlAuthType", "NONE", "Principal", "*"},
		{"SourceArn", "arn:aws:s3:::b"},
		{"SourceAccount", "222222222222"},
		{"EventSourceToken", "t"},
		{"PrincipalOrgID", "o-0123456789", "Principal", "*"},
		{"InvokedViaFunctionUrl", "true", "Principal", "*"},
	} {
		if got := d.permit(t, "f", members...); got.status != 201 {
			t.Fatalf("%v: %s", members, got.raw)
		}
		m := ask("POST", functionsPath+"/"+arn+"/invocations", "{}").wantError(t, 403, "AccessDeniedException")
		if want := "User: arn:aws:iam::222222222222:root is not authorized to perform: lambda:InvokeFunction on resource: " + arn + " because no resource-based policy allows the lambda:InvokeFunction action"; m != want {
			t.Errorf("%v: %s", members, m)
		}
		d.do(t, "DELETE", functionsPath+"/f/policy/s", "")
	}
	d.permit(t, "f", "StatementId", "all", "Action", "*", "Principal", "*")
	for _, tc := range []struct{ method, path, body string }{
		{"POST", functionsPath + "/" + arn + ":live/invocations", "{}"}, // the policy is the function's, not the alias's
		{"POST", functionsPath + "/" + arn + ":$LATEST/invocations", "{}"},
		{"POST", functionsPath + "/" + arn + "/invocations?Qualifier=live", "{}"},
		{"POST", functionsPath + "/" + strings.TrimSuffix(arn, "f") + "g/invocations", "{}"},
		{"POST", functionsPath + "/" + arn + "x/invocations", "{}"}, // there is none, and nobody is told
		{"POST", functionsPath + "/" + arn + "/policy", `{"StatementId":"x","Action":"*","Principal":"*"}`},
		{"DELETE", functionsPath + "/" + arn + "/policy/all", ""},
		{"PUT", functionsPath + "/" + arn + "/configuration", `{"Timeout":9}`},
		{"POST", functionsPath, `{"FunctionName":"` + arn + `","Role":"` + testRole + `","Runtime":"nodejs22.x","Handler":"a.b","Code":{"ZipFile":"UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}}`},
	} {
		ask(tc.method, tc.path, tc.body).wantError(t, 403, "AccessDeniedException")
	}
	if n := len(d.policies.attached[arn].Statements); n != 1 {
		t.Errorf("the policy has %d statements", n)
	}
	if got := ask("GET", functionsPath+"/"+arn+"/policy", ""); got.status != 200 {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

// Where callers prove who they are, one of another account needs its own policy
// too, and one of the function's account either.
func TestSecurityBothAccountsMustAllow(t *testing.T) {
	const (
		arn   = "arn:aws:lambda:us-east-1:000000000000:function:f"
		allow = `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + arn + `"}`
		deny  = `{"Effect":"Deny","Action":"lambda:*","Resource":"*"}`
		user  = "arn:aws:iam::111111111111:user/ann"
	)
	for _, tc := range []struct {
		what      string
		identity  string
		principal string // of the function's policy; "": it has none
		own       bool   // the caller is of the function's account
		want      string // "": allowed
	}{
		{"neither", "", "", false, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"his own only", allow, "", false, "because no resource-based policy allows the lambda:InvokeFunction action"},
		{"the function's only", "", user, false, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"both, by name", allow, user, false, ""},
		{"both, by account", allow, ownAccount, false, ""},
		{"both, and a denial", allow + "," + deny, user, false, "with an explicit deny in an identity-based policy"},
		{"of the account, by the function's policy", "", "*", true, ""},
		{"of the account, by his own", allow, "", true, ""},
		{"of the account, by neither", "", "arn:aws:iam::111111111111:user/bob", true, "because no identity-based policy allows the lambda:InvokeFunction action"},
		{"of the account, denied", deny, "*", true, "with an explicit deny in an identity-based policy"},
	} {
		caller := openCaller(lambent.DefaultAccount, false)
		d := newDoor(t, askedBy(&caller))
		d.create(t, "f", "Role", "arn:aws:iam::000000000000:role/r")
		if tc.principal != "" {
			if got := d.permit(t, "f", "Principal", tc.principal); got.status != 201 {
				t.Fatal(got.raw)
			}
		}
		caller = ann(t, tc.identity)
		if tc.own {
			caller.Account, caller.Principal.Account = lambent.DefaultAccount, lambent.DefaultAccount
		}
		got := d.do(t, "POST", functionsPath+"/"+arn+"/invocations", "{}")
		if tc.want == "" {
			if got.status != 200 || d.invoker.last.Account != lambent.DefaultAccount {
				t.Errorf("%s: %d %s", tc.what, got.status, got.raw)
			}
			continue
		}
		if m := got.wantError(t, 403, "AccessDeniedException"); !strings.HasSuffix(m, " "+tc.want) || d.invoker.last != nil {
			t.Errorf("%s: %s", tc.what, m)
		}
	}
}

// What cannot be read lets nobody in, and its text stays in the house.
func TestSecurityADamagedPolicyLetsNobodyIn(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	const arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
	d.policies.attached[arn] = &policy.Attached{Statements: []json.RawMessage{json.RawMessage(`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Secret":1}`)}}
	m := d.do(t, "POST", functionsPath+"/"+arn+"/invocations", "{}", "Authorization", stranger).wantError(t, 500, "ServiceException")
	if strings.Contains(m, "Secret") {
		t.Error(m)
	}
}
