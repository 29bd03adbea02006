package api

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"

	"lambent"
)

// prove reads the body of a caller whose signature covers it without telling its
// hash, as most of AWS's SDKs sign for Lambda. It is read before anything else is
// done, whatever the operation: a handler cannot forget it. Until then the
// caller has shown a key that exists and a date of now; what it may keep in
// memory is bounded as for every body, on the account of that key.
func (a *API) prove(c *call, operation string) error {
	limit, tooLarge := int64(maxConfigBody), codeTooLarge(operation, maxConfigBody)
	switch operation {
	case "CreateFunction", "UpdateFunctionCode", "PublishLayerVersion":
		limit, tooLarge = maxCodeBody, codeTooLarge(operation, maxCodeBody)
	case "Invoke", "InvokeWithResponseStream", "InvokeAsync":
		limit, tooLarge = maxInvokeBody, invokeTooLarge()
	}
	payload, err := a.body(c, limit, tooLarge)
	if err != nil {
		return err
	}
	c.read, c.payload = true, payload
	return c.caller.Prove(sha256.Sum256(payload))
}

// proveSmall is prove for an operator's path, whose handlers read the body by
// themselves.
func proveSmall(r *http.Request, caller *Caller) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxConfigBody+1))
	switch {
	case err != nil:
		return unreadable(err)
	case len(body) > maxConfigBody:
		return &lambent.Error{Op: "read request", Kind: lambent.KindRequestTooLarge, Message: "Request must be smaller than 1048576 bytes for this path"}
	}
	if err := caller.Prove(sha256.Sum256(body)); err != nil {
		return err
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}
