package api

import (
	"context"
	"testing"

	"lambent"
	"lambent/internal/functionlog"
)

// fakeLogs holds a line for every function there could be.
type fakeLogs struct{}

func (fakeLogs) Read(_ context.Context, account lambent.AccountID, name lambent.FunctionName, _ functionlog.Filter) ([]functionlog.Entry, error) {
	return []functionlog.Entry{{Text: "a line of " + string(account) + " " + string(name)}}, nil
}

func (fakeLogs) Follow(context.Context, lambent.AccountID, lambent.FunctionName, functionlog.Filter, func(functionlog.Entry) error) error {
	return nil
}

func TestSecurityLogsAreOfTheFunctionThatIsNamedOrOfNone(t *testing.T) {
	d := newDoor(t)
	d.HandleLogs(fakeLogs{})
	d.create(t, "f")
	for name, want := range map[string]struct {
		status int
		kind   string
	}{
		"f":                       {200, ""},
		"000000000000:function:f": {200, ""},
		"arn:aws:lambda:us-east-1:000000000000:function:f": {200, ""},
		"g":                       {404, "ResourceNotFoundException"},
		"f:7":                     {404, "ResourceNotFoundException"},
		"a%20b":                   {400, "ValidationException"},
		"111111111111:function:f": {403, "AccessDeniedException"},
		"arn:aws:lambda:us-east-1:111111111111:function:f":    {403, "AccessDeniedException"},
		"arn:aws:lambda:eu-west-1:000000000000:function:f":    {404, "ResourceNotFoundException"},
		"arn:aws-cn:lambda:us-east-1:000000000000:function:f": {404, "ResourceNotFoundException"},
	} {
		got := d.do(t, "GET", "/_lambent/v1/functions/"+name+"/logs", "")
		if want.status != 200 {
			got.wantError(t, want.status, want.kind)
		} else if got.status != 200 || got.body["text"] != "a line of 000000000000 f" {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
	}
}

// A log is of all of a function's versions: who may see those of one, or none of
// the function, does not get at it by the name of a version.
func TestSecurityLogsAreForWhoMaySeeTheFunctions(t *testing.T) {
	caller := openCaller(ownAccount, false)
	d := newDoor(t, askedBy(&caller))
	d.HandleLogs(fakeLogs{})
	if got := d.create(t, "f", "Role", "arn:aws:iam::111111111111:role/r"); got.status != 201 {
		t.Fatal(got.raw)
	}
	const f = "arn:aws:lambda:us-east-1:111111111111:function:f"
	for statements, allowed := range map[string]bool{
		`{"Effect":"Allow","Action":"lambent:GetFunctionLogs","Resource":"` + f + `"}`:                                               true,
		`{"Effect":"Allow","Action":"lambent:GetFunctionLogs","Resource":"` + f + `:*"}`:                                             false,
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"lambent:GetFunctionLogs","Resource":"` + f + `"}`: false,
	} {
		caller = ann(t, statements)
		for _, name := range []string{"f", "f:%24LATEST"} {
			got := d.do(t, "GET", "/_lambent/v1/functions/"+name+"/logs", "")
			if allowed != (got.status == 200) || !allowed && got.status != 403 {
				t.Errorf("%s by %s: %d %s", name, statements, got.status, got.raw)
			}
		}
	}
}
