package image

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"lambent"
)

func TestSecurityBombsEndAtTheBounds(t *testing.T) {
	zeros := make([]byte, 8<<20)
	var many, deep []file
	for k := range 300 {
		many = append(many, file{name: fmt.Sprintf("%d/", k)})
	}
	for k := range 3 { // of one entry each, and a hundred folders that nobody wrote down
		deep = append(deep, file{name: fmt.Sprint(k) + strings.Repeat("/d", 100), content: "x"})
	}
	for what, files := range map[string][]file{
		"a file of zeros":            {{name: "zeros", content: string(zeros)}},
		"many entries":               many,
		"folders that are not there": deep,
		"folders without end":        {{name: strings.Repeat("d/", 300) + "f", content: "x"}},
		"one file over and over":     {{name: "f", content: string(zeros[:1<<19])}, {name: "f", content: string(zeros[:1<<19])}, {name: "f", content: string(zeros[:1<<19])}},
	} {
		r, err := layerOf(t, files...).Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		removed, err := unpack(t.Context(), r, dir, budget{bytes: 1 << 20, entries: 250})
		if !errors.Is(err, errTooLarge) && !errors.Is(err, errHostile) {
			t.Errorf("%s: %v", what, err)
		}
		if removed.Bytes > 1<<20 {
			t.Errorf("%s: %d bytes were written", what, removed.Bytes)
		}
	}
	// A layer that is small until it is read, as gzip and as zstd.
	f := newFixture(t, func(o *Options) { o.MaxBytes = 1 << 20 })
	bomb := layerOf(t, file{name: "zeros", content: string(zeros)})
	if _, err := f.hold(f.save(imageOf(t, v1.Config{}, bomb), "gzip")); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("gzip: %v", err)
	}
	if _, err := f.hold(f.save(imageOf(t, v1.Config{}, zstdLayer(t, bomb)), "zstd")); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("zstd: %v", err)
	}
	// A frame that wants 512 MiB to be decompressed in.
	wide := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x01, 0x00, 0x00}
	r, err := decompress(bytes.NewReader(wide))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("a wide window: %v", err)
	}
}

// zstdLayer is a layer with another compression.
func zstdLayer(t *testing.T, of v1.Layer) v1.Layer {
	t.Helper()
	r, err := of.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out)
	if err == nil {
		_, err = io.Copy(w, r)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }, tarball.WithMediaType(types.OCILayerZStd))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLayersMayBeCompressedAsTheyLike(t *testing.T) {
	f := newFixture(t)
	plain := layerOf(t, file{name: "plain", content: "1"})
	text, err := plain.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(text)
	if err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, v1.Config{}, zstdLayer(t, layerOf(t, file{name: "zstd", content: "1"})), layerOf(t, file{name: "gzip", content: "1"}), static.NewLayer(data, types.OCIUncompressedLayer))
	root, err := f.hold(f.push(img, "all:v1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, root.Dir); got["zstd"] != "1" || got["gzip"] != "1" || got["plain"] != "1" {
		t.Errorf("%v", got)
	}
}

