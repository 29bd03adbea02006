package config

import (
	"testing"

	"lambent"
)

func TestSecurityOtherAccountsQueuesAreDeliveredToByWhomTheyAreNamedFor(t *testing.T) {
	const a, b = "arn:aws:sqs:eu-west-1:111111111111:a", "arn:aws:events:eu-west-1:222222222222:event-bus/b"
	none := Config{}
	some := Config{EndpointTargets: []string{a, "333333333333/arn:aws:events:eu-west-1:222222222222:event-bus/*"}}
	for _, test := range []struct {
		config         Config
		account, owner lambent.AccountID
		arn            string
		want           bool
	}{
		{none, "111111111111", "111111111111", a, true}, {none, "222222222222", "111111111111", a, false},
		{some, "222222222222", "111111111111", a, true}, {some, "222222222222", "111111111111", a + "b", false},
		{some, "333333333333", "222222222222", b, true}, {some, "444444444444", "222222222222", b, false},
		{Config{EndpointTargets: []string{"*"}}, "444444444444", "222222222222", b, true},
		{Config{EndpointTargets: []string{"444444444444/*"}}, "444444444444", "222222222222", b, true},
		{Config{EndpointTargets: []string{"444444444444/*"}}, "555555555555", "222222222222", b, false},
	} {
		if got := test.config.MayDeliver(test.account, test.owner, test.arn); got != test.want {
			t.Errorf("%q: %s to %s: %v", test.config.EndpointTargets, test.account, test.arn, got)
		}
	}
}
