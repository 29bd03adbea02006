package bundle

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// plant writes a tree: "path" → content, "path@" → link target, "path*" → an
// executable, "path/" → a folder.
func plant(t *testing.T, dir string, tree map[string]string) {
	t.Helper()
	for name, data := range tree {
		p := filepath.Join(dir, strings.TrimRight(name, "@*/"))
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		case strings.HasSuffix(name, "@"):
			err = os.Symlink(data, p)
		case strings.HasSuffix(name, "*"):
			err = os.WriteFile(p, []byte(data), 0o755)
		default:
			err = os.WriteFile(p, []byte(data), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestPackedFolderUnpacksToItself(t *testing.T) {
	src := t.TempDir()
	plant(t, src, map[string]string{
		"index.js": "exports", "bin/run*": "#!/bin/sh", "lib/a": "a", "lib/l@": "../index.js", "empty/": "",
		".env": "kept", ".gitignore": "kept", ".git/config": "dropped", "sub/.git": "gitdir: dropped", "node_modules/x/y": "kept",
	})
	pkg, err := Pack(src)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Unpack(t.Context(), pkg, out, MaxUnpackedBytes); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range treeOf(t, out) {
		f := strings.SplitN(line, " ", 4)
		got = append(got, strings.TrimSpace(f[1]+" "+f[0]+" "+strings.Join(f[3:], "")))
	}
	want := []string{
		"drwxr-xr-x ./", "-rw-r--r-- .env kept", "-rw-r--r-- .gitignore kept", "drwxr-xr-x bin", "-rwxr-xr-x bin/run #!/bin/sh",
		"drwxr-xr-x empty", "-rw-r--r-- index.js exports", "drwxr-xr-x lib", "-rw-r--r-- lib/a a", "Lrwxrwxrwx lib/l ../index.js",
		"drwxr-xr-x node_modules", "drwxr-xr-x node_modules/x", "-rw-r--r-- node_modules/x/y kept", "drwxr-xr-x sub",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

func TestEqualFoldersMakeEqualPackages(t *testing.T) {
	tree := map[string]string{"b": "2", "a": "1", "d/c*": "3", "d/l@": "c"}
	var pkgs [2][]byte
	for i := range pkgs {
		dir := t.TempDir()
		plant(t, dir, tree)
		if err := os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(int64(i)*1e6, 0)); err != nil {
			t.Fatal(err)
		}
		var err error
		if pkgs[i], err = Pack(dir); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(pkgs[0], pkgs[1]) {
		t.Error("the packages differ")
	}
}

func TestPackOfASingleFile(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{"app.py": "pass", "outside@": "app.py", "done.zip": "", "bad.ZIP": "no zip"})
	pkg, err := Pack(filepath.Join(dir, "app.py"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := Inspect(pkg)
	if err != nil || len(m.Entries) != 1 || m.Entries[0].Path != "app.py" {
		t.Errorf("got %+v, %v", m, err)
	}
	if pkg, err = Pack(filepath.Join(dir, "outside")); err != nil {
		t.Errorf("a link to a file: %v", err)
	} else if m, err := Inspect(pkg); err != nil || m.Entries[0].Path != "outside" || m.Entries[0].Kind != KindFile {
		t.Errorf("a link to a file is packed as %+v, %v", m, err)
	}
	zipped := zipOf(t, file0("x", "y"))
	if err := os.WriteFile(filepath.Join(dir, "done.zip"), zipped, 0o600); err != nil {
		t.Fatal(err)
	}
	if pkg, err = Pack(filepath.Join(dir, "done.zip")); err != nil || !bytes.Equal(pkg, zipped) {
		t.Errorf("a zip was not taken as it is: %v", err)
	}
	if _, err = Pack(filepath.Join(dir, "bad.ZIP")); lambent.KindOf(err) != lambent.KindInvalid {
		t.Errorf("a zip that is none: %v", err)
	}
}

func TestPackRefusesWhatCannotBeDeployed(t *testing.T) {
	for name, tc := range map[string]struct {
		tree map[string]string
		want string
	}{
		"nothing":           {nil, "nothing in it"},
		"only .git":         {map[string]string{".git/config": ""}, "nothing in it"},
		"link that leaves":  {map[string]string{"a": "", "l@": "../x"}, "leaves"},
		"absolute link":     {map[string]string{"a": "", "l@": "/etc/passwd"}, "absolute"},
		"backslash in name": {map[string]string{`a\b`: ""}, "backslash"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			plant(t, dir, tc.tree)
			if _, err := Pack(dir); err == nil || !strings.Contains(err.Error(), tc.want) || lambent.KindOf(err) != lambent.KindInvalid {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, filepath.Join(dir, "pipe"), filepath.Join(dir, "missing")} {
		if _, err := Pack(p); lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(fmt.Sprint(err), dir) {
			t.Errorf("Pack(%s): %v", p, err)
		}
	}
	large, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.Truncate(MaxUnpackedBytes + 1); err != nil {
		t.Fatal(err)
	}
	if err := large.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(large.Name()); err == nil {
		t.Error("a file over the limit was packed")
	}
}

// Whoever writes in a folder while it is packed keeps nobody waiting.
func TestSecurityAFileThatBecameAPipeIsRefusedAtOnce(t *testing.T) {
	dir := t.TempDir()
	plant(t, dir, map[string]string{"f": "text"})
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	}()
	listed, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "f")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPacker()
	p.root = root
	if err := p.visit("f", listed[0], nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("got %v", err)
	}
}
