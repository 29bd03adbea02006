package registry

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"lambent"
)

func TestConcurrencyIsAddedUpFromWhatIsReservedAndProvisioned(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	f.created("a", "zip")
	f.created("b", "zip")
	reserve := func(name string, n *int) {
		t.Helper()
		must(f.Settings.Edit(t.Context(), "", ObjectKey{account, name, ""}, func(*FunctionSettings) (*FunctionSettings, error) {
			return &FunctionSettings{ReservedConcurrency: n}, nil
		}))(t)
	}
	provision := func(name string, n int) {
		t.Helper()
		must(f.Provisioned.Edit(t.Context(), "", ObjectKey{account, name, ""}, func(*Provisioned) (*Provisioned, error) {
			return &Provisioned{Requested: n}, nil
		}))(t)
	}
	is := func(r *fixture, wantA, wantUnreserved int) {
		t.Helper()
		reserved, unreserved := r.Concurrency(account, "a", 1000)
		got := -1
		if reserved != nil {
			got = *reserved
		}
		if got != wantA || unreserved != wantUnreserved {
			t.Errorf("reserved for a %d, unreserved %d; want %d, %d", got, unreserved, wantA, wantUnreserved)
		}
	}
	ten, twenty := 10, 20
	is(f, -1, 1000)
	provision("a", 5)
	is(f, -1, 995)
	reserve("a", &ten) // the five are of the ten
	reserve("b", &twenty)
	is(f, 10, 970)
	is(open(t, node, nil), 10, 970)
	provision("a", 7)
	reserve("a", nil)
	is(f, -1, 973)
	must(0, f.DeleteFunction(t.Context(), account, "b"))(t)
	is(f, -1, 993)
	must(0, f.DeleteFunction(t.Context(), account, "a"))(t)
	is(f, -1, 1000)
	if n := f.reservations.len(); n != 0 {
		t.Errorf("%d reservations are left of nothing", n)
	}
	if n := testing.AllocsPerRun(100, func() { f.Concurrency(account, "a", 1000) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// However many are reserved at once, what must stay unreserved does.
func TestNoMoreConcurrencyIsReservedThanMayBe(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	const limit = 1000
	var reserving sync.WaitGroup
	var reserved atomic.Int32
	for i := range 12 {
		name := lambent.FunctionName(fmt.Sprintf("f%d", i))
		f.created(name, "zip")
		reserving.Go(func() {
			n := 100
			switch err := f.Reserve(t.Context(), "test", account, name, &n, limit); {
			case err == nil:
				reserved.Add(1)
			case lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), "below its minimum value of [100]"):
				t.Error(err)
			}
		})
	}
	reserving.Wait()
	if _, unreserved := f.Concurrency(account, "f0", limit); reserved.Load() != 9 || unreserved != 100 {
		t.Errorf("%d functions have 100 reserved each, and %d are left", reserved.Load(), unreserved)
	}
	for i := range 12 {
		must(0, f.Reserve(t.Context(), "test", account, lambent.FunctionName(fmt.Sprintf("f%d", i)), nil, limit))(t)
	}
	if n := f.reservations.len(); n != 0 {
		t.Errorf("%d reservations are left of none", n)
	}
	ten, five := 10, 5
	must(0, f.Reserve(t.Context(), "test", account, "f0", &ten, limit))(t)
	none := func([]Object[Provisioned]) error { return nil }
	if _, err := f.Provision(t.Context(), "test", ObjectKey{account, "f0", ""}, Provisioned{Requested: 11}, limit, none); lambent.KindOf(err) != lambent.KindInvalid {
		t.Errorf("more is provisioned than reserved: %v", err)
	}
	must(f.Provision(t.Context(), "test", ObjectKey{account, "f0", ""}, Provisioned{Requested: 10}, limit, none))(t)
	if err := f.Reserve(t.Context(), "test", account, "f0", &five, limit); lambent.KindOf(err) != lambent.KindInvalid {
		t.Errorf("less is reserved than provisioned: %v", err)
	}
}

func TestTaggingKeepsTheRevision(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	before := f.created("a", "zip")
	must(0, f.TagFunction(t.Context(), account, "a", func(tags map[string]string) error { tags["new"] = "1"; return nil }))(t)
	after := must(open(t, node, nil).Function(account, "a", ""))(t)
	if after.Tags["new"] != "1" || before.Tags["new"] != "" || after.Revision != before.Revision || after.UpdateStatus != "Successful" {
		t.Errorf("%+v", after)
	}
	if functions, bytes := f.Usage(account); functions != 1 || bytes != 3 {
		t.Errorf("%d functions, %d bytes", functions, bytes)
	}
}

func (rs *reservations) len() int {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return len(rs.byFunction) + len(rs.byAccount)
}
