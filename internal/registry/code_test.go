package registry

import (
	"strings"
	"testing"
	"time"

	"lambent"
)

func TestCodeNobodyNamesIsSweptAtOpen(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	fn := f.created("hello", "kept")
	// As after a crash between the two writes of a create.
	orphan := hashOf([]byte("orphan"))
	must(f.blobs.Put(t.Context(), codeKey(orphan), strings.NewReader("orphan")))(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, node, nil)
	if _, err := f.code(orphan); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("the orphan: %v", err)
	}
	if got, err := f.code(fn.Code); got != "kept" || err != nil {
		t.Errorf("code %q, %v", got, err)
	}
}

func TestMissingCodeIsStoredByTheNextUpload(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	fn := f.created("hello", "zip")
	if err := f.blobs.Delete(t.Context(), codeKey(fn.Code)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, node, nil)
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("zip"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if got, err := f.code(fn.Code); got != "zip" || err != nil {
		t.Errorf("code %q, %v", got, err)
	}
}

func (c *codeStore) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.packages)
}

func TestDamagedCodeIsStoredByTheNextUpload(t *testing.T) {
	node := openNode(t, t.TempDir())
	f := open(t, node, nil)
	fn := f.created("hello", "zip")
	heads := must(node.Bucket(t.Context(), codeName+"-heads"))(t)
	head := must(heads.Get(t.Context(), codeKey(fn.Code)))(t)
	spoiled := strings.Replace(string(head.Value), `"sha256":"`, `"sha256":"0`, 1)
	must(heads.Put(t.Context(), head.Key, []byte(spoiled)))(t)
	if got, err := f.code(fn.Code); err == nil {
		t.Errorf("damaged code was handed out: %q", got)
	}
	if _, err := f.UpdateFunctionCode(t.Context(), account, "hello", "", nil, []byte("zip"), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	f.wait()
	if got, err := f.code(fn.Code); got != "zip" || err != nil {
		t.Errorf("code %q, %v", got, err)
	}
}

func TestCodeIsSharedAndCounted(t *testing.T) {
	f := open(t, openNode(t, t.TempDir()), nil)
	a, b := f.created("a", "same"), f.created("b", "same")
	if a.Code != b.Code {
		t.Fatal("the same code has two hashes")
	}
	drop := func() int {
		return len(must(f.Registry.code.dropUnused(t.Context(), time.Now().Add(time.Hour)))(t))
	}
	if err := f.DeleteFunction(t.Context(), account, "a"); err != nil {
		t.Fatal(err)
	}
	if n := drop(); n != 0 {
		t.Errorf("dropped %d", n)
	}
	if _, err := f.UpdateFunctionCode(t.Context(), account, "b", "", nil, []byte("same"), lambent.Unpublished); err != nil { // to what it has
		t.Fatal(err)
	}
	f.wait()
	if got, err := f.code(b.Code); got != "same" || err != nil || drop() != 0 {
		t.Errorf("code %q, %v", got, err)
	}
	if !f.HasCode(b.Code) || f.HasCode("another") {
		t.Error("HasCode is wrong while a function has it")
	}
	if err := f.DeleteFunction(t.Context(), account, "b"); err != nil {
		t.Fatal(err)
	}
	if f.HasCode(b.Code) {
		t.Error("HasCode is wrong once no function has it")
	}
	if n := drop(); n != 1 || f.Registry.code.len() != 0 {
		t.Errorf("dropped %d, and %d are left", n, f.Registry.code.len())
	}
}

func TestUnusedCodeIsDroppedInTheBackground(t *testing.T) {
	node := openNode(t, t.TempDir())
	dropped := make(chan lambent.CodeHash, 1)
	r, err := Open(t.Context(), node, Options{Region: region, CodeGrace: time.Millisecond, CodeDropped: func(h lambent.CodeHash) { dropped <- h }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	fn := must(r.CreateFunction(t.Context(), spec("hello"), []byte("zip"), lambent.Unpublished))(t)
	if err := r.DeleteFunction(t.Context(), account, "hello"); err != nil {
		t.Fatal(err)
	}
	if got := <-dropped; got != fn.Code {
		t.Errorf("dropped %s", got)
	}
}
