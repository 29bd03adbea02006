package image

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"lambent"
)

func TestImagesThatCannotBeHadAreRefusedInAWSWords(t *testing.T) {
	denying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer denying.Close()
	denied := strings.TrimPrefix(denying.URL, "http://")
	f := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, denied, "127.0.0.1:1") })
	img := imageOf(t, v1.Config{}, layerOf(t, file{name: "a", content: "1"}))
	f.push(img, "there:v1")
	f.save(img, "there")
	arm, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	arm = arm.DeepCopy()
	arm.Architecture = "arm64"
	other, err := mutate.ConfigFile(img, arm)
	if err != nil {
		t.Fatal(err)
	}
	f.save(other, "arm")
	f.save(mutate.ConfigMediaType(img, "application/vnd.wasm.config.v1+json"), "wasm")
	outside := t.TempDir()
	for _, test := range []struct {
		uri, want, reason string
		kind              lambent.Kind
	}{
		{f.host + "/there:v2", "Source image U does not exist. Provide a valid source image.", "ImageDeleted", lambent.KindInvalid},
		{f.host + "/none:v1", "Source image U does not exist. Provide a valid source image.", "ImageDeleted", lambent.KindInvalid},
		{"oci:" + f.layouts + "/none", "Source image U does not exist. Provide a valid source image.", "ImageDeleted", lambent.KindInvalid},
		{"oci:" + f.layouts + "/there:none", "Source image U does not exist. Provide a valid source image.", "ImageDeleted", lambent.KindInvalid},
		{"oci:" + f.layouts, "Source image U does not exist. Provide a valid source image.", "ImageDeleted", lambent.KindInvalid},
		{"oci:" + f.layouts + "/arm", "Source image U is for the architecture arm64, and the function for x86_64.", "", lambent.KindInvalid},
		{"oci:" + f.layouts + "/wasm", "The image manifest, config or layer media type for the source image U is not supported.", "InvalidImage", lambent.KindInvalid},
		{"NO IMAGE", "Source image U is not valid. Provide a valid source image.", "", lambent.KindInvalid},
		{denied + "/x:v1", "Lambda does not have permission to access the ECR image. Check the ECR permissions.", "ImageAccessDenied", lambent.KindInvalid},
		{"127.0.0.1:1/x:v1", "The registry of the source image U cannot be asked. Try again.", "", lambent.KindUnavailable},
		{"alpine:latest", "This server's setting images.registries does not name index.docker.io, so U cannot be taken from there.", "", lambent.KindInvalid},
		{"oci:" + outside, "This server's setting images.layouts names no folder that U is in.", "", lambent.KindInvalid},
		{"oci:" + outside + "/none", "This server's setting images.layouts names no folder that U is in.", "", lambent.KindInvalid},
		{"oci:" + f.layouts + "/../../etc", "This server's setting images.layouts names no folder that U is in.", "", lambent.KindInvalid},
		{"oci:relative", "This server's setting images.layouts names no folder that U is in.", "", lambent.KindInvalid},
	} {
		_, err := f.Resolve(t.Context(), test.uri, "x86_64")
		e, ok := errors.AsType[*lambent.Error](err)
		if want := strings.ReplaceAll(test.want, "U", test.uri); !ok || e.Kind != test.kind || e.Message != want || e.Reason != test.reason {
			t.Errorf("%s: %+v (%v)", test.uri, e, err)
		}
	}
}

