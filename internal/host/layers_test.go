package host

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// layerHost is a layer cache over packages in memory.
type layerHost struct {
	*layerCache
	t        testing.TB
	packages map[lambent.CodeHash][]byte
}

func newLayerHost(t testing.TB) *layerHost {
	h := &layerHost{t: t, packages: map[lambent.CodeHash][]byte{}}
	dir := t.TempDir()
	code := newCodeCache(filepath.Join(dir, "code"), func(_ context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error) {
		pkg, ok := h.packages[hash]
		if !ok {
			return nil, 0, fmt.Errorf("no package %s", hash)
		}
		return io.NopCloser(bytes.NewReader(pkg)), int64(len(pkg)), nil
	})
	h.layerCache = newLayerCache(filepath.Join(dir, "layers"), code)
	for _, open := range []func() error{code.open, h.open} {
		if err := open(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(code.close)
	return h
}

// layer makes a layer of pairs of a path and a content; "->x" is a link to x.
func (h *layerHost) layer(pairs ...string) lambent.Layer {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		header := &zip.FileHeader{Name: pairs[i]}
		content := pairs[i+1]
		header.SetMode(0o644)
		if len(content) > 2 && content[:2] == "->" {
			header.SetMode(0o777 | fs.ModeSymlink)
			content = content[2:]
		}
		f, err := w.CreateHeader(header)
		if err == nil {
			_, err = io.WriteString(f, content)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	sum := sha256.Sum256(b.Bytes())
	hash := lambent.CodeHash(base64.StdEncoding.EncodeToString(sum[:]))
	h.packages[hash] = b.Bytes()
	return lambent.Layer{Code: hash}
}

// tree lists what is below a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			if info.Mode().Perm() != 0o755 {
				t.Errorf("folder %s has mode %v", rel, info.Mode())
			}
		case d.Type() == fs.ModeSymlink:
			link, err := os.Readlink(path)
			got[rel] = "->" + link
			return err
		default:
			text, err := os.ReadFile(path)
			got[rel] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLaterLayersGoOverEarlierOnes(t *testing.T) {
	h := newLayerHost(t)
	one := h.layer("bin/tool", "1", "both", "1", "folder/a", "1", "was-file", "1", "was-folder/x", "1", "link", "->folder", "real/f", "1")
	two := h.layer("both", "2", "folder/b", "2", "was-file/y", "2", "was-folder", "2", "link/z", "2", "real", "->folder")
	for _, test := range []struct {
		layers []lambent.Layer
		want   map[string]string
	}{
		{[]lambent.Layer{one, two}, map[string]string{"bin/tool": "1", "both": "2", "folder/a": "1", "folder/b": "2", "was-file/y": "2", "was-folder": "2", "link/z": "2", "real": "->folder"}},
		{[]lambent.Layer{two, one}, map[string]string{"bin/tool": "1", "both": "1", "folder/a": "1", "folder/b": "2", "was-file": "1", "was-folder/x": "1", "link": "->folder", "real/f": "1"}},
		{[]lambent.Layer{one}, map[string]string{"bin/tool": "1", "both": "1", "folder/a": "1", "was-file": "1", "was-folder/x": "1", "link": "->folder", "real/f": "1"}},
	} {
		dir, release, err := h.hold(t.Context(), test.layers)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
		release()
	}
	if dir, release, err := h.hold(t.Context(), nil); dir != "" || err != nil {
		t.Errorf("no layers: %q, %v", dir, err)
	} else {
		release()
	}
}

func TestSameLayersShareOneFolderUntilTheyAreDropped(t *testing.T) {
	h := newLayerHost(t)
	layers := []lambent.Layer{h.layer("a", "1"), h.layer("b", "2")}
	var mu sync.Mutex
	dirs := map[string]int{}
	var releases []func()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			dir, release, err := h.hold(t.Context(), layers)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			dirs[dir]++
			releases = append(releases, release)
		})
	}
	all.Wait()
	h.mu.Lock()
	made := h.made
	h.mu.Unlock()
	if len(dirs) != 1 || made != 1 {
		t.Fatalf("folders %v, made %d", dirs, made)
	}
	dir, _, _ := h.hold(t.Context(), layers)
	h.drop(layers[1].Code)
	if err := h.code.drop(layers[1].Code); err != nil {
		t.Fatal(err)
	}
	for _, release := range releases {
		release()
		release() // once more is harmless
	}
	if got := tree(t, dir); len(got) != 2 {
		t.Errorf("while a container holds it, a dropped set has %v", got)
	}
	if again, release, err := h.hold(t.Context(), slices.Clone(layers)); err != nil || again != dir {
		t.Errorf("%q, %v", again, err)
	} else {
		release()
	}
}

func TestDroppedAndOldSetsGo(t *testing.T) {
	h := newLayerHost(t)
	common := h.layer("a", "1")
	hold := func(l lambent.Layer) string {
		t.Helper()
		dir, release, err := h.hold(t.Context(), []lambent.Layer{common, l})
		if err != nil {
			t.Fatal(err)
		}
		release()
		return dir
	}
	first := h.layer("b", "first")
	dir := hold(first)
	h.drop(first.Code)
	if _, err := os.Stat(dir); err == nil {
		t.Error("a set that nobody holds is there after a part of it was dropped")
	}
	for k := range maxIdleSets + 3 {
		hold(h.layer("b", fmt.Sprint(k)))
	}
	left, err := os.ReadDir(h.dir)
	if err != nil || len(left) != maxIdleSets {
		t.Errorf("%d sets are kept, of at most %d; %v", len(left), maxIdleSets, err)
	}
}

func TestLayersThatCannotBeHadAreTriedAgain(t *testing.T) {
	h := newLayerHost(t)
	layers := []lambent.Layer{h.layer("a", "1"), h.layer("b", "2")}
	pkg := h.packages[layers[1].Code]
	delete(h.packages, layers[1].Code)
	if _, _, err := h.hold(t.Context(), layers); err == nil {
		t.Error("held without one of its packages")
	}
	h.packages[layers[1].Code] = pkg
	dir, _, err := h.hold(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); len(got) != 2 {
		t.Errorf("it has %v", got)
	}
}
