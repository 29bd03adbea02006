package failures

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// ref says where a failure stands in the journal: its pack's number, of 40 bits,
// and its index there. 0 is none.
type ref uint64

const indexBits = 24

func makeRef(pack uint64, index uint32) ref { return ref(pack<<indexBits | uint64(index)) }

func (r ref) pack() uint64 { return uint64(r >> indexBits) }
func (r ref) index() int   { return int(r & (1<<indexBits - 1)) }

// hash is a Key in 16 bytes: of SHA-256, so that nobody makes two of one.
type hash [16]byte

func (k Key) hash() (h hash) {
	sum := sha256.Sum256([]byte(string(k.Account) + "/" + string(k.RequestID)))
	copy(h[:], sum[:])
	return h
}

// The kinds of entries of the journal. They are stored, so their numbers stay,
// and a new form of one gets a new number.
const (
	kindRecord = 1 // a failure: envelope, then body. It replaces what was there under its key
	kindGone   = 2 // hashes of keys of which nothing is there any more
	kindMarks  = 3 // a mark, then hashes of keys that have it from now on
)

// envelope is what stands before the body of a failure: what memory has of it.
type envelope struct {
	key      Key
	function lambent.FunctionName
	order    uint64 // grows from failure to failure: the newest has the highest
	last     int64  // milliseconds since 1970: LastAt
	mark     mark
	redrives int // without the one that is marked
	reason   uint8
}

// mark tells that a failure is in the queue again. The zero mark: it is not.
type mark struct {
	since int64 // seconds since 1970
	cause cause
}

// cause is what a redrive is by.
type cause uint8

const (
	byHand cause = iota
	byTime
	byVersion
	byHealth
)

// String is what a cause is called in records, in the words of the rules.
func (c cause) String() string {
	switch c {
	case byTime:
		return "after"
	case byVersion:
		return "new_version"
	case byHealth:
		return "when_healthy"
	}
	return "hand"
}

var (
	errShort   = errors.New("an entry of the journal of failures is cut short")
	errForeign = errors.New("an entry of the journal of failures is of a kind this version does not know")
)

// document is what the body has of a record in JSON; what may be large stands
// behind it as it is.
type document struct {
	Qualifier     string          `json:"qualifier,omitempty"`
	Version       lambent.Version `json:"version,omitempty"`
	Error         Error           `json:"error"`
	Attempts      int             `json:"attempts"`
	FirstAt       time.Time       `json:"first_at"`
	LastAt        time.Time       `json:"last_at"`
	ClientContext string          `json:"client_context,omitempty"`
	TraceID       string          `json:"trace_id,omitempty"`
	TenantID      string          `json:"tenant_id,omitempty"`
	Origin        string          `json:"origin,omitempty"`
	Urgency       string          `json:"urgency,omitempty"`
	Deadline      time.Time       `json:"deadline,omitzero"`
	Depth         int             `json:"depth,omitempty"`
	Actions       []Action        `json:"actions,omitempty"`
	Original      *struct {
		Function  lambent.FunctionName `json:"function"`
		Qualifier string               `json:"qualifier,omitempty"`
		Packed    bool                 `json:"packed,omitempty"` // its payload is deflated
	} `json:"original,omitempty"`
}

// encodeRecord makes the entry of a failure. Where the payloads before and after
// an edit are too large together, the one before is deflated; KindTooLarge where
// that does not help.
func encodeRecord(env envelope, r *Record) ([]byte, error) {
	doc := document{Qualifier: r.Qualifier, Version: r.Version, Error: r.Error, Attempts: r.Attempts, FirstAt: r.FirstAt.UTC(), LastAt: r.LastAt.UTC(),
		ClientContext: r.ClientContext, TraceID: r.TraceID, TenantID: r.TenantID, Origin: r.Origin, Urgency: r.Urgency, Deadline: r.Deadline, Depth: r.Depth, Actions: r.Actions}
	var before []byte
	if o := r.Original; o != nil {
		doc.Original = &struct {
			Function  lambent.FunctionName `json:"function"`
			Qualifier string               `json:"qualifier,omitempty"`
			Packed    bool                 `json:"packed,omitempty"`
		}{o.Function, o.Qualifier, false}
		if before = o.Payload; len(before)+len(r.Payload)+len(r.State) > MaxPayload {
			doc.Original.Packed = true
			before = deflate(before)
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encode failure: %w", err)
	}
	b := make([]byte, 0, len(text)+len(r.Payload)+len(r.Response)+len(r.State)+len(before)+256)
	b = appendEnvelope(b, env)
	for _, part := range [][]byte{text, r.Payload, r.Response, r.State, before} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	if len(b)+cluster.EntryOverhead > cluster.MaxAppend {
		return nil, &lambent.Error{Op: "store failure", Resource: string(r.RequestID), Kind: lambent.KindTooLarge,
			Message: "The payload and the one before it was edited are too large together; redrive it as it is, or send what it should be anew"}
	}
	return b, nil
}

func deflate(b []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer takes all, and the level is one of flate's
	}
	return out.Bytes()
}

