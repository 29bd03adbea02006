package bundle

import (
	"archive/zip"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzInspectAndUnpack(f *testing.F) {
	const limit = 4096
	f.Add(zipOf(f, file0("a/b", "data"), link("l", "a/b"), entry{name: "x", mode: 0o755, data: "#!"}))
	f.Add(zipOf(f, file0("../a", "x"), link("l", "../../etc")))
	f.Add(zipOf(f, link("l", "."), file0("l/x", "y")))
	f.Add(zipOf(f, file0("big", strings.Repeat("z", 5000))))
	f.Add(patchSize(zipOf(f, file0("big", strings.Repeat("z", 5000))), 3))
	f.Fuzz(func(t *testing.T, pkg []byte) { checkPackage(t, pkg, limit) })
}

// FuzzNamesModesAndLinks makes zips that can be read, of entries nobody should
// trust, which changing single bytes of a zip hardly ever does.
func FuzzNamesModesAndLinks(f *testing.F) {
	const link, folder, regular = 0o120777, 0o040755, 0o104755 // as Unix has them: the last one setuid
	f.Add("d/", uint32(folder), "", "d/l", uint32(link), "..", "d/l/../../x", uint32(regular), "data", uint16(0))
	f.Add("a", uint32(link), "b/../..", "b", uint32(link), "a/.", "c//./d", uint32(regular), "", uint16(9))
	f.Add("a/b", uint32(regular), "x", "a", uint32(link), "/etc", "A/b", uint32(regular), "y", uint16(77))
	f.Add("..\\a", uint32(0), "x", "a\x00", uint32(0o010644), "", "./.", uint32(0o060644), "y", uint16(0))
	f.Fuzz(func(t *testing.T, name1 string, mode1 uint32, data1, name2 string, mode2 uint32, data2, name3 string, mode3 uint32, data3 string, flip uint16) {
		unix := func(mode uint32) func(*zip.FileHeader) {
			return func(h *zip.FileHeader) { h.CreatorVersion, h.ExternalAttrs = 3<<8, mode<<16 }
		}
		var es []entry
		for _, e := range []entry{{name: name1, data: data1, raw: unix(mode1)}, {name: name2, data: data2, raw: unix(mode2)}, {name: name3, data: data3, raw: unix(mode3)}} {
			if len(e.name) > 1<<15 {
				return // the format has no room for it
			}
			if strings.HasSuffix(e.name, "/") {
				e.data = ""
			}
			es = append(es, e)
		}
		pkg := zipOf(t, es...)
		if flip != 0 {
			pkg[int(flip)%len(pkg)] ^= byte(flip>>8) | 1
		}
		checkPackage(t, pkg, 4096)
	})
}

// checkPackage asserts what holds of every package, good or bad: Inspect and
// Unpack agree, nothing is written outside, nothing is left after an error.
func checkPackage(t *testing.T, pkg []byte, limit int64) {
	_, inspectErr := inspect(pkg, limit)
	parent := t.TempDir()
	inner := filepath.Join(parent, "inner")
	if err := os.Mkdir(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(inner, "out")
	m, err := Unpack(t.Context(), pkg, out, limit)
	if (err == nil) != (inspectErr == nil) {
		t.Fatalf("Inspect says %v, Unpack %v", inspectErr, err)
	}
	if got := names(t, parent); len(got) != 1 {
		t.Fatalf("wrote outside: %v", got)
	}
	if err != nil {
		if got := names(t, inner); len(got) != 0 {
			t.Fatalf("left behind %v after %v", got, err)
		}
		return
	}
	checkTree(t, out, m, limit)
}

// checkTree asserts what every unpacked tree has: bounded size, no surprising
// modes or kinds, and no link that leaves.
func checkTree(t *testing.T, out string, m Manifest, limit int64) {
	var size int64
	err := filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := info.Mode(); {
		case mode.IsRegular() && (mode == 0o644 || mode == 0o755), mode.Type() == fs.ModeSymlink:
			size += info.Size()
		case mode == fs.ModeDir|0o755:
		default:
			t.Errorf("%s has mode %v", p, mode)
		}
		if info.Mode().Type() == fs.ModeSymlink {
			if real, err := filepath.EvalSymlinks(p); err == nil && real != out && !strings.HasPrefix(real, out+"/") {
				t.Errorf("%s leads to %s", p, real)
			}
		}
		return nil
	})
	if err != nil || size != m.Size || size > limit {
		t.Errorf("size %d, manifest %d, limit %d, %v", size, m.Size, limit, err)
	}
}