func TestImageOfSeveralArchitecturesIsThatOfTheFunctions(t *testing.T) {
	f := newFixture(t)
	index := empty.Index
	var out v1.ImageIndex = index
	for _, arch := range []string{"arm64", "amd64"} {
		img := imageOf(t, v1.Config{}, layerOf(t, file{name: "arch", content: arch}))
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.Architecture = arch
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		out = mutate.AppendManifests(out, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	dir := filepath.Join(f.layouts, "multi")
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendIndex(mutate.IndexMediaType(out, types.OCIImageIndex), layout.WithAnnotations(map[string]string{refName: "v1"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	root, err := f.hold("oci:" + dir + ":v1")
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, root.Dir); got["arch"] != "amd64" {
		t.Errorf("%v", got)
	}
}

func TestSecurityContentIsHeldAgainstItsDigest(t *testing.T) {
	f := newFixture(t)
	uri := f.save(imageOf(t, v1.Config{}, layerOf(t, file{name: "a", content: "true"})), "img")
	got, err := f.Resolve(t.Context(), uri, "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	other := layerOf(t, file{name: "a", content: "false"})
	forged, err := other.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(forged)
	if err != nil {
		t.Fatal(err)
	}
	img, err := layout.Path(filepath.Join(f.layouts, "img")).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	one, err := img.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := one.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	blobs := filepath.Join(f.layouts, "img", "blobs", "sha256")
	if err := os.WriteFile(filepath.Join(blobs, m.Layers[0].Digest.Hex), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := f.Hold(t.Context(), "111111111111", got.Ref); err == nil || !strings.Contains(err.Error(), "its content has the hash") {
		t.Errorf("a forged layer: %v", err)
	}
	config, err := os.ReadFile(filepath.Join(blobs, m.Config.Digest.Hex))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(blobs, m.Config.Digest.Hex), append(config, ' '), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Resolve(t.Context(), uri, "x86_64"); err == nil {
		t.Error("a forged configuration was taken")
	}
}

func TestUserOfAnImage(t *testing.T) {
	passwd := file{name: "etc/passwd", content: "root:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\nbroken\n"}
	group := file{name: "etc/group", content: "staff:x:50:\n"}
	for user, want := range map[string][2]uint32{"": {}, "root": {}, "0": {}, "0:5": {}, "app": {1000, 1001}, "1000": {1000, 1001}, "app:staff": {1000, 50}, "77": {77, 0}, "77:88": {77, 88}, "app:0": {1000, 0}} {
		f := newFixture(t)
		root, err := f.hold(f.save(imageOf(t, v1.Config{User: user}, layerOf(t, passwd, group)), "img"))
		if err != nil || [2]uint32{root.UID, root.GID} != want {
			t.Errorf("USER %q is %d:%d, %v", user, root.UID, root.GID, err)
		}
		text, err := os.ReadFile(filepath.Join(root.Dir, "etc/passwd"))
		if err != nil || !strings.Contains(string(text), "\nsbx_user1051:x:993:990:") || !strings.HasPrefix(string(text), "root:") {
			t.Errorf("/etc/passwd is %q, %v", text, err)
		}
	}
	for _, user := range []string{"nobody", "app:none", "-1", "99999999999"} {
		f := newFixture(t)
		if _, err := f.hold(f.save(imageOf(t, v1.Config{User: user}, layerOf(t, passwd, group)), "img")); err == nil {
			t.Errorf("USER %q was taken", user)
		}
	}
}

func TestCredentialsAreOfTheFileOnly(t *testing.T) {
	text := `{"auths":{"https://index.docker.io/v1/":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("u:p:q")) + `"},"r.test:5000":{"username":"x","password":"y"},"t.test":{"identitytoken":"tok"}},"credHelpers":{"h.test":"evil"}}`
	for registry, want := range map[string]authn.AuthConfig{
		"index.docker.io": {Username: "u", Password: "p:q"}, "r.test:5000": {Username: "x", Password: "y"}, "t.test": {IdentityToken: "tok"}, "h.test": {}, "r.test": {},
	} {
		a, err := resolve([]byte(text), registry)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.Authorization(); err != nil || got.Username != want.Username || got.Password != want.Password || got.IdentityToken != want.IdentityToken {
			t.Errorf("%s: %+v, %v", registry, got, err)
		}
	}
	if _, err := resolve([]byte("no"), "x"); err == nil {
		t.Error("what is no JSON was taken")
	}
	name := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := (keychain{file: name}).Resolve(nil); err == nil {
		t.Error("a file that others may read was taken")
	}
}

func FuzzUnpack(f *testing.F) {
	seed, err := layerOf(f, file{name: "a/b", content: "1"}, file{name: "l", content: "->/etc"}, file{name: "h", content: "=>a/b"}, file{name: "a/.wh.x"}, file{name: "l/x", content: "2"}).Uncompressed()
	if err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dir := filepath.Join(outer, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_, _ = unpack(t.Context(), strings.NewReader(string(data)), dir, budget{bytes: 1 << 20, entries: 1000})
		if names, err := os.ReadDir(outer); err != nil || len(names) != 1 {
			t.Fatalf("outside there are %v, %v", names, err)
		}
	})
}
