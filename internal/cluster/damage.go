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
	Bytes  int64  // of the store's files
	Kept   string // the folder with the files as they were; empty where they could not be kept
}

// String tells people what happened.
func (d Damage) String() string {
	s := fmt.Sprintf("%d bytes of stream %s could not be read and were dropped", d.Bytes, d.Stream)
	if d.Kept != "" {
		s += "; the files as they were are in " + d.Kept
	}
	return s
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

// cut finds the files the server cut while it opened the stream, of which it
// makes no more than a note, and by how much: it shortens a block to its last
// good record, and removes one that has none. A block it wrote anew, without
// what had been deleted, is another file by then.
func (f streamFiles) cut() (paths []string, sum int64, err error) {
	for path, old := range f.blocks {
		by := int64(0)
		now, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			by = old.Size()
		case err != nil:
			return nil, 0, fmt.Errorf("measure block: %w", err)
		case os.SameFile(old, now):
			by = max(old.Size()-now.Size(), 0)
		}
		if by > 0 {
			paths = append(paths, path)
			sum += by
		}
	}
	return paths, sum, nil
}

// scanStreams measures the streams of a store before the server reads, and
// perhaps mends, them. The layout is the server's:
// ACCOUNT/streams/NAME/msgs/N.blk.
func scanStreams(store string) (map[string]streamFiles, error) {
	found := map[string]streamFiles{}
	dirs, err := glob(store, "*/streams/*")
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
		if !isBucket(name) {
			continue
		}
		err := os.Remove(filepath.Join(files.dir, "msgs", "index.db"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("have stream %s checked: %w", name, err)
		}
	}
	return nil
}

// glob is filepath.Glob below a folder whose own name may hold anything.
func glob(dir, pattern string) ([]string, error) {
	paths, err := fs.Glob(os.DirFS(dir), pattern)
	for i := range paths {
		paths[i] = filepath.Join(dir, paths[i])
	}
	return paths, err
}

func statBlocks(dir string) (map[string]os.FileInfo, error) {
	paths, err := glob(dir, "msgs/*.blk")
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
func (n *Node) checkRecovered(before map[string]streamFiles, mended map[string]mended, copies *copies) ([]Damage, error) {
	info, err := n.server.Jsz(&server.JSzOptions{Accounts: true, Streams: true})
	if err != nil {
		return nil, fmt.Errorf("ask jetstream for its streams: %w", err)
	}
	var damage []Damage
	for _, account := range info.AccountDetails {
		for _, s := range account.Streams {
			paths, bytes, err := before[s.Name].cut()
			if err != nil {
				return nil, err
			}
			paths, bytes = append(paths, mended[s.Name].paths...), bytes+mended[s.Name].bytes
			if bytes > 0 {
				damage = append(damage, Damage{Stream: s.Name, Bytes: bytes, Kept: copies.keep(s.Name, paths)})
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
