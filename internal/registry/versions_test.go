package registry

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lambent"
)

func (f *fixture) freeze(name lambent.FunctionName) *lambent.Function {
	f.t.Helper()
	fn, err := f.PublishVersion(f.t.Context(), account, name, "", "", nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return fn
}

// change gives a function other code and waits until that has settled.
func (f *fixture) change(name lambent.FunctionName, pkg string) *lambent.Function {
	f.t.Helper()
	if _, err := f.UpdateFunctionCode(f.t.Context(), account, name, "", nil, []byte(pkg), lambent.Unpublished); err != nil {
		f.t.Fatal(err)
	}
	return f.wait()
}

// listed tells which versions a function has, as it is listed.
func (f *fixture) listed(name lambent.FunctionName) (versions []lambent.Version) {
	f.t.Helper()
	fs, next, err := f.ListVersions(account, name, "", 100)
	if err != nil || next != "" {
		f.t.Fatalf("next %q, %v", next, err)
	}
	for _, fn := range fs {
		versions = append(versions, fn.Version)
	}
	return versions
}

func TestAVersionIsFrozenAndOutlivesUpdatesAndRestarts(t *testing.T) {
	dir := t.TempDir()
	node := openNode(t, dir)
	f := open(t, node, nil)
	latest := f.created("hello", "one")
	v1 := f.freeze("hello")
	want := *latest
	want.Version, want.Tags, want.PublishedFrom = "1", nil, v1.PublishedFrom
	if diff := cmp.Diff(&want, v1, cmpopts.IgnoreFields(lambent.Function{}, "Revision", "LastModified")); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if v1.Revision == latest.Revision || v1.PublishedFrom == "" {
		t.Errorf("revision %q, published from %q", v1.Revision, v1.PublishedFrom)
	}
	changed := f.change("hello", "two")
	if got := must(f.Function(account, "hello", "1"))(t); got != v1 {
		t.Errorf("after an update version 1 is %+v", got)
	}
	if code, err := f.code(v1.Code); code != "one" || err != nil {
		t.Errorf("its code is %q, %v", code, err)
	}
	if _, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	note := "the second"
	v2 := must(f.PublishVersion(t.Context(), account, "hello", changed.Revision, changed.Code, &note))(t)
	if v2.Version != "2" || v2.Description != note || v2.Code != changed.Code {
		t.Errorf("published %+v", v2)
	}
	if got := must(f.Function(account, "hello", ""))(t); got != changed {
		t.Errorf("publishing changed $LATEST to %+v", got)
	}
	again := open(t, node, nil)
	for _, want := range []*lambent.Function{v1, v2, changed} {
		got := must(again.Function(account, "hello", string(want.Version)))(t)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after a restart version %s (-want +got):\n%s", want.Version, diff)
		}
		if _, err := again.code(want.Code); err != nil {
			t.Errorf("code of version %s: %v", want.Version, err)
		}
	}
	if codes := again.Codes(); len(codes) != 2 || !codes[v1.Code] || !codes[v2.Code] {
		t.Errorf("codes %v", codes)
	}
}

func TestNothingNewMakesNoNewVersion(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "one")
	v1 := f.freeze("hello")
	other := "other words"
	if got := must(f.PublishVersion(t.Context(), account, "hello", "", "", &other))(t); got != v1 {
		t.Errorf("published %+v", got)
	}
	f.change("hello", "one")
	if got := f.freeze("hello"); got != v1 {
		t.Errorf("the same code anew published %+v", got)
	}
	configure := func(change func(fn *lambent.Function)) {
		t.Helper()
		if _, err := f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error { change(fn); return nil }); err != nil {
			t.Fatal(err)
		}
		f.wait()
	}
	configure(func(fn *lambent.Function) { fn.Tags = map[string]string{"a": "b"} })
	if got := f.freeze("hello"); got != v1 {
		t.Errorf("another tag published %+v", got)
	}
	configure(func(fn *lambent.Function) { fn.Description = "new" }) // AWS: the description is configuration
	if got := f.freeze("hello"); got.Version != "2" || got.Description != "new" {
		t.Errorf("another description published %+v", got)
	}
	configure(func(fn *lambent.Function) { fn.Description = ""; fn.Tags = nil }) // as for version 1, but not since the last
	if got := f.freeze("hello"); got.Version != "3" {
		t.Errorf("what an earlier version was published %+v", got)
	}
}

