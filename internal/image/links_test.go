package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that has as many names as it can have is copied for more, in a layer and
// in an image, and the copy is shared.
func TestFilesWithMoreNamesThanTheDiskAllowsAreCopied(t *testing.T) {
	dir := t.TempDir()
	name := func(k int) string { return filepath.Join(dir, "d", fmt.Sprint(k)) }
	err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o700), os.WriteFile(filepath.Join(dir, "f"), []byte("program"), 0o600), os.Chmod(filepath.Join(dir, "f"), 0o755))
	for k := 0; err == nil && k < 70_000; k++ { // ext4: 65,000
		err = os.Link(filepath.Join(dir, "f"), name(k))
	}
	if err == nil {
		t.Skip("a file can have 70,000 names here")
	}
	if !errors.Is(err, unix.EMLINK) {
		t.Fatal(err)
	}
	tr, err := layerOf(t, file{name: "of layer 1", content: "=>f"}, file{name: "of layer 2", content: "=>f"}).Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unpack(t.Context(), tr, dir, budget{bytes: 100, entries: 100}); err != nil {
		t.Fatal(err)
	}
	links := linker{}
	for _, to := range []string{"of image 1", "of image 2"} {
		if err := links.link(filepath.Join(dir, "f"), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, of := range []string{"layer", "image"} {
		one, err1 := os.Stat(filepath.Join(dir, "of "+of+" 1"))
		two, err2 := os.Stat(filepath.Join(dir, "of "+of+" 2"))
		text, err3 := os.ReadFile(filepath.Join(dir, "of "+of+" 1"))
		if err := errors.Join(err1, err2, err3); err != nil || string(text) != "program" || one.Mode() != 0o755 || !os.SameFile(one, two) {
			t.Errorf("%s: %q, %v", of, text, err)
		}
	}
}
