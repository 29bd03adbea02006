package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lambent"
)

func sumOf(b []byte) [sha256.Size]byte { return sha256.Sum256(b) }

const (
	testKey    = "AKIAQ3EGAAAAAAAAAAAA"
	testSecret = "0123456789abcdefghijABCDEFGHIJ/+=0123456"
)

var testTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func lambdaVerifier(now time.Time) *Verifier {
	return at(now.Format(timeFormat), "lambda", testKey, testSecret)
}

// sdkSigned is a request as the AWS SDK for Go signs and net/http sends it.
func sdkSigned(t testing.TB, method, target, body string, payload string, header http.Header) *http.Request {
	t.Helper()
	r := clientRequest(t, method, target, body, header)
	sum := sha256.Sum256([]byte(body))
	hash := hex.EncodeToString(sum[:])
	if payload != "" {
		hash = payload
	}
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, r, hash, "lambda", "us-east-1", testTime)
	if err != nil {
		t.Fatal(err)
	}
	return received(t, r, body)
}

func clientRequest(t testing.TB, method, target, body string, header http.Header) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, "http://lambda.local:4566"+target, strings.NewReader(body))
	if err != nil {
		t.Skip(err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	return r
}

// received is a client's request as a server's net/http has it.
func received(t testing.TB, r *http.Request, body string) *http.Request {
	t.Helper()
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	var wire bytes.Buffer
	if err := r.Write(&wire); err != nil {
		t.Skip(err)
	}
	got, err := http.ReadRequest(newReader(&wire))
	if err != nil {
		t.Skip(err)
	}
	return got
}

func TestErrorsAreAWSs(t *testing.T) {
	get := func(change func(*http.Request)) *http.Request {
		r := sdkSigned(t, "GET", "/2015-03-31/functions/f", "", "", nil)
		change(r)
		return r
	}
	auth := func(old, new string) *http.Request {
		return get(func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), old, new, 1))
		})
	}
	const calculated = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. " +
		"Consult the service documentation for details."
	tests := []struct {
		name, reason, message string // message: the beginning of it
		r                     *http.Request
		later                 time.Duration
	}{
		{"nothing", MissingAuthenticationToken, "Missing Authentication Token", get(func(r *http.Request) { r.Header.Del("Authorization") }), 0},
		{"empty", MissingAuthenticationToken, "Missing Authentication Token", auth("", ""), 0},
		{"other scheme", MissingAuthenticationToken, "Missing Authentication Token", get(func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }), 0},
		{"other algorithm", IncompleteSignature, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'", auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), 0},
		{"two headers", IncompleteSignature, "Only one auth mechanism allowed", get(func(r *http.Request) { r.Header.Add("Authorization", "x") }), 0},
		{"header and query", IncompleteSignature, "Only one auth mechanism allowed", get(func(r *http.Request) { r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256" }), 0},
		{"no credential", IncompleteSignature, "Authorization header requires 'Credential' parameter. Authorization=AWS4", auth("Credential=", "X="), 0},
		{"no signature, no date", IncompleteSignature, "Authorization header requires 'Signature' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ",
			get(func(r *http.Request) {
				r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "S=", 1))
				r.Header.Del("X-Amz-Date")
			}), 0},
		{"space in key", IncompleteSignature, "'Credential=AKIAQ3EGAAAAAAAAAAAA /20260304/us-east-1/lambda/aws4_request' not a valid key=value pair (missing equal-sign) in Authorization header: '",
			auth(testKey, testKey+" "), 0},
		{"five parts", IncompleteSignature, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'AKIAQ3EGAAAAAAAAAAAA/20260304/lambda/aws4_request'",
			auth("/us-east-1", ""), 0},
		{"terminator", InvalidSignature, "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'.", auth("aws4_request", "aws5_request"), 0},
		{"region", InvalidSignature, "Credential should be scoped to a valid region, not 'us-east-2'.", auth("us-east-1", "us-east-2"), 0},
		{"service", InvalidSignature, "Credential should be scoped to correct service: 'lambda'.", auth("/lambda/", "/s3/"), 0},
		{"date", InvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260303' != '20260304', from '20260304T050607Z'.",
			auth("20260304", "20260303"), 0},
		{"bad date", IncompleteSignature, "Date must be in ISO-8601 'basic format'. Got 'yesterday'.", get(func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }), 0},
		{"fraction", IncompleteSignature, "Date must be in ISO-8601 'basic format'.", get(func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260304T050607.5Z") }), 0},
		{"too old", InvalidSignature, "Signature expired: 20260304T050607Z is now earlier than 20260304T050608Z (20260304T051108Z - 5 min.)", auth("", ""), 5*time.Minute + time.Second},
		{"too new", InvalidSignature, "Signature not yet current: 20260304T050607Z is still later than 20260304T050606Z (20260304T050106Z + 5 min.)", auth("", ""), -5*time.Minute - time.Second},
		{"unknown key", UnrecognizedClient, "The security token included in the request is invalid.", auth(testKey, "AKIAQ3EGAAAAAAAAAAAB"), 0},
		{"host not signed", InvalidSignature, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.", auth("host;", ""), 0},
		{"unsorted", IncompleteSignature, "SignedHeaders must name headers in lower case, sorted", auth("host;x-amz-date", "x-amz-date;host"), 0},
		{"another header of AWS's", InvalidSignature, "'X-Amz-Invocation-Type' must be a 'SignedHeader' in the AWS Authorization.", get(func(r *http.Request) { r.Header.Set("X-Amz-Invocation-Type", "Event") }), 0},
		{"another signature", InvalidSignature, calculated, auth("Signature=", "Signature=0"), 0},
		{"another path", InvalidSignature, calculated, get(func(r *http.Request) { r.RequestURI = "/2015-03-31/functions/g" }), 0},
		{"payload", IncompleteSignature, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD", sdkSigned(t, "GET", "/", "", "rubbish", http.Header{"X-Amz-Content-Sha256": {"rubbish"}}), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			switch test.name {
			case "empty":
				test.r.Header.Set("Authorization", "")
			}
			_, _, err := verifyWhole(lambdaVerifier(testTime.Add(test.later)), test.r)
			e, ok := errors.AsType[*lambent.Error](err)
			if !ok || e.Reason != test.reason || !strings.HasPrefix(e.Message, test.message) || e.Kind != lambent.KindDenied {
				t.Errorf("got %v (%+v), want %s: %s", err, e, test.reason, test.message)
			}
		})
	}
}

