package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// canonical renders a request as it is signed (IAM user guide, "Create a signed
// AWS API request", step 1).
//
// What it reads is what the API acts on: the path and the query as they came,
// the query's parameters unescaped as net/url does.
func canonical(r *http.Request, c *claim, payload string) ([]byte, error) {
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = appendPath(b, rawPath(r))
	b = append(b, '\n')
	b, err := appendQuery(b, r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for _, name := range c.signed {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, c.headers...)
	b = append(b, '\n')
	return append(b, payload...), nil
}

// rawPath is the path as it came on the wire, of which nobody has undone an
// escape.
func rawPath(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") {
		path, _, _ := strings.Cut(r.RequestURI, "?")
		return path
	}
	return r.URL.EscapedPath()
}

// appendPath escapes a path that is escaped once already: every service but S3
// signs it so, with its empty and relative segments removed.
func appendPath(b []byte, path string) []byte {
	if strings.Contains(path, "//") || strings.Contains(path, "/.") {
		path = normalize(path)
	}
	if path == "" {
		return append(b, '/')
	}
	for i := range len(path) {
		if path[i] == '/' {
			b = append(b, '/')
		} else {
			b = appendEscaped(b, path[i])
		}
	}
	return b
}

// normalize removes empty and relative segments (RFC 3986, section 5.2.4).
func normalize(path string) string {
	var kept []string
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, part)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if strings.HasSuffix(path, "/") && out != "/" {
		out += "/"
	}
	return out
}

// appendQuery writes the parameters, escaped anew and sorted, but for the
// signature itself.
func appendQuery(b []byte, raw string) ([]byte, error) {
	if raw == "" {
		return b, nil
	}
	type parameter struct{ name, value string }
	parameters := make([]parameter, 0, 16)
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		if len(parameters) == maxParameters {
			return nil, incomplete("The query string has more than %d parameters.", maxParameters)
		}
		name, value, _ := strings.Cut(part, "=")
		if name = reescape(name); name != "X-Amz-Signature" {
			parameters = append(parameters, parameter{name, reescape(value)})
		}
	}
	slices.SortFunc(parameters, func(a, b parameter) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range parameters {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, p.name...)
		b = append(b, '=')
		b = append(b, p.value...)
	}
	return b, nil
}

// reescape writes a name or value of a query as AWS escapes it.
func reescape(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && isUnreserved(s[i])
	}
	if plain {
		return s
	}
	b := make([]byte, 0, len(s)+16)
	for i := 0; i < len(s); i++ {
		c, width := unescapeAt(s, i)
		b = appendEscaped(b, c)
		i += width - 1
	}
	return string(b)
}

// unescapeAt is the byte that stands at s[i] of a query, and how many it takes.
func unescapeAt(s string, i int) (c byte, width int) {
	switch c = s[i]; {
	case c == '+':
		return ' ', 1
	case c == '%' && i+2 < len(s):
		if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
			return byte(hi<<4 | lo), 3
		}
	}
	return c, 1
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || c == '~'
}

func appendEscaped(b []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	if isUnreserved(c) {
		return append(b, c)
	}
	return append(b, '%', hex[c>>4], hex[c&15])
}

// appendHeader writes a header's values: trimmed, with runs of spaces as one,
// separated by commas.
func appendHeader(b []byte, r *http.Request, name string) []byte {
	switch name { // what net/http keeps elsewhere
	case "host":
		return appendTrimmed(b, r.Host)
	case "transfer-encoding":
		return append(b, strings.Join(r.TransferEncoding, ",")...)
	case "content-length":
		if _, is := r.Header["Content-Length"]; !is {
			return strconv.AppendInt(b, max(r.ContentLength, 0), 10)
		}
	}
	for i, value := range r.Header[http.CanonicalHeaderKey(name)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, value)
	}
	return b
}

func appendTrimmed(b []byte, s string) []byte {
	s = strings.Trim(s, " \t\r\n")
	for i := range len(s) {
		if s[i] == ' ' && i > 0 && s[i-1] == ' ' {
			continue
		}
		b = append(b, s[i])
	}
	return b
}

// requireSigned refuses headers of AWS's that change what a request means and
// that anybody on its way may have put there. Those that are covered otherwise
// pass: the date and the body's hash are signed besides the headers, and a
// session token proves itself.
func requireSigned(r *http.Request, c *claim) error {
	for name := range r.Header {
		if !strings.HasPrefix(name, "X-Amz-") || name == "X-Amz-Date" || name == "X-Amz-Content-Sha256" || name == "X-Amz-Security-Token" {
			continue
		}
		if _, is := slices.BinarySearch(c.signed, strings.ToLower(name)); !is {
			return invalid("'%s' must be a 'SignedHeader' in the AWS Authorization.", name)
		}
	}
	return nil
}
