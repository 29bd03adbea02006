package guest

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"

	"lambent/internal/runtimeapi/frame"
)

// readBuffer is the size of the buffer that frames are read through.
const readBuffer = 16 << 10

// Conn is the guest's end of the conversation. What reads (NextAssignment,
// NextEvent) belongs to one goroutine; what writes may be called by any.
type Conn struct {
	rw io.ReadWriteCloser
	fr *frame.Reader

	banner string // the reader's: what it said it is

	mu sync.Mutex
	// +checklocks:mu
	buf []byte // the frame being written
}

// NewConn speaks over rw, which it takes over.
func NewConn(rw io.ReadWriteCloser) *Conn {
	return &Conn{rw: rw, fr: frame.NewReader(rw, readBuffer)}
}

// Close ends the conversation.
func (c *Conn) Close() error { return c.rw.Close() }

// NextAssignment waits for the ASSIGN frame, and answers each PING that comes
// before. The host being gone is io.EOF.
func (c *Conn) NextAssignment() (*frame.Assignment, error) {
	for {
		t, err := c.expect(frame.Assign, frame.Ping)
		if err != nil {
			return nil, err
		}
		if t == frame.Assign {
			break
		}
		if err := c.Booted(c.banner); err != nil {
			return nil, err
		}
	}
	body, err := c.fr.Rest()
	if err != nil {
		return nil, fmt.Errorf("read the assignment: %w", err)
	}
	a := new(frame.Assignment)
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("read the assignment: %w", err)
	}
	return a, nil
}

// NextEvent waits for the next EVENT frame. The host being gone is io.EOF.
func (c *Conn) NextEvent() (*frame.Event, error) {
	if _, err := c.expect(frame.Invoke); err != nil {
		return nil, err
	}
	size, err := c.fr.Uint32()
	if err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	head, err := c.fr.Bytes(int64(size))
	if err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	e := new(frame.Event)
	if err := json.Unmarshal(head, e); err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	if e.Payload, err = c.fr.Rest(); err != nil {
		return nil, fmt.Errorf("read an event: %w", err)
	}
	return e, nil
}

func (c *Conn) expect(want ...frame.Type) (frame.Type, error) {
	t, _, err := c.fr.Next()
	if err == io.EOF {
		return 0, io.EOF
	}
	if err != nil {
		return 0, fmt.Errorf("wait for %s: %w", want[0], err)
	}
	if !slices.Contains(want, t) {
		return 0, fmt.Errorf("wait for %s: the host sent %s", want[0], t)
	}
	return t, nil
}

// Booted tells the host that the runtime is up and waits for code.
func (c *Conn) Booted(banner string) error {
	c.banner = banner
	return c.send(frame.Booted, []byte(banner[:min(len(banner), frame.MaxBanner)]))
}

// Ready tells the host that the next event is asked for.
func (c *Conn) Ready() error { return c.send(frame.Ready, nil) }

// InitError tells the host that the code cannot be run, with AWS's error JSON.
func (c *Conn) InitError(errorType string, body []byte) error {
	return c.send(frame.InitError, body, errorType)
}

// Respond answers the event of the id.
func (c *Conn) Respond(id string, payload []byte) error {
	return c.send(frame.Response, payload, id)
}

// Fail answers the event of the id with an error, as AWS's error JSON.
func (c *Conn) Fail(id, errorType string, body []byte) error {
	return c.send(frame.Error, body, id, errorType)
}

// Begin starts a streamed answer to the event of the id, of a content type, which
// may be empty. Chunk and End follow.
func (c *Conn) Begin(id, contentType string) error {
	return c.send(frame.Begin, nil, id, contentType)
}

// Chunk sends the next bytes of a streamed answer. It waits while the function's
// caller does not take them.
func (c *Conn) Chunk(b []byte) error { return c.send(frame.Chunk, b) }

// End ends a streamed answer: well, or, where there is an error type, with AWS's
// error JSON.
func (c *Conn) End(errorType string, body []byte) error {
	return c.send(frame.End, body, errorType)
}

// Exit tells the host how the process it supervises has ended.
func (c *Conn) Exit(st frame.ExitStatus) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = frame.AppendExit(c.buf[:0], st)
	return c.flush(frame.Exit)
}

// keepBuffer is how large a write buffer is kept for the next frame.
const keepBuffer = 64 << 10

func (c *Conn) send(t frame.Type, payload []byte, shorts ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = frame.AppendFrame(c.buf[:0], t, payload, shorts...)
	return c.flush(t)
}

// flush writes the frame in buf.
//
// +checklocks:c.mu
func (c *Conn) flush(t frame.Type) error {
	_, err := c.rw.Write(c.buf)
	if cap(c.buf) > keepBuffer {
		c.buf = nil
	}
	if err != nil {
		return fmt.Errorf("send %s to the host: %w", t, err)
	}
	return nil
}
