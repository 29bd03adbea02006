// Package stream is the pipe between a function that streams its answer and the
// caller who reads it.
//
// Terms: the writer is the session with the runtime, the reader a door. Between
// them is little: the pipe holds BufferSize bytes, and the writer waits for room,
// and with it the function. So a caller who reads slowly costs no memory, and one
// who has gone costs nothing at all: what is written is dropped, and the function
// goes on, as on AWS.
//
// Order of calls: the writer's Begin, Write again and again, and End, always, from
// one goroutine at a time. The reader's Head and Next from one goroutine, Leave
// from any.
package stream

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"lambent"
)

// Limits bound one streamed answer.
type Limits struct {
	Most  int64 // bytes in all; 0: without bound
	Burst int64 // bytes that go out as fast as they are read
	Rate  int64 // bytes a second after those; 0: no slower than the burst
}

// AWS are AWS's limits: 200 MB, the first 6 MB as fast as they go, then 2 MB/s
// (developer guide, "Response streaming"; MB are MiB, as in AWS's runtime
// interface emulator). An answer slower than the rate earns its burst back, as
// there.
func AWS() Limits { return Limits{Most: 200 << 20, Burst: 6 << 20, Rate: 2 << 20} }

// BufferSize is how many bytes a pipe holds; as many again are with the reader.
const BufferSize = 64 << 10

// ErrStopped is what Write returns that was told to stop.
var ErrStopped = errors.New("the function has ended")

// TooLargeError is an answer over Limits.Most.
type TooLargeError struct{ Limit int64 }

// Error has AWS's text for an answer over a limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", e.Limit)
}

// Head is what is known before the first byte of an answer.
type Head struct {
	Start       lambent.Start
	ContentType string // as the function calls it; may be empty
}

// Pipe is one streamed answer. Make it with New.
type Pipe struct {
	limits Limits
	now    func() time.Time
	room   chan struct{} // wakes the writer
	data   chan struct{} // wakes the reader
	left   chan struct{} // closed when the reader has gone
	leave  sync.Once

	// The writer's.
	written int64
	tokens  int64 // bytes that may go out at once
	counted time.Time

	mu sync.Mutex
	// +checklocks:mu
	head *Head
	// +checklocks:mu
	buf []byte
	// +checklocks:mu
	ended bool
}

// New makes a pipe.
func New(l Limits) *Pipe {
	return &Pipe{limits: l, tokens: l.Burst, now: time.Now,
		room: make(chan struct{}, 1), data: make(chan struct{}, 1), left: make(chan struct{})}
}

// Begin tells how the answer starts.
func (p *Pipe) Begin(start lambent.Start, contentType string) {
	p.counted = p.now()
	p.mu.Lock()
	p.head = &Head{Start: start, ContentType: contentType}
	p.mu.Unlock()
	wake(p.data)
}

// Write takes the next bytes. It waits for the reader, and to keep the rate, but
// not after stop is closed: ErrStopped. An answer over its limit is a
// *TooLargeError, and what is within it goes out.
func (p *Pipe) Write(b []byte, stop <-chan struct{}) error {
	var over error
	if most := p.limits.Most; most > 0 && p.written+int64(len(b)) > most {
		over = &TooLargeError{Limit: most}
		b = b[:max(0, most-p.written)]
	}
	for len(b) > 0 {
		allowed, err := p.allowed(int64(len(b)), stop)
		if err != nil {
			return err
		}
		n := p.put(b[:allowed])
		p.spend(int64(n))
		b = b[n:]
		if n > 0 {
			continue
		}
		select {
		case <-p.room:
		case <-p.left:
			p.written += int64(len(b))
			return over
		case <-stop:
			return ErrStopped
		}
	}
	return over
}

// put takes what there is room for.
func (p *Pipe) put(b []byte) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended { // the function ended while this was on its way
		return len(b)
	}
	select {
	case <-p.left:
		return 0 // Write sees it too
	default:
	}
	n = min(len(b), BufferSize-len(p.buf))
	if n > 0 {
		p.buf = append(p.buf, b[:n]...)
		wake(p.data)
	}
	return n
}

// leastTokens is how many bytes are waited for at least: so seldom does a writer
// at the rate wake up.
const leastTokens = 16 << 10

// allowed tells how many of n bytes may go out now, and waits where it is none.
func (p *Pipe) allowed(n int64, stop <-chan struct{}) (int64, error) {
	if p.limits.Rate <= 0 {
		return n, nil
	}
	for {
		now := p.now()
		if earned := int64(now.Sub(p.counted).Seconds() * float64(p.limits.Rate)); earned > 0 {
			p.tokens = min(p.tokens+earned, max(p.limits.Burst, leastTokens))
			p.counted = now
		}
		wanted := min(n, leastTokens)
		if p.tokens >= wanted {
			return min(n, p.tokens), nil
		}
		wait := time.NewTimer(max(time.Duration(float64(wanted-p.tokens)/float64(p.limits.Rate)*float64(time.Second)), time.Millisecond))
		select {
		case <-wait.C:
		case <-p.left:
			wait.Stop()
			return n, nil
		case <-stop:
			wait.Stop()
			return 0, ErrStopped
		}
	}
}

func (p *Pipe) spend(n int64) {
	p.written += n
	p.tokens -= n
}

// End tells that nothing more comes. It may be called more than once.
func (p *Pipe) End() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	wake(p.data)
}

// Head waits for the start of the answer. There is none where the function ended
// without one.
func (p *Pipe) Head() (h Head, begun bool) {
	for {
		p.mu.Lock()
		head, ended := p.head, p.ended
		p.mu.Unlock()
		if head != nil {
			return *head, true
		}
		if ended {
			return Head{}, false
		}
		<-p.data
	}
}

// Next waits for bytes and gives all there are, BufferSize at most; it is io.EOF
// after the last. They are the reader's until it gives them back, as spent, with
// the next call.
func (p *Pipe) Next(spent []byte) ([]byte, error) {
	for {
		p.mu.Lock()
		if len(p.buf) > 0 {
			b := p.buf
			p.buf = spent[:0]
			p.mu.Unlock()
			wake(p.room)
			return b, nil
		}
		ended := p.ended
		p.mu.Unlock()
		if ended {
			return nil, io.EOF
		}
		<-p.data
	}
}

// Leave tells that nobody reads any more.
func (p *Pipe) Leave() { p.leave.Do(func() { close(p.left) }) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is told already
	}
}
