package host

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lambent"
)

// fetched gives one package, and counts.
type fetched struct {
	pkg   []byte
	count int
}

func (f *fetched) hash() lambent.CodeHash {
	sum := sha256.Sum256(f.pkg)
	return lambent.CodeHash(base64.StdEncoding.EncodeToString(sum[:]))
}

func (f *fetched) fetch(context.Context, lambent.CodeHash) (io.ReadCloser, int64, error) {
	f.count++
	return io.NopCloser(bytes.NewReader(f.pkg)), int64(len(f.pkg)), nil
}

// use opens a cache, has it hold the package, and waits until that has its mark.
func (f *fetched) use(t *testing.T, dir string) (code string) {
	t.Helper()
	cc := newCodeCache(dir, f.fetch)
	if err := cc.open(); err != nil {
		t.Fatal(err)
	}
	defer cc.close()
	code, _, release, err := cc.hold(t.Context(), f.hash())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if got, err := os.ReadFile(filepath.Join(code, "index.js")); err != nil || string(got) != "code" {
		t.Errorf("the code is %q, %v", got, err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(code + syncMark); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return code
}

func onePackage(t *testing.T) *fetched {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("index.js")
	if err == nil {
		_, err = w.Write([]byte("code"))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &fetched{pkg: b.Bytes()}
}

// After a power loss there may be a folder with empty files: what was not synced.
func TestCodeThatMayNotBeOnTheDiskIsUnpackedAnew(t *testing.T) {
	dir, f := filepath.Join(t.TempDir(), "code"), onePackage(t)
	code := f.use(t, dir)
	f.use(t, dir)
	if f.count != 1 {
		t.Errorf("code with its mark was fetched %d times", f.count)
	}
	if err := os.Remove(code + syncMark); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(code, "index.js"), 0); err != nil {
		t.Fatal(err)
	}
	f.use(t, dir)
	if f.count != 2 {
		t.Errorf("code that lost its mark was fetched %d times", f.count)
	}
	if err := os.RemoveAll(code); err != nil {
		t.Fatal(err)
	}
	f.use(t, dir)
	if f.count != 3 {
		t.Errorf("code of which only the mark was left was fetched %d times", f.count)
	}
}

func TestCodeThatIsDroppedTakesItsMarkAlong(t *testing.T) {
	dir, f := filepath.Join(t.TempDir(), "code"), onePackage(t)
	f.use(t, dir)
	cc := newCodeCache(dir, f.fetch)
	if err := cc.open(); err != nil {
		t.Fatal(err)
	}
	defer cc.close()
	if err := cc.drop(f.hash()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// A folder that was dropped while it was synced, and filled again, is not the one
// that was.
func TestCodeThatIsFilledAgainIsNotMarkedForWhatWasBefore(t *testing.T) {
	f := onePackage(t)
	cc := newCodeCache(t.TempDir(), f.fetch) // which does not sync
	fill := func() (code string, filling uint64) {
		code, _, release, err := cc.hold(t.Context(), f.hash())
		if err != nil {
			t.Fatal(err)
		}
		release()
		cc.mu.Lock()
		defer cc.mu.Unlock()
		return code, cc.fresh[code]
	}
	code, first := fill()
	if err := cc.drop(f.hash()); err != nil {
		t.Fatal(err)
	}
	_, second := fill()
	cc.mark(code, first)
	if _, err := os.Stat(code + syncMark); err == nil {
		t.Error("it is marked for a folder that is gone")
	}
	cc.mark(code, second)
	if _, err := os.Stat(code + syncMark); err != nil {
		t.Error(err)
	}
}