func TestSignaturesOfTheSDKAreTakenWithinFiveMinutes(t *testing.T) {
	for _, later := range []time.Duration{-5 * time.Minute, 0, 5 * time.Minute} {
		r := sdkSigned(t, "POST", "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A111111111111%3Afunction%3Af/invocations?Qualifier=%24LATEST&b=+x&a=%2B", `{"a":1}`, "",
			http.Header{"X-Amz-Client-Context": {"  a   b  "}, "Content-Type": {"application/json"}})
		p, body, err := verifyWhole(lambdaVerifier(testTime.Add(later)), r)
		if err != nil || p.AccessKeyID != testKey || string(body) != `{"a":1}` {
			t.Errorf("%v later: %v, %q, %v", later, p, body, err)
		}
	}
}

func TestSecurityABodyThatIsNotTheSignedOneIsNotTaken(t *testing.T) {
	declared := func(body string) http.Header {
		sum := sha256.Sum256([]byte(body))
		return http.Header{"X-Amz-Content-Sha256": {hex.EncodeToString(sum[:])}}
	}
	for name, header := range map[string]http.Header{"not declared": nil, "declared": declared("honest")} {
		t.Run(name, func(t *testing.T) {
			r := sdkSigned(t, "POST", "/", "honest", "", header)
			if _, body, err := verifyWhole(lambdaVerifier(testTime), r); err != nil || string(body) != "honest" {
				t.Fatal(err)
			}
			for _, other := range []string{"hones", "honest!", "Honest", ""} {
				for _, length := range []int64{int64(len(other)), -1} {
					r := sdkSigned(t, "POST", "/", "honest", "", header)
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(other)), length
					if _, _, err := verifyWhole(lambdaVerifier(testTime), r); !isRefused(err, InvalidSignature) {
						t.Errorf("body %q of length %d: %v", other, length, err)
					}
				}
			}
		})
	}
	t.Run("a body left out", func(t *testing.T) {
		r := sdkSigned(t, "POST", "/", "honest", "", declared("honest"))
		r.Body, r.ContentLength = http.NoBody, 0
		if _, err := lambdaVerifier(testTime).Verify(r); !isRefused(err, InvalidSignature) {
			t.Error(err)
		}
	})
	t.Run("the error comes with the last byte", func(t *testing.T) {
		r := sdkSigned(t, "POST", "/", "honest", "", declared("honest"))
		r.Body = io.NopCloser(strings.NewReader("hOnest"))
		if _, err := lambdaVerifier(testTime).Verify(r); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Body.Read(make([]byte, 100)); n != 6 || !isRefused(err, InvalidSignature) {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	t.Run("unsigned payload", func(t *testing.T) {
		r := sdkSigned(t, "POST", "/", "honest", "UNSIGNED-PAYLOAD", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}})
		if _, _, err := verifyWhole(lambdaVerifier(testTime), r); err != nil {
			t.Fatal(err)
		}
		r = sdkSigned(t, "POST", "/", "honest", "", nil)
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD") // somebody on the way would like it so
		if _, _, err := verifyWhole(lambdaVerifier(testTime), r); !isRefused(err, InvalidSignature) {
			t.Error(err)
		}
	})
}

