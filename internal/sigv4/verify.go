package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"time"
)

// skew is how far a request's date may be from ours: AWS's five minutes.
const skew = 5 * time.Minute

// The payload of a request whose body is not hashed as a whole, as its
// X-Amz-Content-Sha256 says it, and the hash of no body at all.
const (
	unsignedPayload              = "UNSIGNED-PAYLOAD"
	streamedPayload              = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamedPayloadTrailer       = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedPayloadTrailer       = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	emptyHash                    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	maxDecoded             int64 = 1 << 32 // of a body in chunks; the API's own limits are far below
)

// Lookup finds the secret of an access key, with the session token that came
// with it, "" for none. Its error is passed on: Unrecognized, Expired. It must
// be safe for concurrent use.
type Lookup func(accessKeyID, sessionToken string) (secret string, err error)

// Verifier verifies signatures for one service in one region. Its fields are
// not changed once it is in use; then it is safe for concurrent use.
type Verifier struct {
	Service string // "lambda"
	Region  string
	Lookup  Lookup
	Now     func() time.Time
}

// Proof is whose signature a request carries.
type Proof struct {
	AccessKeyID  string
	SessionToken string

	check func(payload string) error // nil: it is proven
}

// NeedsBody reports that nothing is proven yet: the signature covers the hash
// of the body, and the request does not tell it. Then Body must be called.
func (p *Proof) NeedsBody() bool { return p.check != nil }

// Body completes a proof with the SHA-256 of the whole body.
func (p *Proof) Body(sum [sha256.Size]byte) error {
	if p.check == nil {
		return nil
	}
	if err := p.check(hex.EncodeToString(sum[:])); err != nil {
		return err
	}
	p.check = nil
	return nil
}

// Verify tells who signed a request. Where the body is hashed or signed in a way
// the request tells of, the request's Body is replaced: reading it gives the
// error that it is not what was signed, at the latest with its last byte (for a
// body in chunks ContentLength becomes that of what is in them). What was read
// may be used only when it was read to its end.
func (v *Verifier) Verify(r *http.Request) (*Proof, error) {
	c, err := parse(r)
	if err != nil {
		return nil, err
	}
	if err := v.checkScope(c); err != nil {
		return nil, err
	}
	if err := checkTime(c, v.Now().UTC()); err != nil {
		return nil, err
	}
	if err := requireSigned(r, c); err != nil {
		return nil, err
	}
	secret, err := v.Lookup(c.key, c.token)
	if err != nil {
		return nil, err
	}
	key := signingKey(secret, c.date, c.region, c.service)
	proof := &Proof{AccessKeyID: c.key, SessionToken: c.token}
	if c.payload == "" && r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		proof.check = func(payload string) error { return checkSignature(r, c, key, payload) }
		return proof, nil
	}
	payload := c.payload
	if payload == "" {
		payload = emptyHash
	}
	if err := checkSignature(r, c, key, payload); err != nil {
		return nil, err
	}
	switch payload {
	case unsignedPayload:
		return proof, nil
	case streamedPayload, streamedPayloadTrailer, unsignedPayloadTrailer:
		return proof, openChunks(r, c, key)
	}
	if sum, err := hex.DecodeString(payload); err == nil && len(sum) == sha256.Size {
		if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody { // which nobody would read
			if payload != emptyHash {
				return nil, mismatch()
			}
			return proof, nil
		}
		r.Body = newHashedBody(r.Body, r.ContentLength, [sha256.Size]byte(sum))
		return proof, nil
	}
	return nil, incomplete("x-amz-content-sha256 must be %s, %s, %s, %s or a valid sha256 value.", unsignedPayload, streamedPayload, streamedPayloadTrailer, unsignedPayloadTrailer)
}

// checkScope holds a credential's scope against the service's own.
func (v *Verifier) checkScope(c *claim) error {
	switch {
	case c.region != v.Region:
		return invalid("Credential should be scoped to a valid region, not '%s'. ", c.region)
	case c.service != v.Service:
		return invalid("Credential should be scoped to correct service: '%s'. ", v.Service)
	case c.date != c.stamp[:len(dateFormat)]:
		return invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			c.date, c.stamp[:len(dateFormat)], c.stamp)
	}
	return nil
}

// checkTime refuses requests that are too old or from the future, in AWS's
// words.
func checkTime(c *claim, now time.Time) error {
	valid := skew
	if c.expires > 0 {
		valid = c.expires
	}
	if c.time.Add(valid).Before(now) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %s)",
			c.stamp, now.Add(-valid).Format(timeFormat), now.Format(timeFormat), minutes(valid))
	}
	if c.time.Add(-skew).After(now) {
		return invalid("Signature not yet current: %s is still later than %s (%s + %s)",
			c.stamp, now.Add(skew).Format(timeFormat), now.Format(timeFormat), minutes(skew))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d min.", d/time.Minute)
	}
	return fmt.Sprintf("%d sec.", d/time.Second)
}

// checkSignature compares what was given with what the secret makes of the
// request, in constant time.
func checkSignature(r *http.Request, c *claim, key []byte, payload string) error {
	request, err := canonical(r, c, payload)
	if err != nil {
		return err
	}
	if !hmac.Equal(signature(key, stringToSign(c, request)), []byte(c.signature)) {
		return mismatch()
	}
	return nil
}

// stringToSign is step 3 of AWS's description.
func stringToSign(c *claim, canonical []byte) []byte {
	sum := sha256.Sum256(canonical)
	b := make([]byte, 0, 160)
	b = append(b, algorithm+"\n"...)
	b = append(b, c.stamp...)
	b = append(b, '\n')
	b = append(b, c.scope()...)
	b = append(b, '\n')
	return hex.AppendEncode(b, sum[:])
}

// signingKey derives the key of a day, a region and a service from a secret.
// The four HMACs take some 7 µs of a verification's 24: less than a cache of
// keys, which would have to forget those that were revoked, is worth.
func signingKey(secret, date, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range [...]string{date, region, service, terminator} {
		key = sum(hmac.New(sha256.New, key), part)
	}
	return key
}

func sum(h hash.Hash, s string) []byte {
	h.Write([]byte(s))
	return h.Sum(nil)
}

// signature is in hexadecimal, as it is given.
func signature(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return hex.AppendEncode(nil, h.Sum(nil))
}
