package cluster

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// randomBytes are the same for the same seed.
func randomBytes(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	return data
}

func TestBlobsAreReadAsTheyWereWritten(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
	b := openBlobs(t, n, "code")
	ctx := t.Context()
	blobs := map[string][]byte{
		Key("empty"): {}, Key("small"): []byte("x"), Key("exact"): randomBytes(1, chunkBytes), Key("ends/with+odd="): randomBytes(2, 2*chunkBytes+17),
	}
	for key, data := range blobs {
		if size := must(b.Put(ctx, key, bytes.NewReader(data)))(t); size != int64(len(data)) {
			t.Errorf("%s: wrote %d bytes of %d", key, size, len(data))
		}
	}
	check := func(b *Blobs) {
		t.Helper()
		for key, data := range blobs {
			r, size, err := b.Get(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			got := must(io.ReadAll(r))(t)
			if size != int64(len(data)) || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes that differ", key, len(got))
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("after Close, Read says %v", err)
			}
		}
		if keys := must(b.Keys(ctx))(t); len(keys) != len(blobs) {
			t.Errorf("keys %v", keys)
		}
	}
	check(b)
	blobs[Key("small")] = []byte("replaced")
	must(b.Put(ctx, Key("small"), strings.NewReader("replaced")))(t)
	check(b)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBlobs(t, openNode(t, Options{Dir: dir}), "code")
	check(b)

	for key := range blobs {
		for range 2 { // the second time there is none, which is no error
			if err := b.Delete(ctx, key); err != nil {
				t.Error(err)
			}
		}
		if there := must(b.Exists(ctx, key))(t); there {
			t.Errorf("%s is still there", key)
		}
		_, _, err := b.Get(ctx, key)
		wantKind(t, err, lambent.KindNotFound)
	}
	if info := must(b.chunks.Info(ctx))(t); info.State.Msgs != 0 {
		t.Errorf("%d chunks are left", info.State.Msgs)
	}
}

// brokenReader gives some bytes and then an error.
type brokenReader struct{ left int }

var errBroken = errors.New("the source broke")

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, errBroken
	}
	n := min(len(p), r.left)
	r.left -= n
	return n, nil
}

func TestFailedPutLeavesTheOldBlobAndNoChunks(t *testing.T) {
	b := openBlobs(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "code")
	ctx := t.Context()
	must(b.Put(ctx, "a", strings.NewReader("old")))(t)
	_, err := b.Put(ctx, "a", &brokenReader{left: chunkBytes + 5})
	if !errors.Is(err, errBroken) {
		t.Errorf("Put returned %v", err)
	}
	r, _, err := b.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got := must(io.ReadAll(r))(t); string(got) != "old" {
		t.Errorf("got %q", got)
	}
	if info := must(b.chunks.Info(ctx))(t); info.State.Msgs != 1 {
		t.Errorf("%d chunks", info.State.Msgs)
	}
}

func TestUnfinishedWritesAreSweptAtOpen(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	b := openBlobs(t, n, "code")
	must(b.Put(t.Context(), "a", strings.NewReader("kept")))(t)
	for range 3 {
		must(b.js.Publish(t.Context(), b.subject("UNFINISHED"), []byte("chunk")))(t)
	}
	b = openBlobs(t, n, "code")
	if info := must(b.chunks.Info(t.Context()))(t); info.State.Msgs != 1 {
		t.Errorf("%d chunks", info.State.Msgs)
	}
}

func TestDamagedBlobsAreNotHandedOut(t *testing.T) {
	b := openBlobs(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "code")
	ctx := t.Context()
	read := func() error {
		r, _, err := b.Get(ctx, "a")
		if err != nil {
			return err
		}
		_, err = io.ReadAll(r)
		return err
	}
	must(b.Put(ctx, "a", bytes.NewReader(randomBytes(1, 2*chunkBytes))))(t)
	info := must(b.chunks.Info(ctx))(t)
	if err := b.chunks.DeleteMsg(ctx, info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	wantKind(t, read(), lambent.KindInternal)

	h := must(b.head(ctx, "a"))(t)
	must(b.js.Publish(ctx, b.subject(h.Upload), randomBytes(2, chunkBytes)))(t)
	wantKind(t, read(), lambent.KindInternal)
	must(b.js.Publish(ctx, b.subject(h.Upload), randomBytes(2, chunkBytes)))(t)
	wantKind(t, read(), lambent.KindInternal)
}

func TestBlobsThatAreNotWholeAreGoneAtOpen(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	b := openBlobs(t, n, "code")
	ctx := t.Context()
	must(b.Put(ctx, "whole", bytes.NewReader(randomBytes(1, chunkBytes+1))))(t)
	must(b.Put(ctx, "empty", strings.NewReader("")))(t)
	must(b.Put(ctx, "cut", bytes.NewReader(randomBytes(2, chunkBytes+1))))(t)
	info := must(b.chunks.Info(ctx))(t)
	if err := b.chunks.DeleteMsg(ctx, info.State.LastSeq); err != nil {
		t.Fatal(err)
	}
	b = openBlobs(t, n, "code")
	if diff := cmp.Diff([]string{"whole", "empty"}, must(b.Keys(ctx))(t)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if info := must(b.chunks.Info(ctx))(t); info.State.Msgs != 2 {
		t.Errorf("%d chunks", info.State.Msgs)
	}
}

func TestBlobTheDiskSpoiledIsToldToBeDamaged(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
	must(openBlobs(t, n, "code").Put(t.Context(), "a", bytes.NewReader(randomBytes(1, 3000))))(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	block := blocksOf(t, dir, "CHUNKS_code")[0]
	data := must(os.ReadFile(block))(t)
	data[1000] ^= 1
	if err := os.WriteFile(block, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b := openBlobs(t, openNode(t, Options{Dir: dir, Sync: SyncSometime}), "code")
	r, _, err := b.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(r)
	if e, ok := errors.AsType[*lambent.Error](err); !ok || e.Reason != ReasonDamaged || e.Kind != lambent.KindInternal {
		t.Errorf("got %v", err)
	}
	must(b.Put(t.Context(), "a", strings.NewReader("again")))(t)
	if r, _, err = b.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if got := must(io.ReadAll(r))(t); string(got) != "again" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkBlobs(b *testing.B) {
	blobs := openBlobs(b, openNode(b, Options{Dir: b.TempDir()}), "code")
	data := randomBytes(1, 20<<20)
	b.Run("put", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := blobs.Put(b.Context(), "a", bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			r, _, err := blobs.Get(b.Context(), "a")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