func presigned(t testing.TB, expires string, body string, header http.Header, token string) *http.Request {
	t.Helper()
	target := "/2015-03-31/functions/f/invocations"
	if expires != "" {
		target += "?X-Amz-Expires=" + expires
	}
	r := clientRequest(t, "POST", target, body, header)
	sum := sha256.Sum256([]byte(body))
	signed, headers, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: token},
		r, hex.EncodeToString(sum[:]), "lambda", "us-east-1", testTime)
	if err != nil {
		t.Fatal(err)
	}
	out, err := http.NewRequest("POST", signed, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	out.Header = headers
	out.Header.Del("Host")
	return received(t, out, body)
}

func TestPresignedRequestsAreTakenForAsLongAsTheySay(t *testing.T) {
	tests := []struct {
		expires string
		later   time.Duration
		reason  string
	}{
		{"", 5 * time.Minute, ""},
		{"", 5*time.Minute + time.Second, InvalidSignature},
		{"3600", time.Hour, ""},
		{"3600", time.Hour + time.Second, InvalidSignature},
		{"90", 91 * time.Second, InvalidSignature},
		{"3600", -5*time.Minute - time.Second, InvalidSignature},
		{"604800", 7 * 24 * time.Hour, ""},
		{"604801", 0, IncompleteSignature},
		{"0", 0, IncompleteSignature},
		{"-1", 0, IncompleteSignature},
		{"1h", 0, IncompleteSignature},
	}
	for _, test := range tests {
		r := presigned(t, test.expires, `{}`, nil, "")
		_, _, err := verifyWhole(lambdaVerifier(testTime.Add(test.later)), r)
		if test.reason == "" && err != nil || test.reason != "" && !isRefused(err, test.reason) {
			t.Errorf("expires %q, %v later: %v", test.expires, test.later, err)
		}
	}
	r := presigned(t, "60", "{}", nil, "")
	for _, change := range []struct{ old, new, reason string }{
		{"X-Amz-Expires=60", "X-Amz-Expires=61", InvalidSignature},
		{"X-Amz-Signature=", "X-Amz-Signature=0", InvalidSignature},
		{"X-Amz-Date=", "x=", IncompleteSignature},
		{"X-Amz-Credential=", "X-Amz-Credential=a&X-Amz-Credential=", IncompleteSignature},
		{"AWS4-HMAC-SHA256", "AWS4", IncompleteSignature},
	} {
		other := r.Clone(t.Context())
		other.URL.RawQuery = strings.Replace(other.URL.RawQuery, change.old, change.new, 1)
		other.Body = io.NopCloser(strings.NewReader("{}"))
		if _, _, err := verifyWhole(lambdaVerifier(testTime), other); !isRefused(err, change.reason) {
			t.Errorf("%s for %s: %v", change.new, change.old, err)
		}
	}
}

