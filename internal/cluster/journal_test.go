package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

func openJournal(t testing.TB, n *Node, name string) *Journal {
	t.Helper()
	j, err := n.Journal(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func bytesOf(entries ...string) (b [][]byte) {
	for _, e := range entries {
		b = append(b, []byte(e))
	}
	return b
}

// all reads a journal as "pack/index entry".
func (j *Journal) all(t *testing.T) (entries []string, damaged uint64) {
	t.Helper()
	damaged = must(j.All(t.Context(), func(p Pack) error {
		for i, e := range p.Entries {
			entries = append(entries, fmt.Sprintf("%d/%d %s", p.Number, i, e))
		}
		return nil
	}))(t)
	return entries, damaged
}

func TestJournalGivesBackWhatWasAppendedInItsOrder(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, Options{Dir: dir})
	j := openJournal(t, n, "events")
	var stored []Position
	appendTo := func(entries ...string) {
		t.Helper()
		if err := j.Append(t.Context(), Append{Entries: bytesOf(entries...), Stored: func(p Position) { stored = append(stored, p) }}); err != nil {
			t.Fatal(err)
		}
	}
	appendTo("a", "", "c")
	appendTo()
	appendTo("d")
	if want := []Position{{Pack: 1, Bytes: 10, Count: 3}, {Pack: 2, Bytes: 7, Count: 1}}; !slices.Equal(stored, want) {
		t.Errorf("stored at %+v, want %+v", stored, want)
	}
	want := []string{"1/0 a", "1/1 ", "1/2 c", "2/0 d"}
	got, damaged := j.all(t)
	if diff := cmp.Diff(want, got); diff != "" || damaged != 0 {
		t.Errorf("entries (-want +got):\n%s%d damaged", diff, damaged)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, j.Append(t.Context(), Append{Entries: bytesOf("late")}), lambent.KindUnavailable)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, openNode(t, Options{Dir: dir}), "events")
	if got, _ = j.all(t); !slices.Equal(got, want) {
		t.Errorf("after opening again: %q", got)
	}
	if p := must(j.Read(t.Context(), 2))(t); p.Number != 2 || p.Bytes != 7 || string(p.Entries[0]) != "d" {
		t.Errorf("read %+v", p)
	}
	enough := errors.New("enough")
	if _, err := j.All(t.Context(), func(Pack) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("All returned %v", err)
	}
}

