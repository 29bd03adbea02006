package obs

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lambent"
)

// Execution is the record of one invocation for which a container was asked.
// Fields that do not apply are zero: a throttled one has no start, one that was
// never handed its event no ExecStartedAt.
type Execution struct {
	RequestID lambent.RequestID
	Account   lambent.AccountID
	Function  lambent.FunctionName
	Version   lambent.Version // the served one

	Asynchronous bool // it was accepted before, and nobody waited for the answer

	ReceivedAt    time.Time
	ExecStartedAt time.Time // the runtime was handed the event
	FinishedAt    time.Time

	StartKind lambent.StartKind
	Reason    string // one sentence: why it started so, or was refused
	Pool      string // the configuration of the warming pool it took an instance from
	Instance  lambent.InstanceID
	Container lambent.ContainerID

	MemoryMB        int // allotted
	MaxMemoryUsedMB int
	CPU             time.Duration // used; 0: not measured

	Outcome lambent.Outcome
	Error   string // type of the error, the throttle's reason, or what kind of trouble the platform had

	// What it was for, where other code stood in for that, and the code of both. Of
	// others they are not remembered.
	RequestedVersion    lambent.Version
	Code, RequestedCode lambent.CodeHash
}

// StoodIn tells whether other code than what was asked for served.
func (e *Execution) StoodIn() bool { return e.RequestedVersion != "" }

// Bounds of a record's texts, in bytes; longer ones are cut. A function chooses
// its error's type.
const (
	maxReason = 400
	maxError  = 128
	maxName   = 64 // AWS's bound for function names; ids and versions are shorter
)

// startKinds are numbered in the files: new ones are appended.
func startKinds() [7]lambent.StartKind {
	return [...]lambent.StartKind{lambent.StartReuse, lambent.StartNew, lambent.StartWarm, lambent.StartDedicated,
		lambent.StartSnapshot, lambent.StartOnDemand, lambent.StartSkipped}
}

// Which of the times and numbers a body holds.
const (
	hasReceived = 1 << iota
	hasStarted
	hasFinished
	hasCPU
	hasStandIn
	isAsynchronous // which only was so
	knownFlags     = 1<<iota - 1
)

// appendExecution appends the body of e. It takes any Execution: texts are cut to
// their bounds, negative numbers are 0, times are of the years 1678 to 2262.
func appendExecution(b []byte, e *Execution) []byte {
	flags := byte(0)
	set := func(bit byte, is bool) {
		if is {
			flags |= bit
		}
	}
	set(hasReceived, !e.ReceivedAt.IsZero())
	set(hasStarted, !e.ExecStartedAt.IsZero())
	set(hasFinished, !e.FinishedAt.IsZero())
	set(hasCPU, e.CPU > 0)
	set(hasStandIn, e.StoodIn())
	set(isAsynchronous, e.Asynchronous)
	b = append(b, flags, byte(e.Outcome))
	b = appendID(b, string(e.RequestID), packUUID())
	b = appendID(b, string(e.Account), packDigits())
	b = appendText(b, string(e.Function), maxName)
	b = appendID(b, string(e.Version), packLatest())
	b = appendID(b, string(e.StartKind), packKind())
	b = appendID(b, string(e.Instance), packHexID())
	b = appendID(b, string(e.Container), packHexID())
	received := int64(0) // the others are told as what came after it
	if flags&hasReceived != 0 {
		received = e.ReceivedAt.UnixNano()
		b = binary.LittleEndian.AppendUint64(b, uint64(received))
	}
	if flags&hasStarted != 0 {
		b = binary.AppendVarint(b, e.ExecStartedAt.UnixNano()-received)
	}
	if flags&hasFinished != 0 {
		b = binary.AppendVarint(b, e.FinishedAt.UnixNano()-received)
	}
	b = binary.AppendUvarint(b, uint64(max(0, e.MemoryMB)))
	b = binary.AppendUvarint(b, uint64(max(0, e.MaxMemoryUsedMB)))
	if flags&hasCPU != 0 {
		b = binary.AppendUvarint(b, uint64(e.CPU))
	}
	b = appendText(b, e.Reason, maxReason)
	b = appendText(b, e.Pool, maxName)
	b = appendText(b, e.Error, maxError)
	if flags&hasStandIn != 0 {
		b = appendID(b, string(e.RequestedVersion), packLatest())
		b = appendText(b, string(e.Code), maxName)
		b = appendText(b, string(e.RequestedCode), maxName)
	}
	return b
}

