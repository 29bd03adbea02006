package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/policy"
)

const ownAccount = "111111111111"

// ann is a user of ownAccount with the statements of one policy; none: without
// any.
func ann(t testing.TB, statements string) Caller {
	t.Helper()
	c := Caller{Account: ownAccount, Principal: policy.Principal{Type: policy.User, Account: ownAccount, Name: "ann", ARN: "arn:aws:iam::111111111111:user/ann"}}
	if statements != "" {
		doc, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`), policy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		c.Policies = []*policy.Document{doc}
	}
	return c
}

// askedBy makes every request the caller's.
func askedBy(c *Caller) func(*Options) {
	return func(o *Options) {
		o.Authenticate = func(*http.Request) (Caller, error) { return *c, nil }
	}
}

// anyRequest is a request for an operation, with something in each place of its
// path, and a body that is well formed.
func anyRequest(t testing.TB, op operation) (method, target, body string) {
	t.Helper()
	target = op.path
	for strings.Contains(target, "{}") {
		with := "x1"
		if strings.Contains(op.path, "/tags/") || strings.Contains(op.path, "code-signing-configs/") || strings.Contains(op.path, "/durable-executions/{}") {
			with = "arn%3Aaws%3Alambda%3Aus-east-1%3A111111111111%3Afunction%3Ax1"
		}
		target = strings.Replace(target, "{}", with, 1)
	}
	if op.query != "" {
		target += "?" + op.query + "&Arn=arn%3Aaws%3Alambda%3Aus-east-1%3A111111111111%3Alayer%3Ax1%3A1"
	}
	if op.name == "CreateFunction" {
		body = `{"FunctionName":"x1","Role":"arn:aws:iam::111111111111:role/r","Runtime":"nodejs22.x","Handler":"index.handler","Code":{"ZipFile":"` +
			base64.StdEncoding.EncodeToString(testZip(t)) + `"}}`
	} else if op.method != http.MethodGet && op.method != http.MethodDelete {
		body = "{}"
	}
	return op.method, target, body
}

func TestSecurityNoOperationIsDoneWithoutItsPermission(t *testing.T) {
	caller := ann(t, "")
	d := newDoor(t, askedBy(&caller))
	for _, op := range operations {
		method, target, body := anyRequest(t, op)
		text := d.do(t, method, target, body).wantError(t, 403, "AccessDeniedException")
		action := permissionOf(op).action
		if !strings.HasPrefix(text, "User: arn:aws:iam::111111111111:user/ann is not authorized to perform: "+action+" on resource: ") ||
			!strings.HasSuffix(text, " because no identity-based policy allows the "+action+" action") {
			t.Errorf("%s: %s", op.name, text)
		}
	}
	for _, path := range []string{"pools", "instances", "containers", "executions", "functions/x1/logs"} {
		caller = ann(t, `{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`)
		d := newDoor(t, askedBy(&caller))
		d.HandleMachine(nil, "host")
		d.HandleExecutions(nil)
		d.HandleLogs(nil)
		d.do(t, "GET", "/_lambent/v1/"+path, "").wantError(t, 403, "AccessDeniedException")
	}
	if d.functions.changes > 0 || d.invoker.last != nil {
		t.Error("something was done")
	}
}

func TestSecurityNobodyWithoutProofIsLetIn(t *testing.T) {
	d := newDoor(t, func(o *Options) {
		o.Authenticate = func(*http.Request) (Caller, error) { return Caller{}, errors.New("who are you") }
	})
	d.HandleMachine(nil, "host")
	d.HandleExecutions(nil)
	d.HandleLogs(nil)
	d.HandleMetrics(nil)
	for _, op := range operations {
		method, target, body := anyRequest(t, op)
		if got := d.do(t, method, target, body); got.status < 400 {
			t.Errorf("%s: %d", op.name, got.status)
		}
	}
	for _, path := range []string{"metrics", "v1/pools", "v1/instances", "v1/containers", "v1/executions", "v1/queues", "v1/functions/x/logs", "code/x"} {
		if got := d.do(t, "GET", "/_lambent/"+path, ""); got.status < 400 {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := d.do(t, "GET", "/_lambent/health", ""); got.status != 200 {
		t.Errorf("health: %d", got.status)
	}
	// One who proved nothing is nobody, even where no error says so.
	nobody := Caller{Account: ownAccount}
	d = newDoor(t, askedBy(&nobody))
	for _, op := range operations {
		method, target, body := anyRequest(t, op)
		d.do(t, method, target, body).wantError(t, 403, "AccessDeniedException")
	}
}

func TestPoliciesDecideByActionAndResource(t *testing.T) {
	const f = "arn:aws:lambda:us-east-1:111111111111:function:f"
	tests := []struct {
		name, statements, method, target, body string
		allowed                                bool
	}{
		{"action", `{"Effect":"Allow","Action":"lambda:GetFunction","Resource":"*"}`, "GET", functionsPath + "/f", "", true},
		{"another action", `{"Effect":"Allow","Action":"lambda:GetFunctionConfiguration","Resource":"*"}`, "GET", functionsPath + "/f", "", false},
		{"resource", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `"}`, "GET", functionsPath + "/f", "", true},
		{"another resource", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `x"}`, "GET", functionsPath + "/f", "", false},
		{"a qualifier is part of the resource", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `"}`, "GET", functionsPath + "/f?Qualifier=%24LATEST", "", false},
		{"a qualifier in the name, too", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `"}`, "GET", functionsPath + "/f%3A%24LATEST", "", false},
		{"qualified", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `:*"}`, "GET", functionsPath + "/f%3A%24LATEST", "", true},
		{"by ARN", `{"Effect":"Allow","Action":"lambda:*","Resource":"` + f + `"}`, "GET", functionsPath + "/arn%3Aaws%3Alambda%3Aus-east-1%3A111111111111%3Afunction%3Af", "", true},
		{"invoke", `{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"` + f + `"}`, "POST", functionsPath + "/f/invocations", "{}", true},
		{"deny wins", `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"lambda:Invoke*","Resource":"*"}`, "POST", functionsPath + "/f/invocations", "{}", false},
		{"list", `{"Effect":"Allow","Action":"lambda:ListFunctions","Resource":"*"}`, "GET", functionsPath, "", true},
		{"list needs *", `{"Effect":"Allow","Action":"lambda:ListFunctions","Resource":"` + f + `"}`, "GET", functionsPath, "", false},
		{"another account's", `{"Effect":"Allow","Action":"*","Resource":"*"}`, "GET", functionsPath + "/222222222222%3Afunction%3Af", "", false},
		{"a condition", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`, "GET", functionsPath + "/f", "", true},
		{"a condition that does not hold", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`, "GET", functionsPath + "/f", "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			caller := openCaller(ownAccount, false)
			d := newDoor(t, askedBy(&caller))
			if got := d.create(t, "f", "Role", "arn:aws:iam::111111111111:role/r"); got.status != 201 {
				t.Fatal(got.raw)
			}
			caller = ann(t, test.statements)
			got := d.do(t, test.method, test.target, test.body)
			if test.allowed != (got.status < 300) || !test.allowed && got.status != 403 {
				t.Errorf("%d %s", got.status, got.raw)
			}
		})
	}
}

// A qualifier in the query that the operation has none for would otherwise have
// the policy for an alias decide what is done to the function.
func TestSecurityAQualifierChoosesThePolicyOnlyWhereTheOperationTakesOne(t *testing.T) {
	caller := openCaller(ownAccount, false)
	d := newDoor(t, askedBy(&caller))
	if got := d.create(t, "x1", "Role", "arn:aws:iam::111111111111:role/r"); got.status != 201 {
		t.Fatal(got.raw)
	}
	caller = ann(t, `{"Effect":"Allow","Action":"lambda:*","Resource":"arn:aws:lambda:us-east-1:111111111111:function:x1:dev"}`)
	tried := 0
	for _, op := range operations {
		if permissionOf(op).on != onFunction || d.model.qualified(op.name) {
			continue
		}
		tried++
		method, target, body := anyRequest(t, op)
		separator := "?"
		if strings.Contains(target, "?") {
			separator = "&"
		}
		text := d.do(t, method, target+separator+"Qualifier=dev", body).wantError(t, 403, "AccessDeniedException")
		if !strings.Contains(text, "on resource: arn:aws:lambda:us-east-1:111111111111:function:x1 because") {
			t.Errorf("%s: %s", op.name, text)
		}
	}
	if tried < 20 {
		t.Errorf("%d operations were tried", tried)
	}
}

func TestSecurityARoleIsOnlyHandedOnByWhoMayPassIt(t *testing.T) {
	caller := ann(t, `{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`)
	d := newDoor(t, askedBy(&caller))
	admin := "arn:aws:iam::111111111111:role/admin"
	text := d.create(t, "f", "Role", admin).wantError(t, 403, "AccessDeniedException")
	if want := "User: arn:aws:iam::111111111111:user/ann is not authorized to perform: iam:PassRole on resource: " + admin +
		" because no identity-based policy allows the iam:PassRole action"; text != want {
		t.Errorf("text %q, want %q", text, want)
	}
	caller = ann(t, `{"Effect":"Allow","Action":"lambda:*","Resource":"*"},{"Effect":"Allow","Action":"iam:PassRole","Resource":"`+admin+`x","Condition":{"StringEquals":{"iam:PassedToService":"lambda.amazonaws.com"}}}`)
	if got := d.create(t, "f", "Role", admin+"x"); got.status != 201 {
		t.Fatal(got.raw)
	}
	d.do(t, "PUT", functionsPath+"/f/configuration", `{"Role":"`+admin+`"}`).wantError(t, 403, "AccessDeniedException")
	if got := d.do(t, "PUT", functionsPath+"/f/configuration", `{"Timeout":4}`); got.status != 200 {
		t.Error(got.raw)
	}
	caller = openCaller(ownAccount, false)
	if text := d.create(t, "g", "Role", "arn:aws:iam::222222222222:role/admin").wantError(t, 403, "AccessDeniedException"); text != "Cross-account pass role is not allowed." {
		t.Error(text)
	}
}

func TestSecurityNothingIsDoneBeforeABodyThatIsPartOfTheProof(t *testing.T) {
	for _, honest := range []bool{true, false} {
		signed := []byte("{}")
		var asked int
		d := newDoor(t, func(o *Options) {
			o.Authenticate = func(*http.Request) (Caller, error) {
				c := openCaller(ownAccount, true)
				c.Prove = func(sum [sha256.Size]byte) error {
					asked++
					if sum != sha256.Sum256(signed) {
						return &lambent.Error{Op: "prove", Kind: lambent.KindDenied, Message: "not what was signed"}
					}
					return nil
				}
				return c, nil
			}
		})
		var read []byte
		d.Handle("POST /_lambent/v1/test", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := d.Authenticate(r); err == nil {
				read, _ = io.ReadAll(r.Body)
			}
		}))
		d.functions.byName["f"] = &lambent.Function{Account: ownAccount, Name: "f", Version: lambent.Latest}
		body := "{}"
		if !honest {
			body = "{ }"
		}
		for _, request := range [][2]string{{"POST", functionsPath + "/f/invocations"}, {"PUT", functionsPath + "/f/configuration"}, {"GET", functionsPath + "/f"}, {"DELETE", functionsPath + "/f"}, {"POST", "/_lambent/v1/test"}} {
			asked = 0
			got := d.do(t, request[0], request[1], body)
			if asked != 1 || honest != (got.status < 300) && !strings.HasPrefix(request[1], "/_lambent/") {
				t.Errorf("honest %v: %v: asked %d times, %d %s", honest, request, asked, got.status, got.raw)
			}
		}
		if did := d.functions.changes > 0 || d.invoker.last != nil; did != honest || bytes.Equal(read, signed) != honest {
			t.Errorf("honest %v: done %v, read %q", honest, did, read)
		}
	}
}
