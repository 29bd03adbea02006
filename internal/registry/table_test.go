package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/cluster/crashtest"
)

func invokeKey(name lambent.FunctionName, qualifier string) ObjectKey {
	return ObjectKey{account, string(name), qualifier}
}

func invokeConfig(to string) *EventInvokeConfig { return &EventInvokeConfig{OnFailure: to} }

// put sets the event-invoke config of a function.
func (f *fixture) put(name lambent.FunctionName, to string) {
	f.t.Helper()
	_, err := f.EventInvokeConfigs.Edit(f.t.Context(), "put", invokeKey(name, ""), func(*EventInvokeConfig) (*EventInvokeConfig, error) {
		return invokeConfig(to), nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestObjectIsMadeChangedAndDeletedAndSurvivesARestart(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("hello", "zip")
	key := invokeKey("hello", "")
	if err := f.EventInvokeConfigs.Create(t.Context(), "create", key, invokeConfig("a"), "taken"); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.EventInvokeConfigs.Create(t.Context(), "create", key, invokeConfig("b"), "taken"), lambent.KindExists, "taken")
	first := f.EventInvokeConfigs.Get(key)
	second, err := f.EventInvokeConfigs.Edit(t.Context(), "change", key, func(old *EventInvokeConfig) (*EventInvokeConfig, error) {
		if old != first {
			t.Errorf("change was given %+v", old)
		}
		return invokeConfig("c"), nil
	})
	if err != nil || second.OnFailure != "c" || first.OnFailure != "a" || f.EventInvokeConfigs.Get(key) != second {
		t.Errorf("changed to %+v from %+v, %v", second, first, err)
	}
	refused := errors.New("refused")
	if _, err := f.EventInvokeConfigs.Edit(t.Context(), "change", key, func(*EventInvokeConfig) (*EventInvokeConfig, error) { return nil, refused }); err != refused {
		t.Errorf("the error of change came back as %v", err)
	}
	again := open(t, node, nil)
	if diff := cmp.Diff(second, again.EventInvokeConfigs.Get(key)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	remove := func(*EventInvokeConfig) (*EventInvokeConfig, error) { return nil, nil }
	for range 2 { // the second finds nothing to do
		if got, err := again.EventInvokeConfigs.Edit(t.Context(), "delete", key, remove); got != nil || err != nil {
			t.Errorf("deleted: %+v, %v", got, err)
		}
	}
	if got := open(t, node, nil).EventInvokeConfigs.Get(key); got != nil {
		t.Errorf("deleted and yet there: %+v", got)
	}
}

func TestObjectOfAFunctionNeedsTheFunctionAndGoesWithIt(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	err := f.EventInvokeConfigs.Create(t.Context(), "create", invokeKey("hello", ""), invokeConfig("a"), "")
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:hello")
	f.created("hello", "zip")
	f.created("hello2", "zip")
	f.put("hello", "a")
	f.put("hello2", "b")
	ofAccount := ObjectKey{account, "", "hello"}
	if err := f.CodeSigningConfigs.Create(t.Context(), "create", ofAccount, &CodeSigningConfig{}, ""); err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*fixture{f, open(t, node, nil)} {
		if r.EventInvokeConfigs.Get(invokeKey("hello", "")) != nil {
			t.Error("what belonged to a deleted function is there")
		}
		if r.EventInvokeConfigs.Get(invokeKey("hello2", "")) == nil || r.CodeSigningConfigs.Get(ofAccount) == nil {
			t.Error("what belongs to another function, or to the account, is gone")
		}
	}
}

func TestQualifierTakesItsObjectsWithIt(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "zip")
	for _, q := range []string{"", "1", "live"} { // past Edit, which wants them to be there
		before := object[EventInvokeConfig]{key: invokeKey("hello", q)}
		must(0, f.EventInvokeConfigs.write(t.Context(), "create", before, invokeConfig(q)))(t)
	}
	err := f.EventInvokeConfigs.Create(t.Context(), "create", invokeKey("hello", "nope"), invokeConfig(""), "")
	wantError(t, err, lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:hello:nope")
	k := functionKey{account, "hello"}
	mu := f.lockOf(k)
	mu.Lock()
	err = f.dropObjects(t.Context(), k, "1")
	mu.Unlock()
	left, _ := f.EventInvokeConfigs.List(account, "hello", ObjectKey{}, 10, nil)
	if len(left) != 2 || left[0].Key.Name != "" || left[1].Key.Name != "live" || err != nil {
		t.Errorf("left are %+v, %v", left, err)
	}
}

// A crash, or a disk that was full, may leave objects behind a function.
func TestWhatADeletionLeftIsNotFoundByTheNextOfTheName(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("hello", "zip")
	f.put("hello", "old")
	fn := must(f.Function(account, "hello", ""))(t)
	must(0, f.records.Delete(t.Context(), recordKey(fn), 0))(t) // as far as a crash lets it come
	again := open(t, node, nil)
	if got := again.EventInvokeConfigs.Get(invokeKey("hello", "")); got != nil {
		t.Errorf("after a restart there is %+v", got)
	}
	// Within one life: the function is gone, its object is still known.
	f.Registry.remove(functionKey{account, "hello"}, lambent.Latest)
	f.created("hello", "zip")
	if got := f.EventInvokeConfigs.Get(invokeKey("hello", "")); got != nil {
		t.Errorf("the next function has %+v", got)
	}
}

func TestListOfObjectsIsInOrderOfKeysAndPaged(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	var want []ObjectKey
	for _, key := range []ObjectKey{{account, "a", "2"}, {account, "", "x"}, {account, "a", ""}, {other, "a", "1"}, {account, "b", ""}, {account, "a-", ""}, {account, "a", "10"}} {
		if err := f.CodeSigningConfigs.Create(t.Context(), "create", key, &CodeSigningConfig{Description: key.Name}, ""); err != nil {
			t.Fatal(err)
		}
		if key.Account == account {
			want = append(want, key)
		}
	}
	slices.SortFunc(want, ObjectKey.compare)
	keys := func(os []Object[CodeSigningConfig]) (ks []ObjectKey) {
		for _, o := range os {
			ks = append(ks, o.Key)
		}
		return ks
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []ObjectKey
		for after, more := (ObjectKey{}), true; more; {
			var page []Object[CodeSigningConfig]
			page, more = f.CodeSigningConfigs.List(account, "", after, limit, nil)
			if len(page) == 0 || len(page) > limit {
				t.Fatalf("a page of %d of at most %d", len(page), limit)
			}
			got = append(got, keys(page)...)
			after = page[len(page)-1].Key
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	page, more := f.CodeSigningConfigs.List(account, "a", ObjectKey{account, "a", ""}, 10, func(o Object[CodeSigningConfig]) bool { return o.Value.Description != "10" })
	if diff := cmp.Diff([]ObjectKey{{account, "a", "2"}}, keys(page)); diff != "" || more {
		t.Errorf("of a parent, after a key, those that are kept: %t (-want +got):\n%s", more, diff)
	}
}

func TestObjectKeepsFieldsItDoesNotKnow(t *testing.T) {
	node := openNode(t, t.TempDir())
	bucket := must(node.Bucket(t.Context(), objectsName))(t)
	key := ObjectKey{account, "", "csc"}
	at := cluster.Key("code-signing", string(account), "", "csc")
	must(bucket.Put(t.Context(), at, []byte(`{"format":1,"value":{"description":"d","from_the_future":{"a":[1]}}}`)))(t)
	must(bucket.Put(t.Context(), cluster.Key("of-the-future", string(account), "", "x"), []byte(`{"format":7}`)))(t)
	f := open(t, node, nil)
	_, err := f.CodeSigningConfigs.Edit(t.Context(), "change", key, func(old *CodeSigningConfig) (*CodeSigningConfig, error) {
		next := *old
		next.Untrusted = "Warn"
		return &next, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	text := string(must(bucket.Get(t.Context(), at))(t).Value)
	for _, part := range []string{`"from_the_future":{"a":[1]}`, `"untrusted":"Warn"`, `"description":"d"`} {
		if !strings.Contains(text, part) {
			t.Errorf("stored is %s, without %s", text, part)
		}
	}
}

func TestObjectsThatCannotBeReadAreErrors(t *testing.T) {
	for _, text := range []string{``, `{}`, `{"format":1}`, `{"format":1,"value":[]}`, `{"format":1,"value":null}`, `{"format":2,"value":{}}`, `{"format":1,"value":{"description":1}}`} {
		node := openNode(t, t.TempDir())
		bucket := must(node.Bucket(t.Context(), objectsName))(t)
		must(bucket.Put(t.Context(), cluster.Key("code-signing", string(account), "", "csc"), []byte(text)))(t)
		if _, err := Open(t.Context(), node, Options{}); err == nil {
			t.Errorf("opened with %q", text)
		}
	}
}

func TestObjectAnotherNodeWroteIsTakenOver(t *testing.T) {
	node := openNode(t, t.TempDir())
	f, second := open(t, node, nil), open(t, node, nil) // two that do not tell each other
	key := ObjectKey{account, "", "csc"}
	note := func(r *fixture, note string) error {
		_, err := r.CodeSigningConfigs.Edit(t.Context(), "change", key, func(old *CodeSigningConfig) (*CodeSigningConfig, error) {
			if note == "" {
				return nil, nil
			}
			return &CodeSigningConfig{Description: note}, nil
		})
		return err
	}
	is := func(r *fixture, want string) {
		t.Helper()
		got := ""
		if v := r.CodeSigningConfigs.Get(key); v != nil {
			got = v.Description
		}
		if got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
	unavailable := func(err error) {
		t.Helper()
		if lambent.KindOf(err) != lambent.KindUnavailable {
			t.Errorf("got %v", err)
		}
	}
	must(0, note(f, "one"))(t)
	unavailable(note(second, "two")) // it is there, unknown to the second
	is(second, "one")
	must(0, note(second, "three"))(t)
	unavailable(note(f, "")) // it has changed
	is(f, "three")
	must(0, note(second, ""))(t)
	unavailable(note(f, "four")) // it is gone
	is(f, "")
	must(0, note(f, "five"))(t)
}

func TestStoppedNodeLeavesNoObjectThatIsNotStored(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("hello", "zip")
	f.put("hello", "a")
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := f.EventInvokeConfigs.Edit(t.Context(), "change", invokeKey("hello", ""), func(*EventInvokeConfig) (*EventInvokeConfig, error) { return invokeConfig("b"), nil })
	if lambent.KindOf(err) != lambent.KindUnavailable || f.EventInvokeConfigs.Get(invokeKey("hello", "")).OnFailure != "a" {
		t.Errorf("%v, and there is %+v", err, f.EventInvokeConfigs.Get(invokeKey("hello", "")))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.CodeSigningConfigs.Create(t.Context(), "create", ObjectKey{Account: account}, &CodeSigningConfig{}, ""); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("after Close: %v", err)
	}
}

func TestManyWritersOfObjectsLeaveMemoryAndDiskAlike(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	var mu sync.Mutex
	told := map[ObjectKey]*CodeSigningConfig{}
	f.CodeSigningConfigs.Subscribe(func(c ObjectChange[CodeSigningConfig]) {
		mu.Lock()
		defer mu.Unlock()
		if told[c.Key] != c.Before {
			t.Errorf("%v changed from %+v, told before was %+v", c.Key, c.Before, told[c.Key])
		}
		if told[c.Key] = c.After; c.After == nil {
			delete(told, c.Key)
		}
	})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range 50 {
				key := ObjectKey{account, "", fmt.Sprint(rand.IntN(5))}
				_, err := f.CodeSigningConfigs.Edit(context.Background(), "change", key, func(old *CodeSigningConfig) (*CodeSigningConfig, error) {
					if rand.IntN(3) == 0 {
						return nil, nil
					}
					return &CodeSigningConfig{Description: fmt.Sprint(w, i)}, nil
				})
				if err != nil {
					t.Error(err)
				}
				f.CodeSigningConfigs.List(account, "", ObjectKey{}, 3, nil)
			}
		})
	}
	writers.Wait()
	inMemory, _ := f.CodeSigningConfigs.List(account, "", ObjectKey{}, 10, nil)
	onDisk, _ := open(t, node, nil).CodeSigningConfigs.List(account, "", ObjectKey{}, 10, nil)
	if diff := cmp.Diff(inMemory, onDisk); diff != "" {
		t.Errorf("(-memory +disk):\n%s", diff)
	}
	for _, o := range inMemory {
		if told[o.Key] != o.Value {
			t.Errorf("%v: told of %+v, there is %+v", o.Key, told[o.Key], o.Value)
		}
	}
	if len(told) != len(inMemory) {
		t.Errorf("told of %d, there are %d", len(told), len(inMemory))
	}
}

func TestFindingAnObjectAllocatesNothing(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "zip")
	f.put("hello", "a")
	if n := testing.AllocsPerRun(100, func() { f.EventInvokeConfigs.Get(invokeKey("hello", "")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// writeObjectsUntilKilled makes and deletes a function and writes what belongs
// to it. Its outcomes have the object as the code.
func writeObjectsUntilKilled(dir string, out *crashtest.Output) error {
	ctx := context.Background()
	node := cluster.New(cluster.Options{Dir: dir})
	if err := node.Open(ctx); err != nil {
		return err
	}
	r, err := Open(ctx, node, Options{Region: region, CodeGrace: 1})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		o := outcome{Name: lambent.FunctionName(fmt.Sprintf("f%d", rand.IntN(2))), Note: "there"}
		_, err := r.Function(account, o.Name, "")
		exists := err == nil
		key := ObjectKey{account, string(o.Name), ""}
		if old := r.EventInvokeConfigs.Get(key); old != nil {
			o.Code = old.OnFailure
		}
		do := func() error {
			_, err := r.CreateFunction(ctx, spec(o.Name), []byte("zip"), lambent.Unpublished)
			return err
		}
		if exists {
			switch rand.IntN(4) {
			case 0:
				o.Code, o.Note = "", ""
				do = func() error { return r.DeleteFunction(ctx, account, o.Name) }
			case 1:
				o.Code = ""
			default:
				o.Code = fmt.Sprintf("%d-%d", os.Getpid(), i)
			}
			if o.Note != "" {
				do = func() error {
					_, err := r.EventInvokeConfigs.Edit(ctx, "change", key, func(*EventInvokeConfig) (*EventInvokeConfig, error) {
						if o.Code == "" {
							return nil, nil
						}
						return &EventInvokeConfig{OnFailure: o.Code}, nil
					})
					return err
				}
			}
		}
		if err := crashtest.Change(out, o, do); err != nil {
			return err
		}
	}
}

func TestAcknowledgedObjectsSurviveKillAndGoWithTheirFunctions(t *testing.T) {
	dir := t.TempDir()
	acked := map[lambent.FunctionName]outcome{}
	for round := range 4 {
		pending := crashtest.Changes(t, "objects", dir, 1+rand.IntN(60), func(o outcome) { acked[o.Name] = o })
		node := openNode(t, dir)
		f := open(t, node, nil)
		for _, name := range []lambent.FunctionName{"f0", "f1"} {
			got := outcome{Name: name}
			if _, err := f.Function(account, name, ""); err == nil {
				got.Note = "there"
			}
			if c := f.EventInvokeConfigs.Get(invokeKey(name, "")); c != nil {
				got.Code = c.OnFailure
			}
			want := acked[name]
			want.Name = name
			if got != want && (pending == nil || got != *pending) {
				t.Errorf("round %d: %+v, acknowledged was %+v, begun %+v", round, got, want, pending)
			}
			acked[name] = got
		}
		if err := errors.Join(f.Close(), node.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
