package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"lambent"
	"lambent/internal/sigv4"
)

const defaultEndpoint = "http://127.0.0.1:4566"

// maxAnswer bounds what is read of a server's answer to anything but a log.
const maxAnswer = 64 << 20

// remote is part of every command that talks to a running server.
type remote struct {
	Endpoint string `placeholder:"URL" help:"Where the server is. Default: $AWS_ENDPOINT_URL, else http://127.0.0.1:4566."`
	Region   string `placeholder:"REGION" help:"Default: $AWS_REGION, else us-east-1."`
}

// client is a client of lambent's HTTP API, as one account.
type client struct {
	endpoint string // without a slash at its end
	key      string // access key; of 12 digits it is the account
	secret   string // "": calls are not signed, which auth: open takes
	token    string // of a session; may be empty
	region   string
	// anonymous calls name no account: from the server's own machine they are the
	// operator's.
	anonymous bool
	http      *http.Client
	now       func() time.Time
}

func (r remote) client(s Streams) (*client, error) {
	c := &client{
		endpoint: strings.TrimRight(firstOf(r.Endpoint, s.Getenv("AWS_ENDPOINT_URL_LAMBDA"), s.Getenv("AWS_ENDPOINT_URL"), defaultEndpoint), "/"),
		key:      firstOf(s.Getenv("AWS_ACCESS_KEY_ID"), string(lambent.DefaultAccount)),
		token:    s.Getenv("AWS_SESSION_TOKEN"),
		region:   firstOf(r.Region, s.Getenv("AWS_REGION"), s.Getenv("AWS_DEFAULT_REGION"), "us-east-1"),
		// No overall timeout: a function may run for 15 minutes, a log for ever.
		http: &http.Client{Transport: &http.Transport{
			Proxy:       http.ProxyFromEnvironment,
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		}},
		now: time.Now,
	}
	if !lambent.IsAccountID(c.key) { // an account's id is no key that could be verified
		c.secret = s.Getenv("AWS_SECRET_ACCESS_KEY")
	}
	if u, err := url.Parse(c.endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the endpoint %q is not a URL like %s", c.endpoint, defaultEndpoint)
	}
	return c, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// authorize says whose call it is: with a secret by AWS's Signature Version 4,
// without one in its form, the signature void, as auth: open reads only the
// access key.
func (c *client) authorize(r *http.Request, body []byte) error {
	switch {
	case c.anonymous:
	case c.secret == "":
		r.Header.Set("X-Amz-Date", c.now().UTC().Format("20060102T150405Z"))
		r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s/lambda/aws4_request, SignedHeaders=host, Signature=%s",
			c.key, c.now().UTC().Format("20060102"), c.region, strings.Repeat("0", 64)))
	default:
		sum := sha256.Sum256(body)
		who := sigv4.Credentials{AccessKeyID: c.key, SecretAccessKey: c.secret, SessionToken: c.token}
		if err := sigv4.Sign(r, who, hex.EncodeToString(sum[:]), "lambda", c.region, c.now()); err != nil {
			return fmt.Errorf("sign the request: %w", err)
		}
	}
	return nil
}

// caller tells whose the calls are, and whether they are an operator's. Whose a
// key is only the server knows.
func (c *client) caller(ctx context.Context) (account lambent.AccountID, operator bool, err error) {
	switch {
	case c.anonymous:
		return lambent.DefaultAccount, c.isLocal(), nil
	case c.secret == "" && lambent.IsAccountID(c.key):
		return lambent.AccountID(c.key), false, nil
	case c.secret == "":
		return lambent.DefaultAccount, false, nil
	}
	var caller struct {
		Account  lambent.AccountID `json:"account"`
		Operator bool              `json:"operator"`
	}
	if err := c.call(ctx, http.MethodGet, adminPath+"caller", nil, &caller); err != nil {
		return "", false, fmt.Errorf("ask whose the access key is: %w", err)
	}
	return caller.Account, caller.Operator, nil
}

// apiError is an answer of the server that refuses a call.
type apiError struct {
	Status  int
	Type    string // AWS's name: "ResourceNotFoundException"
	Message string
}

