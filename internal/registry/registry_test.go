package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"lambent"
)

func TestFunctionIsPendingAndThenActive(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error))
	seen := make(chan string, 2)
	f.Subscribe(func(c Change) { seen <- c.After.State + " " + c.After.UpdateStatus })
	asked := spec("hello")
	fn, err := f.CreateFunction(t.Context(), asked, []byte("zip"), lambent.Unpublished)
	if err != nil {
		t.Fatal(err)
	}
	want := spec("hello")
	want.Version, want.State, want.StateReason, want.StateReasonCode = lambent.Latest, "Pending", "The function is being created.", "Creating"
	want.Code, want.CodeSize, want.ConfigHash = hashOf([]byte("zip")), 3, want.HashConfig()
	ignore := cmpopts.IgnoreFields(lambent.Function{}, "Revision", "LastModified")
	if diff := cmp.Diff(want, fn, ignore); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	if fn.Revision == "" || time.Since(fn.LastModified).Abs() > time.Minute || fn.LastModified.Location() != time.UTC {
		t.Errorf("revision %q, modified %v", fn.Revision, fn.LastModified)
	}
	asked.Environment["A"] = "changed by the caller"
	f.prepare <- nil
	active := f.wait()
	want.State, want.StateReason, want.StateReasonCode, want.UpdateStatus = "Active", "", "", "Successful"
	if diff := cmp.Diff(want, active, ignore); diff != "" {
		t.Errorf("settled (-want +got):\n%s", diff)
	}
	if active.Revision == fn.Revision || !active.LastModified.Equal(fn.LastModified) || active.Key() != fn.Key() {
		t.Errorf("settling must make a new revision and nothing else: %+v, %+v", fn, active)
	}
	if fn.State != "Pending" {
		t.Error("a record that was handed out has changed")
	}
	for _, q := range []string{"", "$LATEST"} {
		if got, err := f.Function(account, "hello", q); err != nil || got != active {
			t.Errorf("Function with qualifier %q: %+v, %v", q, got, err)
		}
	}
	if got, err := f.code(fn.Code); got != "zip" || err != nil {
		t.Errorf("code %q, %v", got, err)
	}
	for _, want := range []string{"Pending ", "Active Successful"} {
		if got := <-seen; got != want {
			t.Errorf("told of %q, want %q", got, want)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "zip")
	const arn = "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:"
	for _, tc := range []struct {
		account   lambent.AccountID
		name      lambent.FunctionName
		qualifier string
		message   string
	}{
		{account, "nope", "", arn + "nope"},
		{account, "nope", "$LATEST", arn + "nope:$LATEST"},
		{account, "hello", "1", arn + "hello:1"},
		{account, "hello", "prod", arn + "hello:prod"},
		{other, "hello", "", strings.Replace(arn, string(account), string(other), 1) + "hello"},
	} {
		_, err := f.Function(tc.account, tc.name, tc.qualifier)
		wantError(t, err, lambent.KindNotFound, tc.message)
	}
	_, err := f.UpdateFunctionCode(t.Context(), account, "nope", "", nil, nil, lambent.Unpublished)
	wantError(t, err, lambent.KindNotFound, arn+"nope")
	_, err = f.UpdateFunctionConfiguration(t.Context(), account, "nope", "", func(*lambent.Function) error { return nil })
	wantError(t, err, lambent.KindNotFound, arn+"nope")
	wantError(t, f.DeleteFunction(t.Context(), account, "nope"), lambent.KindNotFound, arn+"nope")
	_, _, err = f.CodePackage(t.Context(), "no such hash")
	if lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("code: %v", err)
	}
}

func TestNameIsTakenOncePerAccount(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "zip")
	_, err := f.CreateFunction(t.Context(), spec("hello"), []byte("other"), lambent.Unpublished)
	wantError(t, err, lambent.KindExists, "Function already exist: hello")
	theirs := spec("hello")
	theirs.Account = other
	if _, err := f.CreateFunction(t.Context(), theirs, []byte("zip"), lambent.Unpublished); err != nil {
		t.Errorf("another account: %v", err)
	}
}

