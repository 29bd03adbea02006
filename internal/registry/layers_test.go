package registry

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

func (f *fixture) publish(name, pkg string) *lambent.LayerVersion {
	f.t.Helper()
	v, err := f.PublishLayerVersion(f.t.Context(), &lambent.LayerVersion{Account: account, Name: name, Description: "d", License: "MIT",
		Runtimes: []lambent.Runtime{"nodejs22.x"}, Architectures: []string{"x86_64"}, Unpacked: 7}, []byte(pkg))
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func used(v *lambent.LayerVersion) lambent.Layer {
	return lambent.Layer{ARN: lambent.LayerVersionARN(region, v.Account, v.Name, v.Version), Code: v.Code, Size: v.CodeSize, Unpacked: v.Unpacked}
}

func TestLayerVersionsSurviveARestartAndTheirNumbersAreNotUsedAgain(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	first, second := f.publish("l", "one"), f.publish("l", "two")
	if first.Version != 1 || second.Version != 2 {
		t.Fatalf("versions %d, %d", first.Version, second.Version)
	}
	if err := f.DeleteLayerVersion(t.Context(), account, "l", 2); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteLayerVersion(t.Context(), account, "l", 2); err != nil {
		t.Errorf("deleted again: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, node, nil)
	got, err := f.LayerVersion(account, "l", 1)
	if diff := cmp.Diff(first, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if code, err := f.code(first.Code); code != "one" || err != nil {
		t.Errorf("code %q, %v", code, err)
	}
	if third := f.publish("l", "three"); third.Version != 3 {
		t.Errorf("the version after a deleted 2 is %d", third.Version)
	}
	_, err = f.LayerVersion(account, "l", 2)
	wantError(t, err, lambent.KindNotFound, "The resource you requested does not exist.")
	if _, err := f.LayerVersion(other, "l", 1); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("in another account: %v", err)
	}
}

func TestFunctionKeepsTheLayersThatAreDeleted(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	v := f.publish("l", "layer")
	s := spec("hello")
	s.Layers = []lambent.Layer{used(v)}
	if _, err := f.CreateFunction(t.Context(), s, []byte("zip"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if err := f.DeleteLayerVersion(t.Context(), account, "l", 1); err != nil {
		t.Fatal(err)
	}
	for range 2 { // as it is, and after a restart
		if _, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(2*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if code, err := f.code(v.Code); code != "layer" || err != nil {
			t.Errorf("the layer's code: %q, %v", code, err)
		}
		if !f.Codes()[v.Code] {
			t.Error("Codes leaves the layer's out")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		f = open(t, node, nil)
	}
	// Another function cannot have it any more but by the first one's leave.
	if _, err := f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error { fn.Layers = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	f.wait()
	dropped, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(2*time.Hour))
	if diff := cmp.Diff([]lambent.CodeHash{v.Code}, dropped); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error { fn.Layers = s.Layers; return nil })
	wantError(t, err, lambent.KindInvalid, "Layer version "+s.Layers[0].ARN+" does not exist.")
	if fn, err := f.Function(account, "hello", ""); err != nil || len(fn.Layers) != 0 {
		t.Errorf("after a refused update it has %v, %v", fn.Layers, err)
	}
}

func TestLayersAreCountedWithTheirFunctions(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	v := f.publish("l", "layer")
	s := spec("hello")
	s.Layers = []lambent.Layer{used(v)}
	if _, err := f.CreateFunction(t.Context(), s, []byte("zip"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if _, err := f.CreateFunction(t.Context(), s, []byte("zip"), lambent.Unpublished); lambent.KindOf(err) != lambent.KindExists { // gives back what it took
		t.Fatal(err)
	}
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("other"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteLayerVersion(t.Context(), account, "l", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n := f.Registry.code.len(); n != 0 {
		t.Errorf("%d packages are left of nothing", n)
	}
}

func TestListOfLayersHasTheNewestThatMatches(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	for k := range 3 {
		f.publish("a", "x")
		f.publish(fmt.Sprintf("b%d", k), "x")
	}
	f.publish("c", "x")
	if err := f.DeleteLayerVersion(t.Context(), account, "c", 1); err != nil {
		t.Fatal(err)
	}
	list := func(after string, limit int, match func(*lambent.LayerVersion) bool) (got []string, next string) {
		found, next := f.ListLayers(account, after, limit, match)
		for _, v := range found {
			got = append(got, fmt.Sprint(v.Name, ":", v.Version))
		}
		return got, next
	}
	every := func(*lambent.LayerVersion) bool { return true }
	for _, c := range []struct {
		after string
		limit int
		match func(*lambent.LayerVersion) bool
		want  []string
		next  string
	}{
		{"", 10, every, []string{"a:3", "b0:1", "b1:1", "b2:1"}, ""},
		{"", 2, every, []string{"a:3", "b0:1"}, "b0"},
		{"b0", 2, every, []string{"b1:1", "b2:1"}, ""},
		{"", 10, func(v *lambent.LayerVersion) bool { return v.Version == 2 }, []string{"a:2"}, ""},
	} {
		got, next := list(c.after, c.limit, c.match)
		if diff := cmp.Diff(c.want, got); diff != "" || next != c.next {
			t.Errorf("after %q, at most %d: next %q\n%s", c.after, c.limit, next, diff)
		}
	}
	var versions []int64
	for _, v := range f.LayerVersions(account, "a") {
		versions = append(versions, v.Version)
	}
	if diff := cmp.Diff([]int64{3, 2, 1}, versions); diff != "" {
		t.Error(diff)
	}
	if none := f.LayerVersions(account, "never"); len(none) != 0 {
		t.Errorf("a layer that never was has %v", none)
	}
}

func TestLayerPolicyIsEditedWhole(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.publish("l", "x")
	add := func(version int64) (*lambent.LayerVersion, error) {
		return f.EditLayerPolicy(t.Context(), account, "l", version, func(v *lambent.LayerVersion) ([]lambent.LayerStatement, error) {
			if v == nil {
				return nil, nil
			}
			return append(v.Statements, lambent.LayerStatement{ID: fmt.Sprint(len(v.Statements)), Principal: string(other)}), nil
		})
	}
	if _, err := add(2); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("of a version that is not there: %v", err)
	}
	first, err := add(1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := add(1)
	if err != nil || len(second.Statements) != 2 || second.PolicyRevision == first.PolicyRevision {
		t.Errorf("%+v, %v", second, err)
	}
	if got, err := f.LayerVersion(account, "l", 1); err != nil || !got.Allows(other) || got.Allows("999999999999") {
		t.Errorf("%+v, %v", got, err)
	}
}
