package policy_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/policy"
)

func yes() *bool { b := true; return &b }

func TestAGrantsStatementIsWrittenAsAWSWritesIt(t *testing.T) {
	const head = `{"Sid":"s","Effect":"Allow","Principal":`
	const tail = `,"Action":"lambda:InvokeFunction","Resource":"` + function + `"`
	for _, tc := range []struct {
		grant policy.Grant
		want  string
	}{
		{policy.Grant{Principal: "s3.amazonaws.com", SourceAccount: "111111111111", SourceARN: "arn:aws:s3:::b<&>*"},
			head + `{"Service":"s3.amazonaws.com"}` + tail + `,"Condition":{"StringEquals":{"AWS:SourceAccount":"111111111111"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b<&>*"}}}`},
		{policy.Grant{Principal: "222222222222"}, head + `{"AWS":"arn:aws:iam::222222222222:root"}` + tail + `}`},
		{policy.Grant{Principal: "arn:aws:iam::222222222222:root"}, head + `{"AWS":"arn:aws:iam::222222222222:root"}` + tail + `}`},
		{policy.Grant{Principal: "arn:aws:iam::222222222222:role/a/b"}, head + `{"AWS":"arn:aws:iam::222222222222:role/a/b"}` + tail + `}`},
		{policy.Grant{Principal: "arn:aws:sts::222222222222:assumed-role/r/s"}, head + `{"AWS":"arn:aws:sts::222222222222:assumed-role/r/s"}` + tail + `}`},
		{policy.Grant{Principal: "*", PrincipalOrgID: "o-0123456789"}, head + `"*"` + tail + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-0123456789"}}}`},
		{policy.Grant{Principal: "*", FunctionURLAuthType: "NONE"}, head + `"*"` + tail + `,"Condition":{"StringEquals":{"lambda:FunctionUrlAuthType":"NONE"}}}`},
		{policy.Grant{Principal: "*", InvokedViaFunctionURL: yes()}, head + `"*"` + tail + `,"Condition":{"Bool":{"lambda:InvokedViaFunctionUrl":"true"}}}`},
		{policy.Grant{Principal: "alexa-appkit.amazon.com", EventSourceToken: "t"}, head + `{"Service":"alexa-appkit.amazon.com"}` + tail + `,"Condition":{"StringEquals":{"lambda:EventSourceToken":"t"}}}`},
	} {
		g := tc.grant
		g.Sid, g.Action, g.Resource = "s", "lambda:InvokeFunction", function
		got, err := g.Statement()
		if diff := cmp.Diff(tc.want, string(got)); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	for _, who := range []string{"", "joe", "1234", "arn:aws:iam::222222222222:user/*", "arn:aws:iam::2:root", "arn:aws:s3:::b", "*.amazonaws.com", "amazonaws.com", "evil.com", "S3.amazonaws.com", "arn:aws:iam::222222222222:user/a b"} {
		g := policy.Grant{Sid: "s", Principal: who, Action: "lambda:InvokeFunction", Resource: function}
		if got, err := g.Statement(); err == nil {
			t.Errorf("%q is a principal: %s", who, got)
		}
	}
}

func TestStatementsAreAddedAndTakenAway(t *testing.T) {
	grant := func(sid, who string) *policy.Grant {
		return &policy.Grant{Sid: sid, Principal: who, Action: "lambda:InvokeFunction", Resource: function}
	}
	var none *policy.Attached
	one, first, err := none.With(grant("a", "222222222222"))
	if err != nil {
		t.Fatal(err)
	}
	two, second, err := one.With(grant("b", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(two.JSON()), fmt.Sprintf(`{"Version":"2012-10-17","Id":"default","Statement":[%s,%s]}`, first, second); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, _, err := two.With(grant("a", "*")); !errors.Is(err, policy.ErrSidTaken) {
		t.Errorf("a second statement of a Sid: %v", err)
	}
	if len(one.Statements) != 1 {
		t.Error("the policy that another was made of has changed")
	}
	left, err := two.Without("a")
	if err != nil || len(left.Statements) != 1 || string(left.Statements[0]) != string(second) || len(two.Statements) != 2 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := left.Without("a"); !errors.Is(err, policy.ErrNoSid) {
		t.Errorf("a statement that is not there: %v", err)
	}
	if _, err := none.Without("a"); !errors.Is(err, policy.ErrNoSid) {
		t.Errorf("a policy that is not there: %v", err)
	}
	if gone, err := left.Without("b"); gone != nil || err != nil {
		t.Errorf("%v, %v", gone, err)
	}

	stored, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	var again policy.Attached
	if err := json.Unmarshal(stored, &again); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d, err := again.Document()
		if err != nil {
			t.Fatal(err)
		}
		if got := policy.Evaluate(asking(policy.RootOf(stranger)), policy.Policies{Resource: d}); !got.Allowed || got.Sid != "a" {
			t.Errorf("%+v", got)
		}
	}
	if d, err := none.Document(); d != nil || err != nil {
		t.Errorf("no policy is read as %v, %v", d, err)
	}
}

func TestAPolicyHasAtMost20KB(t *testing.T) {
	var a *policy.Attached
	for i := range 1000 {
		next, _, err := a.With(&policy.Grant{Sid: fmt.Sprint(i), Principal: "*", Action: "lambda:InvokeFunction", Resource: function})
		if long, ok := errors.AsType[*policy.TooLongError](err); ok {
			if len(a.JSON()) > policy.MaxSize || long.Size <= policy.MaxSize || long.Size > policy.MaxSize+200 {
				t.Errorf("%d bytes, and one statement more would be %d", len(a.JSON()), long.Size)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		a = next
	}
	t.Error("it has no end")
}

// Nothing a caller writes into a grant becomes more than the member it is for.
func FuzzGrant(f *testing.F) {
	f.Add("s", "*", "lambda:InvokeFunction", "111111111111", "arn:aws:s3:::b", "t")
	f.Add(`"},{"Effect":"Allow"`, "222222222222", "lambda:*", `","x":"`, `arn:aws:s3:::"}}`, "${aws:username}")
	f.Fuzz(func(t *testing.T, sid, who, action, account, arn, token string) {
		g := policy.Grant{Sid: sid, Principal: who, Action: action, Resource: function, SourceAccount: account, SourceARN: arn, EventSourceToken: token}
		text, err := g.Statement()
		if err != nil {
			if !errors.Is(err, policy.ErrPrincipal) && lambent.KindOf(err) != lambent.KindInvalid {
				t.Errorf("%v", err)
			}
			return
		}
		var s map[string]any
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if s["Action"] != action || s["Resource"] != function || utf8.ValidString(sid) && s["Sid"] != sid {
			t.Errorf("%+v became %s", g, text)
		}
	})
}