func TestWhatCannotBePublishedIsToldInAWSsWords(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error, 1))
	publish := func(revision string, code lambent.CodeHash) error {
		_, err := f.PublishVersion(t.Context(), account, "hello", revision, code, nil)
		return err
	}
	const arn = "arn:aws:lambda:eu-west-1:111122223333:function:hello"
	wantError(t, publish("", ""), lambent.KindNotFound, "Function not found: "+arn)
	old := f.create("hello", "one").Revision
	wantError(t, publish("", ""), lambent.KindExists, "The operation cannot be performed at this time. An update is in progress for resource: "+arn)
	f.prepare <- nil
	fn := f.wait()
	wantError(t, publish(old, ""), lambent.KindPrecondition, "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	wantError(t, publish("", "abc"), lambent.KindInvalid, "CodeSHA256 (abc) is different from current CodeSHA256 in $LATEST ("+string(fn.Code)+"). Please try again with the CodeSHA256 in $LATEST.")
	if err := publish(fn.Revision, fn.Code); err != nil {
		t.Error(err)
	}
	f.prepare <- errors.New("no good")
	f.created("failed", "one")
	_, err := f.PublishVersion(t.Context(), account, "failed", "", "", nil)
	wantError(t, err, lambent.KindExists, "The operation cannot be performed at this time. The function is currently in the following state: Failed")
}

func TestCreatedAndUpdatedFunctionsArePublishedAtOnce(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error, 2))
	v1 := must(f.CreateFunction(t.Context(), spec("hello"), []byte("one"), lambent.Published))(t)
	if v1.Version != "1" || v1.State != "Pending" || v1.StateReasonCode != "Creating" || v1.UpdateStatus != "" {
		t.Errorf("created %+v", v1)
	}
	f.prepare <- nil // both settle by themselves
	f.prepare <- nil
	f.wait()
	f.wait()
	for _, q := range []string{"1", "$LATEST"} {
		if got := must(f.Function(account, "hello", q))(t); got.State != "Active" || got.UpdateStatus != "Successful" {
			t.Errorf("%s settled as %+v", q, got)
		}
	}
	if got := f.freeze("hello"); got.Version != "1" {
		t.Errorf("nothing new published %+v", got)
	}
	v2 := must(f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("two"), lambent.Published))(t)
	if v2.Version != "2" || v2.State != "Pending" || v2.UpdateStatus != "" || v2.Code != hashOf([]byte("two")) {
		t.Errorf("updated to %+v", v2)
	}
	if latest := must(f.Function(account, "hello", ""))(t); latest.State != "Active" || latest.UpdateStatus != "InProgress" {
		t.Errorf("$LATEST is %+v", latest)
	}
	f.prepare <- nil
	f.prepare <- errors.New("no good")
	states := map[string]bool{}
	for range 2 {
		fn := f.wait()
		states[fn.State+" "+fn.UpdateStatus] = true
	}
	if !states["Active Successful"] && !states["Active Failed"] {
		t.Errorf("states %v", states)
	}
}

