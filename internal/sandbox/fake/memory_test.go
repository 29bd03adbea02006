package fake_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/sandbox"
	"lambent/internal/sandbox/fake"
)

func TestTheMemoryOfAContainerIsWhatWasSetAndWhatItsProgramsTook(t *testing.T) {
	held := make(chan struct{})
	d := fake.New(fake.Options{Programs: map[string]fake.Program{"/bin/hold": func(ctx context.Context, g *fake.Guest) int {
		g.UseMemory(5)
		close(held)
		<-ctx.Done()
		return 0
	}}})
	i := start(t, d, "i-1")
	c := contain(t, i, "c-1")
	contain(t, i, "c-2")
	if err := d.SetContainerMemory("i-1", "c-1", 100); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec(t.Context(), sandbox.Command{Path: "/bin/hold", Args: []string{"hold"}}); err != nil {
		t.Fatal(err)
	}
	<-held
	m, err := i.ContainerMemory(t.Context())
	if diff := cmp.Diff(map[lambent.ContainerID]int64{"c-1": 105, "c-2": 0}, m); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if err := c.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
	m, err = i.ContainerMemory(t.Context())
	if diff := cmp.Diff(map[lambent.ContainerID]int64{"c-2": 0}, m); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, err := range []error{d.SetContainerMemory("i-1", "c-1", 1), d.SetContainerMemory("i-2", "c-2", 1)} {
		if lambent.KindOf(err) != lambent.KindNotFound {
			t.Errorf("set the memory of what is not there: %v", err)
		}
	}
	mute := errors.New("mute")
	d.Script(fake.Fault{Op: fake.OpContainerMemory, Nth: 1, Err: mute})
	if m, err := i.ContainerMemory(t.Context()); !errors.Is(err, mute) || m != nil {
		t.Errorf("%v, %v", m, err)
	}
	if err := i.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestADriverWithoutTheCapabilityTellsNoContainersMemory(t *testing.T) {
	d := fake.New(fake.Options{Capabilities: sandbox.Capabilities{Isolation: "none", MemoryLimits: true}})
	i := start(t, d, "i-1")
	contain(t, i, "c-1")
	if m, err := i.ContainerMemory(t.Context()); err == nil || m != nil {
		t.Errorf("%v, %v", m, err)
	}
	if err := i.Destroy(t.Context()); err != nil {
		t.Error(err)
	}
}
