package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// flights lets one do what several want at the same time.
type flights struct {
	mu sync.Mutex
	// +checklocks:mu
	under map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

// do runs f, or waits for whoever runs it under this key already and tells how it
// ended.
func (f *flights) do(key string, run func() error) error {
	f.mu.Lock()
	if other := f.under[key]; other != nil {
		f.mu.Unlock()
		<-other.done
		return other.err
	}
	if f.under == nil {
		f.under = map[string]*flight{}
	}
	mine := &flight{done: make(chan struct{})}
	f.under[key] = mine
	f.mu.Unlock()
	mine.err = run()
	f.mu.Lock()
	delete(f.under, key)
	f.mu.Unlock()
	close(mine.done)
	return mine.err
}

// layer is one that is unpacked.
type layer struct {
	id      string // its diff id, in hexadecimal
	dir     string // its tree
	removed removal
}

// pull has all layers of an image unpacked, the lowest first.
// cancel ends ctx when nothing comes any more.
func (s *Store) pull(ctx context.Context, cancel context.CancelCauseFunc, src source, img v1.Image, ids []v1.Hash) ([]layer, error) {
	all, err := img.Layers()
	if err != nil {
		return nil, err
	}
	left := budget{bytes: s.opts.MaxBytes, entries: maxEntries}
	var out []layer
	for k, l := range all {
		id := ids[k] // as check has seen it: a layer's own word is made of what it holds
		// One place may be slower than another, or lie: its layers are nobody
		// else's until they are there.
		err := s.layers.do(src.place()+"\n"+id.Hex, func() error { return s.pullLayer(ctx, cancel, l, id, left) })
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", id, err)
		}
		removed, err := readRemoval(s.layerDir(id.Hex))
		if err != nil {
			return nil, err
		}
		if err := left.spend(removed.Bytes, removed.Count); err != nil {
			return nil, err
		}
		out = append(out, layer{id: id.Hex, dir: filepath.Join(s.layerDir(id.Hex), treeDir), removed: removed})
	}
	return out, nil
}

func readRemoval(dir string) (r removal, err error) {
	text, err := os.ReadFile(filepath.Join(dir, layerFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// pullLayer unpacks one layer, unless it is there. What it is named by is the
// hash of what was unpacked.
func (s *Store) pullLayer(ctx context.Context, cancel context.CancelCauseFunc, l v1.Layer, id v1.Hash, left budget) (err error) {
	dir := s.layerDir(id.Hex)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := requireRoom(s.opts.Dir); err != nil {
		return err
	}
	temp, tree, err := s.aside(s.layerDir(""))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeTree(temp))
		}
	}()
	compressed, err := l.Compressed()
	if err != nil {
		return err
	}
	defer compressed.Close()
	content, err := decompress(compressed)
	if err != nil {
		return err
	}
	defer content.Close()
	// The tar may be as large as what is in it and a header for each entry; what
	// comes behind its end belongs to the hash, too.
	const perEntry = 8 << 10
	quiet := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
	defer quiet.Stop()
	sum := &hashed{quiet: quiet, r: io.LimitReader(content, left.bytes+int64(left.entries)*perEntry+1<<20), h: sha256.New()}
	removed, err := unpack(ctx, sum, tree, left)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, sum); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.h.Sum(nil)); got != id.Hex {
		return fmt.Errorf("%w: its content has the hash %s", errHostile, got)
	}
	text, err := json.Marshal(removed)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, layerFile), text, 0o600); err != nil {
		return err
	}
	if err := flush(temp); err != nil {
		return err
	}
	err = os.Rename(temp, dir)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) { // from another place, the same
		return removeTree(temp)
	}
	return err
}

// aside makes a folder in which something is made that is renamed when it is
// whole, with an empty tree in it.
func (s *Store) aside(in string) (temp, tree string, err error) {
	if temp, err = os.MkdirTemp(in, unfinished); err != nil {
		return "", "", err
	}
	tree = filepath.Join(temp, treeDir)
	if err = os.Mkdir(tree, 0o755); err == nil {
		err = os.Chmod(tree, 0o755) // umask
	}
	if err != nil {
		return "", "", errors.Join(err, removeTree(temp))
	}
	return temp, tree, nil
}

// flush has all on the disk before a name says that it is whole: else what a
// power failure leaves would be run, since nobody looks at it again.
func flush(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write to the disk what is in %s: %w", dir, err)
	}
	return nil
}

// maxWindow bounds the memory that decompressing a layer takes; zstd's own
// programs ask for more only with --ultra and --long.
const maxWindow = 128 << 20

// decompress reads what is compressed as layers may be, or is not.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// stallLimit is for how long a registry may send nothing of a layer, pullLimit how
// long an image may take to pull and unpack: 10 GiB at 3 MB/s.
const (
	stallLimit = time.Minute
	pullLimit  = time.Hour
)

var (
	errStalled = fmt.Errorf("nothing came for %s: %w", stallLimit, context.DeadlineExceeded)
	errSlow    = fmt.Errorf("it took more than %s: %w", pullLimit, context.DeadlineExceeded)
)

// hashed hashes what is read, and puts off the timer that something came.
type hashed struct {
	r     io.Reader
	h     hash.Hash
	quiet *time.Timer
}

// Read implements io.Reader.
func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.quiet.Reset(stallLimit)
	h.h.Write(p[:n])
	return n, err
}

// removeTree removes a tree whose folders may be closed to their owner, which
// nothing is to root.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, _ error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
