package sigv4

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// Credentials sign requests.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // may be empty
}

// Sign signs a client's request in its Authorization header, with all headers
// there are by now. payload is the SHA-256 of the body in hexadecimal, "" for no
// body; it is declared in X-Amz-Content-Sha256.
func Sign(r *http.Request, who Credentials, payload, service, region string, now time.Time) error {
	if payload == "" {
		payload = emptyHash
	}
	c := &claim{key: who.AccessKeyID, stamp: now.UTC().Format(timeFormat), region: region, service: service}
	c.date = c.stamp[:len(dateFormat)]
	r.Header.Set("X-Amz-Date", c.stamp)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	if who.SessionToken != "" {
		r.Header.Set("X-Amz-Security-Token", who.SessionToken)
	}
	signed := r.Clone(r.Context())
	if signed.Host == "" {
		signed.Host = r.URL.Host
	}
	c.signed = []string{"host"}
	for name := range r.Header {
		switch name {
		case "Authorization", "User-Agent", "Expect", "Transfer-Encoding", "Content-Length", "Connection", "X-Amzn-Trace-Id": // may change on the way
		default:
			c.signed = append(c.signed, strings.ToLower(name))
		}
	}
	slices.Sort(c.signed)
	c.headers = strings.Join(c.signed, ";")
	request, err := canonical(signed, c, payload)
	if err != nil {
		return err
	}
	mark := signature(signingKey(who.SecretAccessKey, c.date, region, service), stringToSign(c, request))
	r.Header.Set("Authorization", algorithm+" Credential="+c.key+"/"+c.scope()+", SignedHeaders="+c.headers+", Signature="+string(mark))
	return nil
}
