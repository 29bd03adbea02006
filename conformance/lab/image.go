package lab

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Layer makes a layer of an image of entries; a name that ends with / is a
// folder.
func Layer(tb testing.TB, entries ...Entry) v1.Layer {
	tb.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		h := &tar.Header{Name: e.Name, Typeflag: tar.TypeReg, Mode: int64(e.Mode.Perm()), Size: int64(len(e.Data))}
		switch {
		case strings.HasSuffix(e.Name, "/"):
			h.Typeflag, h.Size = tar.TypeDir, 0
		case e.Mode&fs.ModeSymlink != 0:
			h.Typeflag, h.Size, h.Linkname = tar.TypeSymlink, 0, string(e.Data)
		case e.Mode == 0:
			h.Mode = 0o644
		}
		if h.Typeflag == tar.TypeDir && h.Mode == 0 {
			h.Mode = 0o755
		}
		err := w.WriteHeader(h)
		if err == nil && h.Size > 0 {
			_, err = w.Write(e.Data)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil })
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// Program is a program of this machine as entries of a layer, with the libraries
// it is linked with, all at their own places.
func Program(tb testing.TB, path string) (entries []Entry) {
	tb.Helper()
	add := func(path string) {
		data, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		entries = append(entries, Entry{Name: strings.TrimPrefix(path, "/"), Mode: 0o755, Data: data})
	}
	add(path)
	out, err := exec.CommandContext(tb.Context(), "ldd", path).Output()
	if err != nil {
		return entries // static
	}
	for line := range strings.Lines(string(out)) {
		for field := range strings.FieldsSeq(line) {
			if filepath.IsAbs(field) {
				add(field)
			}
		}
	}
	return entries
}

// Image makes an image for this machine.
func Image(tb testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	tb.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.ConfigFile(img, func() *v1.ConfigFile {
			cf, _ := img.ConfigFile() // of an image in memory
			cf = cf.DeepCopy()
			cf.Architecture, cf.OS, cf.Config = goarch(), "linux", config
			return cf
		}())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

// Registry is a registry of images of the tests' own, go-containerregistry's.
type Registry struct {
	Host string

	mu   sync.Mutex
	held map[string]chan struct{} // layers that come only once it is closed, by digest
}

// NewRegistry starts a registry that ends with the test.
func NewRegistry(tb testing.TB) *Registry {
	tb.Helper()
	r := &Registry{held: map[string]chan struct{}{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodGet {
			select {
			case <-r.gate(path.Base(q.URL.Path)):
			case <-q.Context().Done():
				return
			}
		}
		inner.ServeHTTP(w, q)
	}))
	tb.Cleanup(server.Close)
	r.Host = strings.TrimPrefix(server.URL, "http://")
	return r
}

// gate is closed once a blob may come.
func (r *Registry) gate(digest string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held := r.held[digest]; held != nil {
		return held
	}
	open := make(chan struct{})
	close(open)
	return open
}

// HoldLayer keeps a layer from being pulled until letGo is called.
func (r *Registry) HoldLayer(tb testing.TB, l v1.Layer) (letGo func()) {
	tb.Helper()
	digest, err := l.Digest()
	if err != nil {
		tb.Fatal(err)
	}
	held := make(chan struct{})
	r.mu.Lock()
	r.held[digest.String()] = held
	r.mu.Unlock()
	letGo = sync.OnceFunc(func() { close(held) })
	tb.Cleanup(letGo) // before the server, which waits
	return letGo
}

// Push puts an image under a name such as team/app:v1 and returns its URI.
func (r *Registry) Push(tb testing.TB, img v1.Image, as string) string {
	tb.Helper()
	ref, err := name.ParseReference(r.Host + "/" + as)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return r.Host + "/" + as
}

// SaveLayout writes an image to a layout in a folder, under a tag, and returns
// its URI.
func SaveLayout(tb testing.TB, img v1.Image, dir, tag string) string {
	tb.Helper()
	path, err := layout.FromPath(dir)
	if err != nil {
		path, err = layout.Write(dir, empty.Index)
	}
	if err == nil {
		err = path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": tag}))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Sprintf("oci:%s:%s", dir, tag)
}

func goarch() string { return runtime.GOARCH }