func (e *apiError) Error() string {
	name := e.Type
	if name == "" {
		name = http.StatusText(e.Status)
	}
	if e.Message == "" {
		return fmt.Sprintf("%s (HTTP %d)", name, e.Status)
	}
	text := fmt.Sprintf("%s: %s (HTTP %d)", name, printableLines(e.Message), e.Status)
	switch e.Type {
	case sigv4.MissingAuthenticationToken, sigv4.UnrecognizedClient:
		text += "\nthe server wants a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to one of lambent key create"
	}
	if e.Status == http.StatusNotFound && strings.HasPrefix(e.Message, "Function not found") {
		text += "\nsee: lambent ls, which lists this account's functions (AWS_ACCESS_KEY_ID names another account)"
	}
	return text
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.Status == http.StatusNotFound
}

// unreachable is a call that got no answer.
type unreachable struct {
	endpoint string
	err      error
}

func (e *unreachable) Error() string {
	return fmt.Sprintf("no server answers at %s: %v\nstart it with: lambent up\nor say where it is: --endpoint URL or AWS_ENDPOINT_URL", e.endpoint, e.err)
}

func (e *unreachable) Unwrap() error { return e.err }

// stranger is an endpoint that answers, and not as lambent does.
type stranger struct{ endpoint string }

func (e *stranger) Error() string {
	return fmt.Sprintf("what answers at %s is not a lambent server, or an older one than this program\nsay where lambent is: --endpoint URL or AWS_ENDPOINT_URL", e.endpoint)
}

// send makes a call. An answer of 300 and above becomes an *apiError; of any
// other the caller closes the body.
func (c *client) send(ctx context.Context, method, path string, body []byte, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "lambent-cli/"+version)
	if err := c.authorize(req, body); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		cause := err
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			cause = uerr.Err // the method and URL are told of already
		}
		return nil, &unreachable{endpoint: c.endpoint, err: cause}
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, readAPIError(resp)
	}
	if resp.Header.Get("X-Amzn-Requestid") == "" {
		_ = resp.Body.Close() // nothing of it is wanted
		return nil, &stranger{endpoint: c.endpoint}
	}
	return resp, nil
}

// readAPIError reads an error in the shape of restJson1; of anything else, such
// as another server's page, it keeps a little of the text.
func readAPIError(resp *http.Response) error {
	e := &apiError{Status: resp.StatusCode, Type: resp.Header.Get("X-Amzn-Errortype")}
	e.Type, _, _ = strings.Cut(e.Type, ":") // AWS may append a URI
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return e // what is known is said
	}
	var body struct{ Message, Reason string } // encoding/json takes message, too
	if json.Unmarshal(data, &body) == nil {
		e.Message = body.Message
	} else {
		e.Message = string(data[:min(len(data), 200)])
	}
	return e
}

// call makes a call with JSON both ways; in and out may be nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	header := http.Header{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		header.Set("Content-Type", "application/json")
	}
	resp, err := c.send(ctx, method, path, body, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("the answer of %s is not what lambent answers; is it a lambent server? %w", c.endpoint, err)
	}
	return nil
}

// functionPath is the path of a function, or of what is below it.
func functionPath(name, below string) string {
	return "/2015-03-31/functions/" + url.PathEscape(name) + below
}

// functionConfiguration is what the CLI needs of AWS's shape of that name.
type functionConfiguration struct {
	FunctionName     string
	FunctionArn      string
	Runtime          string
	Handler          string
	MemorySize       int
	Timeout          int
	CodeSize         int64
	LastModified     string
	State            string
	StateReason      string
	LastUpdateStatus string
	LastUpdateReason string `json:"LastUpdateStatusReason"`
}

// printable shows the control characters in text that comes from a function or
// a server, so that it cannot drive the terminal. Tabs are kept.
func printable(s string) string {
	clean := func(r rune) bool { return r == '\t' || r >= 0x20 && r != 0x7f && (r < 0x80 || r > 0x9f) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x%02x`, r)
		}
	}
	return b.String()
}

// printableLines is printable for text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}
