package placement

import (
	"fmt"
	"time"

	"lambent"
)

// Containers are the containers that hold a function, found by match key and by
// idleness. Every method takes constant time. Turning a container busy and idle
// again allocates nothing. The zero value is ready for use; it is not safe for
// use by several goroutines at once: its owner's lock guards it.
type Containers struct {
	byID  map[lambent.ContainerID]*container
	byKey map[lambent.MatchKey]*siblings
	idle  list // of all keys, least recently used first
}

// container is one of them. It is a link of two lists while it is idle.
type container struct {
	id       lambent.ContainerID
	instance lambent.InstanceID
	of       *siblings
	isIdle   bool
	lastUsed time.Time // when it became idle
	all, own link      // in Containers.idle and in siblings.idle
}

// siblings are the containers of one match key.
type siblings struct {
	key   lambent.MatchKey
	count int  // idle and busy
	idle  list // least recently used first
}

// link and list make a list through the containers themselves.
type link struct{ older, newer *container }

type list struct {
	oldest, newest *container
	length         int
}

// which picks the link of a container that belongs to a list.
type which func(*container) *link

func inAll(c *container) *link { return &c.all }
func inOwn(c *container) *link { return &c.own }

// insert puts a container where its time of last use belongs, which is at the
// newest end unless clocks were read out of order.
func (l *list) insert(c *container, at which) {
	older := l.newest
	for older != nil && older.lastUsed.After(c.lastUsed) {
		older = at(older).older
	}
	newer := l.oldest
	if older != nil {
		newer = at(older).newer
	}
	*at(c) = link{older: older, newer: newer}
	if older != nil {
		at(older).newer = c
	} else {
		l.oldest = c
	}
	if newer != nil {
		at(newer).older = c
	} else {
		l.newest = c
	}
	l.length++
}

func (l *list) remove(c *container, at which) {
	k := *at(c)
	if k.older != nil {
		at(k.older).newer = k.newer
	} else {
		l.oldest = k.newer
	}
	if k.newer != nil {
		at(k.newer).older = k.older
	} else {
		l.newest = k.older
	}
	*at(c) = link{}
	l.length--
}

// Add takes a container in, busy: it was just given its function. Its id is new.
func (cs *Containers) Add(key lambent.MatchKey, instance lambent.InstanceID, id lambent.ContainerID) {
	if cs.byID == nil {
		cs.byID = map[lambent.ContainerID]*container{}
		cs.byKey = map[lambent.MatchKey]*siblings{}
	}
	if cs.byID[id] != nil {
		panic(fmt.Sprintf("container %s is added twice", id))
	}
	of := cs.byKey[key]
	if of == nil {
		of = &siblings{key: key}
		cs.byKey[key] = of
	}
	of.count++
	cs.byID[id] = &container{id: id, instance: instance, of: of}
}

// Idle says that a container ended its execution at the given time and can be
// reused. It reports whether the container is known; an idle one stays as it is.
func (cs *Containers) Idle(id lambent.ContainerID, at time.Time) (known bool) {
	c := cs.byID[id]
	if c == nil {
		return false
	}
	if !c.isIdle {
		c.isIdle, c.lastUsed = true, at
		cs.idle.insert(c, inAll)
		c.of.idle.insert(c, inOwn)
	}
	return true
}

// Busy says that a container runs an execution. It reports whether the
// container was idle: only then may it be used.
func (cs *Containers) Busy(id lambent.ContainerID) (was bool) {
	c := cs.byID[id]
	if c == nil || !c.isIdle {
		return false
	}
	c.isIdle = false
	cs.idle.remove(c, inAll)
	c.of.idle.remove(c, inOwn)
	return true
}

// Remove forgets a container, idle or busy, and reports whether it was known.
func (cs *Containers) Remove(id lambent.ContainerID) (known bool) {
	c := cs.byID[id]
	if c == nil {
		return false
	}
	cs.Busy(id)
	delete(cs.byID, id)
	if c.of.count--; c.of.count == 0 {
		delete(cs.byKey, c.of.key)
	}
	return true
}

// Count tells how many containers of a key there are and how many of them are
// idle.
func (cs *Containers) Count(key lambent.MatchKey) (all, idle int) {
	if cs == nil || cs.byKey[key] == nil {
		return 0, 0
	}
	of := cs.byKey[key]
	return of.count, of.idle.length
}

// Len tells how many containers there are and how many of them are idle.
func (cs *Containers) Len() (all, idle int) {
	if cs == nil {
		return 0, 0
	}
	return len(cs.byID), cs.idle.length
}

// newestIdle is the most recently used of a key, so that surplus ones stay idle
// and expire.
func (cs *Containers) newestIdle(key lambent.MatchKey) (c *container, ok bool) {
	if cs == nil {
		return nil, false
	}
	of := cs.byKey[key]
	if of == nil {
		return nil, false
	}
	return of.idle.newest, of.idle.newest != nil
}

// oldestIdle is the least recently used of all.
func (cs *Containers) oldestIdle() (c *container, ok bool) {
	if cs == nil {
		return nil, false
	}
	return cs.idle.oldest, cs.idle.oldest != nil
}
