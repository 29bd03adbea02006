package api

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/queue"
)

const oldAsyncPath = "/2014-11-13/functions/f/invoke-async"

// fakeEvents keeps what it accepts.
type fakeEvents struct {
	mu sync.Mutex
	// +checklocks:mu
	accepted []*queue.Event
	// +checklocks:mu
	err error
}

func (f *fakeEvents) Accept(_ context.Context, events ...*queue.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.accepted = append(f.accepted, events...)
	return nil
}

func (f *fakeEvents) take() []*queue.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.accepted
	f.accepted = nil
	return taken
}

func (f *fakeEvents) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func newAsyncDoor(t *testing.T) (*door, *fakeEvents) {
	t.Helper()
	events := &fakeEvents{}
	d := newDoor(t, func(o *Options) { o.Events = events })
	d.create(t, "f")
	return d, events
}

func TestAnAsynchronousCallIsAcceptedWithAllItsCallerSent(t *testing.T) {
	d, events := newAsyncDoor(t)
	got := d.do(t, "POST", invokePath, `{"a": 1}`, "X-Amz-Invocation-Type", "Event", "X-Amz-Client-Context", base64.StdEncoding.EncodeToString([]byte(`{"client":{}}`)),
		"X-Amzn-Trace-Id", "Root=1-2-3", "X-Lambent-Urgency", "high", "X-Lambent-Deadline", "2026-12-24T18:00:00Z", "X-Amz-Log-Type", "Tail")
	if got.status != 202 || got.raw != "" || got.header.Get("X-Amzn-Remapped-Content-Length") != "0" || got.header.Get("X-Amzn-Trace-Id") != "Root=1-2-3" {
		t.Errorf("%d %q %v", got.status, got.raw, got.header)
	}
	for _, h := range []string{"X-Amz-Executed-Version", "X-Amz-Log-Result", "X-Lambent-Start-Kind"} {
		if got.header.Get(h) != "" {
			t.Errorf("%s: %s", h, got.header.Get(h))
		}
	}
	want := []*queue.Event{{
		ID: lambent.RequestID(got.header.Get(headerRequestID)), Line: queue.Line{Account: lambent.DefaultAccount, Function: "f"}, Payload: []byte(`{"a": 1}`),
		ClientContext: `{"client":{}}`, TraceID: "Root=1-2-3", Urgency: "high", Deadline: time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC),
		AcceptedAt: time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC),
	}}
	if diff := cmp.Diff(want, events.take()); diff != "" {
		t.Error(diff)
	}
	if d.invoker.last != nil {
		t.Error("the function was called")
	}
}

func TestLatestIsOneLineHoweverItIsNamed(t *testing.T) {
	d, events := newAsyncDoor(t)
	for _, path := range []string{invokePath, invokePath + "?Qualifier=$LATEST", functionsPath + "/f:$LATEST/invocations", functionsPath + "/arn:aws:lambda:us-east-1:000000000000:function:f/invocations"} {
		if got := d.do(t, "POST", path, `{}`, "X-Amz-Invocation-Type", "Event"); got.status != 202 {
			t.Errorf("%s: %d %s", path, got.status, got.raw)
		}
	}
	for _, e := range events.take() {
		if want := (queue.Line{Account: lambent.DefaultAccount, Function: "f"}); e.Line != want {
			t.Errorf("it waits in %+v", e.Line)
		}
	}
}

func TestInvokeAsyncIsAnAsynchronousCall(t *testing.T) {
	d, events := newAsyncDoor(t)
	if got := d.do(t, "POST", oldAsyncPath+"?Qualifier=other", `{"b":2}`); got.status != 202 || got.raw != "" {
		t.Errorf("%d %q", got.status, got.raw)
	}
	if es := events.take(); len(es) != 1 || string(es[0].Payload) != `{"b":2}` || es[0].Line.Qualifier != "" {
		t.Errorf("%+v", es)
	}
	d.do(t, "POST", oldAsyncPath, `nope`).wantError(t, 400, "InvalidRequestContentException")
}

func TestAnEventThatCannotBeHadIsRefusedAtOnce(t *testing.T) {
	d, events := newAsyncDoor(t)
	event := []string{"X-Amz-Invocation-Type", "Event"}
	d.do(t, "POST", functionsPath+"/none/invocations", `{}`, event...).wantError(t, 404, "ResourceNotFoundException")
	d.do(t, "POST", invokePath, `{`, event...).wantError(t, 400, "InvalidRequestContentException")
	d.do(t, "POST", invokePath, `{}`, append(event, "X-Amz-Tenant-Id", "t")...).wantError(t, 400, "InvalidParameterValueException")
	d.do(t, "POST", invokePath, `{}`, append(event, "X-Lambent-Urgency", "very")...).wantError(t, 400, "InvalidParameterValueException")
	d.do(t, "POST", invokePath, `{}`, append(event, "X-Lambent-Deadline", "soon")...).wantError(t, 400, "InvalidParameterValueException")
	large := `"` + strings.Repeat("x", queue.MaxPayload-2) + `"`
	if got := d.do(t, "POST", invokePath, large, event...); got.status != 202 {
		t.Errorf("1 MB: %d %s", got.status, got.raw)
	}
	events.take()
	message := d.do(t, "POST", invokePath, large+" ", event...).wantError(t, 413, "RequestTooLargeException")
	if want := "Request must be smaller than 1048576 bytes for the InvokeFunction operation"; message != want {
		t.Errorf("it says %q, want %q", message, want)
	}
	if got := d.do(t, "POST", invokePath, large+" "); got.status != 200 {
		t.Errorf("the same, synchronously: %d", got.status)
	}
	for _, err := range []error{&lambent.Error{Kind: lambent.KindUnavailable, Reason: "DiskFull", Err: errors.New("the disk is full")}, errors.New("broken")} {
		events.fail(err)
		d.do(t, "POST", invokePath, `{}`, event...).wantError(t, 500, "ServiceException")
	}
	if es := events.take(); len(es) != 0 {
		t.Errorf("accepted were %+v", es)
	}
}
