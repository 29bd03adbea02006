package queue

// recent keeps events that were just accepted, so that one that is taken at once
// need not be read from the disk. The oldest go first.
type recent struct {
	limit  int // bytes
	used   int
	events map[ref]recentEvent
	order  ring // of all that were put, those that are gone included
}

type recentEvent struct {
	event    *Event
	accepted int64 // by the queue's clock
	size     int
}

func (c *recent) put(r ref, e *Event, accepted int64) {
	size := e.size()
	if size > c.limit/2 {
		return
	}
	for c.used+size > c.limit && c.order.size > 0 {
		c.drop(c.order.popFront())
	}
	if c.events == nil {
		c.events = map[ref]recentEvent{}
	}
	c.events[r] = recentEvent{e, accepted, size}
	c.used += size
	c.order.pushBack(r)
	if c.order.size > 2*len(c.events)+1024 {
		var left ring
		for i := range c.order.size {
			if r := *c.order.at(i); c.events[r].event != nil {
				left.pushBack(r)
			}
		}
		c.order = left
	}
}

// take gives an event and forgets it; nil where it is not there.
func (c *recent) take(r ref) (*Event, int64) {
	e := c.events[r]
	c.drop(r)
	return e.event, e.accepted
}

func (c *recent) drop(r ref) {
	c.used -= c.events[r].size
	delete(c.events, r)
}
