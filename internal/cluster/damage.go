package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"lambent"
)

// Damage is what was dropped of one stream because it could not be read:
// records cut short by a crash, or overwritten on the disk.
type Damage struct {
	Stream string
	Bytes  int64 // of the store's files
}

// String tells people what happened.
func (d Damage) String() string {
	return fmt.Sprintf("%d bytes of stream %s could not be read and were dropped", d.Bytes, d.Stream)
}

// streamFiles is what a stream had on disk before the server opened it.
type streamFiles struct {
	dir    string
	blocks map[string]os.FileInfo // the files its messages are in, by path
}

func (f streamFiles) bytes() (sum int64) {
	for _, info := range f.blocks {
		sum += info.Size()
	}
	return sum
}

// cut measures what the server cut off while it opened the stream, of which it
// only makes a note: it shortens a block to its last good record, and removes
// one that has none. A block it wrote anew, without what had been deleted, is
// another file by then.
func (f streamFiles) cut() (sum int64, err error) {
	for path, old := range f.blocks {
		now, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			sum += old.Size()
		case err != nil:
			return 0, fmt.Errorf("measure block: %w", err)
		case os.SameFile(old, now) && now.Size() < old.Size():
			sum += old.Size() - now.Size()
		}
	}
	return sum, nil
}

// scanStreams measures the streams of a store before the server reads, and
// perhaps mends, them. The layout is the server's:
// ACCOUNT/streams/NAME/msgs/N.blk.
func scanStreams(store string) (map[string]streamFiles, error) {
	found := map[string]streamFiles{}
	dirs, err := filepath.Glob(filepath.Join(store, "*", "streams", "*"))
	if err != nil {
		return nil, fmt.Errorf("look for streams: %w", err)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		if strings.HasPrefix(name, ".") {
			continue // half deleted: the server removes it
		}
		blocks, err := statBlocks(dir)
		if err != nil {
			return nil, fmt.Errorf("measure stream %s: %w", name, err)
		}
		found[name] = streamFiles{dir: dir, blocks: blocks}
	}
	return found, nil
}

// forgetSummaries makes the server read every record of the buckets when it
// starts, and compare its checksum. Where it finds the summary it wrote when it
// last stopped, it trusts that instead, and a record the disk has spoiled since
// comes to light only when somebody waits for it. Blobs keep theirs: they are
// large, and each has a checksum that is compared when it is read.
func forgetSummaries(before map[string]streamFiles) error {
	for name, files := range before {
		if !strings.HasPrefix(name, "KV_") {
			continue
		}
		err := os.Remove(filepath.Join(files.dir, "msgs", "index.db"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("have stream %s checked: %w", name, err)
		}
	}
	return nil
}

func statBlocks(dir string) (map[string]os.FileInfo, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "msgs", "*.blk"))
	if err != nil {
		return nil, err
	}
	blocks := map[string]os.FileInfo{}
	for _, p := range paths {
		if blocks[p], err = os.Stat(p); err != nil {
			return nil, err
		}
	}
	return blocks, nil
}

// checkRecovered compares what was on disk with what the server serves. The
// server passes over a stream whose description it cannot read, and a new one
// of that name would then write into its folder; so a stream that had messages
// and is gone is an error. One that had none was not finished when its maker
// died, and is simply made again.
// +checklocks:n.mu
func (n *Node) checkRecovered(before map[string]streamFiles) ([]Damage, error) {
	info, err := n.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return nil, fmt.Errorf("ask jetstream for its streams: %w", err)
	}
	var damage []Damage
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			cut, err := before[s.Name].cut()
			if err != nil {
				return nil, err
			}
			if cut > 0 {
				damage = append(damage, Damage{Stream: s.Name, Bytes: cut})
			}
			delete(before, s.Name)
		}
	}
	for name, files := range before {
		if files.bytes() == 0 {
			continue
		}
		return nil, &lambent.Error{
			Op: "read stream", Resource: name, Reason: "Unreadable",
			Message: fmt.Sprintf("its description is damaged, and it holds %d bytes of messages; put %s back from a backup, or move it away to begin without it (%s)",
				files.bytes(), files.dir, n.log.lastComplaint()),
		}
	}
	slices.SortFunc(damage, func(a, b Damage) int { return cmp.Compare(a.Stream, b.Stream) })
	return damage, nil
}