func TestEntriesAppendedAtOnceShareTheirPacks(t *testing.T) {
	j := openJournal(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "events")
	var calls sync.WaitGroup
	last := Position{}
	for i := range 200 {
		calls.Go(func() {
			// Two each, of which no pack has one without the other.
			pair := bytesOf(fmt.Sprintf("%d first", i), fmt.Sprintf("%d second", i))
			err := j.Append(t.Context(), Append{Entries: pair, Stored: func(p Position) {
				if p.Pack < last.Pack || p.Pack == last.Pack && p.Index != last.Index+2 || p.Pack > last.Pack && p.Index != 0 {
					t.Errorf("told of %+v after %+v", p, last)
				}
				last = p
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	packs, entries := 0, 0
	must(j.All(t.Context(), func(p Pack) error {
		packs++
		for i, e := range p.Entries {
			entries++
			if i%2 == 1 && strings.Replace(string(e), "second", "first", 1) != string(p.Entries[i-1]) {
				t.Errorf("%s after %s", e, p.Entries[i-1])
			}
		}
		return nil
	}))(t)
	if entries != 400 || packs == 200 {
		t.Errorf("%d entries in %d packs", entries, packs)
	}
}

func TestJournalIsDroppedFromItsBeginningByWholeBlocks(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir()})
	j := openJournal(t, n, "events")
	if first := must(j.Drop(t.Context(), 5))(t); first != 0 {
		t.Errorf("of an empty one the packs from %d on are kept", first)
	}
	large := strings.Repeat("x", 1<<20)
	for range 20 { // seven make a block
		must(0, j.Append(t.Context(), Append{Entries: bytesOf(large)}))(t)
	}
	whole := must(j.State(t.Context()))(t)
	if whole.First != 1 || whole.Last != 20 || whole.Bytes < 20<<20 {
		t.Errorf("state %+v", whole)
	}
	for _, c := range []struct{ before, first uint64 }{{0, 0}, {1, 1}, {7, 1}, {8, 8}, {5, 0}, {20, 15}, {100, 15}} {
		if first := must(j.Drop(t.Context(), c.before))(t); first != c.first {
			t.Errorf("dropped before %d, the packs from %d on are kept, want %d", c.before, first, c.first)
		}
	}
	if _, err := j.Read(t.Context(), 14); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("a dropped pack: %v", err)
	}
	must(j.Read(t.Context(), 15))(t)
	if s := must(j.State(t.Context()))(t); s.First != 15 || s.Bytes > whole.Bytes/3 {
		t.Errorf("state after dropping %+v", s)
	}
	if got, damaged := j.all(t); len(got) != 6 || damaged != 0 {
		t.Errorf("%d entries and %d damaged", len(got), damaged)
	}
	must(0, j.Append(t.Context(), Append{Entries: bytesOf("next"), Stored: func(p Position) {
		if p.Pack != 21 {
			t.Errorf("the next pack is %d", p.Pack)
		}
	}}))(t)
}

func TestReadingAheadBringsWhatFollows(t *testing.T) {
	j := openJournal(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "events")
	for i := range 10 {
		must(0, j.Append(t.Context(), Append{Entries: bytesOf(strings.Repeat(fmt.Sprint(i), 1000))}))(t)
	}
	for _, c := range []struct {
		from  uint64
		bytes int
		want  int
	}{{1, 0, 1}, {3, 2500, 3}, {9, 1 << 30, 2}, {11, 1 << 20, 0}, {0, 1, 1}} {
		if packs := must(j.ReadFrom(t.Context(), c.from, c.bytes))(t); len(packs) != c.want {
			t.Errorf("%d bytes from %d are %d packs, want %d", c.bytes, c.from, len(packs), c.want)
		}
	}
}

func TestAppendsThatAreTooLargeOrOfCallersWhoLeftAreNotWritten(t *testing.T) {
	j := openJournal(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "events")
	wantKind(t, j.Append(t.Context(), Append{Entries: [][]byte{make([]byte, MaxAppend)}}), lambent.KindTooLarge)
	must(0, j.Append(t.Context(), Append{Entries: [][]byte{make([]byte, MaxAppend-EntryOverhead)}}))(t)

	// While one is written, the next ones wait: one leaves, one stays.
	busy, release := make(chan bool), make(chan bool)
	var calls sync.WaitGroup
	calls.Go(func() {
		must(0, j.Append(t.Context(), Append{Entries: bytesOf("first"), Stored: func(Position) { busy <- true; <-release }}))(t)
	})
	<-busy
	left, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- j.Append(left, Append{Entries: bytesOf("left")}) }()
	calls.Go(func() { must(0, j.Append(t.Context(), Append{Entries: bytesOf("stayed")}))(t) })
	leave()
	err := <-gone
	wantKind(t, err, lambent.KindUnavailable)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it says %v", err)
	}
	close(release)
	calls.Wait()
	if got, _ := j.all(t); len(got) != 3 || got[1] != "2/0 first" || !strings.HasSuffix(got[2], " stayed") {
		t.Errorf("written: %.20q", got[1:])
	}
}

func TestFullDiskLeavesRoomForWhatShortensAJournal(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime})
	j := openJournal(t, n, "events")
	plain, essential := Append{Entries: bytesOf("x")}, Append{Entries: bytesOf("y"), Essential: true}
	n.free = func(string) (int64, error) { return journalReserve - 1, nil }
	err := j.Append(t.Context(), plain)
	wantKind(t, err, lambent.KindUnavailable)
	if told, ok := errors.AsType[*lambent.Error](err); !ok || told.Reason != "DiskFull" {
		t.Errorf("it says %v", err)
	}
	must(0, j.Append(t.Context(), essential))(t)
	must(j.Drop(t.Context(), 1))(t)
	n.free = func(string) (int64, error) { return dropReserve - 1, nil }
	wantKind(t, j.Append(t.Context(), essential), lambent.KindUnavailable)
	n.free = freeBytes
	must(0, j.Append(t.Context(), plain))(t)
	if got, _ := j.all(t); !slices.Equal(got, []string{"1/0 y", "2/0 x"}) {
		t.Errorf("written: %q", got)
	}
}

func TestAJournalThatIsNewHasLostNothing(t *testing.T) {
	j := openJournal(t, openNode(t, Options{Dir: t.TempDir(), Sync: SyncSometime}), "events")
	damaged, err := j.All(t.Context(), func(Pack) error { t.Error("it has a pack"); return nil })
	if state := must(j.State(t.Context()))(t); damaged != 0 || err != nil || state != (JournalState{First: 1}) {
		t.Errorf("%d damaged, %v; %+v", damaged, err, state)
	}
}

