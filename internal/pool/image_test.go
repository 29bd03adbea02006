package pool_test

import (
	"fmt"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

func TestImagesStartOnDemandAndSayWhy(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, nil)
	one, same := hosttest.Image("one", strings.Repeat("a", 64)), hosttest.Image("same", strings.Repeat("a", 64))
	same.ImageRef = "elsewhere.test/app@sha256:" + strings.Repeat("a", 64)
	same.ConfigHash = same.HashConfig()
	other := hosttest.Image("other", strings.Repeat("b", 64))
	for _, step := range []struct {
		fn     *lambent.Function
		kind   []lambent.StartKind
		reason string
	}{
		{one, []lambent.StartKind{lambent.StartOnDemand}, "no warm image aaaaaaaaaaaa instance, as images are in no warm pool"},
		{one, []lambent.StartKind{lambent.StartReuse}, "idle container"},
		{same, []lambent.StartKind{lambent.StartNew, lambent.StartOnDemand}, ""},  // the same image on the account's instance
		{other, []lambent.StartKind{lambent.StartNew, lambent.StartOnDemand}, ""}, // another one
	} {
		lease, err := p.Acquire(t.Context(), step.fn)
		if err != nil {
			t.Fatal(err)
		}
		known := false
		for _, kind := range step.kind {
			known = known || lease.Kind == kind
		}
		if !known || !strings.Contains(lease.Reason, step.reason) {
			t.Errorf("%s started as %s: %s", step.fn.Name, lease.Kind, lease.Reason)
		}
		if got := lease.Container.Snapshot(); got.Function != step.fn.Name {
			t.Errorf("%s got the container of %s", step.fn.Name, got.Function)
		}
		lease.Release()
	}
}

// Functions get one image after another for years.
func TestImagesThatAreGoneAreForgotten(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := start(t, f, nil)
	for k := range 100 {
		fn := hosttest.Image("f", fmt.Sprintf("%064x", k))
		fn.Code = lambent.CodeHash(fmt.Sprint(k))
		lease, err := p.Acquire(t.Context(), fn)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release()
		p.Retire(fn.Account, fn.Name, "")
	}
	if n := p.Supplies(); n > 70 {
		t.Errorf("of 100 images, one after the other, the pool knows %d", n)
	}
}
