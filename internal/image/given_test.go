package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"lambent"
)

const owner, stranger lambent.AccountID = "111111111111", "222222222222"

// pretend makes an image that says that what is in layer has an id.
func pretend(t *testing.T, layer v1.Layer, id v1.Hash) v1.Image {
	t.Helper()
	img := imageOf(t, v1.Config{}, layer)
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.RootFS.DiffIDs = []v1.Hash{id}
	lying, err := mutate.ConfigFile(img, cf)
	if err != nil {
		t.Fatal(err)
	}
	return lying
}

func idOf(t *testing.T, l v1.Layer) v1.Hash {
	t.Helper()
	id, err := l.DiffID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// blobOf is where a layout that f saved has a layer.
func (f *fixture) blobOf(l v1.Layer, tag string) string {
	f.t.Helper()
	digest, err := l.Digest()
	if err != nil {
		f.t.Fatal(err)
	}
	return filepath.Join(f.layouts, tag, "blobs", "sha256", digest.Hex)
}

// What is unpacked is no way to what one cannot have pulled: neither by the hash
// of a layer, nor by the manifest of an image.
func TestSecurityNobodySharesALayerItWasNotGiven(t *testing.T) {
	f := newFixture(t)
	secret := layerOf(t, file{name: "secret", content: "of the owner"})
	img := imageOf(t, v1.Config{}, secret)
	if _, err := f.holdFor(owner, f.push(img, "owner/secret:v1")); err != nil {
		t.Fatal(err)
	}

	f.save(pretend(t, layerOf(t, file{name: "other", content: "1"}), idOf(t, secret)), "pretending")
	f.save(img, "emptied")
	if err := os.Remove(f.blobOf(secret, "emptied")); err != nil {
		t.Fatal(err)
	}
	f.save(imageOf(t, v1.Config{Cmd: []string{"other"}}, secret), "forged")
	if err := os.WriteFile(f.blobOf(secret, "forged"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"pretending", "emptied", "forged"} {
		uri := "oci:" + filepath.Join(f.layouts, tag) + ":" + tag
		if root, err := f.holdFor(stranger, uri); err == nil {
			t.Errorf("%s: the stranger was given %v", tag, tree(t, root.Dir))
		}
	}

	// Whoever can have it pulled shares what is there, and has it from then on.
	uri := f.save(img, "shared")
	got, err := f.Resolve(t.Context(), uri, "x86_64")
	if err != nil {
		t.Fatal(err)
	}
	root, cached, release, err := f.Hold(t.Context(), stranger, got.Ref)
	if err != nil || cached || tree(t, root.Dir)["secret"] != "of the owner" {
		t.Fatalf("cached %v, %v", cached, err)
	}
	release()
	if n := inDir(t, f.layerDir("")); n != 1 {
		t.Errorf("%d layers are unpacked", n)
	}
	if err := os.RemoveAll(filepath.Join(f.layouts, "shared")); err != nil {
		t.Fatal(err)
	}
	again, err := New(f.opts)
	if err == nil {
		err = again.Open()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	for _, s := range []*Store{f.Store, again} {
		_, cached, release, err := s.Hold(t.Context(), stranger, got.Ref)
		if err != nil || !cached {
			t.Fatalf("once given: cached %v, %v", cached, err)
		}
		release()
		if _, _, _, err := s.Hold(t.Context(), "333333333333", got.Ref); err == nil {
			t.Error("a third has what was given to two")
		}
	}
}

// inDir counts what is in a folder.
func inDir(t *testing.T, dir string) int {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// What one account has pulled from where it likes, and how that goes, is nothing
// to another, although the images, or their layers, call themselves the same.
func TestSecurityNobodyWaitsForOrFailsWithThePullOfAnother(t *testing.T) {
	evil, begun, letGo := slow(t)
	f := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, evil) })
	base := layerOf(t, file{name: "base", content: "1"})
	img := imageOf(t, v1.Config{}, base)
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	write := func(img v1.Image, as string) {
		t.Helper()
		ref, err := name.ParseReference(as)
		if err == nil {
			err = remote.Write(ref, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(img, evil+"/x:v1")
	uri := f.push(img, "team/app:v1")
	ended := make(chan error, 1)
	go func() {
		_, _, _, err := f.Hold(t.Context(), stranger, evil+"/x@"+digest.String())
		ended <- err
	}()
	<-begun
	if root, err := f.holdFor(owner, uri); err != nil || tree(t, root.Dir)["base"] != "1" {
		t.Errorf("while another's comes slowly: %v", err)
	}
	close(letGo)
	if err := <-ended; err != nil {
		t.Errorf("the slow one: %v", err)
	}

	// A layer that is not what its image says, on its way in the same registry.
	second := layerOf(t, file{name: "second", content: "2"})
	host, begun, letGo := slow(t)
	g := newFixture(t, func(o *Options) { o.Registries = append(o.Registries, host) })
	lying := pretend(t, layerOf(t, file{name: "lie", content: "3"}), idOf(t, second))
	if digest, err = lying.Digest(); err != nil {
		t.Fatal(err)
	}
	write(lying, host+"/x:v1")
	go func() {
		_, _, _, err := g.Hold(t.Context(), stranger, host+"/x@"+digest.String())
		ended <- err
	}()
	<-begun // for its configuration
	write(imageOf(t, v1.Config{}, second), host+"/x:v2")
	got := make(chan error, 1)
	go func() {
		_, err := g.holdFor(owner, host+"/x:v2")
		got <- err
	}()
	<-begun
	close(letGo)
	if err := <-got; err != nil {
		t.Errorf("with a liar: %v", err)
	}
	if err := <-ended; err == nil {
		t.Error("the lie was believed")
	}
}
