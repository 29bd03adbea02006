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
