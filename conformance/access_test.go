package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// closed is a server with auth: required and an account on it.
type closed struct {
	*lab.Server
	operator []string // environment of the operator's key
	account  string
	root     []string
	caller   *lab.Caller // the account's root
}

func newClosed(t *testing.T, flags ...string) *closed {
	t.Helper()
	c := &closed{Server: newServer(t, append(append([]string{"--auth", "required"}, noPools...), flags...)...)}
	first, err := os.ReadFile(filepath.Join(c.Data, "operator.env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(first)) {
		if strings.HasPrefix(line, "AWS_") {
			c.operator = append(c.operator, strings.TrimSpace(line))
		}
	}
	c.account = lambentCommand(t, c.Server, c.operator, "account", "create", "tests")
	c.root = c.key(t, "--account", c.account)
	c.caller = c.CallerWith(t, c.account, credentialsOf(c.root))
	return c
}

// key makes a key and gives its environment.
func (c *closed) key(t *testing.T, args ...string) []string {
	t.Helper()
	return strings.Fields(lambentCommand(t, c.Server, c.operator, append([]string{"key", "create"}, args...)...))
}

// user makes a user of the account with a policy of these statements.
func (c *closed) user(t *testing.T, name, statements string) []string {
	t.Helper()
	return c.key(t, "--account", c.account, "--user", name, "--policy", policyFile(t, statements))
}

func policyFile(t *testing.T, statements string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(`{"Version":"2012-10-17","Statement":[`+statements+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func credentialsOf(environment []string) (out aws.Credentials) {
	for _, pair := range environment {
		name, value, _ := strings.Cut(pair, "=")
		switch name {
		case "AWS_ACCESS_KEY_ID":
			out.AccessKeyID = value
		case "AWS_SECRET_ACCESS_KEY":
			out.SecretAccessKey = value
		}
	}
	return out
}

// get asks without the SDK; sign may sign the request.
func (c *closed) get(t *testing.T, method, path, body string, sign func(*http.Request)) lab.Reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if sign != nil {
		sign(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return lab.Reply{Status: resp.StatusCode, Header: resp.Header, Body: out}
}

// by signs a request whose body is empty, at a time.
func by(t *testing.T, environment []string, at time.Time) func(*http.Request) {
	return func(r *http.Request) {
		sum := sha256.Sum256(nil)
		if err := v4.NewSigner().SignHTTP(t.Context(), credentialsOf(environment), r, hex.EncodeToString(sum[:]), "lambda", lab.Region, at); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecurityAClosedServerLetsInOnlyWhoSigns(t *testing.T) {
	t.Parallel()
	c := newClosed(t)
	c.caller.Create(t, node(t).function("f"))
	refused := func(what string, got lab.Reply, name, message string) {
		t.Helper()
		if got.Status != http.StatusForbidden || got.Header.Get("X-Amzn-Errortype") != name || !strings.Contains(string(got.Body), message) {
			t.Errorf("%s: %d %s %s, want 403 %s with %q", what, got.Status, got.Header.Get("X-Amzn-Errortype"), got.Body, name, message)
		}
	}
	functions := "/2015-03-31/functions/"
	for _, path := range []string{functions, functions + "f", "/_lambent/metrics", "/_lambent/v1/pools", "/_lambent/v1/instances", "/_lambent/v1/containers",
		"/_lambent/v1/executions", "/_lambent/v1/queues", "/_lambent/v1/functions/f/logs", "/_lambent/v1/keys", "/_lambent/v1/accounts", "/_lambent/v1/roles", "/_lambent/v1/caller"} {
		refused(path, c.get(t, "GET", path, "", nil), "MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	refused("invoke", c.get(t, "POST", functions+"f/invocations", "{}", nil), "MissingAuthenticationTokenException", "Missing Authentication Token")
	refused("create a key", c.get(t, "POST", "/_lambent/v1/keys", `{"operator":true}`, nil), "MissingAuthenticationTokenException", "Missing Authentication Token")
	if got := c.get(t, "GET", "/_lambent/health", "", nil); got.Status != http.StatusOK {
		t.Errorf("health: %d", got.Status)
	}

	now := time.Now()
	wrong := []string{c.root[0], c.root[1] + "x"}
	unknown := []string{"AWS_ACCESS_KEY_ID=AKIAAAAAAAAAAAAAAAAA", c.root[1]}
	refused("wrong secret", c.get(t, "GET", functions, "", by(t, wrong, now)), "InvalidSignatureException", "The request signature we calculated does not match")
	refused("unknown key", c.get(t, "GET", functions, "", by(t, unknown, now)), "UnrecognizedClientException", "The security token included in the request is invalid.")
	refused("an account's id as a key", c.get(t, "GET", functions, "", by(t, []string{"AWS_ACCESS_KEY_ID=" + c.account, "AWS_SECRET_ACCESS_KEY=secret"}, now)), "UnrecognizedClientException", "")
	refused("old", c.get(t, "GET", functions, "", by(t, c.root, now.Add(-6*time.Minute))), "InvalidSignatureException", "Signature expired: ")
	refused("early", c.get(t, "GET", functions, "", by(t, c.root, now.Add(6*time.Minute))), "InvalidSignatureException", "Signature not yet current: ")
	if got := c.get(t, "GET", functions, "", by(t, c.root, now.Add(-4*time.Minute))); got.Status != http.StatusOK {
		t.Errorf("four minutes old: %d %s", got.Status, got.Body)
	}
	refused("another body", c.get(t, "POST", functions+"f/invocations", `{"op":"calls"}`, by(t, c.root, now)), "InvalidSignatureException", "")
	refused("another path", c.get(t, "GET", functions+"f", "", func(r *http.Request) {
		by(t, c.root, now)(r)
		r.URL.Path = functions
	}), "InvalidSignatureException", "")

	// Nothing that was refused has run, and who signs gets through.
	if got, _ := lab.Do[int](t, c.caller, "f", op{"op": "calls"}); got != 1 {
		t.Errorf("calls: %d", got)
	}
	// Revoked: at once, also for who is connected.
	lambentCommand(t, c.Server, c.operator, "key", "revoke", credentialsOf(c.root).AccessKeyID)
	_, err := c.caller.Call(t.Context(), "f", op{"op": "calls"})
	wantCode(t, err, "UnrecognizedClientException", "The security token included in the request is invalid.")
}

func TestPresignedRequestsNeedNoKey(t *testing.T) {
	t.Parallel()
	c := newClosed(t)
	c.caller.Create(t, node(t).function("f"))
	presign := func(method, path, body, expires string, at time.Time) string {
		t.Helper()
		r, err := http.NewRequest(method, c.URL+path+"?X-Amz-Expires="+expires, nil)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(body))
		url, _, err := v4.NewSigner().PresignHTTP(t.Context(), credentialsOf(c.root), r, hex.EncodeToString(sum[:]), "lambda", lab.Region, at)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimPrefix(url, c.URL)
	}
	now := time.Now()
	if got := c.get(t, "GET", presign("GET", "/2015-03-31/functions/f", "", "3600", now.Add(-30*time.Minute)), "", nil); got.Status != http.StatusOK {
		t.Errorf("GetFunction: %d %s", got.Status, got.Body)
	}
	invoke := presign("POST", "/2015-03-31/functions/f/invocations", `{"op":"calls"}`, "60", now)
	if got := c.get(t, "POST", invoke, `{"op":"calls"}`, nil); string(got.Body) != "1" {
		t.Errorf("Invoke: %d %s", got.Status, got.Body)
	}
	for what, got := range map[string]lab.Reply{
		"another body":     c.get(t, "POST", invoke, `{"op":"exit"}`, nil),
		"another function": c.get(t, "POST", strings.Replace(invoke, "/f/", "/g/", 1), `{"op":"calls"}`, nil),
		"a longer time":    c.get(t, "POST", strings.Replace(invoke, "Expires=60", "Expires=600", 1), `{"op":"calls"}`, nil),
		"over":             c.get(t, "GET", presign("GET", "/2015-03-31/functions/f", "", "60", now.Add(-2*time.Minute)), "", nil),
	} {
		if got.Status != http.StatusForbidden || got.Header.Get("X-Amzn-Errortype") != "InvalidSignatureException" {
			t.Errorf("%s: %d %s", what, got.Status, got.Body)
		}
	}
	out, err := c.caller.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	if err != nil {
		t.Fatal(err)
	}
	location := strings.TrimPrefix(aws.ToString(out.Code.Location), c.URL)
	if got := c.get(t, "GET", location, "", nil); got.Status != http.StatusOK || len(got.Body) == 0 {
		t.Errorf("the code: %d", got.Status)
	}
	if got := c.get(t, "GET", strings.Replace(location, "expires=", "expires=9", 1), "", nil); got.Status != http.StatusForbidden {
		t.Errorf("the code by a changed location: %d", got.Status)
	}
}

func TestSecurityAnAccountSeesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	c := newClosed(t)
	c.caller.Create(t, node(t).function("f"))
	lab.Do[int](t, c.caller, "f", op{"op": "calls"})
	other := lambentCommand(t, c.Server, c.operator, "account", "create", "other")
	otherRoot := c.key(t, "--account", other)
	stranger := c.CallerWith(t, other, credentialsOf(otherRoot))
	list, err := stranger.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(list.Functions) != 0 {
		t.Errorf("functions: %+v, %v", list, err)
	}
	_, err = stranger.Call(t.Context(), c.caller.ARN("f"), op{"op": "calls"})
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+other+":root is not authorized to perform: lambda:InvokeFunction on resource: "+c.caller.ARN("f")+
		" because no resource-based policy allows the lambda:InvokeFunction action")
	ask := func(who []string, path string) (rows []map[string]any) {
		t.Helper()
		got := c.get(t, "GET", "/_lambent/v1/"+path, "", by(t, who, time.Now()))
		if got.Status != http.StatusOK || json.Unmarshal(got.Body, &rows) != nil {
			t.Errorf("%s: %d %s", path, got.Status, got.Body)
		}
		return rows
	}
	for _, path := range []string{"containers", "instances", "executions"} {
		if n := len(ask(otherRoot, path)); n != 0 {
			t.Errorf("another account sees %d %s", n, path)
		}
		if n := len(ask(c.root, path)); n == 0 {
			t.Errorf("an account does not see its %s", path)
		}
		if n := len(ask(c.operator, path)); n == 0 {
			t.Errorf("the operator does not see the %s", path)
		}
	}
	if n := len(ask(c.root, "accounts")); n != 1 {
		t.Errorf("an account sees %d accounts", n)
	}
	if got := c.get(t, "GET", "/_lambent/metrics", "", by(t, c.root, time.Now())); got.Status != http.StatusForbidden {
		t.Errorf("metrics for an account: %d", got.Status)
	}
	if got := c.get(t, "GET", "/_lambent/metrics", "", by(t, c.operator, time.Now())); got.Status != http.StatusOK {
		t.Errorf("metrics for the operator: %d", got.Status)
	}
}

func TestUsersDoWhatTheirPolicySays(t *testing.T) {
	t.Parallel()
	c := newClosed(t)
	c.caller.Create(t, node(t).function("f"))
	ci := c.user(t, "ci", `{"Effect":"Allow","Action":"lambda:*","Resource":"*"},{"Effect":"Deny","Action":"lambda:Delete*","Resource":"*"}`)
	user := c.CallerWith(t, c.account, credentialsOf(ci))
	if got, _ := lab.Do[int](t, user, "f", op{"op": "calls"}); got != 1 {
		t.Errorf("calls: %d", got)
	}
	_, err := user.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: aws.String("f")})
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+c.account+":user/ci is not authorized to perform: lambda:DeleteFunction on resource: "+c.caller.ARN("f")+
		" with an explicit deny in an identity-based policy")
	_, err = user.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Role: aws.String("arn:aws:iam::" + c.account + ":role/admin")})
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+c.account+":user/ci is not authorized to perform: iam:PassRole on resource: arn:aws:iam::"+c.account+
		":role/admin because no identity-based policy allows the iam:PassRole action")
	// The aws command and the JavaScript SDK sign in ways of their own.
	run := func(environment []string, command string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), command, args...)
		cmd.Dir = t.TempDir()
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "AWS_PAGER=", "AWS_ENDPOINT_URL=" + c.URL, "AWS_REGION=" + lab.Region, "AWS_DEFAULT_REGION=" + lab.Region,
			"ROLE=" + *c.caller.Role()}, environment...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(ci, awsCommand, "--endpoint-url", c.URL, "lambda", "invoke", "--function-name", "f", "--cli-binary-format", "raw-in-base64-out", "--payload", `{"op":"calls"}`, "/dev/stdout"); err != nil || !strings.Contains(out, `"StatusCode": 200`) {
		t.Errorf("aws lambda invoke: %v %s", err, out)
	}
	if out, err := run(ci, awsCommand, "--endpoint-url", c.URL, "lambda", "delete-function", "--function-name", "f"); err == nil || !strings.Contains(out, "(AccessDeniedException)") {
		t.Errorf("aws lambda delete-function: %v %s", err, out)
	}
	js, err := installJS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kit := filepath.Join(t.TempDir(), "node.zip")
	if err := os.WriteFile(kit, node(t).zip, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(c.root, "node", filepath.Join(js, "cycle.mjs"), "js", "nodejs22.x", "index.handler", kit); err != nil || !strings.Contains(out, "all as on AWS") {
		t.Errorf("the JavaScript SDK: %v %s", err, out)
	}
}