func TestChangeUnderWayRefusesAnother(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error))
	const busy = "The operation cannot be performed at this time. An update is in progress for resource: arn:aws:lambda:eu-west-1:111122223333:function:hello"
	same := func(*lambent.Function) error { return nil }
	f.create("hello", "zip")
	for range 2 { // pending, and then updating
		_, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("new"), lambent.Unpublished)
		wantError(t, err, lambent.KindExists, busy)
		_, err = f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", same)
		wantError(t, err, lambent.KindExists, busy)
		f.prepare <- nil
		f.wait()
		if _, err := f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", same); err != nil {
			t.Fatal(err)
		}
	}
	f.prepare <- nil
	f.wait()
}

func TestUpdateOfCodeMakesANewRecordAndDropsTheOldCodeInTime(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	before := f.created("hello", "old")
	fn, err := f.UpdateFunctionCode(t.Context(), account, "hello", before.Revision, func(fn *lambent.Function) {
		fn.Architectures[0] = "arm64"
		fn.Name, fn.Account, fn.State = "evil", other, "Inactive"
	}, []byte("newer"), lambent.Unpublished)
	if err != nil {
		t.Fatal(err)
	}
	if fn.Code != hashOf([]byte("newer")) || fn.CodeSize != 5 || fn.UpdateStatus != "InProgress" || fn.UpdateReasonCode != "Creating" || fn.State != "Active" ||
		fn.Name != "hello" || fn.Account != account || fn.Architectures[0] != "arm64" || before.Architectures[0] != "x86_64" || fn.Revision == before.Revision {
		t.Errorf("before %+v\nafter %+v", before, fn)
	}
	after := f.wait()
	if after.UpdateStatus != "Successful" || after.UpdateReasonCode != "" || after.Revision == fn.Revision {
		t.Errorf("settled %+v", after)
	}
	// An invocation that was accepted before may still need the old code.
	if got, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(-time.Hour)); len(got) != 0 || err != nil {
		t.Errorf("dropped %v, %v", got, err)
	}
	if got, err := f.code(before.Code); got != "old" || err != nil {
		t.Errorf("old code %q, %v", got, err)
	}
	if got, err := f.Registry.code.dropUnused(t.Context(), time.Now().Add(time.Hour)); !slices.Equal(got, []lambent.CodeHash{before.Code}) || err != nil {
		t.Errorf("dropped %v, %v", got, err)
	}
	if _, err := f.code(before.Code); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("old code: %v", err)
	}
	if got, err := f.code(after.Code); got != "newer" || err != nil {
		t.Errorf("new code %q, %v", got, err)
	}
}

func TestUpdateOfConfigurationKeepsTheCode(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	before := f.created("hello", "zip")
	refused := errors.New("refused by the caller")
	_, err := f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error {
		fn.Environment["A"] = "half done"
		return refused
	})
	if !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if got, err := f.Function(account, "hello", ""); err != nil || got != before || got.Environment["A"] != "1" {
		t.Errorf("after a refused change: %+v, %v", got, err)
	}
	_, err = f.UpdateFunctionConfiguration(t.Context(), account, "hello", "", func(fn *lambent.Function) error {
		fn.Environment["A"] = "2"
		fn.Code, fn.CodeSize, fn.Version = "evil", 0, "7"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	after := f.wait()
	if after.Environment["A"] != "2" || before.Environment["A"] != "1" || after.Code != before.Code || after.CodeSize != 3 || after.Version != lambent.Latest ||
		after.ConfigHash == before.ConfigHash || after.Key() == before.Key() {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}

func TestRevisionOfTheCallerMustBeTheCurrentOne(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	old := f.create("hello", "zip").Revision
	current := f.wait().Revision
	const message = "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
	_, err := f.UpdateFunctionCode(t.Context(), account, "hello", old, nil, []byte("new"), lambent.Unpublished)
	wantError(t, err, lambent.KindPrecondition, message)
	_, err = f.UpdateFunctionConfiguration(t.Context(), account, "hello", old, func(*lambent.Function) error { t.Error("was asked"); return nil })
	wantError(t, err, lambent.KindPrecondition, message)
	if _, err = f.UpdateFunctionCode(t.Context(), account, "hello", current, nil, []byte("new"), lambent.Unpublished); err != nil {
		t.Error(err)
	}
	f.wait()
}

func TestFunctionThatCannotBePreparedFailsAndCanBeMended(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error, 1))
	f.prepare <- &lambent.Error{Op: "unpack package", Kind: lambent.KindInvalid, Message: "no good"}
	if fn := f.created("hello", "zip"); fn.State != "Failed" || fn.StateReasonCode != "InvalidZipFileException" || !strings.Contains(fn.StateReason, "no good") ||
		fn.UpdateStatus != "Failed" {
		t.Errorf("created %+v", fn)
	}
	f.prepare <- nil
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("better"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	if fn := f.wait(); fn.State != "Active" || fn.StateReasonCode != "" || fn.UpdateStatus != "Successful" {
		t.Errorf("mended %+v", fn)
	}
	f.prepare <- fmt.Errorf("write /data/host: %w", errors.New("disk full"))
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("worse"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	if fn := f.wait(); fn.State != "Active" || fn.UpdateStatus != "Failed" || fn.UpdateReasonCode != "InternalError" || strings.Contains(fn.UpdateReason, "/data") || fn.UpdateReason == "" {
		t.Errorf("worse %+v", fn)
	}
}

func TestDeletedFunctionIsGoneAndItsNameFree(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), make(chan error))
	var last Change
	f.Subscribe(func(c Change) { last = c })
	pending := f.create("hello", "zip")
	if err := f.DeleteFunction(t.Context(), account, "hello"); err != nil { // even while it is being created
		t.Fatal(err)
	}
	if last.After != nil || last.Before != pending || last.Account != account || last.Name != "hello" {
		t.Errorf("told of %+v", last)
	}
	wantError(t, f.DeleteFunction(t.Context(), account, "hello"), lambent.KindNotFound, "Function not found: arn:aws:lambda:eu-west-1:111122223333:function:hello")
	again := f.create("hello", "zip")
	f.prepare <- nil // the first one's, or the second's: only the second is there to settle
	f.prepare <- nil
	if fn := f.wait(); fn.State != "Active" || fn.Code != again.Code {
		t.Errorf("got %+v", fn)
	}
	if got, err := f.code(again.Code); got != "zip" || err != nil {
		t.Errorf("code %q, %v", got, err)
	}
}

