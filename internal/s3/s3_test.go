package s3

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"lambent"
)

var keys = Credentials{AccessKey: "AKID", SecretKey: "secret"}

// store is a server that speaks as much S3 as GetObject needs: it verifies the
// signature and answers out of a map, in S3's words.
type store struct {
	t       testing.TB
	objects map[string]string // bucket/key, perhaps with ?version → content
	asked   []string
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Host+r.RequestURI)
	refuse := func(status int, code, message string) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>`+message+`</Message></Error>`)
	}
	if !s.genuine(r) {
		refuse(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if bucket, _, virtual := strings.Cut(r.Host, ".s3.test"); virtual {
		name = bucket + "/" + name
	}
	bucket, _, _ := strings.Cut(name, "/")
	if v := r.URL.Query().Get("versionId"); v != "" {
		name += "?" + v
	}
	content, ok := s.objects[name]
	switch {
	case bucket == "moved":
		w.Header().Set("Location", "http://127.0.0.1:1/")
		w.WriteHeader(http.StatusTemporaryRedirect)
	case bucket == "broken":
		refuse(503, "SlowDown", "Please reduce\nyour request rate.")
	case bucket == "bare":
		w.WriteHeader(http.StatusNotFound)
	case bucket != "code":
		refuse(404, "NoSuchBucket", "The specified bucket does not exist")
	case !ok:
		refuse(404, "NoSuchKey", "The specified key does not exist.")
	default:
		_, _ = io.WriteString(w, content)
	}
}

// genuine signs what came again, with AWS's signer, and compares.
func (s *store) genuine(r *http.Request) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again := r.Clone(s.t.Context())
	again.URL.Host, again.URL.Scheme = r.Host, "http"
	again.Header = http.Header{"X-Amz-Content-Sha256": r.Header["X-Amz-Content-Sha256"]}
	again.ContentLength = 0
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(s.t.Context(), aws.Credentials{AccessKeyID: keys.AccessKey, SecretAccessKey: keys.SecretKey}, again, emptyHash, "s3", "eu-test-1", at); err != nil {
		s.t.Error(err)
	}
	return again.Header.Get("Authorization") == r.Header.Get("Authorization")
}

func newStore(t testing.TB) (*store, string) {
	s := &store{t: t, objects: map[string]string{"code/a b/ü+%.zip": "one", "code/k?v2": "two", "code/k": "three", "code/a/../x": "dots"}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	o.Region = "eu-test-1"
	if o.Credentials == nil {
		o.Credentials = func() (Credentials, error) { return keys, nil }
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestObjectsAreReadWithASignatureTheStoreTakes(t *testing.T) {
	_, base := newStore(t)
	c := newClient(t, Options{Endpoint: base, PathStyle: true})
	for _, test := range [][3]string{{"a b/ü+%.zip", "", "one"}, {"k", "v2", "two"}, {"k", "", "three"}, {"a/../x", "", "dots"}} {
		r, size, err := c.Get(t.Context(), "code", test[0], test[1])
		if err != nil {
			t.Errorf("%q: %v", test, err)
			continue
		}
		got, err := io.ReadAll(r)
		if string(got) != test[2] || size != int64(len(got)) || errors.Join(err, r.Close()) != nil {
			t.Errorf("%q: %q of %d bytes, %v", test, got, size, err)
		}
	}
}

// Callers may have the objects of some buckets only, which no key may evade
// where the bucket is a part of the path.
func TestSecurityNoKeyLeadsIntoAnotherBucket(t *testing.T) {
	_, base := newStore(t)
	c := newClient(t, Options{Endpoint: base, PathStyle: true})
	for _, key := range []string{"..", "../code/k", "a/../../code/k", "./../code/k", "/../code/k", "a/b/../../../code/k"} {
		if _, _, err := c.Get(t.Context(), "shared", key, ""); lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), "InvalidURI") {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestBucketMayBeInTheHostsName(t *testing.T) {
	s, base := newStore(t)
	c := newClient(t, Options{Endpoint: "http://s3.test"})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport = &http.Transport{Proxy: http.ProxyURL(u)} // where that name leads
	r, _, err := c.Get(t.Context(), "code", "k", "")
	if err != nil {
		t.Fatalf("%v; asked %q", err, s.asked)
	}
	if got, err := io.ReadAll(r); string(got) != "three" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = r.Close()
}

func TestRefusalsAreToldInAWSWords(t *testing.T) {
	s, base := newStore(t)
	c := newClient(t, Options{Endpoint: base, PathStyle: true})
	const text = "Error occurred while GetObject. S3 Error Code: "
	for _, test := range []struct {
		bucket, want string
		kind         lambent.Kind
	}{
		{"code", text + "NoSuchKey. S3 Error Message: The specified key does not exist.", lambent.KindInvalid},
		{"none", text + "NoSuchBucket. S3 Error Message: The specified bucket does not exist", lambent.KindInvalid},
		{"bare", text + "NoSuchKey. S3 Error Message: The specified key does not exist.", lambent.KindInvalid},
		{"broken", text + "SlowDown. S3 Error Message: Please reduce your request rate.", lambent.KindUnavailable},
		{"moved", text + "PermanentRedirect. S3 Error Message: The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.", lambent.KindInvalid},
	} {
		_, _, err := c.Get(t.Context(), test.bucket, "none", "")
		if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != test.kind || e.Message != test.want {
			t.Errorf("%s: %v", test.bucket, err)
		}
	}
	asked := len(s.asked)
	if asked != 5 {
		t.Errorf("a redirect was followed: %q", s.asked)
	}
	wrong := newClient(t, Options{Endpoint: base, PathStyle: true, Credentials: func() (Credentials, error) { return Credentials{AccessKey: "AKID", SecretKey: "other"}, nil }})
	if _, _, err := wrong.Get(t.Context(), "code", "k", ""); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Errorf("with a wrong key: %v", err)
	}
	gone := newClient(t, Options{Endpoint: "http://127.0.0.1:1", PathStyle: true})
	if _, _, err := gone.Get(t.Context(), "code", "k", ""); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("without a store: %v", err)
	}
}

func TestSlowStoreIsNotWaitedForForEver(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "x")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	c := newClient(t, Options{Endpoint: server.URL, PathStyle: true, Timeout: 50 * time.Millisecond})
	r, _, err := c.Get(t.Context(), "code", "k", "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); err == nil {
		t.Error("read an object that never came")
	}
}

func TestEndpointIsABaseURL(t *testing.T) {
	for _, bad := range []string{"", "s3.test", "ftp://s3.test", "http://", "http://s3.test/x", "http://s3.test?x", "http://u:p@s3.test"} {
		if _, err := New(Options{Endpoint: bad}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestCredentialsAreReadFromAFileNobodyElseMayRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "credentials")
	const text = "# mine\n[other]\naws_access_key_id = no\n[default]\naws_access_key_id = AKID\naws_secret_access_key=se=cret\naws_session_token = t\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadCredentials(name); err != nil || got != (Credentials{"AKID", "se=cret", "t"}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCredentials(name); err == nil || strings.Contains(err.Error(), "cret\n") {
		t.Errorf("with mode 0640: %v", err)
	}
	if _, err := parseCredentials("f", []byte("aws_access_key_id=x\n")); err == nil {
		t.Error("half a pair was taken")
	}
}
