package invoke

import "time"

// window bounds how many events of one line are worked on at once. It opens by
// one with each container the pool grants at once, as long as the backlog is
// longer than what runs would work off in a moment, and executions do not become
// slower by it: then the machine is busy, and more at once would only take longer
// each. It closes by half where the function is throttled.
//
// Executions longer than slowAfter are not held against it: what waits behind
// them would wait for minutes. They are bounded by concurrency and capacity.
//
// It is pure: the dispatcher tells it what happened.
type window struct {
	allow   int     // 1 at least
	mean    float64 // of how long executions take, in seconds; 0: none has ended yet
	best    float64 // mean of the short ones when they were fastest
	sum     float64 // of the short ones of this round
	count   int     // of them
	crowded bool    // they take longer than they need to
}

const (
	slowAfter   = time.Second            // an execution this long counts no more
	grantAtOnce = time.Second            // a container within this time counts as granted at once
	drainAim    = 100 * time.Millisecond // a backlog that is worked off in this time wants no further container
	mostAtOnce  = 1000                   // AWS's concurrency of an account
	roundLength = 16                     // executions that are compared
	crowdedBy   = 2                      // times as slow as the best
	crowdedPlus = 0.002                  // and so many seconds: what measuring is off by
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
	if waited <= grantAtOnce && !w.crowded && working >= w.allow && w.allow < mostAtOnce {
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
	w.sum += s
	if w.count++; w.count < max(roundLength, w.allow) {
		return
	}
	mean := w.sum / float64(w.count)
	w.sum, w.count = 0, 0
	if w.best == 0 || mean < w.best {
		w.best = mean
	} else {
		w.best += (mean - w.best) / 64 // what is slower for good is so in a while
	}
	if w.crowded = mean > crowdedBy*w.best+crowdedPlus; w.crowded {
		w.allow = max(1, w.allow*3/4)
	}
}

// throttled tells that no container was to be had beside so many executions.
func (w *window) throttled(working int) { w.allow = max(1, min(w.allow/2, working)) }
