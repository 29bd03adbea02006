package invoke

import (
	"testing"
	"time"
)

// machine is a model of one that has so many CPUs, and a function that takes so
// much of one and waits for so long besides: executions at once share the CPUs.
type machine struct {
	cpus       float64
	cpu, waits time.Duration
}

// took is how long one of n executions at once takes.
func (m machine) took(n int) time.Duration {
	return m.waits + time.Duration(float64(m.cpu)*max(1, float64(n)/m.cpus))
}

// saturate has a line that never gets empty worked on for a time, and tells how many
// executions there were at once on average of its last quarter, and at most.
func (m machine) saturate(w *window, long time.Duration) (average int, most int) {
	const due = 100_000
	running, ended, sum := 0, 0.0, 0.0
	for at := time.Duration(0); at < long; {
		for running < w.limit(due, running) {
			running++
			w.granted(0, running)
		}
		took := m.took(running)
		step := took / time.Duration(running)
		if most = max(most, running); at >= long*3/4 {
			ended += step.Seconds()
			sum += step.Seconds() * float64(running)
		}
		at += step
		w.ended(took)
		running--
	}
	return int(sum / ended), most
}

func TestAWindowStaysSmallWhereExecutionsNeedTheCPUs(t *testing.T) {
	for _, m := range []machine{{2, time.Millisecond, 0}, {2, 20 * time.Millisecond, 0}, {16, time.Millisecond, 0}} {
		var w window
		if average, most := m.saturate(&w, 2*time.Minute); float64(most) > 8*m.cpus || float64(average) < m.cpus {
			t.Errorf("%+v: %d at once, %d at most", m, average, most)
		}
	}
}

func TestAWindowOpensWhereExecutionsWait(t *testing.T) {
	var w window
	if average, _ := (machine{2, 100 * time.Microsecond, 200 * time.Millisecond}).saturate(&w, time.Minute); average < 700 {
		t.Errorf("%d at once", average)
	}
}

// What a function takes changes: its code, what it calls, or who else needs the
// CPUs. The window is of what it takes now.
func TestAWindowFollowsAFunctionThatBecomesAnotherOne(t *testing.T) {
	var w window
	quick, slow := machine{2, time.Millisecond, 0}, machine{2, time.Millisecond, 300 * time.Millisecond}
	quick.saturate(&w, time.Minute)
	if average, _ := slow.saturate(&w, 5*time.Minute); average < 200 {
		t.Errorf("%d at once of what waits now", average)
	}
	if average, _ := quick.saturate(&w, 5*time.Minute); average > 16 {
		t.Errorf("%d at once of what needs the CPUs again", average)
	}
}
