package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"lambent"
)

const (
	firstBuffer = 64 << 10  // what a caller gets for merely claiming a length
	lastDouble  = 8 << 20   // a buffer of this size grows to the limit at once
	maxDrain    = 128 << 20 // of a refused body
)

// How fast a body must come: what is held for it must not be had for nothing.
const (
	bodyWindow  = 10 * time.Second // in each of which
	windowBytes = 64 << 10         // at least so much comes, and
	windowShare = 32               // this part of what is held for it
	bodyTime    = 2 * time.Minute  // and all of it in this
	leaveTime   = time.Second      // for what is sent unasked
)

// body reads the whole request body, at most limit bytes, into one buffer. A
// claimed length costs little until the first bytes of it have come; then the
// buffer is made whole. Every byte of it is taken from the body budget until
// the request is answered. tooLarge is the error for a body over limit.
func (a *API) body(c *call, limit int64, tooLarge *lambent.Error) ([]byte, error) {
	if c.read {
		if int64(len(c.payload)) > limit {
			return nil, tooLarge
		}
		return c.payload, nil
	}
	length := c.r.ContentLength
	if length == 0 {
		return nil, nil
	}
	if length > limit {
		c.drain()
		return nil, tooLarge
	}
	most := limit + 1 // one more than allowed, to see that there is one
	if length > 0 {
		most = length
	}
	code := limit > maxInvokeBody
	size := min(most, firstBuffer)
	if err := a.reserve(c, size, code); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, size)
	p := pace{conn: http.NewResponseController(c.w), last: time.Now().Add(bodyTime)}
	p.renew()
	for {
		n, err := c.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			c.drain()
			return nil, tooLarge
		case err == io.EOF, err == nil && int64(len(buf)) == length:
			return buf, nil
		case errors.Is(err, os.ErrDeadlineExceeded) && p.overslept():
			p.renew()
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.w.Header().Set("Connection", "close") // what is still to come has nowhere to go
			return nil, tooSlow(err)
		case err != nil:
			if _, told := errors.AsType[*lambent.Error](err); told { // it is not the body that was signed
				return nil, err
			}
			return nil, unreadable(err)
		}
		p.came(n, cap(buf))
		if len(buf) == cap(buf) {
			old := int64(cap(buf))
			bigger := most
			if length < 0 && old < lastDouble {
				bigger = min(2*old, most)
			}
			if err := a.reserve(c, bigger, code); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, bigger), buf...)
			a.release(c, old)
		}
	}
}

// pace sets the connection's deadline by what comes on it. Once a body is read
// net/http lifts the deadline itself.
type pace struct {
	conn *http.ResponseController
	last time.Time // after which nothing more is read
	end  time.Time // of this window
	got  int       // in this window
}

// came notes that n bytes came into a buffer of a size.
func (p *pace) came(n, size int) {
	if p.got += n; p.got >= max(windowBytes, size/windowShare) {
		p.renew()
	}
}

func (p *pace) renew() {
	p.got = 0
	end := time.Now().Add(bodyWindow)
	if end.After(p.last) {
		end = p.last
	}
	p.end = end
	_ = p.conn.SetReadDeadline(end) // what is not a connection needs none
}

// overslept tells whether it was this process that came late, on a machine that is
// too busy: what the caller has sent meanwhile is there to be read.
func (p *pace) overslept() bool {
	const late = time.Second
	return time.Since(p.end) > late && time.Now().Before(p.last)
}

// reserve takes n bytes from the body budget for the rest of the request. code
// is whether the request carries some.
func (a *API) reserve(c *call, n int64, code bool) error {
	if !a.bodies.take(c.caller.Account, n, code) {
		c.drain()
		return &lambent.Error{Op: "read request", Kind: lambent.KindThrottled, Reason: "CallerRateLimitExceeded", Message: "Rate Exceeded."}
	}
	c.reserved += n
	return nil
}

// release gives back n of the bytes that were reserved for the request.
func (a *API) release(c *call, n int64) {
	if n == 0 {
		return
	}
	c.reserved -= n
	if a.bodies.give(c.caller.Account, n) {
		select {
		case a.relieved <- struct{}{}:
		default: // it is told already
		}
	}
}

// Relieved tells, some time after the bodies of requests have taken much
// memory, that they do no more. It is of use to whoever can give the memory
// back to the machine, which is slow, and is for one reader.
func (a *API) Relieved() <-chan struct{} { return a.relieved }

// drain reads a body nobody will use, so that a caller that is still writing
// gets to read why: a connection closed under it would be all it sees. A
// caller that waits to be told to send is not told.
func (c *call) drain() {
	if c.read || c.r.ContentLength == 0 || c.r.Header.Get("Expect") != "" {
		return
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(bodyTime))
	_, _ = io.CopyN(io.Discard, c.r.Body, maxDrain) // an error ends the draining, and that is all
}

// leave closes the connection of a caller that asked whether to send its body
// and was refused: what comes next on it may be that body or another request.
// net/http would wait for a short one.
func leave(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Expect") == "" || r.ContentLength == 0 {
		return
	}
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(leaveTime)) // what is not a connection needs none
}

func unreadable(err error) error {
	return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Message: "The request body could not be read to its end.", Err: err}
}

func tooSlow(err error) error {
	return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Reason: "RequestTimeoutException", Err: err,
		Message: "The request body came too slowly, or not at all: at least 64 KiB have to come every 10 seconds."}
}
