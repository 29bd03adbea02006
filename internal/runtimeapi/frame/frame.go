package frame

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Type says what a frame is.
type Type uint8

// The types of frames. Host types are below 0x10, guest types from 0x10 on.
const (
	Assign Type = 0x01
	Invoke Type = 0x02 // EVENT
	Ping   Type = 0x03

	Booted    Type = 0x10
	Ready     Type = 0x11
	InitError Type = 0x12
	Response  Type = 0x13
	Error     Type = 0x14
	Exit      Type = 0x15

	Begin Type = 0x20 // a streamed answer starts
	Chunk Type = 0x21 // a part of it
	End   Type = 0x22 // it has ended, well or with an error
)

// String names the type for errors and logs.
func (t Type) String() string {
	switch t {
	case Assign:
		return "ASSIGN"
	case Invoke:
		return "EVENT"
	case Ping:
		return "PING"
	case Booted:
		return "BOOTED"
	case Ready:
		return "READY"
	case InitError:
		return "INIT_ERROR"
	case Response:
		return "RESPONSE"
	case Error:
		return "ERROR"
	case Exit:
		return "EXIT"
	case Begin:
		return "BEGIN"
	case Chunk:
		return "CHUNK"
	case End:
		return "END"
	}
	return fmt.Sprintf("TYPE_0x%02x", uint8(t))
}

// MaxPayload is the most an event or an answer may hold: 6 MiB and 100 bytes,
// AWS's figure for both (Lambda quotas, "Invocation payload").
const MaxPayload = 6*1024*1024 + 100

// MaxBanner bounds the text of a BOOTED frame.
const MaxBanner = 256

// MaxShort bounds a string with one byte of length.
const MaxShort = 255

// HeaderSize is the size of length and type, which every frame starts with.
const HeaderSize = 5

// firstPiece is how much of a payload is allocated before any of it has come:
// a sender that only claims to send much costs the receiver no more than this.
const firstPiece = 64 << 10

// ErrMalformed is a frame whose parts do not fit in its length.
var ErrMalformed = errors.New("malformed frame")

// AppendHeader appends length and type of a frame whose body has size bytes.
func AppendHeader(dst []byte, t Type, size int) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(size+1))
	return append(dst, byte(t))
}

// AppendShort appends s with one byte of length before it, cut to MaxShort
// bytes.
func AppendShort(dst []byte, s string) []byte {
	if len(s) > MaxShort {
		s = s[:MaxShort]
	}
	dst = append(dst, byte(len(s)))
	return append(dst, s...)
}

// AppendFrame appends a whole frame: the shorts, then the payload.
func AppendFrame(dst []byte, t Type, payload []byte, shorts ...string) []byte {
	size := len(payload)
	for _, s := range shorts {
		size += 1 + min(len(s), MaxShort)
	}
	dst = AppendHeader(dst, t, size)
	for _, s := range shorts {
		dst = AppendShort(dst, s)
	}
	return append(dst, payload...)
}

// ExitStatus is how a process that a supervisor watched has ended: by itself
// with a status, or by a signal.
type ExitStatus struct {
	Code   int // exit status; 0 where Signal is set
	Signal int // signal number; 0 for none
}

// AppendExit appends an EXIT frame.
func AppendExit(dst []byte, e ExitStatus) []byte {
	dst = AppendHeader(dst, Exit, 5)
	if e.Signal != 0 {
		dst = append(dst, 1)
		return binary.LittleEndian.AppendUint32(dst, uint32(int32(e.Signal)))
	}
	dst = append(dst, 0)
	return binary.LittleEndian.AppendUint32(dst, uint32(int32(e.Code)))
}

// Reader takes frames off a stream. Use it from one goroutine: Next, then the
// body's parts in order, then Next again; what is left of a body is skipped by
// the next Next.
type Reader struct {
	br   *bufio.Reader
	left int64 // bytes of the current frame's body not yet read
}

// NewReader reads frames from r through a buffer of the given size in bytes.
func NewReader(r io.Reader, buffer int) *Reader {
	return &Reader{br: bufio.NewReaderSize(r, max(buffer, 2*MaxShort))}
}

