package registry

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// aliased is a registry with a function of versions 1 and 2.
func aliased(t *testing.T) *fixture {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "one")
	f.freeze("hello")
	f.change("hello", "two")
	f.freeze("hello")
	return f
}

const helloARN = "arn:aws:lambda:eu-west-1:111122223333:function:hello"

func TestAnAliasMeansItsVersionAndLivesThroughARestart(t *testing.T) {
	f := aliased(t)
	a := must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1", Description: "d"}))(t)
	if a.Revision == "" {
		t.Error("it has no revision")
	}
	fn := must(f.Function(account, "hello", "live"))(t)
	if fn.Version != "1" {
		t.Errorf("it means %s", fn.Version)
	}
	b := must(f.UpdateAlias(t.Context(), account, "hello", "live", a.Revision, func(a *Alias) { a.Version = "2" }))(t)
	if diff := cmp.Diff(&Alias{Version: "2", Description: "d", Revision: b.Revision, Before: []lambent.Version{"1"}}, b); diff != "" || b.Revision == a.Revision || a.Version != "1" {
		t.Errorf("updated to %+v from %+v", b, a)
	}
	_, err := f.UpdateAlias(t.Context(), account, "hello", "live", a.Revision, func(a *Alias) {})
	wantError(t, err, lambent.KindPrecondition, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	must(f.CreateAlias(t.Context(), account, "hello", "newest", Alias{Version: "$LATEST"}))(t)
	again := open(t, f.node, nil)
	for q, want := range map[string]lambent.Version{"live": "2", "newest": "$LATEST"} {
		if fn := must(again.Function(account, "hello", q))(t); fn.Version != want {
			t.Errorf("after a restart %s means %s", q, fn.Version)
		}
	}
	if got := must(again.Alias(account, "hello", "live"))(t); !cmp.Equal(got, b) {
		t.Errorf("after a restart it is %+v", got)
	}
}

func TestAliasesThatCannotBeAreRefusedInAWSsWords(t *testing.T) {
	f := aliased(t)
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1", Additional: "2", Weight: 0.5}))(t)
	for _, tc := range []struct {
		function lambent.FunctionName
		name     string
		alias    Alias
		kind     lambent.Kind
		message  string
	}{
		{"nope", "x", Alias{Version: "1"}, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope:1"},
		{"hello", "live", Alias{Version: "1"}, lambent.KindExists, "Alias already exists: " + helloARN + ":live"},
		{"hello", "x", Alias{Version: "10"}, lambent.KindNotFound, "Function not found: " + helloARN + ":10"},
		{"hello", "x", Alias{Version: "1", Additional: "10"}, lambent.KindNotFound, "Function not found: " + helloARN + ":10"},
		{"hello", "x", Alias{Version: "1", Additional: "1"}, lambent.KindInvalid, "Invalid function version 1. Function version 1 is already included in routing configuration."},
		{"hello", "x", Alias{Version: "$LATEST", Additional: "1"}, lambent.KindInvalid, "$LATEST is not supported for an alias pointing to more than 1 version"},
	} {
		_, err := f.CreateAlias(t.Context(), account, tc.function, tc.name, tc.alias)
		wantError(t, err, tc.kind, tc.message)
	}
	_, err := f.UpdateAlias(t.Context(), account, "hello", "x", "", func(*Alias) {})
	wantError(t, err, lambent.KindNotFound, "Alias not found: "+helloARN+":x")
	_, err = f.UpdateAlias(t.Context(), account, "hello", "live", "", func(a *Alias) { a.Version = "9" })
	wantError(t, err, lambent.KindNotFound, "Function not found: "+helloARN+":9")
	_, err = f.Alias(account, "hello", "x")
	wantError(t, err, lambent.KindNotFound, "Cannot find alias arn: "+helloARN+":x")
	_, err = f.Function(account, "hello", "x")
	wantError(t, err, lambent.KindNotFound, "Function not found: "+helloARN+":x")
	_, err = f.Alias(account, "nope", "x")
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope")

	const referenced = "Unable to delete version because the following aliases reference it: [live]"
	wantError(t, f.DeleteVersion(t.Context(), account, "hello", "1"), lambent.KindExists, referenced)
	wantError(t, f.DeleteVersion(t.Context(), account, "hello", "2"), lambent.KindExists, referenced)
	for range 2 { // a second time is no error
		if err := f.DeleteAlias(t.Context(), account, "hello", "live"); err != nil {
			t.Error(err)
		}
	}
	if err := f.DeleteVersion(t.Context(), account, "hello", "2"); err != nil {
		t.Error(err)
	}
	wantError(t, f.DeleteAlias(t.Context(), account, "nope", "live"), lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope")
}

func TestAliasesAreListedByNameAndByVersion(t *testing.T) {
	f := aliased(t)
	for name, a := range map[string]Alias{"b": {Version: "1"}, "a": {Version: "2", Additional: "1", Weight: 0.1}, "c": {Version: "2"}, "d": {Version: "$LATEST"}} {
		must(f.CreateAlias(t.Context(), account, "hello", name, a))(t)
	}
	list := func(version lambent.Version, after string, limit int) (names string) {
		as, next, err := f.ListAliases(account, "hello", version, after, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range as {
			names += a.Name
		}
		return names + ">" + next
	}
	got := []string{list("", "", 10), list("", "", 3), list("", "c", 3), list("1", "", 10), list("1", "", 1), list("2", "a", 10), list("9", "", 1)}
	if diff := cmp.Diff([]string{"abcd>", "abc>c", "d>", "ab>", "a>a", "c>", ">"}, got); diff != "" {
		t.Error(diff)
	}
	_, _, err := f.ListAliases(account, "nope", "", "", 1)
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope")
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	f.created("hello", "one")
	if names := list("", "", 10); names != ">" {
		t.Errorf("the next function has the aliases %s", names)
	}
}

func TestAnAliasSharesCallsByItsWeight(t *testing.T) {
	for _, tc := range []struct {
		weight, roll float64
		want         lambent.Version
	}{
		{0, 0, "1"}, {1, 0, "2"}, {1, math.Nextafter(1, 0), "2"}, {0.25, 0.24, "2"}, {0.25, 0.25, "1"}, {1, 1, "1"},
	} {
		a := Alias{Version: "1", Additional: "2", Weight: tc.weight}
		if got := a.Choose(tc.roll); got != tc.want {
			t.Errorf("of weight %v, rolling %v: %s", tc.weight, tc.roll, got)
		}
	}
	if got := (&Alias{Version: "1"}).Choose(0); got != "1" {
		t.Errorf("an alias of one version means %s", got)
	}
	f := aliased(t)
	const calls = 10_000
	for _, weight := range []float64{0, 0.01, 0.1, 0.5, 0.9, 1} {
		must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1", Additional: "2", Weight: weight}))(t)
		random := rand.New(rand.NewPCG(1, 2))
		second := 0
		for range calls {
			fn, _, _, err := f.Route(account, "hello", "live", random.Float64())
			if err != nil {
				t.Fatal(err)
			}
			if fn.Version == "2" {
				second++
			}
		}
		if share := float64(second) / calls; math.Abs(share-weight) > 0.02 {
			t.Errorf("of weight %v, version 2 gets %v of the calls", weight, share)
		}
		if fn := must(f.Function(account, "hello", "live"))(t); fn.Version != "1" {
			t.Errorf("who only asks is told of version %s", fn.Version)
		}
		must(0, f.DeleteAlias(t.Context(), account, "hello", "live"))(t)
	}
}

func TestAPolicyOfAVersionOrAnAliasGoesWithIt(t *testing.T) {
	f := aliased(t)
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "1"}))(t)
	for _, q := range []string{"", "live", "1"} {
		before := must(f.RevisionOf(account, "hello", q))(t)
		if err := f.grant("hello", q, "a"); err != nil {
			t.Fatal(err)
		}
		if must(f.RevisionOf(account, "hello", q))(t) == before {
			t.Errorf("a permission on %q left its revision", q)
		}
	}
	again := open(t, f.node, nil)
	for _, q := range []string{"", "live", "1"} {
		if sids(again.FunctionPolicy(account, "hello", q)) != 1 {
			t.Errorf("after a restart %q has no policy", q)
		}
	}
	must(0, f.DeleteAlias(t.Context(), account, "hello", "live"))(t)
	must(0, f.DeleteVersion(t.Context(), account, "hello", "1"))(t)
	if sids(f.FunctionPolicy(account, "hello", "live")) != 0 || sids(f.FunctionPolicy(account, "hello", "1")) != 0 || sids(f.FunctionPolicy(account, "hello", "")) != 1 {
		t.Error("the policies of what was deleted are there, or the function's is not")
	}
}

// Many failures of one version put an alias back by one; an alias that has moved on
// stays; and what went wrong stands in for nobody.
func TestAnAliasIsRolledBackOnceFromWhatFailed(t *testing.T) {
	f := aliased(t)
	f.change("hello", "three")
	f.freeze("hello")
	must(f.CreateAlias(t.Context(), account, "hello", "live", Alias{Version: "3"}))(t)
	roll := func(to, failed, was, is lambent.Version) {
		t.Helper()
		gotWas, gotIs, err := f.RollBackAlias(t.Context(), account, "hello", "live", to, failed)
		if gotWas != was || gotIs != is || err != nil {
			t.Errorf("from %s to %s, %v; want from %s to %s", gotWas, gotIs, err, was, is)
		}
		if a := must(f.Alias(account, "hello", "live"))(t); a.Version != is || a.Before != nil || a.Additional != "" {
			t.Errorf("the alias is %+v", a)
		}
	}
	roll("", "3", "3", "2")
	roll("", "3", "2", "2")
	roll("3", "", "2", "3")
	must(f.UpdateAlias(t.Context(), account, "hello", "live", "", func(a *Alias) { a.Version, a.Additional, a.Weight = "2", "3", 0.5 }))(t)
	roll("", "3", "3", "2")
	roll("", "$LATEST", "2", "1")
	for to, kind := range map[lambent.Version]lambent.Kind{"": lambent.KindInvalid, "9": lambent.KindNotFound} {
		if _, _, err := f.RollBackAlias(t.Context(), account, "hello", "live", to, ""); lambent.KindOf(err) != kind {
			t.Errorf("to %q: %v", to, err)
		}
	}
	if _, _, err := f.RollBackAlias(t.Context(), account, "hello", "absent", "", ""); lambent.KindOf(err) != lambent.KindNotFound {
		t.Error(err)
	}
}
