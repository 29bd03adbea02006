package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Bucket is a set of small records by key, each with a revision that grows with
// every write to the bucket. Keys are made with Key. A record has at most 2 MiB
// less 64 KiB for its key and headers.
//
// A Bucket may be used by several goroutines at once; writes to one key are
// applied in the order in which they are acknowledged.
type Bucket struct {
	name      string
	markerTTL time.Duration
	kv        jetstream.KeyValue
	node      *Node
}

// Entry is one record of a bucket.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
	Written  time.Time
	Deleted  bool // there was a record, and now there is none; Watch only
}

// Bucket opens the bucket of a name of letters, digits, "-" and "_", and makes
// it where it is not there.
func (n *Node) Bucket(ctx context.Context, name string) (*Bucket, error) {
	const op = "open bucket"
	js, err := n.stream(op, name)
	if err != nil {
		return nil, err
	}
	// An existing one is left as it is: to rewrite its description with each
	// start is a chance to lose it with each crash.
	kv, err := js.KeyValue(ctx, name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: name, History: 1, Storage: jetstream.FileStorage, LimitMarkerTTL: n.opts.MarkerTTL,
		})
	}
	if err != nil {
		return nil, storeError(op, name, err)
	}
	return &Bucket{name: name, markerTTL: n.opts.MarkerTTL, kv: kv, node: n}, nil
}

// Get reads a record; KindNotFound where there is none.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	e, err := b.kv.Get(ctx, key)
	if err != nil {
		return Entry{}, b.fail("get record", key, err)
	}
	return entryOf(e), nil
}

// Create writes a record that is not there yet and returns its revision;
// KindExists where it is.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := b.node.requireSpace("create record", b.name+"/"+key, recordReserve); err != nil {
		return 0, err
	}
	rev, err := b.kv.Create(ctx, key, value)
	return rev, b.fail("create record", key, err)
}

// Put writes a record whatever was there, and returns its revision.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	if err := b.node.requireSpace("put record", b.name+"/"+key, recordReserve); err != nil {
		return 0, err
	}
	rev, err := b.kv.Put(ctx, key, value)
	return rev, b.fail("put record", key, err)
}

// Update writes a record that is still of revision old, and returns its new
// revision; KindPrecondition where it is of another, or gone.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, old uint64) (uint64, error) {
	if err := b.node.requireSpace("update record", b.name+"/"+key, recordReserve); err != nil {
		return 0, err
	}
	rev, err := b.kv.Update(ctx, key, value, old)
	return rev, b.fail("update record", key, err)
}

// Delete removes a record that is still of revision old, of any where old is 0;
// KindPrecondition where it is of another. With 0, to delete what is not there
// is no error.
func (b *Bucket) Delete(ctx context.Context, key string, old uint64) error {
	opts := []jetstream.KVDeleteOpt{jetstream.PurgeTTL(b.markerTTL)}
	if old != 0 {
		opts = append(opts, jetstream.LastRevision(old))
	}
	return b.fail("delete record", key, b.kv.Purge(ctx, key, opts...))
}

// All calls visit with every record there is, in the order in which they were
// last written, until visit returns an error, which All then returns as it is.
func (b *Bucket) All(ctx context.Context, visit func(Entry) error) error {
	return b.read(ctx, "list records", func(e jetstream.KeyValueEntry) (bool, error) {
		if e == nil {
			return false, nil
		}
		return true, visit(entryOf(e))
	}, jetstream.IgnoreDeletes())
}

// Watch calls changed with every record there is, then once with the zero
// Entry, then with every write and deletion as it happens, until ctx ends or
// changed returns an error. It returns that error, or ctx's cause.
func (b *Bucket) Watch(ctx context.Context, changed func(Entry) error) error {
	return b.read(ctx, "watch records", func(e jetstream.KeyValueEntry) (bool, error) {
		if e == nil {
			return true, changed(Entry{})
		}
		return true, changed(entryOf(e))
	})
}

// read feeds what a watcher finds to visit until it says stop.
func (b *Bucket) read(ctx context.Context, op string, visit func(jetstream.KeyValueEntry) (bool, error), opts ...jetstream.WatchOpt) (err error) {
	// The watcher must not see ctx itself: the library takes a deadline of it as
	// one for every request.
	w, err := b.kv.WatchAll(context.WithoutCancel(ctx), opts...)
	if err != nil {
		return b.fail(op, "", err)
	}
	defer func() {
		if stop := w.Stop(); err == nil && !errors.Is(stop, nats.ErrConnectionClosed) {
			err = b.fail(op, "", stop)
		}
	}()
	if err := feed(ctx, w.Updates(), visit); err != nil {
		if errors.Is(err, errStalled) || errors.Is(err, nats.ErrConnectionClosed) {
			return b.fail(op, "", err)
		}
		return err
	}
	return nil
}

// stallLimit is how long a watcher may take from one record that is stored to
// the next. They are in memory or in the next block of a file, so it is never
// reached but where a record cannot be read, for which the engine waits in
// silence.
const stallLimit = 10 * time.Second

var errStalled = errors.New("the next of the stored records does not come: it may be damaged; restarting has all of them checked")

// feed calls visit with what comes from updates. The nil entry says that what
// follows is new.
func feed(ctx context.Context, updates <-chan jetstream.KeyValueEntry, visit func(jetstream.KeyValueEntry) (bool, error)) error {
	timer := time.NewTimer(stallLimit)
	defer timer.Stop()
	stalled := timer.C
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-stalled:
			return errStalled
		case e, ok := <-updates:
			if !ok {
				return nats.ErrConnectionClosed
			}
			if more, err := visit(e); err != nil || !more {
				return err
			}
			if e == nil {
				stalled = nil // from here on it may take any time
			}
			timer.Reset(stallLimit)
		}
	}
}

func entryOf(e jetstream.KeyValueEntry) Entry {
	return Entry{Key: e.Key(), Value: e.Value(), Revision: e.Revision(), Written: e.Created(), Deleted: e.Operation() != jetstream.KeyValuePut}
}

// fail gives err its kind; nil stays nil.
func (b *Bucket) fail(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return storeError(op, b.name+"/"+key, err)
}