// maxBody is the longest body there can be: 2 bytes of flags, 10 of each of six
// numbers, 3 of each length, and the texts.
const maxBody = 2 + 6*10 + 13*3 + 10*maxName + maxReason + maxName + maxError

func appendText(b []byte, s string, limit int) []byte {
	if len(s) > limit {
		s = s[:limit]
	}
	if !validText(s) {
		s = strings.ToValidUTF8(s, "") // also what was cut within a rune
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// validText is true at once for the plain texts that nearly all are.
func validText(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return strings.ToValidUTF8(s, "") == s
		}
	}
	return true
}

// packing writes an id of a certain shape in fewer bytes, and reads it back.
type packing struct {
	pack   func(b []byte, id string) ([]byte, bool)
	unpack func(r *reader) string
}

// An id is a 0 and its packed form, or its length and one, and its text.
func appendID(b []byte, id string, how packing) []byte {
	if packed, ok := how.pack(append(b, 0), id); ok {
		return packed
	}
	if len(id) > maxName {
		id = id[:maxName]
	}
	id = strings.ToValidUTF8(id, "")
	b = binary.AppendUvarint(b, uint64(len(id)+1))
	return append(b, id...)
}

// packUUID is for lower-case UUIDs: 16 bytes instead of 36.
func packUUID() packing {
	const dashes = "--------"
	return packing{
		pack: func(b []byte, id string) ([]byte, bool) {
			if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
				return b, false
			}
			for _, part := range [...]string{id[:8], id[9:13], id[14:18], id[19:23], id[24:]} {
				var ok bool
				if b, ok = appendHex(b, part); !ok {
					return b, false
				}
			}
			return b, true
		},
		unpack: func(r *reader) string {
			var out [36]byte
			copy(out[:], dashes)
			in := r.bytes(16)
			if in == nil {
				return ""
			}
			at := 0
			for i, n := range [...]int{4, 2, 2, 2, 6} {
				if i > 0 {
					out[at] = '-'
					at++
				}
				hex.Encode(out[at:], in[:n])
				in, at = in[n:], at+2*n
			}
			return string(out[:])
		},
	}
}

// appendHex appends what lower-case hexadecimal digits, of an even number, mean.
func appendHex(b []byte, digits string) ([]byte, bool) {
	for i := 0; i < len(digits); i += 2 {
		hi, lo := hexDigit(digits[i]), hexDigit(digits[i+1])
		if hi > 15 || lo > 15 {
			return b, false
		}
		b = append(b, hi<<4|lo)
	}
	return b, true
}

func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// packHexID is for ids of instances and containers: a letter, a dash and 17
// hexadecimal digits become 10 bytes.
func packHexID() packing {
	return packing{
		pack: func(b []byte, id string) ([]byte, bool) {
			if len(id) != 19 || id[1] != '-' || hexDigit(id[18]) > 15 {
				return b, false
			}
			b, ok := appendHex(append(b, id[0]), id[2:18])
			return append(b, hexDigit(id[18])), ok && id[0] < 0x80
		},
		unpack: func(r *reader) string {
			in := r.bytes(10)
			if in == nil || in[0] >= 0x80 || in[9] > 15 {
				r.bad = true
				return ""
			}
			digits := hex.EncodeToString(in[1:])
			return string(in[0]) + "-" + digits[:16] + digits[17:]
		},
	}
}

