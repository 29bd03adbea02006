package placement

import (
	"fmt"
	"time"

	"lambent"
)

// Containers are the containers that hold a function, found by match key and by
// idleness, and the assigned instances they are in, found by account. Turning a
// container busy and idle again allocates nothing. The zero value is ready for
// use; it is not safe for use by several goroutines at once: its owner's lock
// guards it.
type Containers struct {
	byID      map[lambent.ContainerID]*container
	byKey     map[lambent.MatchKey]*siblings
	idle      int // of byID
	dedicated int // of byID
	rooms     map[lambent.InstanceID]*room
	byAccount map[lambent.AccountID][]*room // in the order they were assigned
	resting   rooms
}

// container is one of them. It is a link of a list while it is idle.
type container struct {
	id       lambent.ContainerID
	instance lambent.InstanceID
	in       *room // nil where the instance was not told of
	of       *siblings
	isIdle   bool
	lastUsed time.Time // when it became idle
	link               // in siblings.idle
}

// siblings are the containers of one match key.
type siblings struct {
	key   lambent.MatchKey
	count int  // idle and busy
	idle  list // least recently used first
	uses  volume
}

// link and list make a list through the containers themselves.
type link struct{ older, newer *container }

type list struct {
	oldest, newest *container
	length         int
}

// insert puts a container where its time of last use belongs, which is at the
// newest end unless clocks were read out of order.
func (l *list) insert(c *container) {
	older := l.newest
	for older != nil && older.lastUsed.After(c.lastUsed) {
		older = older.older
	}
	newer := l.oldest
	if older != nil {
		newer = older.newer
	}
	c.link = link{older: older, newer: newer}
	if older != nil {
		older.newer = c
	} else {
		l.oldest = c
	}
	if newer != nil {
		newer.older = c
	} else {
		l.newest = c
	}
	l.length++
}

func (l *list) remove(c *container) {
	k := c.link
	if k.older != nil {
		k.older.newer = k.newer
	} else {
		l.oldest = k.newer
	}
	if k.newer != nil {
		k.newer.older = k.older
	} else {
		l.newest = k.older
	}
	c.link = link{}
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
	if key.Dedicated {
		cs.dedicated++
	}
	cs.byID[id] = &container{id: id, instance: instance, in: cs.rooms[instance], of: of}
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
		cs.idle++
		c.of.idle.insert(c)
		c.of.uses.add(at)
		if c.in != nil {
			c.in.idle++
			if at.After(c.in.since) {
				c.in.since = at
			}
			cs.settle(c.in)
		}
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
	cs.idle--
	c.of.idle.remove(c)
	if c.in != nil {
		c.in.idle--
		cs.settle(c.in)
	}
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
	if c.of.key.Dedicated {
		cs.dedicated--
	}
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
	return len(cs.byID), cs.idle
}

// newestDedicated is the same of those kept ready for what a key stands for.
func (cs *Containers) newestDedicated(key lambent.MatchKey) (c *container, ok bool) {
	if cs == nil || cs.dedicated == 0 {
		return nil, false
	}
	key.Dedicated = true
	return cs.newestIdle(key)
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
