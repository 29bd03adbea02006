package api

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"time"

	"lambent"
)

// maxLogTail is how much of the log LogType Tail shows: its last 4 KB.
const maxLogTail = 4096

// maxClientContext is AWS's limit on the client context, encoded.
const maxClientContext = 3583

// invokeTooLarge is what AWS says of a payload over its 6 MB.
func invokeTooLarge() *lambent.Error {
	return &lambent.Error{Op: "Invoke", Kind: lambent.KindTooLarge,
		Message: "Request must be smaller than 6291456 bytes for the InvokeFunction operation"}
}

// invoke does Invoke. This is the hot path: an honest request for a plain name
// is taken apart without a regular expression, a map or a JSON tree.
func (a *API) invoke(c *call) error {
	const operation = "Invoke"
	kind, limit := c.r.Header.Get("X-Amz-Invocation-Type"), invokeLimit()
	if kind == "Event" {
		limit = eventLimit()
	}
	inv, err := a.invocation(c, operation, a.shapes.invocationType, limit)
	if err != nil {
		return err
	}
	switch kind {
	case "Event":
		return a.acceptEvent(c, operation, inv)
	case "DryRun":
		return a.dryRun(c, inv)
	}
	res, err := a.invoker.Invoke(c.r.Context(), inv)
	if err == nil && res == nil {
		err = errors.New("the invoker gave neither a result nor an error")
	}
	if err != nil {
		return err
	}
	writeResult(c, inv, res)
	return nil
}

// invocation reads what the operations that run a function have in common.
func (a *API) invocation(c *call, operation string, types []rule, limit bodyLimit) (*lambent.Invocation, error) {
	name, h := c.params[0], c.r.Header
	qualifier := c.query("Qualifier")
	if operation == "InvokeAsync" {
		qualifier = nil // it has none, so it was not admitted by one
	}
	if err := a.checkInvoke(operation, name, qualifier, h, types); err != nil {
		c.drain()
		return nil, err
	}
	ref, err := a.target(c.caller, operation, name, qualifier)
	if err != nil {
		c.drain()
		return nil, err
	}
	clientContext, err := readClientContext(h.Get("X-Amz-Client-Context"))
	if err != nil {
		c.drain()
		return nil, err
	}
	payload, err := a.body(c, limit.bytes, limit.tooLarge)
	if err != nil {
		return nil, err
	}
	if len(payload) > 0 {
		if err := checkJSON(payload); err != nil {
			return nil, badPayload(payload, err)
		}
	}
	return &lambent.Invocation{
		RequestID:     c.id,
		Account:       ref.Account,
		Function:      ref.Name,
		Qualifier:     ref.Qualifier,
		Payload:       payload,
		ReceivedAt:    c.received,
		ClientContext: clientContext,
		TraceID:       traceID(h.Get(headerTraceID), c.received),
		TenantID:      h.Get("X-Amz-Tenant-Id"),
		WantLogTail:   h.Get("X-Amz-Log-Type") == "Tail",
		Exact:         h.Get(headerExact) == "true",
	}, nil
}

