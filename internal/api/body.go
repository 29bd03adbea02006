package api

import (
	"io"

	"lambent"
)

const (
	firstBuffer = 64 << 10  // what a caller gets for merely claiming a length
	maxDrain    = 128 << 20 // of a refused body
)

// body reads the whole request body, at most limit bytes, into one buffer. The
// buffer grows with what has really arrived, so that a claimed length costs
// nothing, and every byte of it is taken from the body budget until the
// request is answered. tooLarge is the error for a body over limit.
func (a *API) body(c *call, limit int64, tooLarge *lambent.Error) ([]byte, error) {
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
	buf := make([]byte, 0, min(most, firstBuffer))
	if err := a.reserve(c, int64(cap(buf))); err != nil {
		return nil, err
	}
	for {
		n, err := c.r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			c.drain()
			return nil, tooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return nil, unreadable(err)
		case int64(len(buf)) == length:
			return buf, nil
		}
		if len(buf) == cap(buf) {
			bigger := min(2*int64(cap(buf)), most)
			if err := a.reserve(c, bigger-int64(cap(buf))); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, bigger), buf...)
		}
	}
}

// reserve takes n bytes from the body budget for the rest of the request.
func (a *API) reserve(c *call, n int64) error {
	if a.bodiesInFlight.Add(n) > a.bodyBudget {
		a.bodiesInFlight.Add(-n)
		c.drain()
		return &lambent.Error{Op: "read request", Kind: lambent.KindThrottled, Reason: "CallerRateLimitExceeded", Message: "Rate Exceeded."}
	}
	c.reserved += n
	return nil
}

// drain reads a body nobody will use, so that a caller that is still writing
// gets to read why: a connection closed under it would be all it sees. A
// caller that waits to be told to send is not told.
func (c *call) drain() {
	if c.r.ContentLength == 0 || c.r.Header.Get("Expect") != "" {
		return
	}
	_, _ = io.CopyN(io.Discard, c.r.Body, maxDrain) // an error ends the draining, and that is all
}

func unreadable(err error) error {
	return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Message: "The request body could not be read to its end.", Err: err}
}
