package registry

import "testing"

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