func TestSecurityOddEntriesAreRefusedOrHarmless(t *testing.T) {

	raw := func(headers ...*tar.Header) error {
		var contents []string
		for _, h := range headers {
			contents = append(contents, strings.Repeat("x", int(h.Size)))
		}
		r, err := rawLayer(t, headers, contents).Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		_, err = unpack(t.Context(), r, t.TempDir(), budget{bytes: 1 << 20, entries: 100})
		return err
	}
	for what, h := range map[string]*tar.Header{
		"a type of nobody's":  {Name: "x", Typeflag: 'Q'},
		"a contiguous file":   {Name: "x", Typeflag: tar.TypeCont},
		"the root as a file":  {Name: ".", Typeflag: tar.TypeReg},
		"the root as a link":  {Name: ".", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
		"a link to nothing":   {Name: "l", Typeflag: tar.TypeSymlink},
		"a link to a folder":  {Name: "l", Typeflag: tar.TypeLink, Linkname: "."},
		"a path with nothing": {Name: "a/../b", Typeflag: tar.TypeReg},
	} {
		if err := raw(h); !errors.Is(err, errHostile) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, h := range map[string]*tar.Header{
		"a set-user-id program": {Name: "su", Typeflag: tar.TypeReg, Mode: 0o7755},
		"a pipe":                {Name: "p", Typeflag: tar.TypeFifo},
		"a terminal":            {Name: "tty", Typeflag: tar.TypeChar, Devmajor: 5},
		"owners of all kinds":   {Name: "o", Typeflag: tar.TypeReg, Uid: 1 << 20, Gid: 1 << 20},
		"attributes":            {Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "all"}},
	} {
		if err := raw(h); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := raw(&tar.Header{Name: "twice", Typeflag: tar.TypeReg, Size: 3}, &tar.Header{Name: "twice", Typeflag: tar.TypeDir, Mode: 0o755},
		&tar.Header{Name: "twice/x", Typeflag: tar.TypeReg}, &tar.Header{Name: "twice", Typeflag: tar.TypeSymlink, Linkname: "/etc"}, &tar.Header{Name: "twice/y", Typeflag: tar.TypeReg}); err != nil {
		t.Errorf("a name that is many things: %v", err)
	}
}

func TestSecurityLayersOfferedElsewhereAreNotAskedFor(t *testing.T) {
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	f := newFixture(t)
	img, err := mutate.Append(imageOf(t, v1.Config{}), mutate.Addendum{Layer: layerOf(t, file{name: "a", content: "1"}), URLs: []string{elsewhere.URL + "/latest/meta-data"}, MediaType: types.DockerLayer})
	if err != nil {
		t.Fatal(err)
	}
	for _, uri := range []string{f.save(img, "img"), f.push(img, "img:v1")} {
		if _, err := f.Resolve(t.Context(), uri, "x86_64"); err == nil || !strings.Contains(err.Error(), "not supported") {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if asked.Load() > 0 {
		t.Error("the address was asked")
	}
}

func TestSecurityALayoutLeadsNowhereElse(t *testing.T) {
	f := newFixture(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("top secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	img := imageOf(t, v1.Config{}, layerOf(t, file{name: "a", content: "1"}))
	manifest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(tag, name string, place func(path string) error) string {
		uri := f.save(img, tag)
		path := filepath.Join(f.layouts, tag, name)
		if err := errors.Join(os.Remove(path), place(path)); err != nil {
			t.Fatal(err)
		}
		return uri
	}
	link := func(path string) error { return os.Symlink(secret, path) }
	pipe := func(path string) error { return unix.Mkfifo(path, 0o600) }
	blob := "blobs/sha256/" + manifest.Hex
	real := f.save(img, "real")
	if err := os.Symlink(filepath.Dir(secret), filepath.Join(f.layouts, "out")); err != nil {
		t.Fatal(err)
	}
	for what, uri := range map[string]string{
		"an index that is a link":     replace("il", "index.json", link),
		"an index that is a pipe":     replace("ip", "index.json", pipe),
		"a blob that is a link":       replace("bl", blob, link),
		"a blob that is a pipe":       replace("bp", blob, pipe),
		"a folder that is a link":     "oci:" + f.layouts + "/out",
		"a digest that climbs":        strings.TrimSuffix(real, ":real") + "@sha256:../../../../etc/passwd",
		"a digest of another kind":    strings.TrimSuffix(real, ":real") + "@../../etc:passwd",
		"a path that climbs":          "oci:" + f.layouts + "/real/../../" + filepath.Base(filepath.Dir(secret)),
		"a path with a NUL":           "oci:" + f.layouts + "/real\x00",
		"a name without end":          "oci:" + f.layouts + strings.Repeat("/real", 1000),
		"a folder beside the allowed": "oci:" + f.layouts + "x",
	} {
		_, err := f.Resolve(t.Context(), uri, "x86_64")
		if lambent.KindOf(err) != lambent.KindInvalid || strings.Contains(fmt.Sprint(err), "top") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestSecurityCredentialsAreInNoError(t *testing.T) {
	var got atomic.Value
	inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, ok := r.BasicAuth(); ok {
			got.Store(password)
		}
		if _, password, _ := r.BasicAuth(); password != "right" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"no: `+r.Header.Get("Authorization")+`"}]}`)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	name := filepath.Join(t.TempDir(), "config.json")
	pair := base64.StdEncoding.EncodeToString([]byte("u:hunter2"))
	write := func(text string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	f := newFixture(t, func(o *Options) { o.Registries, o.Credentials = append(o.Registries, host), name })
	write(`{"auths":{"`+host+`":{"auth":"`+pair+`"}}}`, 0o600)
	_, err := f.Resolve(t.Context(), host+"/x:v1", "x86_64")
	e, _ := errors.AsType[*lambent.Error](err)
	if e == nil || e.Reason != "ImageAccessDenied" || got.Load() != "hunter2" || strings.Contains(e.Message, "hunter2") || strings.Contains(e.Message, pair) {
		t.Errorf("a wrong password: %+v, the registry got %v", e, got.Load())
	}
	for what, mode := range map[string]os.FileMode{`{"auths":{"` + host + `":{"auth":"!hunter2"}}}`: 0o600, `hunter2`: 0o600, `{}`: 0o644} {
		write(what, mode)
		_, err := f.Resolve(t.Context(), host+"/x:v1", "x86_64")
		if e, _ := errors.AsType[*lambent.Error](err); e == nil || e.Kind != lambent.KindUnavailable || !strings.Contains(e.Message, "images.credentials") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	write(`{"auths":{"`+host+`":{"username":"u","password":"right"}}}`, 0o600)
	if _, err := f.Resolve(t.Context(), host+"/x:v1", "x86_64"); !strings.Contains(fmt.Sprint(err), "does not exist") {
		t.Errorf("the right password: %v", err)
	}
}
