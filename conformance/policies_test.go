package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

func TestPermissionsAreKeptOnTheFunction(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", `exports.handler = async () => 1`)})
	c.AwaitActive(t, "f")
	revision := func() string {
		got, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
		if err != nil {
			t.Fatal(err)
		}
		return aws.ToString(got.RevisionId)
	}
	_, err := c.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("f")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "The resource you requested does not exist.")

	before := revision()
	added, err := c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("s3"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("s3.amazonaws.com"), SourceArn: aws.String("arn:aws:s3:::bucket"), SourceAccount: aws.String(c.Account), RevisionId: &before})
	if err != nil {
		t.Fatal(err)
	}
	statement := fmt.Sprintf(`{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"%s",`+
		`"Condition":{"StringEquals":{"AWS:SourceAccount":"%s"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::bucket"}}}`, c.ARN("f"), c.Account)
	if got := aws.ToString(added.Statement); got != statement {
		t.Errorf("added %s, want %s", got, statement)
	}
	got, err := c.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String(c.ARN("f"))})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Version":"2012-10-17","Id":"default","Statement":[` + statement + `]}`; aws.ToString(got.Policy) != want {
		t.Errorf("the policy is %s, want %s", aws.ToString(got.Policy), want)
	}
	if now := revision(); now == before || aws.ToString(got.RevisionId) != now {
		t.Errorf("the function's revision was %s and is %s, its policy's %s", before, now, aws.ToString(got.RevisionId))
	}
	add := func(sid, principal string) error {
		_, err := c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), StatementId: &sid, Action: aws.String("lambda:InvokeFunction"), Principal: &principal, RevisionId: &before})
		return err
	}
	wantError[*types.PreconditionFailedException](t, add("x", "*"), "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id. Call the GetPolicy API to retrieve the latest Revision Id")
	before = revision()
	wantError[*types.ResourceConflictException](t, add("s3", "*"), "ResourceConflictException", "The statement id (s3) provided already exists. Please provide a new statement id, or remove the existing statement.")
	wantError[*types.InvalidParameterValueException](t, add("x", "nobody"), "InvalidParameterValueException", "The provided principal was invalid. Please check the principal and try again.")

	remove := func(sid, revision string) error {
		q := &lambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: &sid}
		if revision != "" {
			q.RevisionId = &revision
		}
		_, err := c.RemovePermission(t.Context(), q)
		return err
	}
	wantError[*types.ResourceNotFoundException](t, remove("x", ""), "ResourceNotFoundException", "Statement x is not found in resource policy.")
	wantError[*types.PreconditionFailedException](t, remove("s3", "x"), "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	if err := remove("s3", before); err != nil {
		t.Fatal(err)
	}
	wantError[*types.ResourceNotFoundException](t, remove("s3", ""), "ResourceNotFoundException", "No policy is associated with the given resource.")
	if got, _ := lab.Do[int](t, c, "f", nil); got != 1 {
		t.Errorf("afterwards the function answers %d", got)
	}
}

func TestAPolicyLongerThan20KBIsRefused(t *testing.T) {
	t.Parallel()
	c := newCaller(t)
	c.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", `exports.handler = async () => 1`)})
	for i := range 200 {
		_, err := c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), StatementId: aws.String(fmt.Sprint(strings.Repeat("x", 90), i)),
			Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*")})
		if err != nil {
			wantError[*types.PolicyLengthExceededException](t, err, "PolicyLengthExceededException", "")
			if !strings.Contains(err.Error(), "The final policy size (20") || !strings.Contains(err.Error(), ") is bigger than the limit (20480).") {
				t.Error(err)
			}
			return
		}
	}
	t.Error("200 statements are taken")
}

func TestSecurityAnotherAccountCallsAFunctionOnlyByItsPolicy(t *testing.T) {
	t.Parallel()
	c, stranger := newCaller(t), newCaller(t)
	c.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.js", `exports.handler = async (event, context) => context.invokedFunctionArn`)})
	c.AwaitActive(t, "f")
	denied := func(action string) string {
		return "User: arn:aws:iam::" + stranger.Account + ":root is not authorized to perform: " + action + " on resource: " + c.ARN("f") + " because no resource-based policy allows the " + action + " action"
	}
	_, err := stranger.Call(t.Context(), c.ARN("f"), nil)
	wantCode(t, err, "AccessDeniedException", denied("lambda:InvokeFunction"))
	permit := func(sid, principal string) {
		t.Helper()
		_, err := c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), StatementId: &sid, Action: aws.String("lambda:InvokeFunction"), Principal: &principal})
		if err != nil {
			t.Fatal(err)
		}
	}
	permit("other", "123456789012")
	permit("service", "s3.amazonaws.com")
	_, err = stranger.Call(t.Context(), c.ARN("f"), nil)
	wantCode(t, err, "AccessDeniedException", denied("lambda:InvokeFunction"))

	permit("stranger", stranger.Account)
	for _, name := range []string{c.ARN("f"), c.Account + ":function:f"} {
		if got, _ := lab.Do[string](t, stranger, name, nil); got != c.ARN("f") {
			t.Errorf("%s: it runs as %s", name, got)
		}
	}
	_, err = stranger.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String(c.ARN("f"))})
	wantCode(t, err, "AccessDeniedException", denied("lambda:GetFunction"))
	_, err = stranger.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String(c.ARN("f")), StatementId: aws.String("x"), Action: aws.String("*"), Principal: aws.String("*")})
	wantCode(t, err, "AccessDeniedException", denied("lambda:AddPermission"))
	_, err = stranger.Call(t.Context(), "f", nil)
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+stranger.ARN("f"))

	if _, err := c.RemovePermission(t.Context(), &lambda.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("stranger")}); err != nil {
		t.Fatal(err)
	}
	_, err = stranger.Call(t.Context(), c.ARN("f"), nil)
	wantCode(t, err, "AccessDeniedException", denied("lambda:InvokeFunction"))
}

