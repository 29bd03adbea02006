package placement

import (
	"fmt"
	"time"

	"lambent"
)

// because is the rung, and the case within it, that a plan was found on.
type because uint8

const (
	undecided because = iota
	functionQuota
	accountQuota
	dedicatedAtHand
	idleAtHand
	startExpected
	spareAtHand
	warmAtHand
	roomAtHand
	nothingReady
	machineFull
	evictIdle
	evictWarm
	queueFull
	noRoom
	noneWithin
)

// why holds what a reason in words is made of.
type why struct {
	because       because
	age           time.Duration
	count, max    int
	queue         int
	instance      lambent.InstanceID
	configuration Configuration
	other         Configuration
	cached        bool // the instance has the code
	own           bool // the account has an instance with room, but nothing ready on it
	times         Times
}

// NoRoom tells of a plan to Refuse that it is for want of room on the machine, not
// of concurrency that the function or its account may have.
func (p Plan) NoRoom() bool {
	return p.Action == Refuse && p.why.because != functionQuota && p.why.because != accountQuota
}

// Kind is the start kind of an execution that the plan leads to. A caller who is
// queued gets that of what ends the wait; a refused one has none.
func (p Plan) Kind() lambent.StartKind {
	switch p.Action {
	case Reuse:
		if p.why.because == dedicatedAtHand {
			return lambent.StartDedicated
		}
		return lambent.StartReuse
	case NewContainer:
		return lambent.StartNew
	case TakeWarm:
		return lambent.StartWarm
	case StartOnDemand:
		return lambent.StartOnDemand
	}
	return ""
}

// Reason says in one sentence, for people, why it was this plan. It is rendered
// on every call.
func (p Plan) Reason() string {
	w := p.why
	switch w.because {
	case functionQuota:
		return fmt.Sprintf("the function's reserved concurrency of %d is in use", w.max)
	case accountQuota:
		return fmt.Sprintf("the account's concurrency of %d is in use", w.max)
	case dedicatedAtHand:
		return fmt.Sprintf("a container of the version's provisioned concurrency was at hand, idle for %s", span(w.age))
	case idleAtHand:
		return fmt.Sprintf("an idle container of this version was at hand, last used %s ago", span(w.age))
	case startExpected:
		return fmt.Sprintf("no idle container of this version; %d starting already, one of them for this call", w.count)
	case spareAtHand:
		return fmt.Sprintf("no idle container of this version; the account's instance %s had room and a %s runtime waiting%s%s",
			w.instance, w.configuration, w.code(), took(w.times.Spare))
	case warmAtHand:
		return fmt.Sprintf("no idle container of this version; %s; took warm %s instance %s, %d left%s",
			w.noSpare(), w.configuration, w.instance, w.count, took(w.times.Warm))
	case roomAtHand:
		return fmt.Sprintf("no idle container of this version, no waiting runtime and no warm %s instance; the account's instance %s had room%s: booted a runtime on it%s",
			w.configuration, w.instance, w.code(), took(w.times.Container))
	case nothingReady:
		return fmt.Sprintf("no idle container of this version and no warm %s instance%s; %s; booted one, as %d of at most %d instances ran%s",
			w.configuration, w.unpooled(), w.noSpare(), w.count, w.max, took(w.times.Instance))
	case machineFull:
		return w.full() + "; waited for one to become free"
	case noRoom:
		return w.full() + "; nothing is ended to make room"
	case noneWithin:
		return "no instance that holds provisioned concurrency has room"
	case evictIdle:
		return fmt.Sprintf("%s; ended instance %s, idle for %s, to make room", w.full(), w.instance, span(w.age))
	case evictWarm:
		return fmt.Sprintf("%s; ended warm %s instance %s to make room", w.full(), w.other, w.instance)
	case queueFull:
		return fmt.Sprintf("%s, and %d calls, the most allowed, wait already", w.full(), w.queue)
	}
	return "nothing was decided"
}

// code tells whether the instance had the code.
func (w why) code() string {
	if w.cached {
		return ", and had the code"
	}
	return ""
}

// unpooled tells why there can be no warm instance.
func (w why) unpooled() string {
	if w.configuration.Family == lambent.FamilyImage {
		return ", as images are in no warm pool"
	}
	return ""
}

// noSpare tells why it was no instance of the account's.
func (w why) noSpare() string {
	if w.own {
		return "no runtime waited on the account's own"
	}
	return "the account has no instance with room"
}

// took tells how long such starts take.
func took(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s lately)", span(d))
}

func (w why) full() string {
	return fmt.Sprintf("no idle container of this version and no warm %s instance, and %d of at most %d instances run",
		w.configuration, w.count, w.max)
}

// span renders a time that has passed with two or three figures.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%.1f min", d.Minutes())
	}
	return fmt.Sprintf("%.1f h", d.Hours())
}