func TestNumbersAreNeverGivenTwice(t *testing.T) {
	dir := t.TempDir()
	node := openNode(t, dir)
	f := open(t, node, nil)
	f.created("hello", "1")
	f.freeze("hello")
	f.change("hello", "2")
	f.freeze("hello")
	del := func(v lambent.Version) {
		t.Helper()
		if err := f.DeleteVersion(t.Context(), account, "hello", v); err != nil {
			t.Error(err)
		}
	}
	del("2")
	del("2") // which is no error, as at AWS
	del("7")
	del("01")
	_, err := f.Function(account, "hello", "2")
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:hello:2")
	if got := f.freeze("hello"); got.Version != "3" {
		t.Errorf("after the deletion of the newest, version %s is published", got.Version)
	}
	del("1")
	if diff := cmp.Diff([]lambent.Version{"$LATEST", "3"}, f.listed("hello")); diff != "" {
		t.Error(diff)
	}
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	_, err = f.Function(account, "hello", "3")
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:hello:3")
	f.created("hello", "1")
	if diff := cmp.Diff([]lambent.Version{"$LATEST"}, f.listed("hello")); diff != "" {
		t.Error(diff)
	}
	if got := f.freeze("hello"); got.Version != "4" {
		t.Errorf("the next function of the name begins with version %s", got.Version)
	}
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	f = open(t, node, nil)
	f.created("hello", "1")
	if got := f.freeze("hello"); got.Version != "5" {
		t.Errorf("after a restart it begins with version %s", got.Version)
	}
	wantError(t, f.DeleteVersion(t.Context(), account, "nope", "1"), lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope")
}

func TestVersionsGoWithTheirFunction(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("hello", "one")
	f.freeze("hello")
	f.change("hello", "two")
	f.freeze("hello")
	var told []string
	f.Subscribe(func(c Change) {
		told = append(told, fmt.Sprintf("%s gone=%v all=%v", c.Version, c.After == nil, c.FunctionDeleted()))
	})
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"$LATEST gone=true all=true", "1 gone=true all=false", "2 gone=true all=false"}, told); diff != "" {
		t.Error(diff)
	}
	dropped := must(f.Registry.code.dropUnused(t.Context(), time.Now().Add(time.Hour)))(t)
	if len(dropped) != 2 || len(f.Codes()) != 0 {
		t.Errorf("dropped %v, left %v", dropped, f.Codes())
	}
}

// A crash between the deletion of a function and that of its versions leaves
// these behind.
func TestVersionsWithoutAFunctionAreDropped(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("hello", "one")
	f.freeze("hello")
	latest := must(f.Function(account, "hello", ""))(t)
	must(0, f.records.Delete(t.Context(), recordKey(latest), 0))(t)
	again := open(t, node, nil)
	if n := len(again.published(functionKey{account, "hello"})); n != 0 {
		t.Errorf("%d versions are left", n)
	}
	if keys := must(again.blobs.Keys(t.Context()))(t); len(keys) != 0 {
		t.Errorf("code is left: %v", keys)
	}
	// Within one life: the function is gone, its version is still known, and out of
	// reach.
	f.Registry.remove(functionKey{account, "hello"}, lambent.Latest)
	if fn, err := f.Function(account, "hello", "1"); err == nil {
		t.Errorf("it still has %+v", fn)
	}
}

func TestVersionsAreListedFromLatestOn(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("a", "x")
	f.created("b", "0")
	for i := range 11 {
		f.freeze("b")
		f.change("b", fmt.Sprint(i+1))
	}
	f.created("c", "x")
	f.freeze("c")
	for _, tc := range []struct {
		after lambent.Version
		limit int
		want  string
	}{
		{"", 100, "$LATEST 1 2 3 4 5 6 7 8 9 10 11 next="},
		{"", 3, "$LATEST 1 2 next=2"},
		{"", 1, "$LATEST next=$LATEST"},
		{"$LATEST", 2, "1 2 next=2"},
		{"9", 2, "10 11 next="},
		{"9", 1, "10 next=10"},
		{"11", 5, "next="},
	} {
		fs, next, err := f.ListVersions(account, "b", tc.after, tc.limit)
		var got []string
		for _, fn := range fs {
			got = append(got, string(fn.Version))
		}
		if s := strings.Join(append(got, "next="+string(next)), " "); s != tc.want || err != nil {
			t.Errorf("after %q, %d: %s, want %s; %v", tc.after, tc.limit, s, tc.want, err)
		}
	}
	_, _, err := f.ListVersions(account, "nope", "", 1)
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:nope")

	for limit := 1; limit < 17; limit++ {
		var got []string
		var name lambent.FunctionName
		var version lambent.Version
		for pages := 0; pages < 20; pages++ {
			var fs []*lambent.Function
			fs, name, version = f.ListAllVersions(account, name, version, limit)
			for _, fn := range fs {
				got = append(got, string(fn.Name)+":"+string(fn.Version))
			}
			if name == "" {
				break
			}
		}
		const want = "a:$LATEST b:$LATEST b:1 b:2 b:3 b:4 b:5 b:6 b:7 b:8 b:9 b:10 b:11 c:$LATEST c:1"
		if s := strings.Join(got, " "); s != want {
			t.Errorf("pages of %d: %s", limit, s)
		}
	}
}
