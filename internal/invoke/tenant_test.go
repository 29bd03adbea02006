package invoke_test

import (
	"testing"
	"time"

	"lambent"
	"lambent/internal/host/hosttest"
	"lambent/internal/sandbox/fake"
)

func TestSecurityTenantsOfAnIsolatingFunctionShareNoContainer(t *testing.T) {
	p := start(t, 1, nil, fake.Options{})
	fn := p.deploy("shared", "count")
	fn.TenantIsolation = "PER_TENANT"
	call := func(name, tenant string) (*lambent.Result, error) {
		return p.Invoke(t.Context(), &lambent.Invocation{RequestID: "r", Account: lambent.DefaultAccount, Function: lambent.FunctionName(name), Payload: []byte("1"), ReceivedAt: time.Now(), TenantID: tenant})
	}
	of := map[lambent.ContainerID]string{}
	for range 3 {
		for _, tenant := range []string{"blue", "red", "a/b:c"} {
			r, err := call("shared", tenant)
			if err != nil {
				t.Fatal(err)
			}
			if before := of[r.Start.Container]; before != "" && before != tenant {
				t.Errorf("container %s served %s and %s", r.Start.Container, before, tenant)
			}
			of[r.Start.Container] = tenant
		}
	}
	if len(of) != 3 {
		t.Errorf("%d containers for three tenants", len(of))
	}
	_, err := call("shared", "")
	wantMessage(t, err, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	p.deploy("plain", "count")
	_, err = call("plain", "blue")
	wantMessage(t, err, "The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	p.pool.Retire(fn.Account, fn.Name, "", fn.Key()) // the tenants' containers are of its current state
	if r, err := call("shared", "blue"); err != nil || of[r.Start.Container] != "blue" {
		t.Errorf("after a change that is none: %+v, %v", r, err)
	}
	p.pool.Retire(fn.Account, fn.Name, "")
	hosttest.Eventually(t, "the tenants' containers are gone", func() bool { return p.Driver.Alive().Instances <= 1 })
}

func wantMessage(t *testing.T, err error, message string) {
	t.Helper()
	if e, ok := err.(*lambent.Error); !ok || e.Kind != lambent.KindInvalid || e.Message != message {
		t.Errorf("%v, want %q", err, message)
	}
}
