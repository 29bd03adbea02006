package sigv4

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"lambent"
)

const (
	suiteKey    = "AKIDEXAMPLE"
	suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

// at is a verifier of one key at one moment.
func at(now, service, key, secret string) *Verifier {
	t, err := time.Parse(timeFormat, now)
	if err != nil {
		panic(err)
	}
	return &Verifier{Service: service, Region: "us-east-1", Now: func() time.Time { return t },
		Lookup: func(id, _ string) (string, error) {
			if id != key {
				return "", Unrecognized(nil)
			}
			return secret, nil
		}}
}

// readRequest reads a request as it came, also what net/http would refuse.
func readRequest(t *testing.T, text string) *http.Request {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	lines := strings.Split(head, "\n")
	method, rest, _ := strings.Cut(lines[0], " ")
	target := strings.TrimSuffix(rest, " HTTP/1.1")
	path, query, _ := strings.Cut(target, "?")
	r := &http.Request{Method: method, RequestURI: target, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "host") {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	body = strings.TrimSuffix(body, "\n")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	return r
}

// verifyWhole verifies a request with its body.
func verifyWhole(v *Verifier, r *http.Request) (*Proof, []byte, error) {
	p, err := v.Verify(r)
	if err != nil {
		return nil, nil, err
	}
	var body []byte
	if r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, body, err
		}
	}
	if p.NeedsBody() {
		err = p.Body(sumOf(body))
	}
	return p, body, err
}

func TestAWSsTestSuiteVerifies(t *testing.T) {
	suite, err := txtar.ParseFile("testdata/suite.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if len(suite.Files) < 34 {
		t.Fatalf("there are %d requests", len(suite.Files))
	}
	for _, f := range suite.Files {
		t.Run(f.Name, func(t *testing.T) {
			text := string(f.Data)
			v := at("20150830T123900Z", "service", suiteKey, suiteSecret)
			p, _, err := verifyWhole(v, readRequest(t, text))
			if err != nil {
				t.Fatal(err)
			}
			if p.AccessKeyID != suiteKey || p.NeedsBody() {
				t.Errorf("proof is %+v", p)
			}
			// One of another method, path, query, host or body is another.
			method, rest, _ := strings.Cut(text, " ")
			target, rest, _ := strings.Cut(rest, " HTTP")
			separator := "?"
			if strings.Contains(target, "?") {
				separator = "&"
			}
			for name, text := range map[string]string{
				"method": "PATCH" + strings.TrimPrefix(text, method),
				"path":   method + " /x" + target + " HTTP" + rest,
				"query":  method + " " + target + separator + "x=y HTTP" + rest,
				"host":   strings.Replace(text, "example.amazonaws.com", "example.amazonaws.org", 1),
				"body":   text + "x",
			} {
				if _, _, err := verifyWhole(v, readRequest(t, text)); !isRefused(err, InvalidSignature) {
					t.Errorf("with another %s: %v", name, err)
				}
			}
			if _, _, err := verifyWhole(at("20150830T123900Z", "service", suiteKey, suiteSecret+"x"), readRequest(t, text)); !isRefused(err, InvalidSignature) {
				t.Errorf("with another secret: %v", err)
			}
		})
	}
}

func isRefused(err error, reason string) bool {
	e, ok := err.(*lambent.Error)
	return ok && e.Kind == lambent.KindDenied && e.Reason == reason
}

// The requests of the S3 API reference's "Transferring payload in multiple
// chunks" and "Including trailing headers": 66,560 times "a", in two chunks.
const (
	s3Key    = "AKIAIOSFODNN7EXAMPLE"
	s3Secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

	chunkedHead = `PUT /examplebucket/chunkObject.txt HTTP/1.1
Host:s3.amazonaws.com
x-amz-date:20130524T000000Z
x-amz-storage-class:REDUCED_REDUNDANCY
Authorization:AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9
x-amz-content-sha256:STREAMING-AWS4-HMAC-SHA256-PAYLOAD
Content-Encoding:aws-chunked
x-amz-decoded-content-length:66560
Content-Length:66824`
	trailerHead = `PUT /examplebucket/chunkObject.txt HTTP/1.1
Host:s3.amazonaws.com
x-amz-date:20130524T000000Z
x-amz-storage-class:REDUCED_REDUNDANCY
Authorization:AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e
x-amz-content-sha256:STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER
Content-Encoding:aws-chunked
x-amz-decoded-content-length:66560
x-amz-trailer:x-amz-checksum-crc32c`
)

func chunk(size string, mark string, n int) string {
	return size + ";chunk-signature=" + mark + "\r\n" + strings.Repeat("a", n)
}

func chunkedBody() string {
	return chunk("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", 65536) + "\r\n" +
		chunk("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", 1024) + "\r\n" +
		chunk("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", 0) + "\r\n"
}

func trailerBody() string {
	return chunk("10000", "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2", 65536) + "\r\n" +
		chunk("400", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7", 1024) + "\r\n" +
		chunk("0", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992", 0) +
		"x-amz-checksum-crc32c:sOO8/Q==\r\n" +
		"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
}

func chunkedRequest(t *testing.T, head, body string) *http.Request {
	r := readRequest(t, head)
	r.Body, r.ContentLength = io.NopCloser(iotest{strings.NewReader(body)}), int64(len(body))
	return r
}

// iotest gives little at a time.
type iotest struct{ r io.Reader }

func (r iotest) Read(p []byte) (int, error) { return r.r.Read(p[:min(len(p), 1000)]) }

func TestAWSsChunkedExamplesVerify(t *testing.T) {
	v := at("20130524T000100Z", "s3", s3Key, s3Secret)
	for _, test := range []struct{ name, head, body string }{
		{"chunks", chunkedHead, chunkedBody()},
		{"trailer", trailerHead, trailerBody()},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := chunkedRequest(t, test.head, test.body)
			_, body, err := verifyWhole(v, r)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(body, bytes.Repeat([]byte("a"), 66560)) || r.ContentLength != 66560 || r.Header.Get("Content-Encoding") != "" {
				t.Errorf("body of %d bytes, length %d, encoding %q", len(body), r.ContentLength, r.Header.Get("Content-Encoding"))
			}
			// Cut short, longer, or with one byte changed, wherever: never taken.
			for _, at := range []int{0, 3, 30, 85, 100, 60000, len(test.body) - 600, len(test.body) - 300, len(test.body) - 100, len(test.body) - 3} {
				other := []byte(test.body)
				other[at] ^= 1
				if _, _, err := verifyWhole(v, chunkedRequest(t, test.head, string(other))); err == nil {
					t.Errorf("byte %d changed: taken", at)
				}
				if _, _, err := verifyWhole(v, chunkedRequest(t, test.head, test.body[:at])); err == nil {
					t.Errorf("cut at %d: taken", at)
				}
			}
			if _, _, err := verifyWhole(v, chunkedRequest(t, test.head, test.body+"x")); err == nil {
				t.Error("with more after its end: taken")
			}
			// Readers that know the length stop at the last byte: the error must
			// have come by then.
			other := strings.Replace(test.body, "0;chunk-signature=", "0;chunk-signature=0", 3)
			r = chunkedRequest(t, test.head, other)
			if _, err := v.Verify(r); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(r.Body, make([]byte, r.ContentLength)); err == nil {
				if _, err := r.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Error("all bytes are handed on without an error")
				}
			}
		})
	}
}
