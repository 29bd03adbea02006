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
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"lambent"
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

// do runs f, or waits while somebody runs it under this key already. Where that
// failed, for which there may be a reason of the other's own, f is run after all.
func (f *flights) do(ctx context.Context, key string, run func() error) error {
	f.mu.Lock()
	if other := f.under[key]; other != nil {
		f.mu.Unlock()
		select {
		case <-other.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if other.err == nil {
			return nil
		}
		return run()
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

// pull is what is pulled: an image for an account, from somewhere.
type pull struct {
	account lambent.AccountID // empty: for nobody
	source  source
	image   v1.Image
	ids     []v1.Hash // of its layers, as check has seen them: a layer's own word is made of what it holds
}

// pull has all layers of an image unpacked and given to the account, the lowest
// first. cancel ends ctx when nothing comes any more.
func (s *Store) pull(ctx context.Context, cancel context.CancelCauseFunc, p pull) ([]layer, error) {
	all, err := p.image.Layers()
	if err != nil {
		return nil, err
	}
	left := budget{bytes: s.opts.MaxBytes, entries: maxEntries}
	var out []layer
	for k, l := range all {
		id := p.ids[k]
		blob, err := l.Digest()
		if err != nil {
			return nil, err
		}
		// One place may be slower than another, or lie, and so may an image about
		// what is in a layer of it: only those that ask the same of the same share
		// what comes of it.
		key := strings.Join([]string{string(p.account), p.source.place(), blob.String(), id.Hex}, "\n")
		err = s.layers.do(ctx, key, func() error { return s.pullLayer(ctx, cancel, p.account, l, id, left) })
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

// given tells whether an account was given all of some layers.
func (s *Store) given(account lambent.AccountID, ids []string) bool {
	for _, id := range ids {
		if !isGiven(s.layerDir(id), account) {
			return false
		}
	}
	return true
}

// isGiven tells whether an account was given a layer that is there.
func isGiven(dir string, account lambent.AccountID) bool {
	_, err := os.Stat(filepath.Join(dir, givenDir, string(account)))
	return err == nil || account == ""
}

// give notes that an account was given a layer.
func give(dir string, account lambent.AccountID) error {
	if account == "" {
		return nil
	}
	if err := os.Mkdir(filepath.Join(dir, givenDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, givenDir, string(account)), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func readRemoval(dir string) (r removal, err error) {
	text, err := os.ReadFile(filepath.Join(dir, layerFile))
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// pullLayer unpacks one layer, unless it is there, and gives it to the account.
// What it is named by is the hash of what was unpacked, or only read.
func (s *Store) pullLayer(ctx context.Context, cancel context.CancelCauseFunc, account lambent.AccountID, l v1.Layer, id v1.Hash, left budget) (err error) {
	dir := s.layerDir(id.Hex)
	_, err = os.Stat(dir)
	there := err == nil
	if there && isGiven(dir, account) {
		return nil
	}
	if !there {
		return s.unpackLayer(ctx, cancel, account, l, id, left)
	}
	content, done, err := open(cancel, l, left)
	if err != nil {
		return err
	}
	defer done()
	if err := content.rest(id); err != nil {
		return err
	}
	return give(dir, account)
}

// open has the content of a layer come, until done is called. cancel ends that when
// nothing comes any more.
func open(cancel context.CancelCauseFunc, l v1.Layer, left budget) (content *hashed, done func(), err error) {
	compressed, err := l.Compressed()
	if err != nil {
		return nil, nil, err
	}
	plain, err := decompress(compressed)
	if err != nil {
		return nil, nil, errors.Join(err, compressed.Close())
	}
	// The tar may be as large as what is in it and a header for each entry; what
	// comes behind its end belongs to the hash, too.
	const perEntry = 8 << 10
	quiet := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
	done = func() {
		quiet.Stop()
		_ = plain.Close() // of what was read there is nothing left to be told
		_ = compressed.Close()
	}
	return &hashed{quiet: quiet, r: io.LimitReader(plain, left.bytes+int64(left.entries)*perEntry+1<<20), h: sha256.New()}, done, nil
}

// unpackLayer makes a layer's folder of its content.
func (s *Store) unpackLayer(ctx context.Context, cancel context.CancelCauseFunc, account lambent.AccountID, l v1.Layer, id v1.Hash, left budget) (err error) {
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
	content, done, err := open(cancel, l, left)
	if err != nil {
		return err
	}
	defer done()
	removed, err := unpack(ctx, content, tree, left)
	if err != nil {
		return err
	}
	if err := content.rest(id); err != nil {
		return err
	}
	text, err := json.Marshal(removed)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(temp, layerFile), text, 0o600); err != nil {
		return err
	}
	if err := give(temp, account); err != nil {
		return err
	}
	if err := flush(temp); err != nil {
		return err
	}
	dir := s.layerDir(id.Hex)
	err = os.Rename(temp, dir)
	if taken(err) { // from another place, or for another account, the same
		return errors.Join(removeTree(temp), give(dir, account))
	}
	return err
}

// taken is whether what was renamed is there already.
func taken(err error) bool { return errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) }

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

// rest reads what is left and holds all that was read against a layer's id.
func (h *hashed) rest(id v1.Hash) error {
	if _, err := io.Copy(io.Discard, h); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.h.Sum(nil)); got != id.Hex {
		return fmt.Errorf("%w: its content has the hash %s", errHostile, got)
	}
	return nil
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