func TestAnAliasOpensItselfAndNotItsFunction(t *testing.T) {
	t.Parallel()
	c, stranger := newCaller(t), newCaller(t)
	c.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler",
		Zip: lab.File("index.js", `exports.handler = async (event, context) => context.invokedFunctionArn`)})
	c.AwaitActive(t, "f")
	if _, err := c.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	alias, err := c.CreateAlias(t.Context(), &lambda.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	q := &lambda.AddPermissionInput{FunctionName: aws.String("f"), Qualifier: aws.String("live"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"),
		Principal: &stranger.Account, RevisionId: alias.RevisionId}
	if _, err := c.AddPermission(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	_, err = c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), Qualifier: aws.String("nope"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Cannot find alias arn: "+c.ARN("f")+":nope")
	_, err = c.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), Qualifier: aws.String("7"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*")})
	wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "Function not found: "+c.ARN("f")+":7")
	after, err := c.GetAlias(t.Context(), &lambda.GetAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := c.GetPolicy(t.Context(), &lambda.GetPolicyInput{FunctionName: aws.String("f"), Qualifier: aws.String("live")})
	if err != nil || aws.ToString(policy.RevisionId) != aws.ToString(after.RevisionId) || aws.ToString(after.RevisionId) == aws.ToString(alias.RevisionId) {
		t.Errorf("%v: the alias was of revision %s and is of %s, its policy of %s", err, aws.ToString(alias.RevisionId), aws.ToString(after.RevisionId), aws.ToString(policy.RevisionId))
	}
	if got, _ := lab.Do[string](t, stranger, c.ARN("f")+":live", nil); got != c.ARN("f")+":live" {
		t.Errorf("by the alias it runs as %s", got)
	}
	for _, qualifier := range []string{"", ":1", ":$LATEST"} {
		_, err := stranger.Call(t.Context(), c.ARN("f")+qualifier, nil)
		wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+stranger.Account+":root is not authorized to perform: lambda:InvokeFunction on resource: "+
			c.ARN("f")+qualifier+" because no resource-based policy allows the lambda:InvokeFunction action")
	}
}

// lambentCommand runs a command of the binary with the credentials in environment, and
// gives what it prints.
func lambentCommand(t *testing.T, s *lab.Server, environment []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), fix.bin, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "AWS_ENDPOINT_URL=" + s.URL}, environment...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("lambent %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

func TestSecurityAcrossAccountsBothPoliciesMustAllow(t *testing.T) {
	t.Parallel()
	s := newServer(t, append([]string{"--auth", "required"}, noPools...)...)
	first, err := os.ReadFile(filepath.Join(s.Data, "operator.env"))
	if err != nil {
		t.Fatal(err)
	}
	operator := strings.Fields(string(first))
	by := func(account string, args ...string) *lab.Caller {
		t.Helper()
		key := strings.Fields(lambentCommand(t, s, operator, append([]string{"key", "create", "--account", account}, args...)...))
		if len(key) != 2 {
			t.Fatalf("the key is %q", key)
		}
		return s.CallerBy(t, account, strings.TrimPrefix(key[0], "AWS_ACCESS_KEY_ID="), strings.TrimPrefix(key[1], "AWS_SECRET_ACCESS_KEY="))
	}
	owner := lambentCommand(t, s, operator, "account", "create", "owner")
	other := lambentCommand(t, s, operator, "account", "create", "other")
	policyFile := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(policyFile, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(t.TempDir(), "nothing.json")
	if err := os.WriteFile(nothing, []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:ListFunctions","Resource":"*"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	root := by(owner)
	otherRoot, may, mayNot := by(other), by(other, "--user", "may", "--policy", policyFile), by(other, "--user", "maynot", "--policy", nothing)
	lambentCommand(t, s, operator, "role", "create", "service/test", "--account", owner, "--policy", nothing)
	root.Create(t, lab.Function{Name: "f", Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", `exports.handler = async () => 1`)})
	root.AwaitActive(t, "f")
	arn := root.ARN("f")
	try := func(c *lab.Caller, user, why string) {
		t.Helper()
		answer, err := c.Call(t.Context(), arn, nil)
		if why == "" {
			if err != nil || string(answer.Payload) != "1" {
				t.Errorf("%s: %v", user, err)
			}
			return
		}
		wantCode(t, err, "AccessDeniedException", "User: arn:aws:iam::"+other+":"+user+" is not authorized to perform: lambda:InvokeFunction on resource: "+arn+" because no "+why+" policy allows the lambda:InvokeFunction action")
	}
	try(otherRoot, "root", "resource-based")
	try(may, "user/may", "resource-based")
	try(mayNot, "user/maynot", "identity-based")
	permit := func(sid, principal string) {
		t.Helper()
		if _, err := root.AddPermission(t.Context(), &lambda.AddPermissionInput{FunctionName: aws.String("f"), StatementId: &sid, Action: aws.String("lambda:InvokeFunction"), Principal: &principal}); err != nil {
			t.Fatal(err)
		}
	}
	permit("one", "arn:aws:iam::"+other+":user/may")
	try(otherRoot, "root", "resource-based")
	try(may, "user/may", "")
	try(mayNot, "user/maynot", "identity-based")
	permit("all", other)
	try(otherRoot, "root", "")
	try(mayNot, "user/maynot", "identity-based")
}
