package image

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"lambent"
	"lambent/internal/sandbox"
)

// file is one entry of a layer; a name that ends with / is a folder, a content
// "->x" a symbolic link, "=>x" a hard link.
type file struct {
	name, content string
	mode          int64
}

func layerOf(t testing.TB, files ...file) v1.Layer {
	t.Helper()
	var headers []*tar.Header
	var contents []string
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Typeflag: tar.TypeReg}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		content := f.content
		switch {
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
			if f.mode == 0 {
				h.Mode = 0o755
			}
		case strings.HasPrefix(content, "->"):
			h.Typeflag, h.Linkname, content = tar.TypeSymlink, content[2:], ""
		case strings.HasPrefix(content, "=>"):
			h.Typeflag, h.Linkname, content = tar.TypeLink, content[2:], ""
		case strings.HasPrefix(content, "device"):
			h.Typeflag, h.Devmajor, h.Devminor, content = tar.TypeBlock, 8, 0, ""
		}
		h.Size = int64(len(content))
		headers, contents = append(headers, h), append(contents, content)
	}
	return rawLayer(t, headers, contents)
}

func rawLayer(t testing.TB, headers []*tar.Header, contents []string) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i, h := range headers {
		err := w.WriteHeader(h)
		if err == nil {
			_, err = io.WriteString(w, contents[i])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t testing.TB, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err == nil {
		img, err = mutate.Config(img, config)
	}
	if err == nil {
		var cf *v1.ConfigFile
		if cf, err = img.ConfigFile(); err == nil {
			cf = cf.DeepCopy()
			cf.Architecture, cf.OS = "amd64", "linux"
			img, err = mutate.ConfigFile(img, cf)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// fixture is a store with a layout folder and a registry.
type fixture struct {
	*Store
	t       testing.TB
	layouts string
	host    string // of the registry
}

func newFixture(t testing.TB, adjust ...func(*Options)) *fixture {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	t.Cleanup(server.Close)
	f := &fixture{t: t, layouts: t.TempDir(), host: strings.TrimPrefix(server.URL, "http://")}
	o := Options{Dir: t.TempDir(), Registries: []string{f.host}, Layouts: []string{f.layouts}, Log: slog.New(slog.DiscardHandler)}
	for _, a := range adjust {
		a(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	f.Store = s
	return f
}

// save writes an image to a layout of its own and returns its name.
func (f *fixture) save(img v1.Image, tag string) string {
	f.t.Helper()
	dir := filepath.Join(f.layouts, tag)
	l, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = l.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag}))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return "oci:" + dir + ":" + tag
}

// push writes an image to the registry and returns its name.
func (f *fixture) push(img v1.Image, repo string) string {
	f.t.Helper()
	ref, err := name.ParseReference(f.host + "/" + repo)
	if err == nil {
		err = remote.Write(ref, img)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return ref.Name()
}

func (f *fixture) hold(uri string) (Root, error) { f.t.Helper(); return f.holdFor("111111111111", uri) }

func (f *fixture) holdFor(account lambent.AccountID, uri string) (Root, error) {
	f.t.Helper()
	got, err := f.Resolve(f.t.Context(), uri, "x86_64")
	if err != nil {
		return Root{}, err
	}
	root, _, release, err := f.Hold(f.t.Context(), account, got.Ref)
	if err != nil {
		return Root{}, err
	}
	release()
	return root, nil
}

// tree lists a root without what every root has.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || d.IsDir() || strings.HasPrefix(rel, "etc/") {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			link, err := os.Readlink(path)
			got[rel] = "->" + link
			return err
		}
		text, err := os.ReadFile(path)
		got[rel] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLayersAreMergedWithTheirWhiteouts(t *testing.T) {
	f := newFixture(t)
	base := layerOf(t, file{name: "bin", content: "->usr/bin"}, file{name: "usr/bin/sh", content: "1", mode: 0o4755}, file{name: "usr/bin/ash", content: "=>usr/bin/sh"},
		file{name: "gone/a", content: "1"}, file{name: "opaque/a", content: "1"}, file{name: "opaque/b", content: "1"}, file{name: "keep/a", content: "1"},
		file{name: "becomes-file/x", content: "1"}, file{name: "becomes-folder", content: "1"}, file{name: "tmp", content: "->/etc"}, file{name: "abs", content: "->/usr"})
	top := layerOf(t, file{name: ".wh.gone"}, file{name: "opaque/.wh..wh..opq"}, file{name: "opaque/c", content: "2"}, file{name: "keep/.wh.none"}, file{name: "keep/b", content: "2"},
		file{name: "becomes-file", content: "2"}, file{name: "becomes-folder/y", content: "2"}, file{name: "dir/", mode: 0o700}, file{name: ".wh..wh.plnk"})
	img := imageOf(t, v1.Config{Env: []string{"A=1"}, Entrypoint: []string{"/e"}, Cmd: []string{"c"}, WorkingDir: "/w"}, base, top)
	for _, uri := range []string{f.save(img, "img"), f.push(img, "team/app:v1")} {
		root, err := f.hold(uri)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"bin": "->usr/bin", "usr/bin/sh": "1", "usr/bin/ash": "1", "opaque/c": "2", "keep/a": "1", "keep/b": "2", "becomes-file": "2", "becomes-folder/y": "2", "abs": "->/usr"}
		if diff := cmp.Diff(want, tree(t, root.Dir)); diff != "" {
			t.Errorf("%s:\n%s", uri, diff)
		}
		if diff := cmp.Diff([][]string{{"A=1"}, {"/e"}, {"c"}, {"/w"}}, [][]string{root.Env, root.EntryPoint, root.Command, {root.WorkingDir}}); diff != "" {
			t.Error(diff)
		}
		folders, files := sandbox.RootNeeds()
		for _, name := range folders {
			if info, err := os.Lstat(filepath.Join(root.Dir, name)); err != nil || !info.IsDir() {
				t.Errorf("%s is no folder: %v", name, err)
			}
		}
		for _, name := range files {
			if info, err := os.Lstat(filepath.Join(root.Dir, name)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s is no file: %v", name, err)
			}
		}
		if info, err := os.Stat(filepath.Join(root.Dir, "usr/bin/sh")); err != nil || info.Mode() != 0o755 {
			t.Errorf("a set-user-id program has mode %v, %v", info.Mode(), err)
		}
		if info, err := os.Stat(filepath.Join(root.Dir, "dir")); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("a folder has mode %v, %v", info.Mode(), err)
		}
		if info, err := os.Stat(filepath.Join(root.Dir, "tmp")); err != nil || info.Mode()&(fs.ModePerm|fs.ModeSticky) != 0o777|fs.ModeSticky {
			t.Errorf("/tmp has mode %v, %v", info.Mode(), err)
		}
	}
}

// nothing, and only, are what is wanted when pruning.
func nothing() map[lambent.CodeHash]bool { return nil }

func only(digest lambent.CodeHash) func() map[lambent.CodeHash]bool {
	return func() map[lambent.CodeHash]bool { return map[lambent.CodeHash]bool{digest: true} }
}

func TestImagesShareWhatTheyHaveInCommonAndArePruned(t *testing.T) {
	f := newFixture(t)
	base := layerOf(t, file{name: "base", content: "shared"})
	one, two := imageOf(t, v1.Config{}, base, layerOf(t, file{name: "1", content: "1"})), imageOf(t, v1.Config{}, base, layerOf(t, file{name: "2", content: "2"}))
	uri1, uri2 := f.save(one, "one"), f.push(two, "two:latest")
	a, err := f.hold(uri1)
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := f.Resolve(t.Context(), uri2, "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	b, cached, release, err := f.Hold(t.Context(), "111111111111", resolved.Ref)
	if err != nil || cached {
		t.Fatalf("cached %v, %v", cached, err)
	}
	inode := func(root Root) fs.FileInfo {
		info, err := os.Stat(filepath.Join(root.Dir, "base"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	if !os.SameFile(inode(a), inode(b)) {
		t.Error("a file of a layer that two images have is there twice")
	}
	count := func(dir string) int {
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	if err := f.Prune(nothing); err != nil {
		t.Fatal(err)
	}
	if roots, layers := count(f.rootDir("")), count(f.layerDir("")); roots != 1 || layers != 2 {
		t.Errorf("with one image held there are %d roots and %d things of layers, want 1 and 2", roots, layers)
	}
	release()
	release()
	if err := f.Prune(nothing); err != nil {
		t.Fatal(err)
	}
	if roots, layers := count(f.rootDir("")), count(f.layerDir("")); roots != 0 || layers != 0 {
		t.Errorf("with nothing held there are %d roots and %d things of layers", roots, layers)
	}
	if again, err := f.hold(uri2); err != nil || tree(t, again.Dir)["2"] != "2" {
		t.Errorf("pulled again: %v", err)
	}
	if err := f.Prune(only(resolved.Digest)); err != nil || count(f.rootDir("")) != 1 {
		t.Errorf("what is to be kept is gone, %v", err)
	}
	// What is there is there for the next server, too, without its registry.
	f.sources.registries = nil
	other, err := New(Options{Dir: f.opts.Dir, Registries: []string{f.host}, Log: f.opts.Log})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Open(); err != nil {
		t.Fatal(err)
	}
	if _, cached, _, err := other.Hold(t.Context(), "111111111111", resolved.Ref); err != nil || !cached {
		t.Errorf("after a restart: cached %v, %v", cached, err)
	}
}

func TestSecurityHostileImagesAreRefusedOrHarmless(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	climb := strings.Repeat("../", 20) + strings.TrimPrefix(secret, "/")
	for what, test := range map[string]struct {
		layers [][]file
		want   string // part of the text; empty: harmless
	}{
		"a path that climbs":                      {[][]file{{{name: climb, content: "x"}}}, "cannot be unpacked"},
		"a path that climbs in between":           {[][]file{{{name: "a/../../x", content: "x"}}}, "cannot be unpacked"},
		"an absolute path":                        {[][]file{{{name: secret, content: "x"}}}, ""},
		"a file through a link of the layer":      {[][]file{{{name: "l", content: "->" + outside}, {name: "l/secret", content: "x"}}}, ""},
		"a file through a relative link":          {[][]file{{{name: "l", content: "->" + strings.Repeat("../", 20) + outside[1:]}, {name: "l/secret", content: "x"}}}, ""},
		"a file through a link of a lower layer":  {[][]file{{{name: "l", content: "->" + outside}}, {{name: "l/secret", content: "x"}}}, ""},
		"a folder through a link of a lower":      {[][]file{{{name: "l", content: "->" + outside}}, {{name: "l/", mode: 0o777}, {name: "l/secret", content: "x"}}}, ""},
		"a hard link to outside":                  {[][]file{{{name: "h", content: "=>" + climb}}}, "cannot be unpacked"},
		"a hard link through a link":              {[][]file{{{name: "l", content: "->" + outside}, {name: "h", content: "=>l/secret"}}}, "cannot be unpacked"},
		"a hard link to nothing":                  {[][]file{{{name: "h", content: "=>none"}}}, "cannot be unpacked"},
		"a whiteout through a link":               {[][]file{{{name: "l", content: "->" + outside}}, {{name: "l/.wh.secret"}}}, ""},
		"an opaque folder that is a link":         {[][]file{{{name: "l", content: "->" + outside}}, {{name: "l/.wh..wh..opq"}}}, ""},
		"a whiteout of ..":                        {[][]file{{{name: "a/.wh..."}}}, "cannot be unpacked"},
		"a whiteout of the folder above":          {[][]file{{{name: "a/.wh..", content: ""}}}, "cannot be unpacked"},
		"a device":                                {[][]file{{{name: "dev/sda", content: "device"}}}, ""},
		"the places of the sandbox as links":      {[][]file{{{name: "lambent", content: "->" + outside}, {name: "etc", content: "->" + outside}, {name: "proc", content: "->" + outside}}}, ""},
		"the files of the sandbox as links":       {[][]file{{{name: "etc/resolv.conf", content: "->" + secret}, {name: "etc/hosts/", mode: 0o700}, {name: "etc/hosts/x", content: "x"}}}, ""},
		"a table of users that is a link outside": {[][]file{{{name: "etc/passwd", content: "->" + secret}}}, ""},
		"a name too long":                         {[][]file{{{name: strings.Repeat("n", 256), content: "x"}}}, "cannot be unpacked"},
		"more than is allowed":                    {[][]file{{{name: "a", content: strings.Repeat("x", 600)}}, {{name: "b", content: strings.Repeat("x", 600)}}}, "larger than"},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.MaxBytes = 1000 })
			var layers []v1.Layer
			for _, files := range test.layers {
				layers = append(layers, layerOf(t, files...))
			}
			root, err := f.hold(f.save(imageOf(t, v1.Config{}, layers...), "img"))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want == "":
				for path, text := range tree(t, root.Dir) {
					if text == "s" {
						t.Errorf("%s shows what is outside", path)
					}
				}
			case err == nil || !strings.Contains(err.Error(), test.want):
				t.Errorf("%v, want %q in it", err, test.want)
			}
			if err != nil {
				left, err := filepath.Glob(filepath.Join(f.opts.Dir, "*", ".part-*"))
				if err != nil || len(left) > 0 {
					t.Errorf("left behind: %q, %v", left, err)
				}
			}
			if text, err := os.ReadFile(secret); err != nil || string(text) != "s" {
				t.Fatalf("the file outside is %q, %v", text, err)
			}
			names, err := os.ReadDir(outside)
			if err != nil || len(names) != 1 {
				t.Fatalf("outside there are %v, %v", names, err)
			}
		})
	}
}
