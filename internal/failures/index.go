package failures

import (
	"container/heap"
	"time"

	"lambent"
)

// index is what memory has of the failures: an entry for each, in a line for each
// function. The zero index is empty. It has no lock of its own.
type index struct {
	slots map[hash]uint32 // places in entries
	// entries[0] is none. Those that are free are linked by older.
	entries  []entry
	free     uint32
	lines    map[function]*line
	numbers  []*line // by entry.line; nil for those in unused
	unused   []uint32
	accounts map[lambent.AccountID]*account
	packs    packs
	count    int
}

// entry is a failure. Its fields are of few bytes, since there may be millions.
type entry struct {
	ref          ref
	order        uint64
	last         int64 // milliseconds since 1970
	key          hash
	newer, older uint32 // neighbours in its line; 0: none
	line         uint32
	marked       uint32 // seconds since 1970 since when it is in the queue again; 0: it is not
	size         uint16 // of its entry in the journal, in units of sizeUnit
	redrives     uint8  // without the one that is marked, 255 at most
	reason       uint8
	cause        cause
}

const sizeUnit = 64

func (e *entry) bytes() int64 { return int64(e.size) * sizeUnit }

func (e *entry) mark() mark { return mark{int64(e.marked), e.cause} }

// function is whose failures a line has.
type function struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// line is a function's failures. It is there while it has one.
type line struct {
	of             function
	number         uint32
	newest, oldest uint32
	count          int
	bytes          int64
	marked         int
}

// account counts what an account has.
type account struct {
	lines map[*line]bool
	count int
	bytes int64
}

// find gives the entry of a key, nil where there is none. It is valid until the
// next put.
func (x *index) find(k hash) *entry {
	if slot := x.slots[k]; slot != 0 {
		return &x.entries[slot]
	}
	return nil
}

// put has an entry stand for a failure, in place of what was there.
func (x *index) put(k hash, env envelope, at ref, size int) {
	x.remove(k)
	if x.slots == nil {
		x.slots, x.lines, x.accounts, x.entries = map[hash]uint32{}, map[function]*line{}, map[lambent.AccountID]*account{}, make([]entry, 1)
	}
	l := x.lineOf(function{env.key.Account, env.function})
	slot := x.free
	if slot != 0 {
		x.free = x.entries[slot].older
	} else {
		slot = uint32(len(x.entries))
		if slot == uint32(cap(x.entries)) { // append would keep a quarter in reserve
			x.entries = append(make([]entry, 0, len(x.entries)+len(x.entries)/16+1024), x.entries...)
		}
		x.entries = append(x.entries, entry{})
	}
	x.entries[slot] = entry{ref: at, order: env.order, last: env.last, key: k, line: l.number, marked: uint32(env.mark.since), cause: env.mark.cause,
		size: uint16((size + sizeUnit - 1) / sizeUnit), redrives: uint8(min(env.redrives, 255)), reason: env.reason}
	e := &x.entries[slot]
	x.slots[k] = slot
	x.link(l, slot)
	x.packs.hold(at, e.bytes())
	x.add(l, 1, e.bytes())
	if e.marked != 0 {
		l.marked++
	}
}

// link puts an entry into its line where its order has it: nearly always in
// front.
func (x *index) link(l *line, slot uint32) {
	e := &x.entries[slot]
	newer, older := uint32(0), l.newest
	for older != 0 && x.entries[older].order > e.order {
		newer, older = older, x.entries[older].older
	}
	e.newer, e.older = newer, older
	x.relink(l, newer, slot, older)
}

// relink has what stands before and behind a place in a line know of it: slot,
// or, where that is 0, each other.
func (x *index) relink(l *line, newer, slot, older uint32) {
	before, behind := older, newer
	if slot != 0 {
		before, behind = slot, slot
	}
	if newer == 0 {
		l.newest = before
	} else {
		x.entries[newer].older = before
	}
	if older == 0 {
		l.oldest = behind
	} else {
		x.entries[older].newer = behind
	}
}

// remove forgets a failure, and tells whether it was there.
func (x *index) remove(k hash) (was bool) {
	slot := x.slots[k]
	if slot == 0 {
		return false
	}
	delete(x.slots, k)
	e := x.entries[slot]
	l := x.numbers[e.line]
	x.relink(l, e.newer, 0, e.older)
	x.packs.release(e.ref, e.bytes())
	x.entries[slot] = entry{older: x.free}
	x.free = slot
	if e.marked != 0 {
		l.marked--
	}
	x.add(l, -1, -e.bytes())
	return true
}

