package queue

import (
	"context"
	"lambent"
	"lambent/internal/cluster"
)

// recovery is what is found while the journal is read: a slot for each entry, 4
// bytes, since there may be millions.
type recovery struct {
	queue *Queue
	packs []slotted // by their place in queue.packs
	slots []uint32
	lines []Line // by number
	names map[Line]uint32
	times map[ref]waiting // of those that do not simply wait since the pack was written
	last  stamp
	bad   int // entries that cannot be read
}

// slotted is a pack.
type slotted struct {
	first uint32 // of its slots
	at    int64  // when it was written, by the queue's clock
}

// waiting is what of an event's envelope is not as for one that is new.
type waiting struct {
	due      int64 // by the queue's clock
	delay    int64 // milliseconds
	accepted int64
}

// A slot has the number of the event's line, and marks. 0 is an event that is
// settled, or no event.
const (
	slotMoved = 1 << 31 // it is older than those before it
	slotLine  = slotMoved - 1
)

// recover reads the journal and lines up what is not settled.
//
// +checklocksignore: nobody else has the queue yet
func (q *Queue) recover(ctx context.Context) error {
	r := recovery{queue: q, lines: []Line{{}}, names: map[Line]uint32{}, times: map[ref]waiting{}}
	damaged, err := q.journal.All(ctx, r.pack)
	if err != nil {
		return err
	}
	q.clock = newClock(r.last, q.opts.wall)
	r.lineUp()
	if damaged > 0 || r.bad > 0 {
		q.opts.Log.Error("a part of the accepted events cannot be read from the disk any more, and is lost; of those that were settled some may come again",
			"packs", damaged, "entries", r.bad, "events_kept", q.packs.count)
	}
	return nil
}

// pack notes what a pack says.
//
// +checklocksignore
func (r *recovery) pack(p cluster.Pack) error {
	if p.Number > maxPack {
		return &lambent.Error{Op: "read journal of events", Kind: lambent.KindUnsupported, Message: "it has more packs than this version can number"}
	}
	q := r.queue
	q.packs.add(p.Number, p.Bytes, len(p.Entries))
	for uint64(len(r.packs)) <= p.Number-q.packs.first { // those that are missing have no slots
		r.packs = append(r.packs, slotted{first: uint32(len(r.slots))})
	}
	for i, entry := range p.Entries {
		d := decoder{rest: entry}
		kind, s := d.begin()
		slot := uint32(0)
		switch {
		case d.err != nil:
		case kind == kindSettled:
			d.settled(r.settle)
		case kind == kindEvent:
			slot = r.event(makeRef(p.Number, uint32(i)), d.envelope(s), &d)
		}
		if d.err != nil {
			r.bad++
			slot = 0
		} else if s.at >= r.last.at {
			r.last = s
			r.packs[len(r.packs)-1].at = s.at
		}
		r.slots = append(r.slots, slot)
	}
	return nil
}

// event notes an event and returns its slot.
func (r *recovery) event(at ref, env envelope, d *decoder) (slot uint32) {
	account, function, qualifier := d.bytes(), d.bytes(), d.bytes()
	if d.err != nil {
		return 0
	}
	slot, ok := r.names[Line{lambent.AccountID(account), lambent.FunctionName(function), string(qualifier)}]
	if !ok {
		l := Line{lambent.AccountID(account), lambent.FunctionName(function), string(qualifier)}
		slot = uint32(len(r.lines))
		r.names[l] = slot
		r.lines = append(r.lines, l)
	}
	if env.replaces != 0 {
		r.settle(env.replaces)
		slot |= slotMoved
		r.times[at] = waiting{due: env.at + env.delay.Milliseconds(), delay: env.delay.Milliseconds(), accepted: env.accepted}
	}
	return slot
}

// settle forgets an event that was written before.
//
// +checklocksignore
func (r *recovery) settle(at ref) {
	pack := at.pack() - r.queue.packs.first
	if pack >= uint64(len(r.packs)) { // its pack was dropped, or never was
		return
	}
	begin, end := r.of(pack)
	if slot := begin + at.index(); slot < end {
		r.slots[slot] = 0
		delete(r.times, at)
	}
}

// of tells where the slots of a pack begin and end.
func (r *recovery) of(pack uint64) (begin, end int) {
	end = len(r.slots)
	if pack+1 < uint64(len(r.packs)) {
		end = int(r.packs[pack+1].first)
	}
	return int(r.packs[pack].first), end
}

// lineUp puts what is left into its lines: what was written anew is older, and
// first.
//
// +checklocksignore
func (r *recovery) lineUp() {
	q := r.queue
	now := q.clock.now()
	for _, mark := range []uint32{slotMoved, 0} {
		for k, pack := range r.packs {
			begin, end := r.of(uint64(k))
			number := q.packs.first + uint64(k)
			for i, slot := range r.slots[begin:end] {
				if slot == 0 || slot&slotMoved != mark {
					continue
				}
				at := makeRef(number, uint32(i))
				l := q.lineOf(r.lines[slot&slotLine])
				w, special := r.times[at]
				if !special {
					w.accepted = pack.at
				}
				q.packs.hold(at, w.accepted)
				if left := min(w.due-now, w.delay); special && left > 0 {
					l.delayed++
					q.delays.push(delayed{due: now + left, ref: at, line: l})
				} else {
					l.due.pushBack(at)
				}
			}
		}
	}
}
