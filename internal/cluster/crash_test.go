package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/cluster/crashtest"
)

func TestMain(m *testing.M) {
	os.Exit(crashtest.Main(m, map[string]crashtest.Work{"cluster": writeUntilKilled}))
}

// op is one write.
type op struct {
	Key   string
	Value string // empty: a deletion
	Blob  bool
}

// writeUntilKilled writes to few keys, so that most writes replace something.
func writeUntilKilled(dir string, out *crashtest.Output) error {
	ctx := context.Background()
	n := New(Options{Dir: dir})
	if err := n.Open(ctx); err != nil {
		return err
	}
	bucket, err := n.Bucket(ctx, "records")
	if err != nil {
		return err
	}
	blobs, err := n.Blobs(ctx, "code")
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		o := op{Key: fmt.Sprintf("k%d", rand.IntN(5)), Value: fmt.Sprintf("%d-%d", os.Getpid(), i), Blob: rand.IntN(4) == 0}
		if rand.IntN(4) == 0 {
			o.Value = ""
		}
		if err := crashtest.Change(out, o, func() error { return o.do(ctx, bucket, blobs) }); err != nil {
			return err
		}
	}
}

func (o op) do(ctx context.Context, bucket *Bucket, blobs *Blobs) error {
	var err error
	switch {
	case o.Blob && o.Value == "":
		err = blobs.Delete(ctx, o.Key)
	case o.Blob:
		_, err = blobs.Put(ctx, o.Key, strings.NewReader(o.Value))
	case o.Value == "":
		err = bucket.Delete(ctx, o.Key, 0)
	default:
		_, err = bucket.Put(ctx, o.Key, []byte(o.Value))
	}
	return err
}

func (o op) id() string { return fmt.Sprintf("%s blob=%v", o.Key, o.Blob) }

