package lab

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// S3 is a store of the tests' own that speaks as much of S3's REST API as
// GetObject needs, over HTTP, by path: it verifies each request's signature with
// AWS's signer and answers with objects, versions and S3's errors.
type S3 struct {
	URL         string
	Credentials string // file of its keys

	mu sync.Mutex
	// +checklocks:mu
	objects map[string][]byte // by bucket/key, or bucket/key?version
}

const (
	s3Key    = "AKIDOFTHETESTS"
	s3Secret = "the+secret/of=the tests"
	s3Empty  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
)

// NewS3 starts a store that ends with the test.
func NewS3(tb testing.TB) *S3 {
	tb.Helper()
	s := &S3{objects: map[string][]byte{}, Credentials: writeCredentials(tb)}
	server := httptest.NewServer(s)
	tb.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// writeCredentials writes a file of those that the lab's services take.
func writeCredentials(tb testing.TB) (path string) {
	tb.Helper()
	path = filepath.Join(tb.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = "+s3Key+"\naws_secret_access_key = "+s3Secret+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Flags make a server take code from the store.
func (s *S3) Flags() []string {
	return []string{"--s3-endpoint", s.URL, "--s3-region", Region, "--s3-credentials", s.Credentials}
}

// Put stores an object, under a version where that is not "".
func (s *S3) Put(bucket, key, version string, content []byte) {
	name := bucket + "/" + key
	if version != "" {
		name += "?" + version
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[name] = content
}

// ServeHTTP answers GetObject.
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type failure struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}
	refuse := func(status int, code, message string) {
		text, err := xml.Marshal(failure{Code: code, Message: message})
		if err != nil {
			panic(err) // two strings can be written
		}
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write(append([]byte(xml.Header), text...))
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	name := bucket + "/" + key
	if v := r.URL.Query().Get("versionId"); v != "" {
		name += "?" + v
	}
	s.mu.Lock()
	content, ok := s.objects[name]
	known := false
	for other := range s.objects {
		known = known || strings.HasPrefix(other, bucket+"/")
	}
	s.mu.Unlock()
	switch {
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	case !s.genuine(r):
		refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	case !known:
		refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
	case !ok:
		refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
	default:
		_, _ = w.Write(content)
	}
}

// genuine signs what came once more and compares.
func (s *S3) genuine(r *http.Request) bool {
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		return false
	}
	again := r.Clone(context.Background())
	again.URL.Host = r.Host
	again.Header = http.Header{"X-Amz-Content-Sha256": r.Header["X-Amz-Content-Sha256"]}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	err = signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: s3Key, SecretAccessKey: s3Secret}, again, s3Empty, "s3", Region, at)
	return err == nil && again.Header.Get("Authorization") == r.Header.Get("Authorization")
}
