package hotreload

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/bundle"
)

// functions takes the packages of folders.
type functions struct {
	mu   sync.Mutex
	fail []error // for the next calls
	got  chan []byte
}

func (f *functions) update(_ context.Context, _ lambent.AccountID, _ lambent.FunctionName, _ string, pkg []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.fail) > 0 {
		err := f.fail[0]
		f.fail = f.fail[1:]
		return err
	}
	f.got <- pkg
	return nil
}

// next waits for a package in which a file has a content; others, of states in
// between, are passed over.
func (f *functions) next(t *testing.T, name, content string) {
	t.Helper()
	patience := time.After(20 * time.Second)
	for {
		select {
		case pkg := <-f.got:
			dir := filepath.Join(t.TempDir(), "out")
			if _, err := bundle.Unpack(t.Context(), pkg, dir, bundle.MaxUnpackedBytes); err != nil {
				t.Fatal(err)
			}
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil && string(text) == content {
				return
			}
		case <-patience:
			t.Fatalf("waited in vain for %s to be %q", name, content)
		}
	}
}

func newReloader(t *testing.T) (*Reloader, *functions, string) {
	t.Helper()
	f := &functions{got: make(chan []byte, 100)}
	root := t.TempDir()
	r, err := New(Options{Roots: []string{root}, Update: f.update, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, f, root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestChangesInAFolderBecomeTheFunctionsCode(t *testing.T) {
	r, f, root := newReloader(t)
	folder := filepath.Join(root, "f")
	write(t, filepath.Join(folder, "index.js"), "1")
	r.Follow("1", "f", folder)
	f.next(t, "index.js", "1") // as it is when the watch begins: it may have changed while nobody watched
	write(t, filepath.Join(folder, "index.js"), "2")
	f.next(t, "index.js", "2")
	write(t, filepath.Join(folder, "lib/deep/a.js"), "3") // in a folder that was not there
	f.next(t, "lib/deep/a.js", "3")
	write(t, filepath.Join(folder, "lib/deep/a.js"), "4")
	f.next(t, "lib/deep/a.js", "4")
	next := filepath.Join(root, "next.js") // as editors do it
	write(t, next, "5")
	if err := os.Rename(next, filepath.Join(folder, "index.js")); err != nil {
		t.Fatal(err)
	}
	f.next(t, "index.js", "5")
}

func TestUpdateThatCannotBeMadeNowIsMadeLater(t *testing.T) {
	r, f, root := newReloader(t)
	write(t, filepath.Join(root, "index.js"), "1")
	f.fail = []error{&lambent.Error{Kind: lambent.KindExists}, errors.New("no")}
	r.Follow("1", "f", root)
	f.next(t, "index.js", "1")
	// A folder that cannot be packed is waited for, too.
	if err := os.Symlink("/etc/passwd", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "index.js"), "2")
	if err := os.Remove(filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	f.next(t, "index.js", "2")
}

func TestWatchEndsWithItsFunction(t *testing.T) {
	r, f, root := newReloader(t)
	write(t, filepath.Join(root, "index.js"), "1")
	f.fail = []error{&lambent.Error{Kind: lambent.KindNotFound}}
	r.Follow("1", "gone", root)
	r.running.Wait()
	r.Follow("1", "f", root)
	f.next(t, "index.js", "1")
	r.Follow("1", "f", root) // again: goes on
	r.Follow("1", "f", "")
	r.Follow("1", "outside", "/usr")
	r.running.Wait() // all have ended by themselves
}

func TestSecurityOnlyFoldersBelowTheRootsAreServed(t *testing.T) {
	r, _, root := newReloader(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "s")
	write(t, filepath.Join(root, "in/f"), "x")
	write(t, filepath.Join(root, "file"), "x")
	if err := os.Symlink(outside, filepath.Join(root, "way-out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "in/link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		outside: "hot_reload names no folder", filepath.Join(outside, "none"): "hot_reload names no folder", "relative": "hot_reload names no folder",
		filepath.Join(root, "way-out"): "hot_reload names no folder", root + "/../" + filepath.Base(outside): "hot_reload names no folder",
		root + "x": "hot_reload names no folder", filepath.Join(root, "none"): "no such file", filepath.Join(root, "file"): "is not a folder",
		filepath.Join(root, "in"): "cannot be packed",
	} {
		folder, pkg, err := r.Pack(path)
		e, ok := errors.AsType[*lambent.Error](err)
		if !ok || e.Kind != lambent.KindInvalid || !strings.Contains(e.Message, want) || folder != "" || pkg != nil {
			t.Errorf("%s: %q, %v", path, folder, err)
		}
	}
	if err := os.Remove(filepath.Join(root, "in/link")); err != nil {
		t.Fatal(err)
	}
	if folder, pkg, err := r.Pack(filepath.Join(root, "in")); err != nil || folder != filepath.Join(root, "in") || len(pkg) == 0 {
		t.Errorf("%q, %v", folder, err)
	}
}

// A folder is checked when it is named, and packed again and again after that:
// whoever may write beside it may have put a link in its place.
func TestSecurityAFolderThatBecameALinkOutOfTheRootsIsNotServed(t *testing.T) {
	for _, replaced := range []string{"project", "project/f"} {
		t.Run(replaced, func(t *testing.T) {
			r, _, root := newReloader(t)
			outside := t.TempDir()
			for _, below := range []string{".", "f"} {
				write(t, filepath.Join(outside, below, "index.js"), "outside")
			}
			write(t, filepath.Join(root, "project/f/index.js"), "inside")
			folder, _, err := r.Pack(filepath.Join(root, "project/f"))
			if err != nil {
				t.Fatal(err)
			}
			replaced := filepath.Join(root, replaced)
			if err := os.Rename(replaced, replaced+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, replaced); err != nil {
				t.Fatal(err)
			}
			if _, err := r.pack(folder); err == nil {
				t.Error("a folder outside of the roots was packed")
			}
			if err := os.Remove(replaced); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(replaced+".old", replaced); err != nil {
				t.Fatal(err)
			}
			if _, err := r.pack(folder); err != nil {
				t.Errorf("the folder is back: %v", err)
			}
		})
	}
}

func TestFoldersThatTellNothingAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "1")
	before := fingerprint(dir)
	if fingerprint(dir) != before {
		t.Error("the same folder has two fingerprints")
	}
	write(t, filepath.Join(dir, "a"), "22")
	if fingerprint(dir) == before {
		t.Error("a changed file makes no difference")
	}
	if (*news)(nil).told() != nil {
		t.Error("nothing tells something")
	}
}

func TestRootsMustBeFolders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	write(t, file, "x")
	for _, bad := range []string{"relative", file, filepath.Join(t.TempDir(), "none")} {
		if _, err := New(Options{Roots: []string{bad}}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}
