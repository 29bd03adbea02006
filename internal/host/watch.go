package host

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The times of the watch over running invocations.
const (
	// watchEvery is how often running invocations are looked at: a timeout is
	// kept to within this.
	watchEvery = 20 * time.Millisecond
	// watchLinger is how long the watch goes on looking when nothing was called.
	watchLinger = time.Second
	// fullSpeed is how much CPU time an invocation may use, as fast as it gets it,
	// before it is held to its share. Most calls end sooner and never meet the
	// bound; those that compute for longer get CPU in proportion to their memory.
	fullSpeed = 50 * time.Millisecond
	// memoryWatch is how often the memory of an invocation is looked at that has
	// lasted for fullSpeed. The instance's own bound stands behind this one, with
	// room for what the sandbox itself needs.
	memoryWatch = 60 * time.Millisecond
)

// watch looks at the running invocations of a host, and at the instances that
// have just fallen idle, all of them at once and a few dozen times a second. A timer for each call would cost the call a tenth of
// its time, for the wake-up of a thread whose sleep it shortens. While nothing is
// called the watch sleeps.
type watch struct {
	now    func() time.Time
	calls  atomic.Int64 // invocations begun
	asleep atomic.Bool
	wake   chan struct{}
	done   chan struct{}
	closed sync.Once

	mu sync.Mutex
	// +checklocks:mu
	containers map[*Container]bool
	// +checklocks:mu
	instances map[*Instance]int // by how many of their containers are watched
}

func newWatch(now func() time.Time) *watch {
	return &watch{now: now, wake: make(chan struct{}, 1), done: make(chan struct{}), containers: map[*Container]bool{}, instances: map[*Instance]int{}}
}

func (w *watch) add(c *Container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.containers[c] {
		w.containers[c] = true
		w.instances[c.inst]++
	}
}

func (w *watch) remove(c *Container) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.containers[c] {
		return
	}
	delete(w.containers, c)
	if w.instances[c.inst]--; w.instances[c.inst] == 0 {
		delete(w.instances, c.inst)
	}
}

// called tells that an invocation has begun.
func (w *watch) called() {
	w.calls.Add(1)
	if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
		w.wake <- struct{}{} // one place, and one who found it asleep
	}
}

// close ends run. It may be called more than once.
func (w *watch) close() { w.closed.Do(func() { close(w.done) }) }

// run looks until close.
func (w *watch) run() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	seen, lastCall := w.calls.Load(), w.now()
	for {
		select {
		case <-ticker.C:
		case <-w.done:
			return
		}
		now := w.now()
		busy := w.look(now)
		if n := w.calls.Load(); n != seen || busy {
			seen, lastCall = n, now
		}
		if now.Sub(lastCall) < watchLinger {
			continue
		}
		ticker.Stop()
		w.asleep.Store(true)
		if w.calls.Load() == seen || !w.asleep.CompareAndSwap(true, false) {
			// Nothing has begun since the last look, or who began it is waking us.
			select {
			case <-w.wake:
			case <-w.done:
				return
			}
		}
		ticker.Reset(watchEvery)
		lastCall = w.now()
	}
}

// look looks at every container and instance and tells whether any is busy.
func (w *watch) look(now time.Time) (busy bool) {
	w.mu.Lock()
	containers, instances := slices.Collect(maps.Keys(w.containers)), slices.Collect(maps.Keys(w.instances))
	w.mu.Unlock()
	for _, c := range containers {
		busy = c.look(now) || busy
	}
	for _, i := range instances {
		busy = i.look(now) || busy
	}
	return busy
}
