package pool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// there reports whether an instance is there still.
func there(p *pool.Pool, id lambent.InstanceID) bool {
	for _, s := range p.Snapshots() {
		if s.ID == id {
			return true
		}
	}
	return false
}

func TestAnInstanceInWhichAContainerCannotBeStoppedIsUsedNoMoreAndGoes(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.MaxInstances = 3; o.Targets = map[lambent.Family]int{lambent.FamilyNode: 1} })
	ready(t, p, 2)
	one, two := acquire(t, p, of(1, "one", "echo", 256)), acquire(t, p, of(1, "two", "echo", 256))
	settled(t, f, 2, 5) // each with its spare
	sick := instanceOf(one)
	if instanceOf(two) != sick {
		t.Fatal("they are not on one instance")
	}
	f.Driver.Script(fake.Fault{Op: fake.OpDestroyContainer, Instance: sick, Err: errors.New("it does not answer")})
	one.Discard()
	hosttest.Eventually(t, "it was tried to stop it", func() bool { return f.Driver.Count(fake.OpDestroyContainer) > 0 })
	hosttest.Eventually(t, "nothing new comes to the instance", func() bool {
		l := acquire(t, p, of(1, "three", "echo", 128))
		defer l.Discard()
		return instanceOf(l) != sick
	})
	if a, err := two.Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: time.Second}); err != nil || string(a.Payload) != "1" {
		t.Errorf("the sibling that was running says %q, %v", a.Payload, err)
	}
	if !there(p, sick) {
		t.Error("the instance went while an execution was on it")
	}
	two.Release()
	hosttest.Eventually(t, "the instance is gone", func() bool { return !there(p, sick) })
}

// While runtimes are booted into instances that are there, no more may be booted.
func TestThePoolIsFilledThoughSparesAreBootedMeanwhile(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	sharing(t, f, func(o *pool.Options) { o.Targets = map[lambent.Family]int{lambent.FamilyNode: 5} })
	settled(t, f, 5, 10)
}

func TestCodeThatCannotBeHadCostsOneInstanceAndNotAllThatWait(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets = map[lambent.Family]int{lambent.FamilyNode: 3} })
	ready(t, p, 6)
	fn := of(1, "f", "echo", 128)
	fn.Code = "no hash"
	if _, err := p.Acquire(t.Context(), fn); err == nil || !strings.Contains(err.Error(), "no hash") {
		t.Errorf("got %v", err)
	}
	hosttest.Eventually(t, "the pool is filled again", func() bool { return f.Driver.Count(fake.OpStart) > 3 })
	ready(t, p, 6)
	if n := f.Driver.Count(fake.OpStart); n != 4 {
		t.Errorf("%d instances were started, want the pool's 3 and one more", n)
	}
}

func TestAWaitingRuntimeOfAnAccountThatHearsNothingIsFoundAndReplaced(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) {
		o.Targets, o.ProbeEvery, o.ProbeTimeout = nil, 10*time.Millisecond, 300*time.Millisecond
	})
	gate := acquire(t, p, of(1, "one", "echo", 256))
	ready(t, p, 1)
	f.Deafen(1)
	two := acquire(t, p, of(1, "two", "echo", 256)) // in the spare; the next one is deaf
	hosttest.Eventually(t, "the deaf one is ended", func() bool { return f.Driver.Count(fake.OpDestroyContainer) > 0 })
	hosttest.Eventually(t, "another waits", func() bool { return p.Idle() == 1 && f.Driver.Alive().Containers == 3 })
	three := acquire(t, p, of(1, "three", "echo", 256))
	if three.Kind != lambent.StartNew || instanceOf(three) != instanceOf(gate) {
		t.Errorf("the third is a %s: %s", three.Kind, three.Reason)
	}
	for _, l := range []*pool.Lease{gate, two, three} {
		l.Release()
	}
}
