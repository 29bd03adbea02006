package cluster

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/minio/highwayhash"
)

// records tells where the records of a block begin, and last where it ends.
func records(block []byte) (at []int) {
	for from := 0; from < len(block); from += int(binary.LittleEndian.Uint32(block[from:]) &^ recordHeaders) {
		at = append(at, from)
	}
	return append(at, len(block))
}

// spoil changes the only block of a stream.
func spoil(t *testing.T, dir, stream string, change func(block []byte)) {
	t.Helper()
	path := blocksOf(t, dir, stream)[0]
	block := must(os.ReadFile(path))(t)
	change(block)
	must(0, os.WriteFile(path, block, 0o600))(t)
}

// journalled makes a folder with a journal of entries and closes it, without a
// summary of it, as after a kill.
func journalled(t *testing.T, entries ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
	j := openJournal(t, n, "j")
	for _, e := range entries {
		must(0, j.Append(t.Context(), Append{Entries: [][]byte{[]byte(e)}}))(t)
	}
	must(0, j.Close())(t)
	must(0, n.Close())(t)
	for _, path := range must(glob(dir, "jetstream/*/streams/JOURNAL_j/msgs/index.db"))(t) {
		must(0, os.Remove(path))(t)
	}
	return dir
}

// reopened gives the entries of a journal, and what is said to be dropped.
func reopened(t *testing.T, dir string) (entries []string, lost uint64, damage []Damage) {
	t.Helper()
	n := openNode(t, Options{Dir: dir})
	j := openJournal(t, n, "j")
	lost = must(j.All(t.Context(), func(p Pack) error {
		for _, e := range p.Entries {
			entries = append(entries, string(e))
		}
		return nil
	}))(t)
	damage = n.Damage()
	must(0, j.Append(t.Context(), Append{Entries: [][]byte{[]byte("new")}}))(t)
	must(0, j.Close())(t)
	must(0, n.Close())(t)
	return entries, lost, damage
}

func numbered(n int) (entries []string) {
	for i := range n {
		entries = append(entries, fmt.Sprintf("entry %d", i))
	}
	return entries
}

func TestSpoiledRecordCostsNoneOfThoseBehindIt(t *testing.T) {
	for name, spoiled := range map[string]struct{ record, byte int }{
		"first record, content": {0, -recordSum - 1},
		"number":                {20, 5},
		"time":                  {20, 13},
		"length of the subject": {20, 20},
		"and beyond the record": {20, 21},
		"subject":               {20, recordHead},
		"content":               {20, -recordSum - 1},
		"checksum":              {20, -1},
		"last but one":          {38, -recordSum - 1},
	} {
		t.Run(name, func(t *testing.T) {
			entries := numbered(40)
			dir := journalled(t, entries...)
			var whole []byte
			spoil(t, dir, "JOURNAL_j", func(block []byte) {
				at := records(block)
				k := at[spoiled.record] + spoiled.byte
				if spoiled.byte < 0 {
					k = at[spoiled.record+1] + spoiled.byte
				}
				block[k] ^= 1 << rand.IntN(8)
				whole = bytes.Clone(block)
			})
			got, lost, damage := reopened(t, dir)
			if want := slices.Delete(slices.Clone(entries), spoiled.record, spoiled.record+1); !slices.Equal(got, want) {
				t.Errorf("there are %q", got)
			}
			// Of the first one nobody knows that it was there.
			if spoiled.record > 0 && lost != 1 {
				t.Errorf("%d packs are missing", lost)
			}
			if name == "length of the subject" {
				return // no checksum of the engine's is over it: that the pack has its own tells
			}
			if len(damage) != 1 || damage[0].Stream != "JOURNAL_j" || damage[0].Bytes <= 0 {
				t.Errorf("told is %+v", damage)
			} else if kept := must(os.ReadFile(filepath.Join(damage[0].Kept, "1.blk")))(t); !bytes.Equal(kept, whole) {
				t.Error("the file was not kept as it was")
			}
			got, _, damage = reopened(t, dir)
			if len(got) != len(entries) || got[len(got)-1] != "new" || len(damage) != 0 {
				t.Errorf("the next time there are %q, told is %+v", got, damage)
			}
		})
	}
}

