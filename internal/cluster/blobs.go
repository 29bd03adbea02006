package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"lambent"
)

// chunkBytes is how much of a blob one message holds. Each is synced on its
// own, so small ones would be slow, and held in memory whole, so large ones
// would be costly.
const chunkBytes = 1 << 20

// Blobs is a set of large values by key, of any key Key can make. A blob is
// there whole or not at all: its chunks are written first and its head, which
// names them, last.
//
// Blobs may be used by several goroutines at once. Opened in two processes of a
// cluster at once, each would take the unfinished writes of the other for
// garbage: one of them opens it.
type Blobs struct {
	name   string
	heads  *Bucket
	chunks jetstream.Stream
	js     jetstream.JetStream
	node   *Node
}

// head describes one blob. It is stored, so its names stay.
type head struct {
	Upload string `json:"upload"` // names the subject its chunks are under
	Size   int64  `json:"size"`
	Chunks uint64 `json:"chunks"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Blobs opens the blobs of a name of letters, digits, "-" and "_", makes them
// where they are not there, and removes what unfinished writes left and what is
// not whole any more.
func (n *Node) Blobs(ctx context.Context, name string) (*Blobs, error) {
	const op = "open blobs"
	heads, err := n.Bucket(ctx, name+"-heads")
	if err != nil {
		return nil, err
	}
	js, err := n.stream(op, name)
	if err != nil {
		return nil, err
	}
	b := &Blobs{name: name, heads: heads, js: js, node: n}
	stream := "CHUNKS_" + name
	b.chunks, err = js.Stream(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		b.chunks, err = js.CreateStream(ctx, jetstream.StreamConfig{
			Name: stream, Subjects: []string{b.subject("*")}, Storage: jetstream.FileStorage, AllowDirect: true, Discard: jetstream.DiscardNew,
		})
	}
	if err == nil {
		err = b.sweep(ctx)
	}
	if err != nil {
		return nil, storeError(op, name, err)
	}
	return b, nil
}

func (b *Blobs) subject(upload string) string { return "chunks." + b.name + "." + upload }

// sweep removes chunks no head names, and heads whose chunks are not all there,
// so that such a blob is as good as never written and can be written again.
func (b *Blobs) sweep(ctx context.Context) error {
	info, err := b.chunks.Info(ctx, jetstream.WithSubjectFilter(b.subject("*")))
	if err != nil {
		return err
	}
	var broken []string
	unnamed := info.State.Subjects // to their number of chunks
	err = b.heads.All(ctx, func(e Entry) error {
		var h head
		if err := json.Unmarshal(e.Value, &h); err != nil {
			return fmt.Errorf("head of blob %s: %w", e.Key, err)
		}
		subject := b.subject(h.Upload)
		if info.State.Subjects[subject] != h.Chunks {
			broken = append(broken, e.Key)
			return nil
		}
		delete(unnamed, subject)
		return nil
	})
	if err != nil {
		return err
	}
	for _, key := range broken {
		b.node.opts.Log.Warn("a stored blob is not whole and was removed", "blobs", b.name, "key", key)
		if err := b.heads.Delete(ctx, key, 0); err != nil {
			return err
		}
	}
	for subject := range unnamed {
		if err := b.chunks.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return err
		}
	}
	return nil
}

// Put writes all r has under key, in place of what was there, and returns its
// size. After an error the old blob, or none, is there.
func (b *Blobs) Put(ctx context.Context, key string, r io.Reader) (size int64, err error) {
	old, err := b.head(ctx, key)
	if err != nil && lambent.KindOf(err) != lambent.KindNotFound {
		return 0, err
	}
	h := head{Upload: rand.Text()}
	sum := sha256.New()
	defer func() {
		if err != nil {
			err = errors.Join(err, b.dropChunks(context.WithoutCancel(ctx), h.Upload))
		}
	}()
	buf := make([]byte, chunkBytes)
	for {
		n, readErr := io.ReadFull(r, buf)
		if n > 0 {
			if err := b.node.requireSpace("put blob", b.name+"/"+key, blobReserve); err != nil {
				return 0, err
			}
			sum.Write(buf[:n])
			h.Size += int64(n)
			h.Chunks++
			if _, err := b.js.Publish(ctx, b.subject(h.Upload), buf[:n]); err != nil {
				return 0, storeError("put blob", b.name+"/"+key, err)
			}
		}
		if errors.Is(readErr, io.EOF) || errors.Is(readErr, io.ErrUnexpectedEOF) {
			break
		}
		if readErr != nil {
			return 0, fmt.Errorf("put blob %s/%s: read its source: %w", b.name, key, readErr)
		}
	}
	h.SHA256 = hex.EncodeToString(sum.Sum(nil))
	text, err := json.Marshal(h)
	if err != nil {
		return 0, storeError("put blob", b.name+"/"+key, err)
	}
	if _, err := b.heads.Put(ctx, key, text); err != nil {
		return 0, err
	}
	if old.Upload != "" {
		// The new blob is there; what is left of the old one goes now, or by the
		// next sweep.
		return h.Size, b.dropChunks(ctx, old.Upload)
	}
	return h.Size, nil
}

// Get gives a reader of the blob under key and its size; KindNotFound where
// there is none. A Read, the last one at the latest, fails with KindInternal and
// Reason ReasonDamaged where what is stored is not what was written. ctx is for
// all of the reading.
func (b *Blobs) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	h, err := b.head(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	return &blobReader{ctx: ctx, blobs: b, key: key, head: h, left: h.Size, sum: sha256.New()}, h.Size, nil
}

// Exists reports whether there is a blob under key.
func (b *Blobs) Exists(ctx context.Context, key string) (bool, error) {
	_, err := b.head(ctx, key)
	if lambent.KindOf(err) == lambent.KindNotFound {
		return false, nil
	}
	return err == nil, err
}

// Keys lists the keys of all blobs.
func (b *Blobs) Keys(ctx context.Context) ([]string, error) {
	var keys []string
	err := b.heads.All(ctx, func(e Entry) error {
		keys = append(keys, e.Key)
		return nil
	})
	return keys, err
}

// Delete removes the blob under key; that there is none is no error. A reader
// that is under way fails.
func (b *Blobs) Delete(ctx context.Context, key string) error {
	h, err := b.head(ctx, key)
	if lambent.KindOf(err) == lambent.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := b.heads.Delete(ctx, key, 0); err != nil {
		return err
	}
	return b.dropChunks(ctx, h.Upload)
}

func (b *Blobs) head(ctx context.Context, key string) (head, error) {
	e, err := b.heads.Get(ctx, key)
	if err != nil {
		return head{}, err
	}
	var h head
	if err := json.Unmarshal(e.Value, &h); err != nil {
		return head{}, storeError("read head of blob", b.name+"/"+key, err)
	}
	return h, nil
}

func (b *Blobs) dropChunks(ctx context.Context, upload string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := b.chunks.Purge(ctx, jetstream.WithPurgeSubject(b.subject(upload))); err != nil {
		return storeError("remove chunks", b.name+"/"+upload, err)
	}
	return nil
}

// blobReader reads a blob chunk by chunk, each when it is needed.
type blobReader struct {
	ctx   context.Context
	blobs *Blobs
	key   string
	head  head
	sum   hash.Hash
	next  uint64 // sequence to look from
	chunk []byte // what is left of the chunk at hand
	left  int64  // bytes of the blob after chunk
	err   error
}

func (r *blobReader) Read(p []byte) (int, error) {
	if len(r.chunk) == 0 && r.err == nil {
		r.err = r.fetch()
	}
	if r.err != nil {
		return 0, r.err
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// fetch gets the next chunk, or io.EOF after the last one if all of them were
// right.
func (r *blobReader) fetch() error {
	resource := r.blobs.name + "/" + r.key
	if r.left == 0 {
		if got := hex.EncodeToString(r.sum.Sum(nil)); got != r.head.SHA256 {
			return damagedBlob(resource, fmt.Errorf("its SHA-256 is %s, not %s", got, r.head.SHA256))
		}
		return io.EOF
	}
	msg, err := r.blobs.chunks.GetMsg(r.ctx, r.next, jetstream.WithGetMsgSubject(r.blobs.subject(r.head.Upload)))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return damagedBlob(resource, fmt.Errorf("the last %d bytes of it are missing", r.left))
	}
	if err != nil && kindOf(err) == lambent.KindInternal {
		return damagedBlob(resource, err) // it is there and cannot be read
	}
	if err != nil {
		return storeError("read blob", resource, err)
	}
	if len(msg.Data) == 0 || int64(len(msg.Data)) > r.left {
		return damagedBlob(resource, fmt.Errorf("a chunk of %d bytes where %d are left", len(msg.Data), r.left))
	}
	r.next = msg.Sequence + 1
	r.chunk = msg.Data
	r.left -= int64(len(msg.Data))
	r.sum.Write(msg.Data)
	return nil
}

// ReasonDamaged is the Reason of errors that say that a blob must be written
// again.
const ReasonDamaged = "Damaged"

// damagedBlob is the error for a blob that is not what was written. It says
// KindInternal even where a part is not found: the blob should be there.
func damagedBlob(resource string, err error) error {
	return &lambent.Error{Op: "read blob", Resource: resource, Kind: lambent.KindInternal, Reason: ReasonDamaged, Message: "the stored blob is damaged; write it again", Err: err}
}

// Close ends the reading.
func (r *blobReader) Close() error {
	r.chunk, r.err = nil, fmt.Errorf("read blob %s/%s: %w", r.blobs.name, r.key, io.ErrClosedPipe)
	return nil
}
