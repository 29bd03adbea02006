package deliver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lambent"
)

// toHTTP posts a message to a URL that a user has named. What answers 2xx has it.
func (s *Sender) toHTTP(ctx context.Context, m *Message) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.To, bytes.NewReader(m.Body))
	if err != nil {
		return &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindInvalid, Message: "no request can be made for it", Err: err}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "lambent")
	r.Header.Set("Webhook-Id", m.ID)
	r.Header.Set("X-Lambent-Request-Id", string(m.RequestID))
	r.Header.Set("X-Lambent-Function", m.FunctionARN)
	if m.Secret != "" {
		Sign(r.Header, m.Secret, m.ID, s.opts.Now(), m.Body)
	}
	resp, err := s.others.Do(r)
	if err != nil {
		return unreachable(m.To, err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // for the connection to be used again; nothing of it is wanted
	if resp.StatusCode/100 == 2 {
		return nil
	}
	return &lambent.Error{Op: "deliver", Resource: m.To, Kind: lambent.KindUnavailable, Message: "it answered with " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)}
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 10

// unreachable is the error of a request that was not answered. Its cause is for
// the log: that is told to nobody else what names mean on the server's network.
func unreachable(to string, err error) error {
	if e, ok := errors.AsType[*lambent.Error](err); ok && e.Kind == lambent.KindDenied {
		return &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindDenied, Message: e.Message, Err: err}
	}
	message := "it could not be connected to, or closed the connection before it had answered"
	if t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err); ok && t.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		message = "it did not answer in time"
	}
	return &lambent.Error{Op: "deliver", Resource: to, Kind: lambent.KindUnavailable, Message: message, Err: err}
}

// Sign signs a body as the Standard Webhooks specification 1.0.0 has it, in the
// headers webhook-id, webhook-timestamp and webhook-signature: HMAC-SHA256 of
// "id.timestamp.body". A secret that begins with whsec_ is the key in Base64, any
// other one is the key itself.
func Sign(h http.Header, secret, id string, now time.Time, body []byte) {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			key = decoded
		}
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.", id, stamp)
	mac.Write(body)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
