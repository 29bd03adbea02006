package image

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sys/unix"

	"lambent"
)

func TestWhatACrashLeavesIsNeverRun(t *testing.T) {
	f := newFixture(t)
	uri := f.save(imageOf(t, v1.Config{}, layerOf(t, file{name: "a", content: "true"})), "img")
	got, err := f.Resolve(t.Context(), uri, "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	root, err := f.hold(uri)
	if err != nil {
		t.Fatal(err)
	}
	layer := f.layerDir(root.Layers[0])
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.Hold(t.Context(), "111111111111", got.Ref); lambent.KindOf(err) != lambent.KindUnavailable {
		t.Errorf("of a closed store: %v", err)
	}
	again := func() (*Store, error) {
		s, err := New(f.opts)
		if err == nil {
			err = s.Open()
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		root, _, release, err := s.Hold(t.Context(), "111111111111", got.Ref)
		if err == nil {
			release()
			if text := tree(t, root.Dir)["a"]; text != "true" {
				err = fmt.Errorf("the file is %q", text)
			}
		}
		return s, err
	}
	// As kill -9 leaves them: a layer and a tree half made.
	for _, dir := range []string{layer, filepath.Dir(root.Dir)} {
		half := filepath.Join(filepath.Dir(dir), unfinished+"1")
		if err := errors.Join(os.Rename(dir, half), os.WriteFile(filepath.Join(half, treeDir, "b"), nil, 0o600), os.Truncate(filepath.Join(half, treeDir, "a"), 0)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := again()
	if err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(s.opts.Dir, "*", unfinished+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
	// A note that is not what was written.
	if err := os.Truncate(filepath.Join(filepath.Dir(root.Dir), rootFile), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Prune(only(got.Digest)); err != nil {
		t.Error(err)
	}
	if _, err := again(); err != nil {
		t.Error(err)
	}
}

func TestAFullDiskIsSaidToBeOne(t *testing.T) {
	for _, cause := range []error{unix.ENOSPC, unix.EDQUOT, errFull} {
		err := refusal("prepare image", "U", fmt.Errorf("layer x: %w", &os.PathError{Op: "write", Path: "/srv", Err: cause}))
		if e, _ := errors.AsType[*lambent.Error](err); e.Kind != lambent.KindUnavailable || e.Message != "The server has no room for the source image U." {
			t.Errorf("%v: %+v", cause, e)
		}
	}
}

// slow is a registry of which a layer comes only when it is let go.
func slow(t *testing.T) (host string, begun <-chan struct{}, letGo chan<- struct{}) {
	t.Helper()
	inner := registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)))
	asked, open := make(chan struct{}, 10), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			asked <- struct{}{}
			select {
			case <-open:
			case <-r.Context().Done():
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), asked, open
}

func TestAPullIsSharedOutlivesItsCallersAndEndsWithTheStore(t *testing.T) {
	host, begun, letGo := slow(t)
	f := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, host) })
	base := layerOf(t, file{name: "base", content: "1"})
	img := imageOf(t, v1.Config{}, base)
	ref, err := name.ParseReference(host + "/x:v1")
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	// Its configuration is a blob, too: it is named by digest, as one that was
	// resolved.
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	pinned := host + "/x@" + digest.String()
	type end struct {
		root Root
		err  error
	}
	ends := make(chan end, 2)
	for range 2 {
		go func() {
			root, _, release, err := f.Hold(t.Context(), "111111111111", pinned)
			if err == nil {
				release()
			}
			ends <- end{root, err}
		}()
	}
	<-begun
	// Others are not held up: neither who prunes, nor an image of the same layer
	// from elsewhere.
	if err := f.Prune(nothing); err != nil {
		t.Error(err)
	}
	if _, err := f.hold(f.save(imageOf(t, v1.Config{Cmd: []string{"other"}}, base), "img")); err != nil {
		t.Error(err)
	}
	if err := f.Prune(nothing); err != nil {
		t.Error(err)
	}
	close(letGo)
	for range 2 {
		if e := <-ends; e.err != nil || tree(t, e.root.Dir)["base"] != "1" {
			t.Errorf("%+v", e)
		}
	}

	// A registry that never answers does not keep the server from ending.
	host, begun, _ = slow(t)
	g := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, host) })
	if ref, err = name.ParseReference(host + "/x:v1"); err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _, _, err := g.Hold(t.Context(), "111111111111", host+"/x@"+digest.String())
		ends <- end{err: err}
	}()
	<-begun
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if e := <-ends; e.err == nil {
		t.Error("what was not pulled was held")
	}
}
