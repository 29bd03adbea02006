package queue

import "time"

// clock is the time of a queue: milliseconds that go on whatever is done to the
// machine's clock. The zero of it is wherever the queue began.
type clock struct {
	began  time.Time // with its monotonic reading
	offset int64     // of began
	wall   func() int64
}

// wallClock is the machine's, in milliseconds since 1970.
func wallClock() int64 { return time.Now().UnixMilli() }

// newClock goes on from the last entry of a journal; the zero stamp is that of
// none. Of the time in between only the machine's clock knows: where it went back
// nothing counts as passed.
func newClock(last stamp, wall func() int64) clock {
	passed := int64(0)
	if last != (stamp{}) {
		passed = max(0, wall()-last.wall)
	}
	return clock{began: time.Now(), offset: max(0, last.at) + passed, wall: wall}
}

// now is in milliseconds.
func (c clock) now() int64 { return c.offset + time.Since(c.began).Milliseconds() }

// stamp is for an entry that is written now.
func (c clock) stamp() stamp { return stamp{at: c.now(), wall: c.wall()} }