func TestJournalThatIsDamagedServesTheRest(t *testing.T) {
	for name, c := range map[string]struct {
		damage  func(data []byte) []byte
		least   int    // entries that are left, of 100
		unkept  uint64 // packs that All misses
		dropped bool   // bytes that the node misses
	}{
		"cut in an entry":          {damage: func(data []byte) []byte { return data[:len(data)-5] }, least: 99, unkept: 1, dropped: true},
		"zeroes at the end":        {damage: func(data []byte) []byte { clear(data[len(data)-20:]); return data }, least: 99, unkept: 1, dropped: true},
		"garbage after the end":    {damage: func(data []byte) []byte { return append(data, randomBytes(3, 100)...) }, least: 100, dropped: true},
		"flipped bit in an entry":  {damage: func(data []byte) []byte { data[bytes.Index(data, []byte("entry 40"))] ^= 4; return data }, least: 99, unkept: 1, dropped: true},
		"flipped bit in the first": {damage: func(data []byte) []byte { data[bytes.Index(data, []byte("entry 00"))] ^= 4; return data }, least: 99, dropped: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n := openNode(t, Options{Dir: dir, Sync: SyncSometime})
			j := openJournal(t, n, "events")
			for i := range 100 {
				must(0, j.Append(t.Context(), Append{Entries: bytesOf(fmt.Sprintf("entry %02d", i))}))(t)
			}
			must(0, errors.Join(j.Close(), n.Close()))(t)
			block := blocksOf(t, dir, "JOURNAL_events")[0]
			damaged := c.damage(must(os.ReadFile(block))(t))
			if err := os.WriteFile(block, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			n = openNode(t, Options{Dir: dir})
			j = openJournal(t, n, "events")
			got, missed := j.all(t)
			if len(got) < c.least || missed != c.unkept {
				t.Errorf("%d entries are left, %d packs are missed", len(got), missed)
			}
			if d := n.Damage(); c.dropped != (len(d) == 1 && d[0].Stream == "JOURNAL_events") {
				t.Errorf("the node says it dropped %+v", d)
			} else if c.dropped {
				if kept, err := os.ReadFile(d[0].Kept + "/1.blk"); err != nil || !bytes.Equal(kept, damaged) {
					t.Errorf("the damaged file was not kept in %q: %v", d[0].Kept, err)
				}
			}
			must(0, j.Append(t.Context(), Append{Entries: bytesOf("new"), Stored: func(p Position) {
				if p.Pack <= uint64(len(got)) {
					t.Errorf("the new pack is %d", p.Pack)
				}
			}}))(t)
		})
	}
}

// What is read out of the engine's files is what the engine gives; what is not
// found there, the engine gives.
func TestPacksAreFoundInTheEnginesFiles(t *testing.T) {
	n := openNode(t, Options{Dir: t.TempDir()})
	j := openJournal(t, n, "events")
	const packs = 120
	write := func() {
		for range packs / 2 {
			must(0, j.Append(t.Context(), Append{Entries: [][]byte{randomBytes(byte(rand.IntN(256)), rand.IntN(1<<18))}}))(t)
		}
	}
	compare := func(first uint64) {
		t.Helper()
		last := must(j.State(t.Context()))(t).Last
		for _, i := range rand.Perm(int(last - first + 1)) {
			number := first + uint64(i)
			want := must(j.ReadFrom(t.Context(), number, 0))(t)[0]
			found, err := unpack(j.blocks.read(number))
			if want.Number != number || err != nil || !slices.EqualFunc(found, want.Entries, bytes.Equal) {
				t.Fatalf("pack %d of %d is read otherwise: %v", number, last, err)
			}
		}
		for _, number := range []uint64{0, first - 1, last + 1, last + 1000} {
			if number < first && number > 0 {
				continue // it may be in a file still
			}
			if j.blocks.read(number) != nil {
				t.Errorf("pack %d of %d was found", number, last)
			}
		}
	}
	write()
	compare(1)
	write()
	compare(1)
	for _, first := range []uint64{30, 61, 62, 100} { // which removes files
		first = must(j.Drop(t.Context(), first))(t)
		compare(max(first, 1))
		write()
		compare(max(first, 1))
	}
	// Files that are spoiled, or not as they should be, are not believed.
	for _, path := range blocksOf(t, n.opts.Dir, "JOURNAL_events") {
		must(0, os.WriteFile(path, randomBytes(7, 1<<20), 0o600))(t)
	}
	_, last := must(j.State(t.Context()))(t).First, must(j.State(t.Context()))(t).Last
	if _, err := unpack(j.blocks.read(last)); err == nil {
		t.Error("garbage was read as a pack")
	}
}

func FuzzBlock(f *testing.F) {
	f.Add([]byte{}, uint64(1))
	f.Add(append([]byte{40, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 18)...), uint64(1))
	f.Fuzz(func(t *testing.T, data []byte, message uint64) {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/1.blk", data, 0o600); err != nil {
			t.Fatal(err)
		}
		b := blocks{dir: dir}
		if got := b.read(message); len(got) > len(data) {
			t.Errorf("%d bytes out of %d", len(got), len(data))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 1, 'a', 0})
	f.Add([]byte{0, 0, 0, 0, 0, 200, 'a'})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, pack []byte) {
		if _, err := unpack(pack); err == nil && len(pack) > packHead {
			return // a checksum that is right by itself
		}
		if len(pack) < packHead {
			return
		}
		seal(pack)
		entries, err := unpack(pack)
		size := packHead
		for _, e := range entries {
			size += 1 + len(e)
		}
		if err == nil && size > len(pack) {
			t.Errorf("%d bytes of entries in %d", size, len(pack))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("1KB by %d", callers), func(b *testing.B) {
			j := openJournal(b, openNode(b, Options{Dir: b.TempDir()}), "events")
			entry := [][]byte{make([]byte, 1024)}
			b.SetParallelism((callers + 1) / 2)
			b.ResetTimer()
			if callers == 1 {
				for b.Loop() {
					must(0, j.Append(b.Context(), Append{Entries: entry}))(b)
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					must(0, j.Append(b.Context(), Append{Entries: entry}))(b)
				}
			})
		})
	}
}