func TestListIsSortedAndPaged(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	for _, name := range []lambent.FunctionName{"d", "B", "a", "c", "_x", "b"} {
		f.created(name, "zip")
	}
	if err := f.DeleteFunction(t.Context(), account, "c"); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		account lambent.AccountID
		after   lambent.FunctionName
		limit   int
		want    string
	}{
		{account, "", 100, "B _x a b d next="},
		{account, "", 5, "B _x a b d next="},
		{account, "", 2, "B _x next=_x"},
		{account, "_x", 2, "a b next=b"},
		{account, "b", 2, "d next="},
		{account, "c", 2, "d next="}, // the name to go on after may be gone
		{account, "d", 2, "next="},
		{account, "zzz", 2, "next="},
		{account, "", 0, "next="},
		{other, "", 10, "next="},
	} {
		fs, next := f.ListFunctions(tc.account, tc.after, tc.limit)
		var got []string
		for _, fn := range fs {
			got = append(got, string(fn.Name))
		}
		if s := strings.Join(append(got, "next="+string(next)), " "); s != tc.want {
			t.Errorf("after %q, %d: %s, want %s", tc.after, tc.limit, s, tc.want)
		}
	}
}

func TestEverythingIsThereAfterARestart(t *testing.T) {
	dir := t.TempDir()
	node := openNode(t, dir)
	f := open(t, node, make(chan error, 2))
	f.prepare <- nil
	active := f.created("active", "one")
	pending := f.create("pending", "two") // nobody prepares it
	f.prepare <- nil
	updating := f.created("updating", "three")
	if updating.Name != "updating" { // the result went to the other one
		updating, pending = pending, updating
		updating = must(f.Function(account, "updating", ""))(t)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CreateFunction(t.Context(), spec("late"), nil, lambent.Unpublished); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("after Close: %v", err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, openNode(t, dir), make(chan error, 1))
	f.prepare <- nil // now that somebody is told
	f.wait()         // whichever was pending
	if got := must(f.Function(account, "active", ""))(t); !cmp.Equal(got, active) {
		t.Errorf("it came back as\n%s", cmp.Diff(active, got))
	}
	for _, name := range []lambent.FunctionName{"pending", "updating"} {
		if got := must(f.Function(account, name, ""))(t); got.State != "Active" || got.UpdateStatus != "Successful" {
			t.Errorf("%s came back as %+v", name, got)
		}
	}
	for _, fn := range []*lambent.Function{active, pending, updating} {
		if _, err := f.code(fn.Code); err != nil {
			t.Errorf("code of %s: %v", fn.Name, err)
		}
	}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestManyAtOnceLeaveMemoryAndDiskAlike(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx := context.Background()
			for j := range 15 {
				name := lambent.FunctionName(fmt.Sprintf("f%d", (i+j)%3))
				pkg := []byte(fmt.Sprintf("code%d", (i*j)%4))
				var err error
				switch (i + j) % 4 {
				case 0, 1:
					_, err = f.CreateFunction(ctx, spec(name), pkg, lambent.Unpublished)
				case 2:
					_, err = f.UpdateFunctionCode(ctx, account, name, "", nil, pkg, lambent.Unpublished)
				case 3:
					err = f.DeleteFunction(ctx, account, name)
				}
				switch lambent.KindOf(err) {
				case lambent.KindExists, lambent.KindNotFound:
				default:
					if err != nil {
						t.Errorf("%v", err)
					}
				}
				if _, err := f.Registry.code.dropUnused(ctx, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	inMemory, _ := f.ListFunctions(account, "", 100)
	again := open(t, node, make(chan error)) // which prepares nothing
	onDisk, _ := again.ListFunctions(account, "", 100)
	if diff := cmp.Diff(inMemory, onDisk); diff != "" {
		t.Errorf("(-memory +disk):\n%s", diff)
	}
	hashes := again.Codes() // an update that Close interrupted names the code before, too
	for hash := range hashes {
		if _, err := again.code(hash); err != nil {
			t.Errorf("code %s: %v", hash, err)
		}
	}
	if keys := must(again.blobs.Keys(t.Context()))(t); len(keys) != len(hashes) {
		t.Errorf("%d packages are stored for %d that are named", len(keys), len(hashes))
	}
}

func TestRecordAnotherNodeWroteIsTakenOver(t *testing.T) {
	node := openNode(t, t.TempDir())
	f, second := open(t, node, nil), open(t, node, nil) // two that do not tell each other
	f.created("hello", "zip")
	_, err := second.CreateFunction(t.Context(), spec("hello"), []byte("theirs"), lambent.Unpublished)
	if lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("create of what is there: %v", err)
	}
	if fn := must(second.Function(account, "hello", ""))(t); fn.Code != hashOf([]byte("zip")) {
		t.Errorf("the second has %+v", fn)
	}
	if _, err := second.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("newer"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	for second.wait().Code != hashOf([]byte("newer")) {
	}
	err = f.DeleteFunction(t.Context(), account, "hello")
	if lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("delete of what has changed: %v", err)
	}
	if fn := must(f.Function(account, "hello", ""))(t); fn.Code != hashOf([]byte("newer")) {
		t.Errorf("the first has %+v", fn)
	}
	if err := second.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("x"), lambent.Unpublished); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("update of what is gone: %v", err)
	}
	if _, err := f.Function(account, "hello", ""); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("the first still has it: %v", err)
	}
	f.Registry.mu.RLock()
	defer f.Registry.mu.RUnlock()
	if n := len(f.Registry.names); n != 0 {
		t.Errorf("%d accounts", n)
	}
}

func TestStoppedNodeIsToldAndNothingIsRemembered(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	fn := f.created("hello", "zip")
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := f.CreateFunction(t.Context(), spec("new"), []byte("zip"), lambent.Unpublished)
	if lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("create: %v", err)
	}
	if err := f.DeleteFunction(t.Context(), account, "hello"); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("delete: %v", err)
	}
	if got, err := f.Function(account, "hello", ""); err != nil || got != fn {
		t.Errorf("reading goes on: %v, %v", got, err)
	}
	if _, err := f.Function(account, "new", ""); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("what was not stored is there: %v", err)
	}
}

func TestCancelledCallerDoesNotTearAWrite(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.CreateFunction(ctx, spec("hello"), []byte("zip"), lambent.Unpublished); err != nil {
		t.Errorf("create: %v", err)
	}
	if fn := f.wait(); fn.State != "Active" {
		t.Errorf("got %+v", fn)
	}
}

func TestFindingAFunctionAllocatesNothing(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	f.created("hello", "zip")
	n := testing.AllocsPerRun(100, func() {
		if _, err := f.Function(account, "hello", "$LATEST"); err != nil {
			t.Error(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
