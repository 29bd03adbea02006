package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// entry is what a test puts into a zip: a folder where the name ends in a
// slash.
type entry struct {
	name string
	mode fs.FileMode
	data string
	raw  func(*zip.FileHeader) // last word on the header
}

func file0(name, data string) entry { return entry{name: name, mode: 0o644, data: data} }
func link(name, target string) entry {
	return entry{name: name, mode: fs.ModeSymlink | 0o777, data: target}
}
func special(m fs.FileMode) entry { return entry{name: "x", mode: m | 0o644} }
func zipOf(t testing.TB, es ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range es {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)}
		h.SetMode(e.mode)
		if e.raw != nil {
			e.raw(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(e.data)); err != nil && e.data != "" {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func messageOf(t *testing.T, err error) string {
	t.Helper()
	e, ok := errors.AsType[*lambent.Error](err)
	if !ok {
		t.Fatalf("error is %T %v, want a *lambent.Error", err, err)
	}
	return e.Message
}

func TestSecurityPackagesThatAreRefused(t *testing.T) {
	const limit = 1100
	deep := strings.Repeat("d/", maxDepth+1) + "f"
	for name, tc := range map[string]struct {
		pkg    []byte
		want   string // message
		reason string // part of the cause
	}{
		"no bytes":                    {nil, messageEmpty, "nothing"},
		"no entries":                  {zipOf(t), messageEmpty, "nothing"},
		"root folder only":            {zipOf(t, entry{name: "./", mode: fs.ModeDir | 0o755}), messageEmpty, "nothing"},
		"not a zip":                   {[]byte("exports.handler = 1"), messageCorrupt, "not a valid zip"},
		"truncated":                   {zipOf(t, file0("a", "aaaa"))[:40], messageCorrupt, "not a valid zip"},
		"climbing":                    {zipOf(t, file0("../a", "")), messageCorrupt, "climbs"},
		"climbing in the middle":      {zipOf(t, file0("a/../../b", "")), messageCorrupt, "climbs"},
		"climbing and back":           {zipOf(t, file0("a/../b", "")), messageCorrupt, "climbs"},
		"absolute":                    {zipOf(t, file0("/etc/passwd", "")), messageCorrupt, "absolute"},
		"backslash":                   {zipOf(t, file0(`..\a`, "")), messageCorrupt, "backslash"},
		"backslash absolute":          {zipOf(t, file0(`\a`, "")), messageCorrupt, "backslash"},
		"NUL":                         {zipOf(t, file0("a\x00b", "")), messageCorrupt, "NUL"},
		"no name":                     {zipOf(t, file0("", "")), messageCorrupt, "no name"},
		"root as a file":              {zipOf(t, file0(".", "x")), messageCorrupt, "root"},
		"long name":                   {zipOf(t, file0(strings.Repeat("n", 256), "")), messageCorrupt, "256 bytes"},
		"long path":                   {zipOf(t, file0(strings.Repeat("n/", 600), "")), messageCorrupt, "1200 bytes"},
		"deep path":                   {zipOf(t, file0(deep, "")), messageCorrupt, "folders"},
		"twice":                       {zipOf(t, file0("a", "1"), file0("a", "2")), messageCorrupt, "twice"},
		"twice, spelt differently":    {zipOf(t, file0("a/b", "1"), file0("./a//b", "2")), messageCorrupt, "twice"},
		"file and folder":             {zipOf(t, file0("a", "1"), entry{name: "a/", mode: fs.ModeDir | 0o755}), messageCorrupt, "twice"},
		"below a file":                {zipOf(t, file0("a", "1"), file0("a/b", "2")), messageCorrupt, "not a folder"},
		"below a link":                {zipOf(t, link("a", "b"), file0("a/x", "2")), messageCorrupt, "not a folder"},
		"folder becomes a link":       {zipOf(t, file0("a/x", "2"), link("a", "b")), messageCorrupt, "twice"},
		"link and file by case":       {zipOf(t, link("A", "b"), file0("a", "2")), messageCorrupt, "case only"},
		"link and folder by case":     {zipOf(t, file0("a/x", "2"), link("A", "b")), messageCorrupt, "case only"},
		"link, absolute":              {zipOf(t, link("a", "/etc/passwd")), messageCorrupt, "absolute"},
		"link that leaves":            {zipOf(t, link("a/b", "../../x")), messageCorrupt, "leaves"},
		"link that leaves and enters": {zipOf(t, link("a", "../x/a")), messageCorrupt, "leaves"},
		"link that leaves by a link":  {zipOf(t, file0("d/e/f", ""), link("d/l", "."), link("x", "d/l/../../y")), messageCorrupt, "leaves"},
		"link in a circle":            {zipOf(t, link("a", "b"), link("b", "a")), messageCorrupt, "circle"},
		"link to itself":              {zipOf(t, link("a", "a")), messageCorrupt, "circle"},
		"link to nothing":             {zipOf(t, link("a", "")), messageCorrupt, "without a target"},
		"link with NUL":               {zipOf(t, link("a", "b\x00c")), messageCorrupt, "NUL"},
		"link, long":                  {zipOf(t, link("a", strings.Repeat("x", 1050))), messageCorrupt, "1050 bytes"},
		"device":                      {zipOf(t, special(fs.ModeDevice)), messageCorrupt, "neither"},
		"character device":            {zipOf(t, special(fs.ModeDevice|fs.ModeCharDevice)), messageCorrupt, "neither"},
		"pipe":                        {zipOf(t, special(fs.ModeNamedPipe)), messageCorrupt, "neither"},
		"socket":                      {zipOf(t, special(fs.ModeSocket)), messageCorrupt, "neither"},
		"no type there is":            {zipOf(t, entry{name: "x", raw: func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 3<<8, 0o170644<<16 }}), messageCorrupt, "no file type"},
		"link that is a folder":       {zipOf(t, entry{name: "a/", mode: fs.ModeSymlink | 0o777}), messageCorrupt, "neither"},
		"encrypted":                   {patchFlags(zipOf(t, file0("a", "x")), 1), messageCorrupt, "encrypted"},
		"other compression":           {patchMethod(zipOf(t, file0("a", "x")), 14), messageCorrupt, "method 14"},
		"wrong checksum":              {corruptData(zipOf(t, entry{name: "a", mode: 0o644, data: "hello", raw: func(h *zip.FileHeader) { h.Method = zip.Store }})), messageCorrupt, "checksum"},
		"overlapping":                 {overlapping(t), messageCorrupt, "overlap"},
		"declared too large":          {zipOf(t, file0("a", strings.Repeat("x", 1101))), fmt.Sprintf(messageSize, limit), "larger"},
		"too large in sum":            {zipOf(t, file0("a", strings.Repeat("x", 700)), file0("b", strings.Repeat("x", 401))), fmt.Sprintf(messageSize, limit), "larger"},
		"lying about its size":        {patchSize(zipOf(t, file0("a", strings.Repeat("x", 5000))), 10), messageCorrupt, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspect(tc.pkg, limit)
			if err == nil {
				t.Fatal("was let through")
			}
			err = refusal("inspect", err, limit)
			if got := messageOf(t, err); got != tc.want {
				t.Errorf("message %q, want %q", got, tc.want)
			}
			if lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("error %v (%v), want %q", err, lambent.KindOf(err), tc.reason)
			}
			parent := t.TempDir()
			if _, err := Unpack(t.Context(), tc.pkg, filepath.Join(parent, "out"), limit); lambent.KindOf(err) != lambent.KindInvalid {
				t.Errorf("Unpack: %v, want KindInvalid", err)
			} else if got := messageOf(t, err); got != tc.want {
				t.Errorf("Unpack's message %q, want %q", got, tc.want)
			}
			if left := names(t, parent); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// directoryRecord is where the first record of a zip's directory begins.
func directoryRecord(pkg []byte) int { return bytes.Index(pkg, []byte("PK\x01\x02")) }

func patchFlags(pkg []byte, flag uint16) []byte {
	at := directoryRecord(pkg) + 8
	binary.LittleEndian.PutUint16(pkg[at:], binary.LittleEndian.Uint16(pkg[at:])|flag)
	return pkg
}

func patchMethod(pkg []byte, method uint16) []byte {
	binary.LittleEndian.PutUint16(pkg[directoryRecord(pkg)+10:], method)
	return pkg
}

func patchSize(pkg []byte, size uint32) []byte {
	binary.LittleEndian.PutUint32(pkg[directoryRecord(pkg)+24:], size)
	return pkg
}

func corruptData(pkg []byte) []byte {
	pkg[bytes.Index(pkg, []byte("hello"))] ^= 1
	return pkg
}

// overlapping makes a zip whose two directory records share one local file.
func overlapping(t *testing.T) []byte {
	pkg := zipOf(t, file0("a", "xxxx"), file0("b", "yyyy"))
	first := directoryRecord(pkg)
	second := first + bytes.Index(pkg[first+4:], []byte("PK\x01\x02")) + 4
	copy(pkg[second+42:second+46], pkg[first+42:first+46]) // offset of the local header
	return pkg
}

func TestSecurityBombIsStoppedAtTheLimit(t *testing.T) {
	const limit = 1 << 20
	pkg := zipOf(t, file0("a", strings.Repeat("\x00", 8<<20)))
	if _, err := inspect(pkg, limit); !errors.Is(err, errTooLarge) {
		t.Fatalf("honest bomb: %v", err)
	}
	// One that declares a small size, in every header: what counts is inflated.
	b := budget{left: limit}
	r, err := zip.NewReader(bytes.NewReader(pkg), int64(len(pkg)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	n, err := b.inflate(&out, r.File[0])
	if !errors.Is(err, errTooLarge) || n != limit || out.Len() != limit {
		t.Errorf("inflated %d bytes, %v; want %d and errTooLarge", n, err, limit)
	}
}

func TestSecurityManyRecordsAreRefusedBeforeTheyAreRead(t *testing.T) {
	pkg := bytes.Repeat([]byte("PK\x01\x02"), 2*MaxEntries+1)
	if _, err := Inspect(pkg); err == nil || !strings.Contains(err.Error(), "directory records") {
		t.Errorf("got %v", err)
	}
}

func TestSecurityLinkMazeEndsSoon(t *testing.T) {
	tr := newTree()
	maze := strings.Repeat("x/../", 200) + "n"
	for i := range 3000 {
		tr.links[fmt.Sprintf("l%d", i)] = maze + fmt.Sprint((i+1)%3000)
	}
	for i := range 3000 { // every hop leads into the next maze
		tr.links[fmt.Sprintf("n%d", i)] = fmt.Sprintf("l%d", i)
	}
	if err := tr.checkLinks(); err == nil {
		t.Error("was let through")
	}
	if tr.work < -maxPathBytes*maxDepth {
		t.Errorf("went on for %d bytes over the bound", -tr.work)
	}
}

// Few links, each of whose many elements lies below a long path.
func TestSecurityLinkMazeOfLongPathsEndsSoon(t *testing.T) {
	tr := newTree()
	base := strings.Repeat(strings.Repeat("a", 200)+"/", 3)
	for i := range maxLinkHops - 1 {
		tr.links[fmt.Sprintf("%sh%d", base, i)] = strings.Repeat("x/../", 200) + fmt.Sprintf("h%d", i+1)
	}
	for i := range 200 {
		tr.links[fmt.Sprintf("l%d", i)] = base + "h0"
	}
	if err := tr.checkLinks(); err == nil {
		t.Errorf("was let through, after the work of %d bytes of at most %d", maxLinkWork-tr.work, maxLinkWork)
	}
}

func TestAsManyLinksAsPackageManagersMakeAreFollowed(t *testing.T) {
	tr := newTree()
	for i := range 5_000 {
		tr.links[fmt.Sprintf("node_modules/.pnpm/package-%d/node_modules/dep", i)] = fmt.Sprintf("../../package-%d/node_modules/package", i+1)
	}
	if err := tr.checkLinks(); err != nil || tr.work < maxLinkWork/20*19 {
		t.Errorf("%v, %d bytes of %d left", err, tr.work, maxLinkWork)
	}
}

func TestPackagesThatAreFine(t *testing.T) {
	noMode := func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 20, 0 } // as FAT writers do
	pkg := zipOf(t,
		entry{name: "./", mode: fs.ModeDir | 0o755},
		file0("./index.js", "one"),
		entry{name: "bootstrap", mode: fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o777, data: "#!"},
		entry{name: "private", mode: 0o600, data: "x"},
		entry{name: "fat.py", data: "pass", raw: noMode},
		entry{name: "typeless.py", data: "pass", raw: func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 3<<8, 0o600<<16 }}, // as Python's zipfile does
		file0("Dir/a", "upper"), file0("dir/a", "lower"),
		file0("dir/sub//b", "b"),
		entry{name: "empty/", mode: fs.ModeDir | 0o700},
		entry{name: "dir/", mode: fs.ModeDir | 0o755},
		link("dir/up", "../index.js"), link("l", "dir/sub/../a"), link("hops", "l"), link("dangling", "nowhere/x"),
		file0("naïve ☃ name", "s"),
	)
	want := []string{
		"./ drwxr-xr-x 1980-01-01T00:00:00Z",
		"Dir drwxr-xr-x 1980-01-01T00:00:00Z",
		"Dir/a -rw-r--r-- 2020-02-03T04:05:06Z upper",
		"bootstrap -rwxr-xr-x 2020-02-03T04:05:06Z #!",
		"dangling Lrwxrwxrwx 2020-02-03T04:05:06Z nowhere/x",
		"dir drwxr-xr-x 1980-01-01T00:00:00Z",
		"dir/a -rw-r--r-- 2020-02-03T04:05:06Z lower",
		"dir/sub drwxr-xr-x 1980-01-01T00:00:00Z",
		"dir/sub/b -rw-r--r-- 2020-02-03T04:05:06Z b",
		"dir/up Lrwxrwxrwx 2020-02-03T04:05:06Z ../index.js",
		"empty drwxr-xr-x 1980-01-01T00:00:00Z",
		"fat.py -rw-r--r-- 2020-02-03T04:05:06Z pass",
		"hops Lrwxrwxrwx 2020-02-03T04:05:06Z l",
		"index.js -rw-r--r-- 2020-02-03T04:05:06Z one",
		"l Lrwxrwxrwx 2020-02-03T04:05:06Z dir/sub/../a",
		"naïve ☃ name -rw-r--r-- 2020-02-03T04:05:06Z s",
		"private -rw-r--r-- 2020-02-03T04:05:06Z x",
		"typeless.py -rw-r--r-- 2020-02-03T04:05:06Z pass",
	}
	inspected, err := Inspect(pkg)
	if err != nil {
		t.Fatal(err)
	}
	old := syscall.Umask(0o077) // of no consequence to what is unpacked
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "out")
	unpacked, err := Unpack(t.Context(), pkg, dir, MaxUnpackedBytes)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, treeOf(t, dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(inspected, unpacked); diff != "" {
		t.Errorf("Inspect and Unpack differ (-inspect +unpack):\n%s", diff)
	}
	if inspected.Size != 59 {
		t.Errorf("size %d", inspected.Size)
	}
}

func TestPackageOfExactlyTheLimitIsFine(t *testing.T) {
	pkg := zipOf(t, file0("a", strings.Repeat("x", 600)), file0("b", strings.Repeat("y", 400)), file0("c", ""))
	if _, err := inspect(pkg, 1000); err != nil {
		t.Errorf("inspect: %v", err)
	}
	if _, err := Unpack(t.Context(), pkg, filepath.Join(t.TempDir(), "o"), 1000); err != nil {
		t.Errorf("Unpack: %v", err)
	}
}

// treeOf lists a tree in a stable order: path, mode, time, and content.
func treeOf(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v %s", rel, info.Mode(), info.ModTime().UTC().Format(time.RFC3339))
		var data []byte
		switch {
		case rel == ".":
			line = "./" + line[1:]
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			data = []byte(target)
		case info.Mode().IsRegular():
			if data, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		if data != nil {
			line += " " + string(data)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func names(t testing.TB, dir string) (out []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

// fullDisk is a file that takes so many bytes and no more.
type fullDisk struct {
	file
	left *int
}

func (f fullDisk) Write(p []byte) (int, error) {
	if *f.left -= len(p); *f.left < 0 {
		return 0, syscall.ENOSPC
	}
	return f.file.Write(p)
}

func TestUnpackLeavesNothingAfterAFullDisk(t *testing.T) {
	pkg := zipOf(t, file0("d/a", strings.Repeat("x", 3000)), link("l", "d"), file0("b", strings.Repeat("y", 3000)))
	for room := 0; room < 6000; room += 1500 {
		left := room
		parent := t.TempDir()
		_, err := unpack(t.Context(), pkg, filepath.Join(parent, "out"), 10_000, disk{free: freeBytes, create: func(root *os.Root, name string, mode fs.FileMode) (file, error) {
			f, err := createFile(root, name, mode)
			return fullDisk{f, &left}, err
		}})
		if full, ok := errors.AsType[*lambent.Error](err); !errors.Is(err, syscall.ENOSPC) || !ok || full.Kind != lambent.KindUnavailable || full.Reason != "DiskFull" {
			t.Errorf("room for %d: error %v, want no space, unavailable", room, err)
		}
		if got := names(t, parent); len(got) != 0 {
			t.Errorf("room for %d: left behind %v", room, got)
		}
	}
}

// What else is on the disk cannot go on once it is full, so it is not tried how
// far it goes.
func TestUnpackBeginsNothingWithoutRoomForAllOfIt(t *testing.T) {
	pkg := zipOf(t, file0("a", strings.Repeat("x", 3000)))
	parent := t.TempDir()
	on := disk{free: func(string) (int64, error) { return keepFree + 2999, nil }, create: func(*os.Root, string, fs.FileMode) (file, error) {
		t.Error("a file is made")
		return nil, syscall.ENOSPC
	}}
	_, err := unpack(t.Context(), pkg, filepath.Join(parent, "out"), 10_000, on)
	if full, ok := errors.AsType[*lambent.Error](err); !ok || full.Kind != lambent.KindUnavailable || full.Reason != "DiskFull" {
		t.Errorf("error %v, want a full disk", err)
	}
	on.free, on.create = func(string) (int64, error) { return keepFree + 3000, nil }, createFile
	if _, err := unpack(t.Context(), pkg, filepath.Join(parent, "out"), 10_000, on); err != nil {
		t.Errorf("with room: %v", err)
	}
}

func TestUnpackLeavesNothingAfterACancel(t *testing.T) {
	pkg := zipOf(t, file0("a", strings.Repeat("x", 3000)), file0("b", strings.Repeat("y", 3000)), link("c", "a"))
	gone := errors.New("the function was deleted")
	for after := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		made := 0
		parent := t.TempDir()
		if after == 0 {
			cancel(gone)
		}
		_, err := unpack(ctx, pkg, filepath.Join(parent, "out"), 10_000, disk{free: freeBytes, create: func(root *os.Root, name string, mode fs.FileMode) (file, error) {
			if made++; made == after {
				cancel(gone)
			}
			return createFile(root, name, mode)
		}})
		if !errors.Is(err, gone) || lambent.KindOf(err) != lambent.KindInternal {
			t.Errorf("cancelled at file %d: %v", after, err)
		}
		if got := names(t, parent); len(got) != 0 {
			t.Errorf("cancelled at file %d: left behind %v", after, got)
		}
		cancel(gone)
	}
}

func TestUnpackRefusesAFolderThatIsThere(t *testing.T) {
	pkg := zipOf(t, file0("a", "1"))
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), pkg, dir, 1000); lambent.KindOf(err) != lambent.KindExists {
		t.Errorf("empty folder: %v", err)
	}
	if _, err := Unpack(t.Context(), pkg, filepath.Join(dir, "no", "parent"), 1000); lambent.KindOf(err) != lambent.KindInternal {
		t.Errorf("no parent: %v", err)
	}
}

func TestUnpackOfOneTreeByManyMakesOne(t *testing.T) {
	pkg := zipOf(t, file0("a", "1"), file0("d/b", "2"))
	dir := filepath.Join(t.TempDir(), "out")
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := Unpack(context.Background(), pkg, dir, 1000)
			errs <- err
		}()
	}
	won := 0
	for range 8 {
		if err := <-errs; err == nil {
			won++
		} else if lambent.KindOf(err) != lambent.KindExists {
			t.Errorf("a loser got %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d won", won)
	}
	if got := names(t, filepath.Dir(dir)); len(got) != 1 {
		t.Errorf("left behind %v", got)
	}
}

func BenchmarkInspect(b *testing.B) {
	r := rand.NewChaCha8([32]byte{})
	es := make([]entry, 100)
	for i := range es {
		data := make([]byte, 50_000)
		if _, err := r.Read(data[:25_000]); err != nil {
			b.Fatal(err)
		}
		es[i] = file0(fmt.Sprintf("dir%d/file%d", i%7, i), string(data))
	}
	pkg := zipOf(b, es...)
	b.SetBytes(int64(len(es)) * 50_000)
	for b.Loop() {
		if _, err := Inspect(pkg); err != nil {
			b.Fatal(err)
		}
	}
}