func TestTheLookupIsGivenTheSessionToken(t *testing.T) {
	v := lambdaVerifier(testTime)
	v.Lookup = func(id, token string) (string, error) {
		if id == testKey && token == "T/o+k=" {
			return testSecret, nil
		}
		return "", Expired()
	}
	header := sdkSignedWithToken(t, "T/o+k=")
	if p, _, err := verifyWhole(v, header); err != nil || p.SessionToken != "T/o+k=" {
		t.Errorf("header: %v", err)
	}
	if p, _, err := verifyWhole(v, presigned(t, "60", "", nil, "T/o+k=")); err != nil || p.SessionToken != "T/o+k=" {
		t.Errorf("query: %v", err)
	}
	for _, r := range []*http.Request{sdkSignedWithToken(t, "other"), sdkSignedWithToken(t, ""), presigned(t, "60", "", nil, "other")} {
		if _, _, err := verifyWhole(v, r); !isRefused(err, ExpiredToken) {
			t.Error(err)
		}
	}
}

func sdkSignedWithToken(t *testing.T, token string) *http.Request {
	r := clientRequest(t, "GET", "/", "", nil)
	err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: token}, r, emptyHash, "lambda", "us-east-1", testTime)
	if err != nil {
		t.Fatal(err)
	}
	return received(t, r, "")
}

func TestRequestsSignedHereVerifyHere(t *testing.T) {
	who := Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: "t"}
	r := clientRequest(t, "PUT", "/2017-03-31/tags/arn%3Aaws?b=2&a=%20", "body", http.Header{"Content-Type": {"text/plain"}})
	sum := sha256.Sum256([]byte("body"))
	if err := Sign(r, who, hex.EncodeToString(sum[:]), "lambda", "us-east-1", testTime); err != nil {
		t.Fatal(err)
	}
	if _, _, err := verifyWhole(lambdaVerifier(testTime), received(t, r, "body")); err != nil {
		t.Error(err)
	}
	want := r.Header.Get("Authorization")
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret, SessionToken: "t"}, r,
		hex.EncodeToString(sum[:]), "lambda", "us-east-1", testTime); err != nil {
		t.Fatal(err)
	}
	r2 := received(t, r, "body")
	if _, _, err := verifyWhole(lambdaVerifier(testTime), r2); err != nil {
		t.Error(err, want)
	}
}

