package queue

import (
	"encoding/binary"
	"errors"
	"time"

	"lambent"
)

// ref says where an event stands in the journal: its pack's number and its index
// there. 0 is none.
type ref uint64

// A pack's number has 40 bits, which a thousand packs a second use up in 34
// years; an index has 24, and a pack at most 2 MiB.
const (
	indexBits = 24
	maxPack   = 1<<(64-indexBits) - 1
)

func makeRef(pack uint64, index uint32) ref { return ref(pack<<indexBits | uint64(index)) }

func (r ref) pack() uint64 { return uint64(r >> indexBits) }
func (r ref) index() int   { return int(r & (1<<indexBits - 1)) }

// within tells whether it is of a pack from begin to before end.
func (r ref) within(begin, end uint64) bool { return begin <= r.pack() && r.pack() < end }

// The kinds of entries. They are stored, so their numbers stay, and a new form of
// one gets a new number.
const (
	kindEvent   = 1 // an event: envelope, then body
	kindSettled = 2 // events that are settled: stamp, then their refs
)

// stamp is when an entry was written.
type stamp struct {
	at   int64 // milliseconds by the queue's clock
	wall int64 // milliseconds since 1970 by the machine's
}

// envelope is what stands before the body of an event, which stays the same
// bytes when only the event's place changes.
type envelope struct {
	stamp
	replaces ref           // the entry that is void from now on, of the same event; 0: none
	delay    time.Duration // from stamp to when it is due, in whole milliseconds
	accepted int64         // milliseconds by the queue's clock
}

var (
	errShort   = errors.New("an entry of the queue's journal is cut short")
	errForeign = errors.New("an entry of the queue's journal is of a kind this version does not know")
)

func appendStamp(b []byte, s stamp) []byte {
	b = binary.AppendVarint(b, s.at)
	return binary.AppendVarint(b, s.wall-s.at) // the same few bytes for most
}

// encodeEvent makes the entry of an event.
func encodeEvent(env envelope, e *Event) []byte {
	b := make([]byte, 0, len(e.Payload)+len(e.State)+e.texts()+128)
	return appendBody(appendEnvelope(b, env), e)
}

// encodeMoved makes the entry of an event that changes its place only.
func encodeMoved(env envelope, body []byte) []byte {
	return append(appendEnvelope(make([]byte, 0, len(body)+64), env), body...)
}

func appendEnvelope(b []byte, env envelope) []byte {
	b = appendStamp(append(b, kindEvent), env.stamp)
	b = binary.AppendUvarint(b, uint64(env.replaces))
	b = binary.AppendVarint(b, env.delay.Milliseconds())
	return binary.AppendVarint(b, env.accepted-env.at)
}

// appendBody writes the line first, since that is all that must be known when
// the journal is read as a whole.
func appendBody(b []byte, e *Event) []byte {
	for _, s := range []string{
		string(e.Line.Account), string(e.Line.Function), e.Line.Qualifier, string(e.ID), e.ClientContext, e.TraceID, e.TenantID, e.Source, e.Urgency,
	} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	b = binary.AppendVarint(b, nanos(e.AcceptedAt))
	b = binary.AppendVarint(b, nanos(e.Deadline))
	b = binary.AppendVarint(b, int64(e.Depth))
	b = binary.AppendVarint(b, int64(e.Attempts))
	b = append(binary.AppendUvarint(b, uint64(len(e.State))), e.State...)
	return append(b, e.Payload...)
}

// nanos stores a time, the zero one as 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}

// encodeSettled makes the entry that says that events are settled.
func encodeSettled(s stamp, refs []ref) []byte {
	b := appendStamp([]byte{kindSettled}, s)
	last := ref(0)
	for _, r := range refs { // mostly one after the other, so that the difference is small
		b = binary.AppendVarint(b, int64(r-last))
		last = r
	}
	return b
}

// decoder reads an entry. After an error everything it gives is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.rest, d.err = nil, errShort
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1) // as binary.Varint
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.rest, d.err = nil, errShort
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// begin reads an entry's kind and stamp.
func (d *decoder) begin() (kind byte, s stamp) {
	if len(d.rest) == 0 {
		d.err = errShort
		return 0, stamp{}
	}
	kind, d.rest = d.rest[0], d.rest[1:]
	if kind != kindEvent && kind != kindSettled {
		d.rest, d.err = nil, errForeign
		return 0, stamp{}
	}
	s.at = d.varint()
	s.wall = s.at + d.varint()
	return kind, s
}

// envelope reads on from the stamp of an event; its body is what is left.
func (d *decoder) envelope(s stamp) envelope {
	env := envelope{stamp: s, replaces: ref(d.uvarint())}
	// More than a year of either is nothing that was written, and would overflow.
	env.delay = time.Duration(bound(d.varint(), 0, yearMillis)) * time.Millisecond
	env.accepted = s.at + bound(d.varint(), -yearMillis, 0)
	return env
}

const yearMillis = 366 * 24 * 3600 * 1000

func bound(v, low, high int64) int64 { return max(low, min(v, high)) }

// settled calls visit with each ref of a settlement.
func (d *decoder) settled(visit func(ref)) {
	last := ref(0)
	for len(d.rest) > 0 {
		last += ref(d.varint())
		if d.err == nil {
			visit(last)
		}
	}
}

// event reads the body of an event. Nothing of it is part of the entry.
func (d *decoder) event() *Event {
	var e Event
	text := func() string { return string(d.bytes()) }
	e.Line = Line{Account: lambent.AccountID(text()), Function: lambent.FunctionName(text()), Qualifier: text()}
	e.ID = lambent.RequestID(text())
	e.ClientContext, e.TraceID, e.TenantID, e.Source, e.Urgency = text(), text(), text(), text(), text()
	e.AcceptedAt, e.Deadline = timeOf(d.varint()), timeOf(d.varint())
	e.Depth, e.Attempts = int(d.varint()), int(d.varint())
	e.State = clone(d.bytes())
	e.Payload = clone(d.rest)
	return &e
}

// clone copies b; of none it makes nil.
func clone(b []byte) []byte { return append([]byte(nil), b...) }

// decodeEvent reads the entry of an event whole.
func decodeEvent(entry []byte) (envelope, *Event, error) {
	d := decoder{rest: entry}
	kind, s := d.begin()
	if d.err == nil && kind != kindEvent {
		d.err = errForeign
	}
	env := d.envelope(s)
	e := d.event()
	if d.err != nil {
		return envelope{}, nil, d.err
	}
	return env, e, nil
}