func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]string{} // value by id; empty for none
	for round := range 4 {
		pending := crashtest.Changes(t, "cluster", dir, 1+rand.IntN(120), func(o op) { acked[o.id()] = o.Value })
		n := New(Options{Dir: dir})
		if err := n.Open(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		bucket, blobs := openBucket(t, n, "records"), openBlobs(t, n, "code")
		for i := range 5 {
			for _, blob := range []bool{false, true} {
				o := op{Key: fmt.Sprintf("k%d", i), Blob: blob}
				got := o.read(t, bucket, blobs)
				want := acked[o.id()]
				unacked := pending != nil && pending.id() == o.id() && got == pending.Value
				if got != want && !unacked {
					t.Errorf("round %d: %s is %q, acknowledged was %q (begun: %+v)", round, o.id(), got, want, pending)
				}
				acked[o.id()] = got
			}
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func (o op) read(t *testing.T, bucket *Bucket, blobs *Blobs) string {
	t.Helper()
	if !o.Blob {
		e, err := bucket.Get(t.Context(), o.Key)
		if err != nil && lambent.KindOf(err) != lambent.KindNotFound {
			t.Fatal(err)
		}
		return string(e.Value)
	}
	r, _, err := blobs.Get(t.Context(), o.Key)
	if lambent.KindOf(err) == lambent.KindNotFound && err != nil {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// blocksOf lists the files that hold the messages of a stream.
func blocksOf(t *testing.T, dir, stream string) []string {
	t.Helper()
	blocks, err := glob(dir, "jetstream/*/streams/"+stream+"/msgs/*.blk")
	if err != nil || len(blocks) == 0 {
		t.Fatalf("blocks of %s: %v, %v", stream, blocks, err)
	}
	return blocks
}

// filled makes a folder with records k0…k99 and closes it.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "odd [name] *")
	n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
	b := openBucket(t, n, "records")
	for i := range 100 {
		must(b.Put(t.Context(), fmt.Sprintf("k%d", i), []byte("value")))(t)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFolderWithADamagedTailOpensAndTellsWhatItDropped(t *testing.T) {
	for name, damage := range map[string]func(data []byte) []byte{
		"cut in a record": func(data []byte) []byte { return data[:len(data)-5] },
		"flipped bit":     func(data []byte) []byte { data[len(data)-12] ^= 4; return data },
		"zeroes":          func(data []byte) []byte { clear(data[len(data)-20:]); return data },
		"garbage after":   func(data []byte) []byte { return append(data, randomBytes(3, 100)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			block := blocksOf(t, dir, "KV_records")[0]
			data := must(os.ReadFile(block))(t)
			damaged := damage(bytes.Clone(data))
			if err := os.WriteFile(block, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			n := openNode(t, Options{Dir: dir})
			b := openBucket(t, n, "records")
			if kept := count(t, b); kept < 99 {
				t.Errorf("%d of 100 records are left", kept)
			}
			if d := n.Damage(); len(d) != 1 || d[0].Stream != "KV_records" || d[0].Bytes <= 0 || !strings.Contains(d[0].String(), "KV_records") {
				t.Errorf("it says it dropped %+v", d)
			} else if kept, err := os.ReadFile(filepath.Join(d[0].Kept, filepath.Base(block))); err != nil || !bytes.Equal(kept, damaged) {
				t.Errorf("the damaged file was not kept in %q: %v", d[0].Kept, err)
			}
			must(b.Create(t.Context(), "new", nil))(t)
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			n = openNode(t, Options{Dir: dir})
			if d := n.Damage(); len(d) != 0 {
				t.Errorf("the second time it still says it dropped %+v", d)
			}
			must(openBucket(t, n, "records").Get(t.Context(), "new"))(t)
		})
	}
}

func count(t *testing.T, b *Bucket) (n int) {
	t.Helper()
	if err := b.All(t.Context(), func(Entry) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFolderWithADamagedFirstRecordTellsThatAllWasDropped(t *testing.T) {
	dir := filled(t)
	block := blocksOf(t, dir, "KV_records")[0]
	data := must(os.ReadFile(block))(t)
	data[1] ^= 1 // of its length: nobody knows where the next one begins
	if err := os.WriteFile(block, data, 0o600); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, Options{Dir: dir})
	if kept := count(t, openBucket(t, n, "records")); kept != 0 {
		t.Errorf("%d records are left", kept)
	}
	if d := n.Damage(); len(d) != 1 || d[0].Bytes != int64(len(data)) {
		t.Errorf("it says it dropped %+v, of %d bytes", d, len(data))
	}
}

func TestUndamagedFolderTellsOfNoDamage(t *testing.T) {
	dir := filled(t)
	n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
	b := openBucket(t, n, "records")
	for i := range 90 { // so that there is something to write anew
		if err := b.Delete(t.Context(), fmt.Sprintf("k%d", i), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if d := openNode(t, Options{Dir: dir}).Damage(); len(d) != 0 {
		t.Errorf("it says it dropped %+v", d)
	}
	left := must(os.ReadDir(dir))(t)
	if len(left) != 2 || left[0].Name() != "jetstream" || left[1].Name() != "lock" {
		t.Errorf("left behind: %v", left)
	}
}

func TestSecurityStreamThatCannotBeReadIsNotBegunAnew(t *testing.T) {
	for _, file := range []string{"meta.inf", "meta.sum"} {
		t.Run(file, func(t *testing.T) {
			dir := filled(t)
			meta := must(glob(dir, "jetstream/*/streams/KV_records/"+file))(t)
			whole := must(os.ReadFile(meta[0]))(t)
			if err := os.WriteFile(meta[0], whole[:len(whole)/2], 0o600); err != nil {
				t.Fatal(err)
			}
			err := New(Options{Dir: dir}).Open(t.Context())
			if err == nil || !strings.Contains(err.Error(), "KV_records") || !strings.Contains(err.Error(), "backup") {
				t.Fatalf("Open returned %v", err)
			}
			// With the file put back, all is there.
			if err := os.WriteFile(meta[0], whole, 0o600); err != nil {
				t.Fatal(err)
			}
			b := openBucket(t, openNode(t, Options{Dir: dir}), "records")
			must(b.Get(t.Context(), "k99"))(t)
		})
	}
}

func TestStreamThatWasOnlyHalfMadeIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, Options{Dir: dir})
	openBucket(t, n, "records")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "jetstream")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == "meta.sum" {
			return os.Remove(p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b := openBucket(t, openNode(t, Options{Dir: dir}), "records")
	must(b.Put(t.Context(), "a", nil))(t)
}
