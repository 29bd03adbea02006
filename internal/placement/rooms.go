package placement

import (
	"fmt"
	"slices"
	"time"

	"lambent"
)

// room is an assigned instance: what it could still take. Its containers are
// counted from the moment they are planned until nothing is left of them.
type room struct {
	instance   lambent.InstanceID
	account    lambent.AccountID
	config     Configuration
	capacityMB int
	usedMB     int                      // sum of what its containers were allotted
	placed     int                      // its containers, those being started included
	idle       int                      // of placed
	dedicated  int                      // of placed: kept ready, so that the room never rests
	codes      map[lambent.CodeHash]int // its containers by their code: what need not be fetched again
	spares     []spare                  // longest waiting first

	// While all of its containers are idle the room rests: it is a link of
	// Containers.resting.
	rests        bool
	since        time.Time // when the last of its containers became idle
	older, newer *room
}

// rooms is a list of those that rest, longest first.
type rooms struct{ oldest, newest *room }

// insert puts a room where its time belongs, which is at the newest end unless
// clocks were read out of order.
func (l *rooms) insert(r *room) {
	older := l.newest
	for older != nil && older.since.After(r.since) {
		older = older.older
	}
	newer := l.oldest
	if older != nil {
		newer = older.newer
	}
	r.older, r.newer = older, newer
	if older != nil {
		older.newer = r
	} else {
		l.oldest = r
	}
	if newer != nil {
		newer.older = r
	} else {
		l.newest = r
	}
}

func (l *rooms) remove(r *room) {
	if r.older != nil {
		r.older.newer = r.newer
	} else {
		l.oldest = r.newer
	}
	if r.newer != nil {
		r.newer.older = r.older
	} else {
		l.newest = r.older
	}
	r.older, r.newer = nil, nil
}

// settle lists the room among those that rest, or takes it off, as its
// containers are.
func (cs *Containers) settle(r *room) {
	rests := r.placed > 0 && r.idle == r.placed && r.dedicated == 0 && cs.rooms[r.instance] == r
	switch {
	case rests && !r.rests:
		cs.resting.insert(r)
	case !rests && r.rests:
		cs.resting.remove(r)
	}
	r.rests = rests
}

// spare is a runtime that waits for code in an assigned instance.
type spare struct {
	container lambent.ContainerID
	config    Configuration
}

func (r *room) freeMB() int { return r.capacityMB - r.usedMB }

// Assign adds an instance that was given to an account, for life. capacityMB is
// what its containers may be allotted in all.
func (cs *Containers) Assign(id lambent.InstanceID, account lambent.AccountID, config Configuration, capacityMB int) {
	if cs.rooms == nil {
		cs.rooms = map[lambent.InstanceID]*room{}
		cs.byAccount = map[lambent.AccountID][]*room{}
	}
	if cs.rooms[id] != nil {
		panic(fmt.Sprintf("instance %s is assigned twice", id))
	}
	r := &room{instance: id, account: account, config: config, capacityMB: capacityMB, codes: map[lambent.CodeHash]int{}}
	cs.rooms[id] = r
	cs.byAccount[account] = append(cs.byAccount[account], r)
}

// Close takes an assigned instance out of every decision: it dies or is being
// destroyed. Its containers are removed one by one, before or after.
func (cs *Containers) Close(id lambent.InstanceID) {
	r := cs.rooms[id]
	if r == nil {
		return
	}
	delete(cs.rooms, id)
	cs.settle(r)
	left := slices.DeleteFunc(cs.byAccount[r.account], func(other *room) bool { return other == r })
	if len(left) == 0 {
		delete(cs.byAccount, r.account)
		return
	}
	cs.byAccount[r.account] = left
}

// Resting reports whether there is an assigned instance on which nothing runs.
func (cs *Containers) Resting() bool { return cs.resting.oldest != nil }

// Reserve takes room on an assigned instance for a container of a key that is
// about to be started there.
func (cs *Containers) Reserve(id lambent.InstanceID, key lambent.MatchKey) {
	if r := cs.rooms[id]; r != nil {
		r.usedMB += key.Size.MemoryMB
		r.placed++
		if key.Dedicated {
			r.dedicated++
		}
		r.codes[key.Code]++
		cs.settle(r)
	}
}

// Vacate gives back what Reserve took, when nothing is left of the container.
func (cs *Containers) Vacate(id lambent.InstanceID, key lambent.MatchKey) {
	r := cs.rooms[id]
	if r == nil {
		return
	}
	r.usedMB -= key.Size.MemoryMB
	r.placed--
	if key.Dedicated {
		r.dedicated--
	}
	if r.codes[key.Code]--; r.codes[key.Code] == 0 {
		delete(r.codes, key.Code)
	}
	cs.settle(r)
}

// AddSpare adds a runtime that waits in an assigned instance.
func (cs *Containers) AddSpare(id lambent.InstanceID, config Configuration, c lambent.ContainerID) {
	if r := cs.rooms[id]; r != nil {
		r.spares = append(r.spares, spare{container: c, config: config})
	}
}

// TakeSpare takes a waiting runtime out, false when it is not there any more.
func (cs *Containers) TakeSpare(id lambent.InstanceID, c lambent.ContainerID) bool {
	r := cs.rooms[id]
	if r == nil {
		return false
	}
	k := slices.IndexFunc(r.spares, func(s spare) bool { return s.container == c })
	if k < 0 {
		return false
	}
	r.spares = slices.Delete(r.spares, k, k+1)
	return true
}

// Tenancy tells of an assigned instance how many containers are placed on it,
// those being started included, what memory is free, and how many runtimes of
// its own configuration wait. Zero for an instance that is not there.
func (cs *Containers) Tenancy(id lambent.InstanceID) (placed, freeMB, spares int) {
	r := cs.rooms[id]
	if r == nil {
		return 0, 0, 0
	}
	for _, s := range r.spares {
		if s.config == r.config {
			spares++
		}
	}
	return r.placed, r.freeMB(), spares
}

// Dedicated tells how many instances hold containers that are kept ready.
func (cs *Containers) Dedicated() (n int) {
	for _, r := range cs.rooms {
		if r.dedicated > 0 {
			n++
		}
	}
	return n
}

// bestRoom finds the account's instance that a new container goes to: one that
// runs the same language and has room; beside the containers it is wanted beside
// rather than elsewhere (P09-R3), with a waiting runtime rather than without, then
// with the code rather than without (P02-C2), then the fullest, so that others can
// empty. spare is the waiting runtime, if any.
func (cs *Containers) bestRoom(req Request) (best *room, waiting lambent.ContainerID, cached bool) {
	if cs == nil {
		return nil, "", false
	}
	rank := -1
	for _, r := range cs.byAccount[req.Key.Account] {
		if r.config.Family != req.Configuration.Family || r.config.Version != req.Configuration.Version || r.freeMB() < req.Key.Size.MemoryMB ||
			req.Within && r.dedicated == 0 {
			continue
		}
		has := r.codes[req.Key.Code] > 0
		runtime := r.spareOf(req.Configuration)
		score := 0
		if req.Beside != "" && r.codes[req.Beside] > 0 {
			score += 4
		}
		if runtime != "" {
			score += 2
		}
		if has {
			score++
		}
		if score > rank || score == rank && r.freeMB() < best.freeMB() {
			best, waiting, cached, rank = r, runtime, has, score
		}
	}
	return best, waiting, cached
}

// spareOf is the runtime of a configuration that has waited longest.
func (r *room) spareOf(config Configuration) lambent.ContainerID {
	for _, s := range r.spares {
		if s.config == config {
			return s.container
		}
	}
	return ""
}
