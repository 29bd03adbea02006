package pool_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/host"
	"lambent/internal/host/hosttest"
	"lambent/internal/pool"
	"lambent/internal/sandbox/fake"
)

// sharing runs a pool whose instances keep a spare and containers are kept.
func sharing(t *testing.T, f *hosttest.Fixture, change func(*pool.Options)) *pool.Pool {
	t.Helper()
	return start(t, f, func(o *pool.Options) {
		o.Spares, o.IdleTimeout, o.InstanceMB = 1, time.Minute, 1024
		if change != nil {
			change(o)
		}
	})
}

func acquire(t *testing.T, p *pool.Pool, fn *lambent.Function) *pool.Lease {
	t.Helper()
	l, err := p.Acquire(t.Context(), fn)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// settled waits until nothing is being booted: every place has its spare.
func settled(t *testing.T, f *hosttest.Fixture, instances, containers int64) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("%d instances with %d containers are there", instances, containers), func() bool {
		a := f.Driver.Alive()
		return int64(a.Instances) == instances && int64(a.Containers) == containers
	})
}

// ready waits until so many runtimes wait for code, in warm instances and beside
// what runs.
func ready(t *testing.T, p *pool.Pool, runtimes int) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("%d runtimes wait", runtimes), func() bool { return p.Idle() == runtimes })
}

func of(account int, name, handler string, memoryMB int) *lambent.Function {
	fn := hosttest.Function(name, handler)
	fn.Account, fn.MemoryMB = lambent.AccountID(fmt.Sprintf("%012d", account)), memoryMB
	return fn
}

func instanceOf(l *pool.Lease) lambent.InstanceID { return l.Container.Instance().ID() }

func TestTheAccountsSecondFunctionStartsInTheWaitingRuntimeOfItsInstance(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets = map[lambent.Family]int{lambent.FamilyNode: 1} })
	ready(t, p, 2) // a warm instance with its spare
	one := acquire(t, p, of(1, "one", "echo", 256))
	if one.Kind != lambent.StartWarm {
		t.Errorf("the first is a %s: %s", one.Kind, one.Reason)
	}
	two := acquire(t, p, of(1, "two", "echo", 256))
	if two.Kind != lambent.StartNew || instanceOf(two) != instanceOf(one) || two.Container.ID() == one.Container.ID() {
		t.Errorf("the second is a %s on %s (%s), the first on %s", two.Kind, instanceOf(two), two.Reason, instanceOf(one))
	}
	if !strings.Contains(two.Reason, string(instanceOf(one))) {
		t.Errorf("the reason does not name the instance: %s", two.Reason)
	}
	other := acquire(t, p, of(2, "one", "echo", 256))
	if instanceOf(other) == instanceOf(one) {
		t.Error("another account is on the instance")
	}
	for _, l := range []*pool.Lease{one, two, other} {
		l.Release()
	}
	again := acquire(t, p, of(1, "two", "echo", 256))
	if again.Kind != lambent.StartReuse || again.Container.ID() != two.Container.ID() {
		t.Errorf("then a %s: %s", again.Kind, again.Reason)
	}
	again.Release()
}

func TestAllotmentsNeverExceedAnInstance(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets, o.MaxInstances = nil, 50 })
	var wait sync.WaitGroup
	var mu sync.Mutex
	instances := map[lambent.InstanceID]int{}
	var leases []*pool.Lease
	for account := range 2 { // an instance each, to share
		l := acquire(t, p, of(account, "first", "echo", 128))
		instances[instanceOf(l)] += 128
		leases = append(leases, l)
	}
	for k := range 40 {
		wait.Go(func() {
			fn := of(k%2, fmt.Sprint("f", k%5), "echo", 128<<(k%3))
			l, err := p.Acquire(t.Context(), fn)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			instances[instanceOf(l)] += fn.MemoryMB
			leases = append(leases, l)
		})
	}
	wait.Wait()
	shared := 0
	for id, mb := range instances {
		if mb > 1024 {
			t.Errorf("instance %s has %d MB allotted of 1024", id, mb)
		}
		if mb > 128 {
			shared++
		}
	}
	if shared == 0 {
		t.Error("no instance is shared")
	}
	for _, s := range p.Snapshots() {
		if s.FreeMB < 0 || s.FreeMB != s.MemoryMB-instances[s.ID] {
			t.Errorf("instance %s tells %d of %d MB free, with %d allotted", s.ID, s.FreeMB, s.MemoryMB, instances[s.ID])
		}
	}
	for _, l := range leases {
		l.Release()
	}
}

func TestAContainerThatIsEndedLeavesItsSiblingsAndItsRoom(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets = map[lambent.Family]int{lambent.FamilyNode: 1}; o.MaxInstances = 2 })
	ready(t, p, 2)
	one, two := acquire(t, p, of(1, "one", "echo", 512)), acquire(t, p, of(1, "two", "exit 1", 512))
	if instanceOf(one) != instanceOf(two) {
		t.Fatal("they are not on one instance")
	}
	if _, err := two.Container.Invoke(&host.Event{RequestID: "r", Timeout: time.Second}); err == nil {
		t.Fatal("it answered")
	}
	two.Discard()
	if a, err := one.Container.Invoke(&host.Event{RequestID: "r", Payload: []byte("1"), Timeout: time.Second}); err != nil || string(a.Payload) != "1" {
		t.Errorf("its sibling says %q, %v", a.Payload, err)
	}
	hosttest.Eventually(t, "its room is free again", func() bool {
		for _, s := range p.Snapshots() {
			if s.ID == instanceOf(one) {
				return s.FreeMB == 512
			}
		}
		return false
	})
	three := acquire(t, p, of(1, "three", "echo", 512))
	if three.Kind == lambent.StartNew && instanceOf(three) != instanceOf(one) {
		t.Errorf("a %s on %s: %s", three.Kind, instanceOf(three), three.Reason)
	}
	three.Discard()
	one.Discard()
	hosttest.Eventually(t, "the instance went with its last container", func() bool {
		for _, s := range p.Snapshots() {
			if s.State == lambent.InstanceActive {
				return false
			}
		}
		return true
	})
}