func TestSecurityAFunctionsCredentialsAreItsRolesAndEnd(t *testing.T) {
	t.Parallel()
	const lifetime = 4 * time.Second
	c := newClosed(t, "--role-credentials", lifetime.String())
	lambentCommand(t, c.Server, c.root, "role", "create", "lister", "--policy", policyFile(t, `{"Effect":"Allow","Action":"lambda:ListFunctions","Resource":"*"}`))
	create := func(l language, name, role string) {
		t.Helper()
		in := c.caller.Input(lab.Function{Name: name, Runtime: l.runtime, Handler: l.handler, Zip: l.zip, Timeout: 1})
		in.Role = aws.String("arn:aws:iam::" + c.account + ":role/" + role)
		if _, err := c.caller.CreateFunction(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		c.caller.AwaitActive(t, name)
	}
	create(node(t), "f", "lister")
	create(node(t), "none", "nobody")
	if env, _ := lab.Do[map[string]string](t, c.caller, "none", op{"op": "env"}); env["AWS_ACCESS_KEY_ID"]+env["AWS_SECRET_ACCESS_KEY"]+env["AWS_SESSION_TOKEN"] != "" {
		t.Error("a function of a role that does not exist has credentials")
	}
	function := func() (*lab.Caller, *lab.Answer) {
		t.Helper()
		env, answer := lab.Do[map[string]string](t, c.caller, "f", op{"op": "env"})
		return c.CallerWith(t, c.account, aws.Credentials{AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"], SessionToken: env["AWS_SESSION_TOKEN"]}), answer
	}
	list := func(f *lab.Caller) error {
		_, err := f.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
		return err
	}
	f, first := function()
	if err := list(f); err != nil {
		t.Fatal(err)
	}
	_, err := f.Call(t.Context(), "f", nil)
	wantCode(t, err, "AccessDeniedException", "User: arn:aws:sts::"+c.account+":assumed-role/lister/f is not authorized to perform: lambda:InvokeFunction on resource: "+c.caller.ARN("f")+
		" because no identity-based policy allows the lambda:InvokeFunction action")
	until, stop := context.WithTimeout(t.Context(), lab.Patience)
	defer stop()
	err = lab.Until(until, func() error {
		if err := list(f); err == nil {
			return errors.New("they are still taken")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, list(f), "ExpiredTokenException", "The security token included in the request is expired")
	f, again := function()
	if again.ContainerID() == first.ContainerID() {
		t.Error("the function has its credentials still")
	}
	if err := list(f); err != nil {
		t.Errorf("with new ones: %v", err)
	}
	lambentCommand(t, c.Server, c.root, "role", "rm", "lister")
	wantCode(t, list(f), "UnrecognizedClientException", "The security token included in the request is invalid.")
}

func TestFunctionsAreServedTheirCredentials(t *testing.T) {
	t.Parallel()
	c := newClosed(t)
	lambentCommand(t, c.Server, c.root, "role", "create", "service/test", "--policy", policyFile(t, `{"Effect":"Allow","Action":"*","Resource":"*"}`))
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			c.caller.Create(t, l.function(l.name))
			got, _ := lab.Do[map[string]string](t, c.caller, l.name, op{"op": "credentials"})
			function := c.CallerWith(t, c.account, aws.Credentials{AccessKeyID: got["AccessKeyId"], SecretAccessKey: got["SecretAccessKey"], SessionToken: got["Token"]})
			if _, err := function.ListFunctions(t.Context(), &lambda.ListFunctionsInput{}); err != nil {
				t.Errorf("credentials %v: %v", got, err)
			}
			if end, err := time.Parse(time.RFC3339, got["Expiration"]); err != nil || time.Until(end) < 11*time.Hour || time.Until(end) > 12*time.Hour {
				t.Errorf("they end at %v, %v", end, err)
			}
			if refused, _ := lab.Do[map[string]string](t, c.caller, l.name, op{"op": "credentials", "token": "another"}); refused["errorType"] != "InvalidAuthorizationToken" {
				t.Errorf("with another token: %v", refused)
			}
		})
	}
}

func TestWithOpenAuthAFunctionsCredentialsAreItsAccounts(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: node(t).zip})
	env, _ := lab.Do[map[string]string](t, c, "f", op{"op": "env"})
	function := c.Server.CallerWith(t, c.Account, aws.Credentials{AccessKeyID: env["AWS_ACCESS_KEY_ID"], SecretAccessKey: env["AWS_SECRET_ACCESS_KEY"], SessionToken: env["AWS_SESSION_TOKEN"]})
	out, err := function.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil || len(out.Functions) != 1 || aws.ToString(out.Functions[0].FunctionName) != "f" {
		t.Errorf("functions %+v, %v", out, err)
	}
}