// packDigits is for account ids: 12 digits become at most 6 bytes.
func packDigits() packing {
	return packing{
		pack: func(b []byte, id string) ([]byte, bool) {
			if !lambent.IsAccountID(id) {
				return b, false
			}
			n, err := strconv.ParseUint(id, 10, 64)
			return binary.AppendUvarint(b, n), err == nil
		},
		unpack: func(r *reader) string {
			n := r.number(999_999_999_999)
			return fmt.Sprintf("%012d", n)
		},
	}
}

// packLatest is for versions: $LATEST becomes nothing.
func packLatest() packing {
	return packing{
		pack:   func(b []byte, id string) ([]byte, bool) { return b, id == string(lambent.Latest) },
		unpack: func(*reader) string { return string(lambent.Latest) },
	}
}

// packKind is for start kinds: their number.
func packKind() packing {
	return packing{
		pack: func(b []byte, id string) ([]byte, bool) {
			kinds := startKinds()
			at := slices.Index(kinds[:], lambent.StartKind(id))
			return append(b, byte(at)), at >= 0
		},
		unpack: func(r *reader) string {
			kinds := startKinds()
			if n := r.number(uint64(len(kinds) - 1)); !r.bad {
				return string(kinds[n])
			}
			return ""
		},
	}
}

// errBody is a body that appendExecution did not write.
var errBody = errors.New("not the body of an execution record")

// parseExecution reads a body. It takes what appendExecution writes, whole.
func parseExecution(body []byte) (Execution, error) {
	r := reader{rest: body}
	var e Execution
	flags := r.byte()
	e.Asynchronous = flags&isAsynchronous != 0
	e.Outcome = lambent.Outcome(r.byte())
	e.RequestID = lambent.RequestID(r.id(packUUID()))
	e.Account = lambent.AccountID(r.id(packDigits()))
	e.Function = lambent.FunctionName(r.text(maxName))
	e.Version = lambent.Version(r.id(packLatest()))
	e.StartKind = lambent.StartKind(r.id(packKind()))
	e.Instance = lambent.InstanceID(r.id(packHexID()))
	e.Container = lambent.ContainerID(r.id(packHexID()))
	received := int64(0)
	if flags&hasReceived != 0 {
		if in := r.bytes(8); in != nil {
			received = int64(binary.LittleEndian.Uint64(in))
			e.ReceivedAt = time.Unix(0, received).UTC()
		}
	}
	if flags&hasStarted != 0 {
		e.ExecStartedAt = time.Unix(0, received+r.signed()).UTC()
	}
	if flags&hasFinished != 0 {
		e.FinishedAt = time.Unix(0, received+r.signed()).UTC()
	}
	e.MemoryMB = int(r.number(1<<63 - 1))
	e.MaxMemoryUsedMB = int(r.number(1<<63 - 1))
	if flags&hasCPU != 0 {
		e.CPU = time.Duration(r.number(1<<63 - 1))
	}
	e.Reason = r.text(maxReason)
	e.Pool = r.text(maxName)
	e.Error = r.text(maxError)
	if flags&hasStandIn != 0 {
		e.RequestedVersion = lambent.Version(r.id(packLatest()))
		e.Code = lambent.CodeHash(r.text(maxName))
		e.RequestedCode = lambent.CodeHash(r.text(maxName))
	}
	if r.bad || len(r.rest) > 0 || flags&^knownFlags != 0 {
		return Execution{}, errBody
	}
	return e, nil
}

// reader takes a body apart. Once something was wrong it gives zeros.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	out := r.rest[:n]
	r.rest = r.rest[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) number(limit uint64) uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 || n > limit {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) signed() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *reader) text(limit int) string { return r.string(int(r.number(uint64(limit)))) }

func (r *reader) string(n int) string {
	s := string(r.bytes(n))
	if !validText(s) {
		r.bad = true
	}
	return s
}

func (r *reader) id(how packing) string {
	n := r.number(maxName + 1)
	if n == 0 && !r.bad {
		return how.unpack(r)
	}
	return r.string(int(n) - 1)
}
