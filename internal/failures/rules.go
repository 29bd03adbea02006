package failures

import (
	"context"
	"time"

	"lambent"
)

// Rules say when a function's failures are redriven by themselves. Each of them
// may; Max bounds them all.
type Rules struct {
	// After redrives a failure so long after it failed: the first of them the first
	// time, the second the second, the last from then on. Empty: not after a time.
	After []time.Duration
	// OnChange redrives what failed before the function's code was changed, or a
	// version of it published.
	OnChange bool
	// Healthy redrives what failed before one of these URLs answered 200.
	Healthy []string
	// Max is how often a failure is redriven in all, by hand included, until it
	// stays.
	Max int
	// Rate bounds how many are redriven a second.
	Rate float64
}

const (
	// lookGap is the least time from one look at all failures to the next: a look
	// at a million takes some 50 ms.
	lookGap = 100 * time.Millisecond
	// refusedFor is how long a function's failures wait after the queue did not take
	// one.
	refusedFor = 5 * time.Second
)

// engine redrives by rules. One goroutine runs it; what is not said to be
// guarded is its alone.
type engine struct {
	store   *Store
	pace    map[function]time.Time // when a function's next failures may be redriven
	changed map[function]int64     // milliseconds since 1970
	changes chan function          // whose code was changed; also in changed, once it is read
	health  *health
}

func newEngine(s *Store) *engine {
	return &engine{store: s, pace: map[function]time.Time{}, changed: map[function]int64{}, changes: make(chan function, 1024), health: newHealth(s.opts.HealthHosts)}
}

// CodeChanged says that the code of a function is another from now on, or that a
// version of it was published or an alias moved: what failed before may be
// redriven. It does not block.
func (s *Store) CodeChanged(account lambent.AccountID, name lambent.FunctionName) {
	s.mu.Lock()
	there := s.index.lines[function{account, name}] != nil
	s.mu.Unlock()
	if !there {
		return
	}
	select {
	case s.engine.changes <- function{account, name}:
	default: // Options.Changed knows of it, too, and is asked when anything happens
		wake(s.look)
	}
}

// Look says that there may be something to redrive, as when rules are others.
func (s *Store) Look() { wake(s.look) }

// run redrives what rules say until the store is closed.
func (e *engine) run() {
	s := e.store
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer e.health.close()
	var looked time.Time // by the monotonic clock
	for {
		select {
		case <-s.running.Done():
			return
		case of := <-e.changes:
			e.changed[of] = s.opts.now().UnixMilli()
		case answer := <-e.health.answers:
			e.health.note(answer, s.opts.now())
		case <-s.look:
		case <-timer.C:
		}
		wait := lookGap - time.Since(looked)
		if wait <= 0 {
			next, any := e.pass(s.running)
			looked = time.Now()
			if wait = 0; any {
				wait = max(next, lookGap)
			}
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// pass redrives what is to be now, and tells when something may be next.
func (e *engine) pass(ctx context.Context) (next time.Duration, any bool) {
	s := e.store
	if s.opts.Rules == nil || s.opts.Queue == nil {
		return 0, false
	}
	s.mu.Lock()
	lines := make(map[function]bool, len(s.index.lines))
	for of := range s.index.lines {
		lines[of] = true
	}
	s.mu.Unlock()
	now := s.opts.now()
	sooner := func(at time.Time) {
		if wait := at.Sub(now); !any || wait < next {
			next, any = wait, true
		}
	}
	e.health.begin()
	for of := range lines {
		rules := s.opts.Rules(of.account, of.name)
		if rules == nil {
			continue
		}
		if at := e.pace[of]; at.After(now) {
			e.health.keep(rules.Healthy)
			sooner(at)
			continue
		}
		e.function(ctx, of, rules, now, sooner)
	}
	for of := range e.pace {
		if !lines[of] {
			delete(e.pace, of)
		}
	}
	for of := range e.changed {
		if !lines[of] {
			delete(e.changed, of)
		}
	}
	e.health.end(ctx, now, sooner)
	return next, any
}

// function redrives what is to be of one function.
func (e *engine) function(ctx context.Context, of function, rules *Rules, now time.Time, sooner func(time.Time)) {
	s := e.store
	changed := int64(0)
	if rules.OnChange {
		changed = e.changed[of]
		if s.opts.Changed != nil {
			if at := s.opts.Changed(of.account, of.name); !at.IsZero() {
				changed = max(changed, at.UnixMilli())
			}
		}
	}
	healthy := e.health.since(rules.Healthy)
	causes := map[hash]cause{}
	size := min(redriveBatch, max(1, int(rules.Rate/batchesPerSecond)))
	all, more := s.choose(&Filter{Account: of.account, Function: of.name}, true, size, func(f *entry) bool {
		if s.inQueue(f.mark()) || int(f.redrives) >= rules.Max {
			return false
		}
		if n := len(rules.After); n > 0 {
			at := time.UnixMilli(f.last).Add(rules.After[min(int(f.redrives), n-1)])
			if !at.After(now) {
				causes[f.key] = byTime
				return true
			}
			sooner(at)
		}
		switch {
		case changed > f.last:
			causes[f.key] = byVersion
			return true
		case healthy > f.last:
			causes[f.key] = byHealth
			return true
		}
		e.health.keep(rules.Healthy)
		return false
	})
	done := 0
	for by := byTime; by <= byHealth; by++ {
		var some []found
		for _, one := range all {
			if causes[one.key] == by {
				some = append(some, one)
			}
		}
		p, err := s.redriveSome(ctx, some, nil, by)
		done += p.Redriven
		if err != nil {
			if ctx.Err() == nil {
				s.opts.Log.Warn("failures cannot be redriven for now; it is tried on", "account", of.account, "function", of.name, "err", err)
			}
			e.pace[of] = now.Add(refusedFor)
			sooner(e.pace[of])
			return
		}
	}
	if len(all) > 0 {
		e.pace[of] = now.Add(time.Duration(float64(max(done, 1)) / rules.Rate * float64(time.Second)))
		if more {
			sooner(e.pace[of])
		}
	}
}
