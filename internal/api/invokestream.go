package api

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"lambent"
	"lambent/internal/stream"
)

// invokeWithResponseStream does InvokeWithResponseStream. Until the function has
// begun to answer, what goes wrong is an error of the API; then there is a 200
// and an event stream, whose last event tells how the function ended. A caller
// who goes away, or reads slowly, changes nothing for the function but that it
// waits (package stream).
func (a *API) invokeWithResponseStream(c *call) error {
	const operation = "InvokeWithResponseStream"
	inv, err := a.invocation(c, operation, a.shapes.streamingInvocation, invokeLimit())
	if err != nil {
		return err
	}
	if c.r.Header.Get("X-Amz-Invocation-Type") == "DryRun" {
		return a.dryRun(c, inv)
	}
	pipe := stream.New(a.streaming)
	inv.Stream = pipe
	out := &eventAnswer{call: c, inv: inv, pipe: pipe, conn: http.NewResponseController(c.w)}
	var copier sync.WaitGroup
	copier.Go(out.copy)
	defer func() { // whatever happens: the copier uses the response
		pipe.End()
		copier.Wait()
		_ = out.conn.SetWriteDeadline(time.Time{}) // the connection's next answer has a time of its own
	}()

	res, err := a.invoker.Invoke(c.r.Context(), inv)
	if err == nil && res == nil {
		err = errors.New("the invoker gave neither a result nor an error")
	}
	out.ended.Store(true)
	out.hurry()
	pipe.End()
	copier.Wait()
	if err != nil && !out.begun {
		return err
	}
	if err != nil {
		e, message, _ := describe(err)
		a.log.LogAttrs(c.r.Context(), slog.LevelError, "an answer broke off", slog.String("operation", operation),
			slog.String("request_id", string(c.id)), slog.Any("error", err))
		out.complete(invokeComplete{ErrorCode: e.name, ErrorDetails: message})
		return nil
	}
	out.whole(res)
	return nil
}

// invokeComplete is the last event. Members that have nothing to tell are left
// out.
type invokeComplete struct {
	ErrorCode    string `json:"ErrorCode,omitempty"`
	ErrorDetails string `json:"ErrorDetails,omitempty"`
	LogResult    string `json:"LogResult,omitempty"`
}

// eventAnswer is an answer in events. Its methods are the copier's until that has
// ended, then the handler's; hurry is anybody's.
type eventAnswer struct {
	*call
	inv  *lambent.Invocation
	pipe *stream.Pipe
	conn *http.ResponseController

	ended atomic.Bool // the function has: its caller must read what is left
	begun bool        // the status was sent
	gone  bool        // the caller does not read any more
	event []byte      // the event being written
}

// copy sends what the function streams, part by part.
func (e *eventAnswer) copy() {
	head, begun := e.pipe.Head()
	if !begun {
		return
	}
	e.begin(&head.Start)
	var part []byte
	for {
		var err error
		if part, err = e.pipe.Next(part); err != nil {
			return
		}
		e.chunk(part)
	}
}

// begin sends status and headers, at once.
func (e *eventAnswer) begin(start *lambent.Start) {
	e.begun = true
	h := e.w.Header()
	h.Set("Content-Type", "application/vnd.amazon.eventstream")
	h.Set(headerTraceID, e.inv.TraceID)
	h.Set("X-Amz-Executed-Version", servedVersion(start))
	putStart(h.Set, start, e.received)
	e.w.WriteHeader(http.StatusOK)
	e.check(e.conn.Flush())
}

// chunk sends a part of the answer, at once.
func (e *eventAnswer) chunk(part []byte) {
	e.send("PayloadChunk", "application/octet-stream", part)
}

// send writes an event and waits until the caller's side has taken it.
func (e *eventAnswer) send(eventType, contentType string, payload []byte) {
	if e.gone {
		return
	}
	if e.ended.Load() {
		e.hurry()
	}
	e.event = appendEvent(e.event[:0], eventType, contentType, payload)
	_, err := e.w.Write(e.event)
	e.check(cmp.Or(err, e.conn.Flush()))
}

// check notes that a caller has gone. The function goes on.
func (e *eventAnswer) check(err error) {
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		e.gone = true
		e.pipe.Leave()
	}
}

// hurry gives the caller a time in which to read the event that is being sent:
// the function has ended, so nothing else bounds how long it may take.
func (e *eventAnswer) hurry() {
	_ = e.conn.SetWriteDeadline(time.Now().Add(bodyWindow)) // what is not a connection needs none
}

// whole sends what is left to send once the function has ended.
func (e *eventAnswer) whole(res *lambent.Result) {
	if !e.begun {
		e.begin(&res.Start)
	}
	last := invokeComplete{}
	if e.inv.WantLogTail {
		last.LogResult = base64.StdEncoding.EncodeToString(res.LogTail[max(0, len(res.LogTail)-maxLogTail):])
	}
	switch {
	case res.FunctionError != "":
		last.ErrorCode, last.ErrorDetails = res.FunctionError, string(res.Payload)
	case !res.Streamed:
		for b := res.Payload; len(b) > 0; {
			n := min(len(b), stream.BufferSize)
			e.chunk(b[:n])
			b = b[n:]
		}
	}
	e.complete(last)
}

// complete sends the last event.
func (e *eventAnswer) complete(last invokeComplete) {
	body, err := json.Marshal(last)
	if err != nil {
		body = []byte("{}") // cannot be: three strings
	}
	e.send("InvokeComplete", "application/json", body)
}
