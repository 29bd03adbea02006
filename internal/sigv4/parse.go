package sigv4

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds on what a caller sends of a signature. They are far over what SDKs
// send.
const (
	maxAuthorization = 8 << 10
	maxSignedHeaders = 100
	maxParameters    = 1000
	maxToken         = 16 << 10 // AWS names no limit; its tokens have some 1,200 characters
	maxExpires       = 7 * 24 * time.Hour
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"
	dateFormat = "20060102"
)

// claim is what a request says of its signature.
type claim struct {
	key       string // access key id
	date      string // of the scope: YYYYMMDD
	region    string
	service   string
	signed    []string // names of the signed headers, lower case, ascending
	headers   string   // the same, as they came
	signature string   // hexadecimal
	time      time.Time
	stamp     string // time as it is signed
	token     string // of the session; may be empty
	payload   string // the value of X-Amz-Content-Sha256; may be empty
	presigned bool
	expires   time.Duration // of a presigned one; 0: it does not say
}

// scope is the credential scope of the string to sign.
func (c *claim) scope() string { return c.date + "/" + c.region + "/" + c.service + "/" + terminator }

// isPresigned reports whether a request's query says that it carries a
// signature.
func isPresigned(r *http.Request) bool {
	return strings.Contains(r.URL.RawQuery, "X-Amz-Algorithm=") || strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// parse reads a request's claim.
func parse(r *http.Request) (*claim, error) {
	given := r.Header["Authorization"]
	presigned := isPresigned(r)
	switch {
	case len(given) == 0 && !presigned, len(given) > 0 && given[0] == "" && !presigned:
		return nil, missing()
	case len(given) > 1, len(given) > 0 && presigned:
		return nil, incomplete("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter or one Authorization header should be specified.")
	case presigned:
		return parseQuery(r)
	}
	return parseHeader(r, given[0])
}

func parseHeader(r *http.Request, auth string) (*claim, error) {
	if len(auth) > maxAuthorization {
		return nil, incomplete("The Authorization header has more than %d bytes.", maxAuthorization)
	}
	scheme, rest, _ := strings.Cut(auth, " ")
	if scheme != algorithm {
		if strings.HasPrefix(scheme, "AWS4-") {
			return nil, incomplete("Unsupported AWS 'algorithm': '%s'. ", scheme)
		}
		return nil, missing() // credentials, but none of AWS's
	}
	var credential, signed, signature string
	for part := range strings.SplitSeq(rest, ",") {
		part = strings.TrimSpace(part)
		name, value, ok := strings.Cut(part, "=")
		if !ok || strings.ContainsAny(part, " \t") {
			return nil, incomplete("'%s' not a valid key=value pair (missing equal-sign) in Authorization header: '%s'.", part, auth)
		}
		var field *string
		switch name {
		case "Credential":
			field = &credential
		case "SignedHeaders":
			field = &signed
		case "Signature":
			field = &signature
		default:
			continue
		}
		if *field != "" {
			return nil, incomplete("Authorization header has '%s' more than once. Authorization=%s", name, auth)
		}
		*field = value
	}
	c := &claim{headers: signed, signature: signature, payload: r.Header.Get("X-Amz-Content-Sha256"), token: r.Header.Get("X-Amz-Security-Token")}
	var lacks strings.Builder
	for _, f := range [...]struct{ name, value string }{{"Credential", credential}, {"Signature", signature}, {"SignedHeaders", signed}} {
		if f.value == "" {
			lacks.WriteString("Authorization header requires '" + f.name + "' parameter. ")
		}
	}
	c.stamp = r.Header.Get("X-Amz-Date")
	if c.stamp == "" && r.Header.Get("Date") == "" {
		lacks.WriteString("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ")
	}
	if lacks.Len() > 0 {
		return nil, incomplete("%sAuthorization=%s", lacks.String(), auth)
	}
	if c.stamp == "" { // a Date as HTTP has it is signed in AWS's form
		date := r.Header.Get("Date")
		t, err := http.ParseTime(date)
		if err != nil {
			if t, err = time.Parse(timeFormat, date); err != nil {
				return nil, incomplete("Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", date)
			}
		}
		c.stamp = t.UTC().Format(timeFormat)
	}
	return c, c.complete(credential)
}

func parseQuery(r *http.Request) (*claim, error) {
	c := &claim{presigned: true}
	var scheme, credential, expires string
	fields := map[string]*string{"X-Amz-Algorithm": &scheme, "X-Amz-Credential": &credential, "X-Amz-Date": &c.stamp, "X-Amz-Expires": &expires,
		"X-Amz-SignedHeaders": &c.headers, "X-Amz-Signature": &c.signature, "X-Amz-Security-Token": &c.token, "X-Amz-Content-Sha256": &c.payload}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		field, known := fields[unescape(name)]
		if !known {
			continue
		}
		if seen[name] {
			return nil, incomplete("AWS query-string parameters must not include '%s' more than once. Re-examine the query-string parameters.", name)
		}
		seen[name] = true
		*field = unescape(value)
	}
	if scheme != algorithm && scheme != "" {
		return nil, incomplete("Unsupported AWS 'algorithm': '%s'. ", scheme)
	}
	for _, name := range [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if *fields[name] == "" {
			return nil, incomplete("AWS query-string parameters must include '%s'. Re-examine the query-string parameters.", name)
		}
	}
	if expires != "" {
		n, err := strconv.ParseInt(expires, 10, 32)
		if err != nil || n < 1 || time.Duration(n)*time.Second > maxExpires {
			return nil, incomplete("X-Amz-Expires must be a whole number of seconds from 1 to %d, which is a week.", int(maxExpires.Seconds()))
		}
		c.expires = time.Duration(n) * time.Second
	}
	if declared := r.Header.Get("X-Amz-Content-Sha256"); declared != "" {
		c.payload = declared
	}
	if token := r.Header.Get("X-Amz-Security-Token"); token != "" && c.token == "" {
		c.token = token
	}
	return c, c.complete(credential)
}

// complete reads what the two forms have in common.
func (c *claim) complete(credential string) error {
	parts := strings.Split(credential, "/")
	if len(parts) != 5 {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", credential)
	}
	c.key, c.date, c.region, c.service = parts[0], parts[1], parts[2], parts[3]
	if parts[4] != terminator {
		return invalid("Credential should be scoped with a valid terminator: '%s', not '%s'.", terminator, parts[4])
	}
	if len(c.token) > maxToken {
		return Unrecognized(nil)
	}
	var err error
	if c.time, err = time.Parse(timeFormat, c.stamp); err != nil || len(c.stamp) != len(timeFormat) { // Parse takes fractions, too
		return incomplete("Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", c.stamp)
	}
	c.signed = strings.Split(c.headers, ";")
	if len(c.signed) > maxSignedHeaders {
		return incomplete("SignedHeaders names more than %d headers.", maxSignedHeaders)
	}
	host := false
	for i, name := range c.signed {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= c.signed[i-1] {
			return incomplete("SignedHeaders must name headers in lower case, sorted, each once, separated by ';'. Got '%s'.", c.headers)
		}
		host = host || name == "host"
	}
	if !host {
		return invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// unescape undoes a query's escapes, in what may be none.
func unescape(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c, width := unescapeAt(s, i)
		b.WriteByte(c)
		i += width - 1
	}
	return b.String()
}
