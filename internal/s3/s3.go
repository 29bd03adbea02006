// Package s3 reads objects from a store that speaks Amazon S3's REST API: AWS's
// own, MinIO, Ceph, SeaweedFS and the like. It knows one operation, GetObject,
// for deployment packages that functions and layers are made of.
//
// What it is asked for is named by callers of the Lambda API, so a bucket or a
// key is escaped into its one place in the URL, which no ".." leads out of, no
// redirect is followed, and what comes is bounded in time; its reader bounds the
// size.
package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lambent"
)

// Options say where the store is and who asks.
type Options struct {
	// Endpoint is its base URL, http or https, without a path: "https://s3.eu-central-1.amazonaws.com".
	Endpoint string
	Region   string // signed for
	// PathStyle puts the bucket into the path instead of the host's name, as
	// stores that are not AWS's mostly want it.
	PathStyle bool
	// Credentials finds the keys to sign with, for each request anew; a zero
	// AccessKey is a request that is not signed.
	Credentials func() (Credentials, error)
	// Timeout bounds a request from its beginning until the whole object was read.
	// 0: two minutes.
	Timeout time.Duration
}

// Credentials sign requests.
type Credentials struct {
	AccessKey, SecretKey string
	SessionToken         string // may be empty
}

// Client reads objects. Safe for concurrent use.
type Client struct {
	opts     Options
	endpoint *url.URL
	signer   *v4.Signer
	http     *http.Client
}

// maxKeptConnections is how many connections to the store are kept for the next
// requests.
const maxKeptConnections = 8

// New makes a client. It asks for nothing yet.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("the S3 endpoint %q is not a base URL such as https://s3.us-east-1.amazonaws.com", o.Endpoint)
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	return &Client{
		opts: o, endpoint: u,
		signer: v4.NewSigner(func(s *v4.SignerOptions) { s.DisableURIPathEscaping = true }), // S3 signs paths escaped once
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
				TLSHandshakeTimeout:   10 * time.Second,
				ResponseHeaderTimeout: 30 * time.Second,
				MaxIdleConns:          maxKeptConnections,
				IdleConnTimeout:       time.Minute,
				DisableCompression:    true, // a package is read as it is stored
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close ends the connections that are kept.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Get opens an object, in a version unless that is "", and tells its size in
// bytes, -1 where the store does not. What the store refuses is a *lambent.Error
// of KindInvalid whose Message is AWS Lambda's text with S3's code in it; that it
// cannot be asked is KindUnavailable.
func (c *Client) Get(ctx context.Context, bucket, key, version string) (io.ReadCloser, int64, error) {
	resource := "s3://" + bucket + "/" + key
	fail := func(err error) (io.ReadCloser, int64, error) {
		return nil, 0, &lambent.Error{Op: "get object", Resource: resource, Kind: lambent.KindUnavailable, Err: err,
			Message: "The S3 endpoint that this server is configured with cannot be asked. Try again."}
	}
	if c.opts.PathStyle && leavesBucket(key) {
		return nil, 0, &lambent.Error{Op: "get object", Resource: resource, Kind: lambent.KindInvalid,
			Message: "Error occurred while GetObject. S3 Error Code: InvalidURI. S3 Error Message: Couldn't parse the specified URI."}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.opts.Timeout, errTooSlow)
	resp, err := c.send(ctx, bucket, key, version)
	if err != nil {
		cancel()
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		return fail(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer cancel()
		defer resp.Body.Close()
		return nil, 0, refused(resource, resp)
	}
	return &object{ReadCloser: resp.Body, cancel: cancel}, resp.ContentLength, nil
}

// leavesBucket reports whether a key's ".." would lead out of the bucket, were
// they taken for what they are in a path: a proxy before the store may do that,
// and who may have one bucket's objects would have another's. AWS refuses such
// keys as well.
func leavesBucket(key string) bool {
	depth := 0
	for part := range strings.SplitSeq(key, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

var errTooSlow = errors.New("the object did not come in time")

// object is a body under a deadline.
type object struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close gives the connection back, or ends it.
func (o *object) Close() error {
	defer o.cancel()
	return o.ReadCloser.Close()
}

func (c *Client) send(ctx context.Context, bucket, key, version string) (*http.Response, error) {
	u := url.URL{Scheme: c.endpoint.Scheme, Host: c.endpoint.Host, Path: "/" + key}
	if c.opts.PathStyle {
		u.Path = "/" + bucket + "/" + key
	} else {
		u.Host = bucket + "." + u.Host
	}
	u.RawPath = escapePath(u.Path)
	if version != "" {
		u.RawQuery = "versionId=" + escape(version)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "lambent")
	keys, err := c.opts.Credentials()
	if err != nil {
		return nil, fmt.Errorf("read the keys to the S3 endpoint: %w", err)
	}
	if keys.AccessKey != "" {
		r.Header.Set("X-Amz-Content-Sha256", emptyHash)
		who := aws.Credentials{AccessKeyID: keys.AccessKey, SecretAccessKey: keys.SecretKey, SessionToken: keys.SessionToken}
		if err := c.signer.SignHTTP(ctx, who, r, emptyHash, "s3", c.opts.Region, time.Now()); err != nil {
			return nil, fmt.Errorf("sign the request: %w", err)
		}
	}
	return c.http.Do(r)
}

// emptyHash is the SHA-256 of no bytes.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// escapePath writes a path as S3 signs it: all but slashes and unreserved
// characters escaped, by byte. A segment of dots stays one: "%2E" is a dot to
// every server.
func escapePath(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		parts[i] = escape(part)
	}
	return strings.Join(parts, "/")
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// maxError bounds what is read of an error.
const maxError = 64 << 10

// refused makes AWS Lambda's error of one of S3's (S3 API reference, "Error
// responses").
func refused(resource string, resp *http.Response) error {
	var answer struct {
		Code    string
		Message string
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err := xml.Unmarshal(text, &answer); err != nil || answer.Code == "" {
		answer.Code, answer.Message = fallback(resp.StatusCode)
	}
	kind := lambent.KindInvalid
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		kind = lambent.KindUnavailable
	}
	return &lambent.Error{Op: "get object", Resource: resource, Kind: kind,
		Message: fmt.Sprintf("Error occurred while GetObject. S3 Error Code: %s. S3 Error Message: %s", clean(answer.Code), clean(answer.Message)),
		Err:     fmt.Errorf("the store answered %s", resp.Status)}
}

// fallback is the code of an answer without a body that tells.
func fallback(status int) (code, message string) {
	switch {
	case status == http.StatusNotFound:
		return "NoSuchKey", "The specified key does not exist."
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return "AccessDenied", "Access Denied"
	case status >= 300 && status < 400:
		return "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint."
	}
	return http.StatusText(status), fmt.Sprintf("The store answered with status %d.", status)
}

// clean makes a store's text fit into one line of an answer.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(strings.TrimSpace(s), ""))
	return s[:min(len(s), 500)]
}