func appendEnvelope(b []byte, env envelope) []byte {
	b = append(b, kindRecord)
	b = binary.AppendUvarint(b, env.order)
	b = binary.AppendVarint(b, env.last)
	b = appendMark(b, env.mark)
	b = binary.AppendUvarint(b, uint64(env.redrives))
	b = append(b, env.reason)
	for _, s := range []string{string(env.key.Account), string(env.key.RequestID), string(env.function)} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func appendMark(b []byte, m mark) []byte {
	return append(binary.AppendVarint(b, m.since), byte(m.cause))
}

// encodeMoved makes the entry of a failure that only changes its place, and with
// it gets the mark it has.
func encodeMoved(env envelope, body []byte) []byte {
	return append(appendEnvelope(make([]byte, 0, len(body)+256), env), body...)
}

func encodeGone(keys []hash) []byte { return appendHashes([]byte{kindGone}, keys) }

func encodeMarks(m mark, keys []hash) []byte {
	return appendHashes(appendMark([]byte{kindMarks}, m), keys)
}

func appendHashes(b []byte, keys []hash) []byte {
	for _, k := range keys {
		b = append(b, k[:]...)
	}
	return b
}

// decoder reads an entry. After an error everything it gives is zero.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) { d.rest, d.err = nil, err }

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail(errShort)
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail(errShort)
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
		d.fail(errShort)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) mark() mark { return mark{d.varint(), cause(d.byte())} }

// envelope reads on from the kind of a record; its body is what is left.
func (d *decoder) envelope() envelope {
	env := envelope{order: d.uvarint(), last: d.varint(), mark: d.mark(), redrives: int(min(d.uvarint(), 1<<30)), reason: d.byte()}
	env.key = Key{lambent.AccountID(d.bytes()), lambent.RequestID(d.bytes())}
	env.function = lambent.FunctionName(d.bytes())
	if d.err == nil && (env.key.Account == "" || env.key.RequestID == "" || env.function == "") {
		d.fail(errShort)
	}
	return env
}

// hashes are all that is left.
func (d *decoder) hashes() (all []hash) {
	for len(d.rest) >= len(hash{}) {
		all = append(all, hash(d.rest[:len(hash{})]))
		d.rest = d.rest[len(hash{}):]
	}
	if len(d.rest) > 0 {
		d.fail(errShort)
		return nil
	}
	return all
}

// decodeRecord reads the entry of a failure whole. Nothing of it is part of the
// entry, and whether it is being redriven only memory knows.
func decodeRecord(entry []byte) (envelope, *Record, error) {
	d := decoder{rest: entry}
	if kind := d.byte(); d.err == nil && kind != kindRecord {
		d.fail(errForeign)
	}
	env := d.envelope()
	text := d.bytes()
	payload, response, state, before := d.bytes(), d.bytes(), d.bytes(), d.bytes()
	var doc document
	if d.err == nil {
		d.err = json.Unmarshal(text, &doc)
	}
	if d.err == nil && doc.Original != nil && doc.Original.Packed {
		before, d.err = io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(before)), MaxPayload+1))
	}
	if d.err != nil {
		return envelope{}, nil, d.err
	}
	r := &Record{Key: env.key, Function: env.function, Qualifier: doc.Qualifier, Version: doc.Version, Reason: reasonOf(env.reason), Error: doc.Error,
		Attempts: doc.Attempts, FirstAt: doc.FirstAt, LastAt: doc.LastAt, Payload: clone(payload), Response: clone(response), State: clone(state),
		ClientContext: doc.ClientContext, TraceID: doc.TraceID, TenantID: doc.TenantID, Origin: doc.Origin, Urgency: doc.Urgency, Deadline: doc.Deadline, Depth: doc.Depth,
		Actions: doc.Actions, Redrives: env.redrives}
	if o := doc.Original; o != nil {
		r.Original = &Original{o.Function, o.Qualifier, clone(before)}
	}
	return env, r, nil
}

// clone copies b; of none it makes nil.
func clone(b []byte) []byte { return append([]byte(nil), b...) }

// reasonOf is a reason by its number; one of a later version is the platform's.
func reasonOf(number uint8) Reason {
	if all := Reasons(); number >= 1 && int(number) <= len(all) {
		return all[number-1]
	}
	return PlatformError
}