// dryRun answers a caller who only asks whether it could.
func (a *API) dryRun(c *call, inv *lambent.Invocation) error {
	if _, err := a.functions.Function(inv.Account, inv.Function, inv.Qualifier); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// headerExact is "true" for a call that must not be served by other code than the
// one it asks for.
const headerExact = "X-Lambent-Exact"

// checkInvoke holds what comes in path, query and headers against the model.
func (a *API) checkInvoke(operation, name string, qualifier *string, h http.Header, types []rule) error {
	var v violations
	a.checkName(&v, name, a.shapes.namespacedFunctionName, qualifier)
	v.header("invocationType", h, "X-Amz-Invocation-Type", types)
	v.header("logType", h, "X-Amz-Log-Type", a.shapes.logType)
	v.header("durableExecutionName", h, "X-Amz-Durable-Execution-Name", a.shapes.durableExecutionName)
	v.header("tenantId", h, "X-Amz-Tenant-Id", a.shapes.tenantID)
	v.header("exact", h, headerExact, a.shapes.boolean)
	if err := v.err(); err != nil {
		return err
	}
	if h.Get("X-Amz-Durable-Execution-Name") != "" {
		return unsupportedField(operation, "DurableExecutionName")
	}
	return nil
}

// header checks a member that comes in a header. No header, or an empty one, is
// a member left out.
func (v *violations) header(path string, h http.Header, name string, rules []rule) {
	if s := h.Get(name); s != "" {
		v.str(path, &s, rules...)
	}
}

// readClientContext decodes the client context; empty is none.
func readClientContext(encoded string) (string, error) {
	if encoded == "" {
		return "", nil
	}
	if len(encoded) > maxClientContext {
		return "", &lambent.Error{Op: "Invoke", Kind: lambent.KindMalformed,
			Message: "Client context must be at most " + strconv.Itoa(maxClientContext) + " bytes of Base64."}
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil {
		err = checkJSON(raw)
	}
	if err == nil && !startsObject(raw) {
		err = errors.New("not an object")
	}
	if err != nil {
		return "", &lambent.Error{Op: "Invoke", Kind: lambent.KindMalformed, Err: err,
			Message: "Client context must be a valid Base64-encoded JSON object."}
	}
	return string(raw), nil
}

func startsObject(data []byte) bool {
	d := decoder{data: data}
	c, ok := d.peek()
	return ok && c == '{'
}

func badPayload(payload []byte, err error) error {
	message := "Could not parse request body into json: Could not parse payload into json: " + err.Error()
	if s, ok := errors.AsType[*syntaxError](err); ok {
		message += locate(payload, s.offset)
	}
	return &lambent.Error{Op: "Invoke", Kind: lambent.KindMalformed, Message: message, Err: err}
}

// writeResult answers with what became of an invocation: AWS's headers, and
// lambent's own about how it was started.
func writeResult(c *call, inv *lambent.Invocation, res *lambent.Result) {
	h := c.w.Header()
	start := &res.Start
	values := make([]string, 0, 20) // what the header's slices are cut from
	put := func(key, value string) {
		values = append(values, value)
		h[key] = values[len(values)-1:]
	}
	put("Content-Type", "application/json")
	put("Content-Length", strconv.Itoa(len(res.Payload)))
	put("X-Amzn-Remapped-Content-Length", "0")
	put(headerTraceID, inv.TraceID)
	put("X-Amz-Executed-Version", servedVersion(start))
	if res.FunctionError != "" {
		put("X-Amz-Function-Error", headerText(res.FunctionError))
	}
	if inv.WantLogTail {
		put("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(res.LogTail[max(0, len(res.LogTail)-maxLogTail):]))
	}
	putStart(put, start, c.received)
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(res.Payload) // an error here means the caller has gone
}

// putStart tells in headers how an execution was started, and who served what.
func putStart(put func(key, value string), start *lambent.Start, received time.Time) {
	put("X-Lambent-Start-Kind", headerText(string(start.Kind)))
	put("X-Lambent-Reason", headerText(start.Reason))
	put("X-Lambent-Instance-Id", headerText(string(start.Instance)))
	put("X-Lambent-Container-Id", headerText(string(start.Container)))
	put("X-Lambent-Served-Version", servedVersion(start))
	if start.ServedCode != "" {
		put("X-Lambent-Served-Code-Sha256", headerText(string(start.ServedCode)))
		put("X-Lambent-Requested-Version", headerText(string(start.RequestedVersion)))
		put("X-Lambent-Requested-Code-Sha256", headerText(string(start.RequestedCode)))
	}
	put("X-Lambent-Received-At", stamp(start.ReceivedAt, received))
	if !start.ExecStartedAt.IsZero() {
		put("X-Lambent-Exec-Started-At", stamp(start.ExecStartedAt, start.ExecStartedAt))
	}
}

// servedVersion is the version that answered, as a header.
func servedVersion(start *lambent.Start) string {
	return headerText(cmp.Or(string(start.ServedVersion), string(lambent.Latest)))
}

// stamp is t, or instead where t is not set, as RFC 3339 with nanoseconds.
func stamp(t, instead time.Time) string {
	if t.IsZero() {
		t = instead
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// maxHeaderText bounds a header's value that comes from below.
const maxHeaderText = 1024

// headerText makes s fit to stand in a header: printable ASCII, and not
// endless. A text that fits is returned as it is.
func headerText(s string) string {
	if len(s) <= maxHeaderText && printable(s) {
		return s
	}
	out := make([]byte, 0, min(len(s), maxHeaderText))
	for _, r := range s {
		if len(out) == maxHeaderText {
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		out = append(out, byte(r))
	}
	return string(out)
}
