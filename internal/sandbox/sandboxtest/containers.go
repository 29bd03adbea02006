package sandboxtest

import (
	"context"
	"errors"
	"sync"
	"time"

	"lambent"
	"lambent/internal/sandbox"
)

// hasContainerMemory reports whether there is something to test.
func (r *rig) hasContainerMemory() bool {
	r.Helper()
	if r.driver.Capabilities().ContainerMemory {
		return true
	}
	if len(r.driver.Capabilities().Weaker) == 0 {
		r.Error("the driver cannot tell the memory of a container here and does not say so in Weaker")
	}
	return false
}

// memoryOf reads the memory of all containers, in bytes.
func (r *rig) memoryOf(i sandbox.Instance) map[lambent.ContainerID]int64 {
	r.Helper()
	m, err := i.ContainerMemory(r.bounded())
	if err != nil {
		r.Fatalf("read the memory of containers: %v", err)
	}
	return m
}

// awaitMemory reads until a container has at least so many MiB: a growth may be
// seen late.
func (r *rig) awaitMemory(i sandbox.Instance, c sandbox.Container, atLeastMB int64) map[lambent.ContainerID]int64 {
	r.Helper()
	ctx := r.bounded()
	for {
		m := r.memoryOf(i)
		if m[c.ID()] >= atLeastMB<<20 {
			return m
		}
		select {
		case <-ctx.Done():
			r.Fatalf("container %s never has %d MiB; %v", c.ID(), atLeastMB, m)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func containerMemory(r *rig) {
	if !r.hasContainerMemory() {
		return
	}
	i := r.start()
	if m := r.memoryOf(i); len(m) != 0 {
		r.Errorf("an empty instance has containers: %v", m)
	}
	big, small := r.contain(i), r.contain(i)
	s, sibling := r.serve(big), r.serve(small)
	m := r.memoryOf(i)
	before := m[big.ID()]
	if len(m) != 2 || before > 32<<20 || m[small.ID()] > 32<<20 {
		r.Errorf("two idle containers have %v", m)
	}
	r.wantAnswer(s, "hold 60", "ok")
	m = r.awaitMemory(i, big, 60)
	if grown := (m[big.ID()] - before) >> 20; len(m) != 2 || grown > 90 || m[small.ID()] > 32<<20 {
		r.Errorf("one took 60 MiB and has %d more: %v", grown, m)
	}
	u, err := i.Usage()
	if err != nil || u.MemoryBytes < 60<<20 {
		r.Errorf("the instance uses %+v, %v", u, err)
	}
	r.wantAnswer(sibling, "hold 40", "ok") // and each its own
	m = r.awaitMemory(i, small, 40)
	if m[small.ID()] > 80<<20 || m[big.ID()] < 60<<20 {
		r.Errorf("one took 60 MiB, the other 40: %v", m)
	}
	if err := big.Destroy(r.bounded()); err != nil {
		r.Fatal(err)
	}
	m = r.memoryOf(i)
	if _, there := m[big.ID()]; there || len(m) != 1 || m[small.ID()] < 40<<20 {
		r.Errorf("the other was destroyed: %v", m)
	}
	r.wantAnswer(sibling, "echo here", "ok here")
	if m := r.memoryOf(r.start()); len(m) != 0 {
		r.Errorf("another instance tells of %v", m)
	}
}

func containerMemoryUnderLoad(r *rig) {
	if !r.hasContainerMemory() {
		return
	}
	for _, load := range []string{"spin", "breed", "hold 200"} {
		i := r.start()
		wild, calm := r.contain(i), r.contain(i)
		s, sibling := r.serve(wild), r.serve(calm)
		r.wantAnswer(s, load, "ok")
		r.wantAnswer(s, load, "ok")
		var sides sync.WaitGroup
		for range 4 {
			sides.Go(func() {
				for range 10 {
					m, err := i.ContainerMemory(r.bounded())
					if err != nil || len(m) != 2 || m[calm.ID()] > 32<<20 {
						r.Errorf("under %s: %v, %v", load, m, err)
					}
				}
			})
		}
		sides.Wait()
		if err := wild.Destroy(r.bounded()); err != nil {
			r.Errorf("under %s: destroy: %v", load, err)
		}
		r.wantAnswer(sibling, "echo here", "ok here")
		if err := i.Destroy(r.bounded()); err != nil {
			r.Error(err)
		}
	}
}

func containerMemoryOfTheDead(r *rig) {
	if !r.hasContainerMemory() {
		return
	}
	ended, cancel := context.WithCancel(r.bounded())
	cancel()
	i := r.start()
	r.serve(r.contain(i))
	if m, err := i.ContainerMemory(ended); !errors.Is(err, context.Canceled) {
		r.Errorf("for a context that has ended: %v, %v", m, err)
	}
	if m := r.memoryOf(i); len(m) != 1 { // that was the caller's end, not the instance's
		r.Errorf("%v", m)
	}
	r.opts.Kill(r.T, r.driver, i)
	r.wantDone(i)
	if m, err := i.ContainerMemory(r.bounded()); lambent.KindOf(err) != lambent.KindUnavailable {
		r.Errorf("of a dead instance: %v, %v", m, err)
	}
	if err := i.Destroy(r.bounded()); err != nil {
		r.Error(err)
	}
	if m, err := i.ContainerMemory(r.bounded()); lambent.KindOf(err) != lambent.KindUnavailable {
		r.Errorf("of a destroyed instance: %v, %v", m, err)
	}
}

func comeAndGo(r *rig) {
	i := r.start()
	keeper := r.contain(i)
	s := r.serve(keeper)
	for range 5 {
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if err := r.oneLife(i); err != nil {
					r.Error(err)
				}
			})
		}
		all.Wait()
		r.wantAnswer(s, "echo here", "ok here")
		r.wantAlive(i)
		if !r.driver.Capabilities().ContainerMemory {
			continue
		}
		if m := r.memoryOf(i); len(m) != 1 || m[keeper.ID()] > 32<<20 {
			r.Errorf("the one that stays: %v", m)
		}
	}
	r.wantAnswer(s, "write /tmp/last word", "ok")
}

// oneLife makes a container in which a process does not want to end, and
// destroys it.
func (r *rig) oneLife(i sandbox.Instance) error {
	c, err := r.tryContain(i)
	if err != nil {
		return err
	}
	s, err := r.tryServe(c)
	if err != nil {
		return err
	}
	for _, command := range []string{"defy", "write /tmp/x y"} {
		if got, err := s.ask(command); err != nil || got != "ok" {
			return errors.Join(errors.New(command+": "+got), err)
		}
	}
	if err := c.Destroy(r.bounded()); err != nil {
		return err
	}
	exit, err := s.Wait(r.bounded())
	if err == nil && exit != killed() {
		err = errors.New("a process of a destroyed container ended otherwise than killed")
	}
	return err
}