func TestSecurityKeysOutliveARestartAndTheirFileMustBePrivate(t *testing.T) {
	t.Parallel()
	data := newData(t)
	start := func() (*lab.Server, error) {
		return lab.Start(t.Context(), lab.Config{Bin: fix.bin, Data: data, Flags: append([]string{"--auth", "required"}, noPools...)})
	}
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.key", "operator.env"} {
		if info, err := os.Stat(filepath.Join(data, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	first, err := os.ReadFile(filepath.Join(data, "operator.env"))
	if err != nil {
		t.Fatal(err)
	}
	operator := strings.Fields(string(first))
	account := lambentCommand(t, s, operator, "account", "create")
	root := strings.Fields(lambentCommand(t, s, operator, "key", "create", "--account", account))
	s.Kill()
	key := filepath.Join(data, "identity.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := start(); err == nil {
		s.Kill()
		t.Error("a server starts whose key everybody can read")
	} else if !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("the error does not say what to do: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if again, err := os.ReadFile(filepath.Join(data, "operator.env")); err != nil || string(again) != string(first) {
		t.Errorf("the operator's key was made anew: %v", err)
	}
	caller := s.CallerWith(t, account, credentialsOf(root))
	if _, err := caller.ListFunctions(t.Context(), &lambda.ListFunctionsInput{}); err != nil {
		t.Error(err)
	}
}
