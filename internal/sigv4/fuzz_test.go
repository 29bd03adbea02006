package sigv4

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// FuzzTheSDKsSignatures has the AWS SDK for Go sign requests of any path, query,
// header and body, in both forms: what it signs is taken, and with one byte of
// the signature changed it is not.
func FuzzTheSDKsSignatures(f *testing.F) {
	f.Add("POST", "2015-03-31/functions/f/invocations", "Qualifier=%24LATEST", "Content-Type", " a  b ", "body", true, false)
	f.Add("GET", "2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af", "tagKeys=b&tagKeys=a&x=%20+y", "X-Amz-Meta", "ü", "", false, true)
	f.Add("PUT", "a%2F%25/ /ሴ", "a=%zz&=&&b=c=d", "Range", "\t", "x", true, true)
	f.Fuzz(func(t *testing.T, method, path, query, name, value, body string, declared, presign bool) {
		if strings.ContainsAny(path, "?#") || strings.ContainsAny(query, "#;") || strings.Contains(query, "X-Amz-") {
			t.Skip("is no path or query, or drops parameters as it is parsed")
		}
		if len(name) > 100 || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			t.Skip()
		}
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Connection", "User-Agent", "X-Amz-Date", "X-Amz-Content-Sha256",
			"X-Amz-Security-Token", "Date", "Accept-Encoding", "X-Amzn-Trace-Id", "Pragma":
			t.Skip("has a meaning of its own")
		}
		r, err := http.NewRequest(method, "http://127.0.0.1:4566/"+path, strings.NewReader(body))
		if err != nil {
			t.Skip(err)
		}
		r.URL.RawQuery = query
		r.Header.Set(name, value)
		sum := sha256.Sum256([]byte(body))
		hash := hex.EncodeToString(sum[:])
		if declared {
			r.Header.Set("X-Amz-Content-Sha256", hash)
		}
		who := aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}
		if presign {
			target, header, err := v4.NewSigner().PresignHTTP(context.Background(), who, r, hash, "lambda", "us-east-1", testTime)
			if err != nil {
				t.Skip(err)
			}
			if r, err = http.NewRequest(method, target, strings.NewReader(body)); err != nil {
				t.Skip(err)
			}
			r.Header = header
			r.Header.Del("Host")
		} else if err := v4.NewSigner().SignHTTP(context.Background(), who, r, hash, "lambda", "us-east-1", testTime); err != nil {
			t.Skip(err)
		}
		got := received(t, r, body)
		if path := rawPath(got); strings.Contains(path, "//") || strings.Contains(path, "/.") {
			t.Skip("the SDK does not normalise paths")
		}
		if _, err := parseAll(got.URL.RawQuery); err != nil {
			t.Skip(err)
		}
		clone := got.Clone(t.Context())
		if _, read, err := verifyWhole(lambdaVerifier(testTime), got); err != nil || string(read) != body {
			t.Fatalf("%s %s: %v", clone.Method, clone.RequestURI, err)
		}
		clone.Body = io.NopCloser(strings.NewReader(body + "x"))
		clone.ContentLength++
		if _, _, err := verifyWhole(lambdaVerifier(testTime), clone); err == nil {
			t.Fatal("another body was taken")
		}
	})
}

// FuzzHostileRequests sends anything as a signature: it is refused, and nothing
// panics.
func FuzzHostileRequests(f *testing.F) {
	f.Add("/", "AWS4-HMAC-SHA256 Credential="+testKey+"/20260304/us-east-1/lambda/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "20260304T050607Z", "", "", "b")
	f.Add("/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="+testKey+"%2F20260304%2Fus-east-1%2Flambda%2Faws4_request&X-Amz-Date=20260304T050607Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, target, authorization, date, payload, token, body string) {
		path, query, _ := strings.Cut(target, "?")
		r, err := http.NewRequest("POST", "http://h/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.RequestURI, r.URL.Path, r.URL.RawQuery = target, path, query
		for name, value := range map[string]string{"Authorization": authorization, "X-Amz-Date": date, "X-Amz-Content-Sha256": payload, "X-Amz-Security-Token": token} {
			if value != "" {
				r.Header[name] = []string{value}
			}
		}
		if _, _, err := verifyWhole(lambdaVerifier(testTime), r); err == nil {
			t.Fatal("taken")
		}
	})
}

// FuzzChunks feeds anything as a body in chunks whose head is well signed: it
// ends, in an error or in as many bytes as were announced.
func FuzzChunks(f *testing.F) {
	f.Add("5\r\n12345\r\n4\r\n6789\r\n0\r\nx-amz-checksum-crc32:y/Q5Jg==\r\n\r\n", false)
	f.Add("9\r\n123456789\r\n0\r\n\r\n", false)
	f.Add("9;chunk-signature=00\r\n123456789\r\n0;chunk-signature=00\r\n\r\n", true)
	f.Fuzz(func(t *testing.T, body string, signed bool) {
		payload := unsignedPayloadTrailer
		if signed {
			payload = streamedPayload
		}
		header := http.Header{"X-Amz-Content-Sha256": {payload}, "X-Amz-Decoded-Content-Length": {"9"}, "X-Amz-Trailer": {"x-amz-checksum-crc32"}}
		_, got, err := verifyWhole(lambdaVerifier(testTime), sdkSigned(t, "PUT", "/", body, payload, header))
		if err == nil && (signed || string(got) != "123456789") {
			t.Fatalf("taken: %q", got) // no other nine bytes have this checksum and are as easily found
		}
	})
}

func isToken(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !isUnreserved(name[i]) || name[i] == '~' {
			return false
		}
	}
	return true
}

func parseAll(query string) (url.Values, error) { return url.ParseQuery(query) }