// Next waits for the start of the next frame and tells its type and the size of
// its body. Between frames the end of the stream is io.EOF; within one it is
// io.ErrUnexpectedEOF. A frame without a type is ErrMalformed.
func (r *Reader) Next() (Type, int64, error) {
	if err := r.Skip(); err != nil {
		return 0, 0, err
	}
	head, err := r.br.Peek(HeaderSize)
	if err != nil {
		if err == io.EOF && len(head) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, err
	}
	length, t := int64(binary.LittleEndian.Uint32(head)), Type(head[4])
	if length == 0 {
		return 0, 0, fmt.Errorf("%w: length 0 has no room for a type", ErrMalformed)
	}
	_, _ = r.br.Discard(HeaderSize) // cannot fail: peeked
	r.left = length - 1
	return t, r.left, nil
}

// Left is how many bytes of the current body are not read yet.
func (r *Reader) Left() int64 { return r.left }

// BufferedReady reports whether a whole READY frame is in the buffer, right
// behind the current one: then Next will not wait.
func (r *Reader) BufferedReady() bool {
	if r.left != 0 || r.br.Buffered() < HeaderSize {
		return false
	}
	head, _ := r.br.Peek(HeaderSize)
	return binary.LittleEndian.Uint32(head) == 1 && Type(head[4]) == Ready
}

// Skip discards what is left of the current body.
func (r *Reader) Skip() error {
	for r.left > 0 {
		n, err := r.br.Discard(int(min(r.left, 1<<30)))
		r.left -= int64(n)
		if err != nil {
			return noEOF(err)
		}
	}
	return nil
}

// Short reads a string with one byte of length.
func (r *Reader) Short() (string, error) {
	n, err := r.uint(1)
	if err != nil {
		return "", err
	}
	b, err := r.peek(int(n))
	if err != nil {
		return "", err
	}
	s := string(b)
	r.drop(int(n))
	return s, nil
}

// ShortIs reads a string with one byte of length and reports whether it equals
// want, without allocating.
func (r *Reader) ShortIs(want string) (bool, error) {
	n, err := r.uint(1)
	if err != nil {
		return false, err
	}
	b, err := r.peek(int(n))
	if err != nil {
		return false, err
	}
	same := string(b) == want
	r.drop(int(n))
	return same, nil
}

// Uint32 reads a little-endian number.
func (r *Reader) Uint32() (uint32, error) {
	n, err := r.uint(4)
	return uint32(n), err
}

// ExitStatus reads the body of an EXIT frame.
func (r *Reader) ExitStatus() (ExitStatus, error) {
	kind, err := r.uint(1)
	if err != nil {
		return ExitStatus{}, err
	}
	value, err := r.Uint32()
	if err != nil {
		return ExitStatus{}, err
	}
	if kind == 1 {
		return ExitStatus{Signal: int(int32(value))}, nil
	}
	return ExitStatus{Code: int(int32(value))}, nil
}

// Bytes reads the next size bytes of the body into memory of their own. The
// memory grows with what has come, not with what was claimed.
func (r *Reader) Bytes(size int64) ([]byte, error) {
	if size > r.left {
		return nil, fmt.Errorf("%w: %d bytes wanted, %d left", ErrMalformed, size, r.left)
	}
	if size == 0 {
		return nil, nil
	}
	buf := make([]byte, min(size, firstPiece))
	for got := int64(0); ; {
		n, err := io.ReadFull(r.br, buf[got:])
		got += int64(n)
		r.left -= int64(n)
		if err != nil {
			return nil, noEOF(err)
		}
		if got == size {
			return buf, nil
		}
		grown := make([]byte, min(size, 4*got))
		copy(grown, buf)
		buf = grown
	}
}

// Rest reads what is left of the body into memory of its own.
func (r *Reader) Rest() ([]byte, error) { return r.Bytes(r.left) }

// Read reads of the body into b what there is, and waits only where there is
// nothing: at the end of the body it is io.EOF.
func (r *Reader) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.br.Read(b[:min(int64(len(b)), r.left)])
	r.left -= int64(n)
	return n, noEOF(err)
}

// peek shows the next n bytes of the body without taking them.
func (r *Reader) peek(n int) ([]byte, error) {
	if int64(n) > r.left {
		return nil, fmt.Errorf("%w: a part of %d bytes, but %d are left", ErrMalformed, n, r.left)
	}
	b, err := r.br.Peek(n)
	return b, noEOF(err)
}

// drop takes n bytes that were peeked.
func (r *Reader) drop(n int) {
	_, _ = r.br.Discard(n) // cannot fail: peeked
	r.left -= int64(n)
}

func (r *Reader) uint(size int) (uint64, error) {
	b, err := r.peek(size)
	if err != nil {
		return 0, err
	}
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	r.drop(size)
	return v, nil
}

// noEOF turns the end of the stream within a frame into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
