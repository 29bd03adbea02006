package registry

import (
	"errors"
	"testing"

	"lambent"
	"lambent/internal/policy"
)

// grant adds a permission to the policy of a function or qualifier, whatever
// its revision.
func (f *fixture) grant(name lambent.FunctionName, qualifier, sid string) error {
	return f.EditFunctionPolicy(f.t.Context(), account, name, qualifier, func(old *policy.Attached, _ string) (*policy.Attached, error) {
		next, _, err := old.With(&policy.Grant{Sid: sid, Principal: "444455556666", Action: "lambda:InvokeFunction", Resource: f.arn(account, name, qualifier)})
		return next, err
	})
}

func sids(a *policy.Attached) (n int) {
	if a == nil {
		return 0
	}
	return len(a.Statements)
}

func TestAPolicyLivesWithItsFunction(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	wantError(t, f.grant("hello", "", "a"), lambent.KindNotFound, "Function not found: "+f.arn(account, "hello", ""))
	before := f.created("hello", "one")
	for _, sid := range []string{"a", "b"} {
		if err := f.grant("hello", "", sid); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, f.grant("hello", "9", "a"), lambent.KindNotFound, "Function not found: "+f.arn(account, "hello", "9"))
	after := must(f.Function(account, "hello", ""))(t)
	if after.Revision == before.Revision || !after.LastModified.Equal(before.LastModified) || after.ConfigHash != before.ConfigHash || after.State != before.State {
		t.Errorf("a permission made %+v of %+v", after, before)
	}
	if got := must(f.RevisionOf(account, "hello", "$LATEST"))(t); got != after.Revision {
		t.Errorf("its revision is %s, not the function's %s", got, after.Revision)
	}
	again := open(t, f.node, nil)
	if n := sids(again.FunctionPolicy(account, "hello", "")); n != 2 {
		t.Errorf("after a restart there are %d statements", n)
	}
	if n := sids(again.FunctionPolicy(account, "hello", "$LATEST")); n != 2 {
		t.Errorf("$LATEST has %d statements", n)
	}
	if n := sids(again.FunctionPolicy("999900001111", "hello", "")); n != 0 {
		t.Error("it is another account's too")
	}

	nothing := errors.New("no")
	err := again.EditFunctionPolicy(t.Context(), account, "hello", "", func(old *policy.Attached, revision string) (*policy.Attached, error) {
		if revision != after.Revision {
			t.Errorf("it is of revision %s, not %s", revision, after.Revision)
		}
		return nil, nothing
	})
	if !errors.Is(err, nothing) || sids(again.FunctionPolicy(account, "hello", "")) != 2 || must(again.RevisionOf(account, "hello", ""))(t) != after.Revision {
		t.Errorf("refused with %v, and changed all the same", err)
	}
	err = again.EditFunctionPolicy(t.Context(), account, "hello", "", func(*policy.Attached, string) (*policy.Attached, error) { return nil, nil })
	if err != nil || again.FunctionPolicy(account, "hello", "") != nil {
		t.Errorf("%v: %v stays", err, again.FunctionPolicy(account, "hello", ""))
	}
	if err := again.grant("hello", "", "a"); err != nil {
		t.Fatal(err)
	}
	if err := again.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	again.created("hello", "one")
	if again.FunctionPolicy(account, "hello", "") != nil {
		t.Error("the next function of the name has the policy of the one before")
	}
}

func TestAPermissionWhileAFunctionIsPreparedDoesNotKeepItFromSettling(t *testing.T) {
	prepared := make(chan error)
	f := open(t, openNode(t, t.TempDir()), prepared)
	f.create("hello", "one")
	if err := f.grant("hello", "", "a"); err != nil {
		t.Fatal(err)
	}
	granted := must(f.RevisionOf(account, "hello", ""))(t)
	prepared <- nil
	if fn := f.wait(); fn.State != stateActive || fn.Revision == granted {
		t.Errorf("it is %s", fn.State)
	}
	if sids(f.FunctionPolicy(account, "hello", "")) != 1 {
		t.Error("its policy is gone")
	}
}

func TestVersionsAndAliasesHavePoliciesOfTheirOwn(t *testing.T) {
	f := aliased(t)
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1"}))(t)
	wantError(t, f.grant("hello", "nope", "a"), lambent.KindNotFound, "Cannot find alias arn: "+f.arn(account, "hello", "nope"))
	revisions := func() map[string]string {
		all := map[string]string{}
		for _, q := range []string{"", "1", "2", "live"} {
			all[q] = must(f.RevisionOf(account, "hello", q))(t)
		}
		return all
	}
	for _, q := range []string{"1", "live"} {
		before := revisions()
		if err := f.grant("hello", q, "of"+q); err != nil {
			t.Fatal(err)
		}
		for other, revision := range revisions() {
			if (revision != before[other]) != (other == q) {
				t.Errorf("a permission on %q: the revision of %q was %s and is %s", q, other, before[other], revision)
			}
		}
	}
	if a := must(f.Alias(account, "hello", "live"))(t); a.Version != "1" {
		t.Errorf("the alias became %+v", a)
	}
	again := open(t, f.node, nil)
	for q, want := range map[string]int{"": 0, "1": 1, "2": 0, "live": 1} {
		if n := sids(again.FunctionPolicy(account, "hello", q)); n != want {
			t.Errorf("%q has %d statements, want %d", q, n, want)
		}
	}
	if err := again.DeleteAlias(t.Context(), account, "hello", "live"); err != nil {
		t.Fatal(err)
	}
	must(again.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "2"}))(t)
	if again.FunctionPolicy(account, "hello", "live") != nil {
		t.Error("the next alias of the name has the policy of the one before")
	}
}
