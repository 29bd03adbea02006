package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"lambent"
)

// Of what a registry says is small no more is read than that, however it says so.
func TestSecurityWhatARegistrySendsIsBounded(t *testing.T) {
	const most = 64 << 20
	for what, size := range map[string]int64{"-1": -1, "far below": -1 << 40, "far above": 1 << 40} {
		layer := layerOf(t, file{name: "a", content: "1"})
		img := imageOf(t, v1.Config{}, layer)
		manifest, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		manifest = manifest.DeepCopy()
		manifest.Config.Size = size
		text, err := json.Marshal(manifest)
		if err != nil {
			t.Fatal(err)
		}
		var sent atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case strings.Contains(r.URL.Path, "/manifests/"):
				w.Header().Set("Content-Type", string(types.DockerManifestSchema2))
				_, _ = w.Write(text)
			case strings.Contains(r.URL.Path, "/blobs/"):
				spaces := bytes.Repeat([]byte(" "), 1<<20)
				for sent.Load() < most {
					n, err := w.Write(spaces)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			}
		}))
		host := strings.TrimPrefix(server.URL, "http://")
		f := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, host) })
		_, err = f.holdFor(owner, host+"/x:v1")
		server.Close()
		if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Kind != lambent.KindInvalid {
			t.Errorf("a configuration whose size is %s: %v", what, err)
		}
		if sent.Load() >= most {
			t.Errorf("a configuration whose size is %s was read whole", what)
		}
	}
}

// Registries that answer in any other way are told of, and nothing is left of
// what they sent.
func TestRegistriesThatFailLeaveNothing(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 1<<12)
	layer := layerOf(t, file{name: "a", content: content})
	digest, err := layer.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		kind   lambent.Kind
	}{
		"401": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }, lambent.KindInvalid},
		"403": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, lambent.KindInvalid},
		"404": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, lambent.KindInvalid},
		"429": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, lambent.KindUnavailable},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			rc, err := layer.Compressed()
			if err != nil {
				return
			}
			defer rc.Close()
			_, _ = io.CopyN(w, rc, 100)
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
		}, lambent.KindUnavailable},
		"ended early": {func(w http.ResponseWriter, _ *http.Request) {
			rc, err := layer.Compressed()
			if err != nil {
				return
			}
			defer rc.Close()
			_, _ = io.CopyN(w, rc, 100)
		}, lambent.KindInvalid},
		"a loop": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, lambent.KindUnavailable},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
		}, lambent.KindUnavailable},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.Hex) {
					test.answer(w, r)
					return
				}
				inner.ServeHTTP(w, r)
			}))
			host := strings.TrimPrefix(server.URL, "http://")
			f := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, host) })
			ref, err := name.ParseReference(host + "/x:v1")
			if err == nil {
				err = remote.Write(ref, imageOf(t, v1.Config{}, layer))
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = f.holdFor(owner, host+"/x:v1")
			server.Close()
			e, ok := errors.AsType[*lambent.Error](err)
			if !ok || e.Kind != test.kind {
				t.Errorf("%+v, %v", e, err)
			}
			if layers, roots := inDir(t, f.layerDir("")), inDir(t, f.rootDir("")); layers+roots != 0 {
				t.Errorf("%d layers and %d images are left", layers, roots)
			}
		})
	}
}
