package main

import (
	"strings"
	"testing"

	"lambent"
	"lambent/internal/control"
)

func TestRulesNameWhatCanBeAsked(t *testing.T) {
	const account = lambent.AccountID("111122223333")
	for function, why := range map[string]string{
		"doctor": "", "doctor:live": "",
		"arn:aws:lambda:us-east-1:111122223333:function:doctor": "",
		"arn:aws:lambda:us-east-1:444455556666:function:doctor": "another account's",
		"a/b": "is no name", strings.Repeat("f:", 1000): "is no name",
	} {
		err := checkAsked(account, "f", control.Rules{{On: control.OnError, Function: function}})
		switch {
		case why == "" && err != nil:
			t.Errorf("%s: %v", function, err)
		case why != "" && (lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), why)):
			t.Errorf("%.60s: %v, want %q", function, err, why)
		}
	}
}
