package invoke

import "time"

// window bounds how many events of one line are worked on at once. It opens with
// each container the pool grants at once, as long as the backlog is longer than
// what runs would work off in a moment, and executions do not become slower by it:
// then the machine is busy, and more at once would only take longer each. It
// closes by half where the function is throttled.
//
// It looks at executions in rounds, and may double in one until executions were
// found to crowd each other once; from then on it opens by a quarter. How long they
// take where they do not crowd each other is known from when they took least. Where
// one alone takes longer, that is what they take now.
//
// Now and then a quarter is tried for a round, which tells of executions that have
// come to need the CPUs more than they did: they take less then.
//
// Executions longer than slowAfter are not held against it: what waits behind
// them would wait for minutes. They are bounded by concurrency and capacity.
//
// It is pure: the dispatcher tells it what happened.
type window struct {
	allow   int     // 1 at least
	mean    float64 // of how long executions take, in seconds; 0: none has ended yet
	best    float64 // mean of the short ones of the round in which it was least
	careful bool    // they crowded each other once
	crowded bool    // they do now
	round   round
	rounds  int  // since fewer were tried
	resume  int  // what allow is to be again when fewer were tried; 0: it is not being tried
	settles bool // the executions of before are still among those that end
}

// round is some executions that are looked at together.
type round struct {
	allow int     // of the window when it began; 0: it has not
	slow  int     // executions that came to take long
	count int     // of short ones
	sum   float64 // of what those took, in seconds
}

func (r *round) begin(allow int) {
	if r.allow == 0 {
		r.allow = max(allow, 1)
	}
}

const (
	slowAfter   = time.Second            // an execution this long counts no more
	grantAtOnce = time.Second            // a container within this time counts as granted at once
	drainAim    = 100 * time.Millisecond // a backlog that is worked off in this time wants no further container
	mostAtOnce  = 1000                   // AWS's concurrency of an account
	roundLength = 16                     // executions of a round, and as many as there may be at once at least,
	roundTime   = 0.5                    // but no longer than so many seconds
	crowdedBy   = 2                      // times as slow as the best
	crowdedPlus = 0.001                  // and so many seconds: what measuring is off by
	tryFewer    = 32                     // rounds after which fewer are tried
	triedFrom   = 8                      // that may be at once
)

// limit is how many events may be worked on at once with due others waiting.
func (w *window) limit(due, working int) int {
	allow := min(max(w.allow, 1), mostAtOnce)
	if w.mean > 0 {
		wanted := w.mean * float64(due+working) / drainAim.Seconds()
		if wanted < float64(allow) {
			return max(1, int(wanted+0.999))
		}
	}
	return allow
}

// granted tells that a container was there after a wait, and that so many events
// are worked on, this one included.
func (w *window) granted(waited time.Duration, working int) {
	w.round.begin(w.allow)
	most := 2 * w.round.allow
	if w.careful {
		most = w.round.allow + max(1, w.round.allow/4)
	}
	if waited <= grantAtOnce && !w.crowded && w.resume == 0 && working >= w.allow && w.allow < min(most, mostAtOnce) {
		w.allow = max(w.allow, 1) + 1
	}
}

// ended tells how long an execution took.
func (w *window) ended(took time.Duration) {
	s := max(took.Seconds(), 1e-6)
	if w.mean == 0 {
		w.mean = s
	}
	w.mean += (s - w.mean) / 16
	if took >= slowAfter {
		return
	}
	r := &w.round
	r.begin(w.allow)
	r.sum += s
	r.count++
	if r.count < max(roundLength, r.allow) && r.sum < roundTime*float64(r.allow) {
		return
	}
	mean := r.sum / float64(r.count)
	*r = round{}
	if w.best == 0 || mean < w.best {
		w.best = mean
	}
	if w.resume > 0 {
		if w.settles {
			w.settles = false
		} else {
			w.allow, w.resume = w.resume, 0
		}
		return
	}
	w.crowded = mean > crowdedBy*w.best+crowdedPlus
	w.rounds++
	switch {
	case w.crowded && w.allow <= 1: // so it is not by each other that they are slower
		w.best, w.crowded = mean, false
	case w.crowded:
		w.allow, w.careful = max(1, w.allow*3/4), true
	case w.rounds >= tryFewer && w.allow >= triedFrom:
		w.round.begin(w.allow) // as many end first as there are
		w.allow, w.resume, w.settles, w.rounds = w.allow/4, w.allow, true, 0
	}
}

// slowed tells that an execution has come to take long. Where all that may run do,
// there is nothing to learn from: the window opens on.
func (w *window) slowed() {
	r := &w.round
	r.begin(w.allow)
	if r.slow++; r.slow < r.allow {
		return
	}
	*r = round{}
	if w.resume > 0 {
		w.allow, w.resume, w.settles = w.resume, 0, false
	}
}

// throttled tells that no container was to be had beside so many executions.
func (w *window) throttled(working int) {
	w.allow, w.resume, w.settles = max(1, min(w.allow/2, working)), 0, false
}