// move has an entry know that it stands elsewhere.
func (x *index) move(e *entry, to ref) {
	x.packs.release(e.ref, e.bytes())
	e.ref = to
	x.packs.hold(to, e.bytes())
}

// markAll marks what is there of keys.
func (x *index) markAll(keys []hash, m mark) {
	for _, k := range keys {
		if e := x.find(k); e != nil {
			x.setMark(e, m)
		}
	}
}

// setMark marks an entry, or says with the zero mark that it is marked no more.
func (x *index) setMark(e *entry, m mark) {
	l := x.numbers[e.line]
	if e.marked != 0 {
		l.marked--
	}
	e.marked, e.cause = uint32(m.since), m.cause
	if e.marked != 0 {
		l.marked++
	}
}

// lineOf finds a function's line, or begins it.
func (x *index) lineOf(f function) *line {
	l := x.lines[f]
	if l == nil {
		l = &line{of: f, number: uint32(len(x.numbers))}
		if last := len(x.unused) - 1; last >= 0 {
			l.number = x.unused[last]
			x.unused = x.unused[:last]
			x.numbers[l.number] = l
		} else {
			x.numbers = append(x.numbers, l)
		}
		x.lines[f] = l
	}
	return l
}

// add counts what a line has, and ends one that has nothing any more.
func (x *index) add(l *line, count int, bytes int64) {
	a := x.accounts[l.of.account]
	if a == nil {
		a = &account{lines: map[*line]bool{}}
		x.accounts[l.of.account] = a
	}
	x.count += count
	l.count += count
	l.bytes += bytes
	a.count += count
	a.bytes += bytes
	a.lines[l] = true
	if l.count > 0 {
		return
	}
	delete(a.lines, l)
	delete(x.lines, l.of)
	x.numbers[l.number] = nil
	x.unused = append(x.unused, l.number)
	if a.count == 0 {
		delete(x.accounts, l.of.account)
	}
}

// linesOf are those a filter is about.
func (x *index) linesOf(f *Filter) (lines []*line) {
	switch {
	case f.Account != "" && f.Function != "":
		if l := x.lines[function{f.Account, f.Function}]; l != nil {
			lines = append(lines, l)
		}
	case f.Account != "":
		if a := x.accounts[f.Account]; a != nil {
			for l := range a.lines {
				lines = append(lines, l)
			}
		}
	default:
		for of, l := range x.lines {
			if f.Function == "" || f.Function == of.name {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// slack is how much the machine's clock may have gone back: entries of a line
// are by when they were stored, which is by its time but for that.
const slack = time.Hour

// walk calls visit with the entries that a filter wants, in their order, the
// newest first or the oldest, until it returns false.
func (x *index) walk(f *Filter, oldestFirst bool, visit func(*entry) bool) {
	ends := &ends{x: x, oldestFirst: oldestFirst}
	for _, l := range x.linesOf(f) {
		slot := l.newest
		if oldestFirst {
			slot = l.oldest
		}
		ends.slots = append(ends.slots, slot)
	}
	heap.Init(ends)
	since := int64(0)
	if !f.Since.IsZero() {
		since = f.Since.UnixMilli()
	}
	for len(ends.slots) > 0 {
		e := &x.entries[ends.slots[0]]
		next := e.older
		if oldestFirst {
			next = e.newer
		}
		if outside := e.order <= f.After || f.Before != 0 && e.order >= f.Before; outside {
			if oldestFirst != (e.order <= f.After) {
				next = 0 // so are all that come
			}
		} else if tooOld := e.last < since; tooOld && !oldestFirst && e.last < since-slack.Milliseconds() {
			next = 0
		} else if !tooOld && (f.Reason == "" || reasonOf(e.reason) == f.Reason) && !visit(e) {
			return
		}
		if next == 0 {
			heap.Pop(ends)
			continue
		}
		ends.slots[0] = next
		if len(ends.slots) > 1 {
			heap.Fix(ends, 0)
		}
	}
}

// ends are the next entries of lines, for container/heap.
type ends struct {
	x           *index
	oldestFirst bool
	slots       []uint32
}

func (h *ends) Len() int      { return len(h.slots) }
func (h *ends) Swap(i, j int) { h.slots[i], h.slots[j] = h.slots[j], h.slots[i] }
func (h *ends) Push(x any)    { h.slots = append(h.slots, x.(uint32)) }
func (h *ends) Less(i, j int) bool {
	return (h.x.entries[h.slots[i]].order < h.x.entries[h.slots[j]].order) == h.oldestFirst
}

func (h *ends) Pop() any {
	last := h.slots[len(h.slots)-1]
	h.slots = h.slots[:len(h.slots)-1]
	return last
}
