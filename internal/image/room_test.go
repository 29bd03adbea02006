package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"lambent"
)

// smallDisk is a folder on a disk of its own.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a small disk cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk may have bytes left, and no more files to give them to.
func TestADiskIsFullWhenItCanHaveFewFilesMore(t *testing.T) {
	dir := smallDisk(t, "size=1g,nr_inodes=100")
	if err := requireRoom(dir); err != nil {
		t.Fatal(err)
	}
	for k := range 95 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(k)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := requireRoom(dir); !errors.Is(err, errFull) {
		t.Errorf("with 4 of 100 files left: %v", err)
	}
}

// An image that the disk has no room for is refused before the disk is full, and
// what was unpacked of it is gone: by its bytes, or by folders that have none.
func TestWhatTheDiskHasNoRoomForIsGone(t *testing.T) {
	folders := []file{}
	for k := range 20_000 { // of which each counts for 4 KiB
		folders = append(folders, file{name: fmt.Sprint(k, "/")})
	}
	for what, test := range map[string]struct {
		disk  string
		files []file
	}{
		"bytes":   {"size=560m", []file{{name: "zeros", content: string(bytes.Repeat([]byte{0}, 100<<20))}}},
		"folders": {"size=1g,nr_inodes=18000", folders},
	} {
		dir := smallDisk(t, test.disk)
		f := newFixture(t, func(o *Options) { o.Dir = dir })
		_, err := f.hold(f.save(imageOf(t, v1.Config{}, layerOf(t, test.files...)), "large"))
		e, ok := errors.AsType[*lambent.Error](err)
		if !ok || e.Kind != lambent.KindUnavailable || !errors.Is(err, errFull) {
			t.Errorf("%s: %v", what, err)
		}
		if n := inDir(t, f.layerDir("")) + inDir(t, f.rootDir("")); n != 0 {
			t.Errorf("%s: %d things are left", what, n)
		}
	}
}

// A path that the disk cannot have is the image's fault, and none of it is left.
func TestSecurityPathsTooLongForTheDiskAreTheImagesFault(t *testing.T) {
	long := strings.Repeat(strings.Repeat("d", 200)+"/", 20)
	loop := []file{{name: "a", content: "->b"}, {name: "b", content: "->a"}, {name: "c", content: "=>a/x"}}
	for what, files := range map[string][]file{
		"a file far down":     {{name: long + "f", content: "1"}},
		"a folder far down":   {{name: long}},
		"a link through loop": loop,
		"below a file":        {{name: "f", content: "1"}, {name: "l", content: "=>f/x"}},
	} {
		f := newFixture(t)
		_, err := f.hold(f.save(imageOf(t, v1.Config{}, layerOf(t, files...)), "img"))
		e, ok := errors.AsType[*lambent.Error](err)
		if !ok || e.Kind != lambent.KindInvalid {
			t.Errorf("%s: %v", what, err)
		}
		if err := f.Prune(nothing); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if n := inDir(t, f.layerDir("")) + inDir(t, f.rootDir("")); n != 0 {
			t.Errorf("%s: %d things are left", what, n)
		}
	}
}