func TestAnInstanceThatDiesTakesItsContainersAndNobodyElses(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	ready(t, p, 4)
	one, two := acquire(t, p, of(1, "one", "echo", 256)), acquire(t, p, of(1, "two", "echo", 256))
	other := acquire(t, p, of(2, "one", "echo", 256))
	one.Release() // idle
	if err := f.Driver.Kill(instanceOf(one), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Container.Invoke(&host.Event{RequestID: "r", Timeout: time.Second}); err == nil {
		t.Error("a dead one answered")
	}
	two.Discard()
	next := acquire(t, p, of(1, "one", "echo", 256))
	if instanceOf(next) == instanceOf(one) {
		t.Error("the dead instance was used again")
	}
	if _, err := other.Container.Invoke(&host.Event{RequestID: "r", Timeout: time.Second}); err != nil {
		t.Error(err)
	}
	next.Release()
	other.Release()
}

func TestAWaitingRuntimeThatDiesIsReplacedAndHarmsNothing(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.Targets = nil })
	one := acquire(t, p, of(1, "one", "echo", 256))
	ready(t, p, 1)
	hosttest.Eventually(t, "one waits, and ends", func() bool { return f.EndWaiting() == 1 })
	hosttest.Eventually(t, "another waits", func() bool { return f.Driver.Count(fake.OpNewContainer) >= 3 && f.Driver.Alive().Containers == 2 })
	two := acquire(t, p, of(1, "two", "echo", 256))
	if instanceOf(two) != instanceOf(one) {
		t.Errorf("the second is a %s: %s", two.Kind, two.Reason)
	}
	one.Release()
	two.Release()
}

func TestParallelFirstCallsGetAContainerEachOnInstancesOfTheAccount(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, func(o *pool.Options) { o.MaxInstances = 40 })
	ready(t, p, 4)
	fn := of(1, "f", "echo", 256)
	const callers = 12
	var wait sync.WaitGroup
	leases := make(chan *pool.Lease, callers)
	for range callers {
		wait.Go(func() {
			if l, err := p.Acquire(t.Context(), fn); err == nil {
				leases <- l
			} else {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	close(leases)
	seen := map[lambent.ContainerID]bool{}
	for l := range leases {
		if seen[l.Container.ID()] {
			t.Error("two callers have one container")
		}
		seen[l.Container.ID()] = true
		l.Release()
	}
	for _, s := range p.Snapshots() {
		if len(s.Containers) > 0 && s.State == lambent.InstanceActive && s.Account != fn.Account {
			t.Errorf("instance %s is of account %q", s.ID, s.Account)
		}
	}
}

func TestAFunctionLargerThanAnInstanceIsRefusedWithBothFigures(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	p := sharing(t, f, nil)
	_, err := p.Acquire(t.Context(), of(1, "f", "echo", 1025))
	if lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), "1025") || !strings.Contains(err.Error(), "1024") {
		t.Errorf("got %v", err)
	}
}

func TestWhereContainersCannotBeToldApartEachHasItsOwnInstance(t *testing.T) {
	caps := fake.DefaultCapabilities()
	caps.ContainerMemory = false
	f := hosttest.New(t, fake.Options{Capabilities: caps})
	p := sharing(t, f, nil)
	settled(t, f, 2, 2)
	one, two := acquire(t, p, of(1, "one", "echo", 128)), acquire(t, p, of(1, "two", "echo", 128))
	if instanceOf(one) == instanceOf(two) {
		t.Error("they share an instance")
	}
	one.Release()
	two.Release()
}

func TestASickWarmInstanceIsFoundByAskingAndReplaced(t *testing.T) {
	f := hosttest.New(t, fake.Options{})
	f.Deafen(1)
	p := sharing(t, f, func(o *pool.Options) {
		o.Targets, o.ProbeEvery, o.ProbeTimeout = map[lambent.Family]int{lambent.FamilyNode: 1}, 10*time.Millisecond, 10*time.Millisecond
	})
	var sick lambent.InstanceID
	hosttest.Eventually(t, "there is one", func() bool {
		s := p.Snapshots()
		if len(s) == 1 {
			sick = s[0].ID
		}
		return sick != ""
	})
	hosttest.Eventually(t, "it is replaced", func() bool {
		s := p.Snapshots()
		return len(s) == 1 && s[0].ID != sick && len(s[0].Containers) == 2
	})
	l := acquire(t, p, of(1, "f", "echo", 128))
	if l.Kind != lambent.StartWarm {
		t.Errorf("then a %s: %s", l.Kind, l.Reason)
	}
	l.Release()
}