// TestUnsignedChunksHaveTheirChecksum sends what SDKs send over TLS: chunks
// without signatures and a checksum after them.
func TestUnsignedChunksHaveTheirChecksum(t *testing.T) {
	sums := map[string]string{ // of "123456789", published check values
		"x-amz-checksum-crc32":     "y/Q5Jg==",
		"x-amz-checksum-crc32c":    "4waSgw==",
		"x-amz-checksum-crc64nvme": "rosUhgp5mIg=",
		"x-amz-checksum-sha1":      "98O8HYCOBHMq32eZZczDTKeuNEE=",
		"x-amz-checksum-sha256":    "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
	}
	send := func(name, trailer string) error {
		body := "5\r\n12345\r\n4\r\n6789\r\n0\r\n" + trailer + "\r\n"
		header := http.Header{"X-Amz-Content-Sha256": {unsignedPayloadTrailer}, "X-Amz-Trailer": {name}, "X-Amz-Decoded-Content-Length": {"9"}, "Content-Encoding": {"aws-chunked"}}
		_, got, err := verifyWhole(lambdaVerifier(testTime), sdkSigned(t, "PUT", "/", body, unsignedPayloadTrailer, header))
		if err == nil && string(got) != "123456789" {
			t.Errorf("%s: body %q", name, got)
		}
		return err
	}
	for name, sum := range sums {
		if err := send(name, name+":"+sum+"\r\n"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := send(name, name+":AAAA"+sum[4:]+"\r\n"); !isRefused(err, InvalidSignature) {
			t.Errorf("%s of something else: %v", name, err)
		}
		if err := send(name, ""); !isRefused(err, InvalidSignature) {
			t.Errorf("%s left out: %v", name, err)
		}
	}
}

func TestSecurityHostileChunksAreRefusedAndBounded(t *testing.T) {
	for _, body := range []string{"", "\r\n", "0\r\n\r\n", "9", "9\r\n123456789", "9\r\n123456789\r\n", "9\r\n123456789\r\n0\r\n", "a\r\n1234567890\r\n0\r\n\r\n", "-9\r\n123456789\r\n0\r\n\r\n",
		"9\n123456789\n0\n\n", "ffffffffffffffff\r\n1", "9" + strings.Repeat(" ", 1<<20), "9\r\n123456789\r\n0\r\n" + strings.Repeat("a:b\r\n", 1<<18), "9\r\n123456789xx0\r\n\r\n"} {
		header := http.Header{"X-Amz-Content-Sha256": {unsignedPayloadTrailer}, "X-Amz-Decoded-Content-Length": {"9"}}
		r := sdkSigned(t, "PUT", "/", body, unsignedPayloadTrailer, header)
		if _, _, err := verifyWhole(lambdaVerifier(testTime), r); err == nil {
			t.Errorf("taken: %.40q", body)
		}
	}
	for _, length := range []string{"", "-1", "x", "99999999999"} {
		header := http.Header{"X-Amz-Content-Sha256": {unsignedPayloadTrailer}, "X-Amz-Decoded-Content-Length": {length}}
		if _, _, err := verifyWhole(lambdaVerifier(testTime), sdkSigned(t, "PUT", "/", "0\r\n\r\n", unsignedPayloadTrailer, header)); !isRefused(err, IncompleteSignature) {
			t.Errorf("length %q: %v", length, err)
		}
	}
}

func TestSecurityWhatACallerSendsOfASignatureIsBounded(t *testing.T) {
	v := lambdaVerifier(testTime)
	v.Lookup = func(string, string) (string, error) { t.Error("a key was looked up"); return "", Unrecognized(nil) }
	big := strings.Repeat("a", 17<<10)
	for name, change := range map[string]func(*http.Request){
		"authorization": func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 "+big) },
		"token":         func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", big) },
		"signed headers": func(r *http.Request) {
			var names []string
			for i := range 101 {
				names = append(names, "z"+strconv.Itoa(1000+i))
			}
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "x-amz-date,", "x-amz-date;"+strings.Join(names, ";")+",", 1))
		},
	} {
		r := sdkSigned(t, "GET", "/", "", "", nil)
		change(r)
		if _, err := v.Verify(r); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	r := sdkSigned(t, "GET", "/", "", "", nil)
	r.URL.RawQuery = strings.Repeat("a&", 2000)
	if _, err := lambdaVerifier(testTime).Verify(r); !isRefused(err, IncompleteSignature) {
		t.Errorf("parameters: %v", err)
	}
}

func BenchmarkVerify(b *testing.B) {
	r := sdkSigned(b, "POST", "/2015-03-31/functions/hello/invocations", `{"a":1}`, "", http.Header{"Content-Type": {"application/json"}, "X-Amz-User-Agent": {"aws-sdk-go-v2/1.47"}})
	v := lambdaVerifier(testTime)
	b.ReportAllocs()
	for b.Loop() {
		p, err := v.Verify(r)
		if err == nil {
			err = p.Body(sha256.Sum256([]byte(`{"a":1}`)))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