func TestSpoiledRecordOfABucketCostsNoOther(t *testing.T) {
	dir := filled(t)
	spoil(t, dir, "KV_records", func(block []byte) { block[records(block)[50]+recordHead+3] ^= 4 })
	n := openNode(t, Options{Dir: dir})
	b := openBucket(t, n, "records")
	if kept := count(t, b); kept != 99 || len(n.Damage()) != 1 {
		t.Errorf("%d of 100 records are left, told is %v", kept, n.Damage())
	}
	must(b.Get(t.Context(), "k99"))(t)
	must(b.Put(t.Context(), "k50", []byte("again")))(t)
	must(0, n.Close())(t)
	n = openNode(t, Options{Dir: dir})
	if kept := count(t, openBucket(t, n, "records")); kept != 100 || len(n.Damage()) != 0 {
		t.Errorf("the next time %d of 100 records are there, told is %v", kept, n.Damage())
	}
}

// Where more is wrong the file is cut, as the engine does.
func TestBlockOfWhichMoreIsSpoiledIsCutAndTold(t *testing.T) {
	for name, change := range map[string]func(block []byte, at []int){
		"two records":      func(block []byte, at []int) { block[at[20]+30] ^= 1; block[at[30]+30] ^= 1 },
		"a length":         func(block []byte, at []int) { block[at[20]+1] ^= 1 },
		"one, and the end": func(block []byte, at []int) { block[at[20]+30] ^= 1; clear(block[len(block)-5:]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := journalled(t, numbered(40)...)
			spoil(t, dir, "JOURNAL_j", func(block []byte) { change(block, records(block)) })
			got, _, damage := reopened(t, dir)
			if !slices.Equal(got, numbered(20)) || len(damage) != 1 {
				t.Errorf("there are %q, told is %+v", got, damage)
			}
		})
	}
}

// The key of the checksums is no secret. What a caller writes into an entry can
// look like a record of the journal, and is never taken for one, whatever the
// record it is in says about its length.
func TestSecurityWhatLooksLikeARecordInAnEntryIsNone(t *testing.T) {
	key := sha256.Sum256([]byte("JOURNAL_j-1"))
	forged := func(message uint64, content []byte) []byte {
		const subject = "journal.j"
		pack := append(make([]byte, packHead), binary.AppendUvarint(nil, uint64(len(content)))...)
		pack = append(pack, content...)
		seal(pack)
		r := binary.LittleEndian.AppendUint32(nil, uint32(recordHead+len(subject)+len(pack)+recordSum))
		r = binary.LittleEndian.AppendUint64(r, message)
		r = binary.LittleEndian.AppendUint64(r, 1)
		r = binary.LittleEndian.AppendUint16(r, uint16(len(subject)))
		r = append(append(r, subject...), pack...)
		hash := must(highwayhash.NewDigest64(key[:]))(t)
		_, _ = hash.Write(r[4:20])
		_, _ = hash.Write(r[recordHead:])
		return hash.Sum(r)
	}
	evil := bytes.Repeat(forged(7, []byte("evil")), 50)
	for range 20 {
		entries := numbered(20)
		entries[5] = string(evil)
		dir := journalled(t, entries...)
		var length int
		spoil(t, dir, "JOURNAL_j", func(block []byte) {
			at := records(block)[5]
			begin := at + bytes.Index(block[at:], evil[:recordHead])
			length = begin - at + rand.IntN(40)*len(evil)/50 // to where one of the forged begins
			binary.LittleEndian.PutUint32(block[at:], uint32(length))
		})
		if got, _, _ := reopened(t, dir); slices.Contains(got, "evil") || len(got) < 5 {
			t.Fatalf("with a length of %d there are %.1000q", length, strings.Join(got, ", "))
		}
	}
}

// Whatever bit is another, the folder opens; but for lengths, that costs the record
// it is in.
func TestAnyFlippedBitCostsOneRecordAtMost(t *testing.T) {
	entries := numbered(30)
	for range 40 {
		dir := journalled(t, entries...)
		inLength := false
		spoil(t, dir, "JOURNAL_j", func(block []byte) {
			k := rand.IntN(len(block))
			at := records(block)
			i, found := slices.BinarySearch(at, k)
			if !found {
				i--
			}
			inLength = k < at[i]+4
			block[k] ^= 1 << rand.IntN(8)
		})
		if got, lost, damage := reopened(t, dir); !inLength && (len(got) != len(entries)-1 || lost == 0 && len(damage) == 0) {
			t.Errorf("there are %q, told is %d, %v", got, lost, damage)
		}
	}
}

func FuzzSpoiledNeverPanics(f *testing.F) {
	f.Add([]byte{1, 2, 3})
	f.Add(bytes.Repeat([]byte{40, 0, 0, 0, 0}, 20))
	f.Fuzz(func(_ *testing.T, block []byte) { _, _ = spoiled(block, "JOURNAL_j", 1) })
}
