package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// codeStore keeps each deployment package once, and knows how many records,
// and writes under way, name it.
type codeStore struct {
	blobs *cluster.Blobs
	now   func() time.Time

	mu sync.Mutex
	// +checklocks:mu
	packages map[lambent.CodeHash]*codePackage
}

// codePackage is one package. Its fields but writing and stored are guarded by
// the store's mu.
type codePackage struct {
	refs   int
	unused time.Time // since when refs is 0

	// writing is held while the blob is written or removed; it is taken without
	// the store's mu, which may be taken within.
	writing sync.Mutex
	// +checklocks:writing
	stored bool
}

func hashOf(pkg []byte) lambent.CodeHash {
	sum := sha256.Sum256(pkg)
	return lambent.CodeHash(base64.StdEncoding.EncodeToString(sum[:]))
}

func codeKey(hash lambent.CodeHash) string { return cluster.Key(string(hash)) }

// count takes a reference for a record read at Open, whose package is stored.
func (c *codeStore) count(hash lambent.CodeHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.packages[hash]
	if !ok {
		p = &codePackage{}
		p.writing.Lock()
		p.stored = true
		p.writing.Unlock()
		c.packages[hash] = p
	}
	p.refs++
}

// countAll takes the references of a function's record read at Open.
func (c *codeStore) countAll(fn *lambent.Function) {
	if fn.PackageType == lambent.PackageImage { // which is not kept here
		return
	}
	c.count(fn.Code)
	for _, l := range fn.Layers {
		c.count(l.Code)
	}
	if fn.Previous != nil {
		c.countAll(fn.Previous)
	}
}

// sweep removes the packages nothing has a reference to, which a crash between
// two writes leaves, and returns those that should be there and are not. It is
// for Open, when nobody else is at work.
func (c *codeStore) sweep(ctx context.Context) (missing []lambent.CodeHash, err error) {
	keys, err := c.blobs.Keys(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, key := range keys {
		found[key] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for hash, p := range c.packages {
		key := codeKey(hash)
		if !found[key] {
			missing = append(missing, hash)
			p.writing.Lock()
			p.stored = false // so that uploading it again stores it
			p.writing.Unlock()
		}
		delete(found, key)
	}
	for key := range found {
		if err := c.blobs.Delete(ctx, key); err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// acquire stores pkg where it is not stored yet and takes a reference to it.
func (c *codeStore) acquire(ctx context.Context, pkg []byte) (lambent.CodeHash, error) {
	hash := hashOf(pkg)
	c.mu.Lock()
	p, ok := c.packages[hash]
	if !ok {
		p = &codePackage{}
		c.packages[hash] = p
	}
	p.refs++
	c.mu.Unlock()

	p.writing.Lock()
	defer p.writing.Unlock()
	if p.stored {
		return hash, nil
	}
	if _, err := c.blobs.Put(ctx, codeKey(hash), bytes.NewReader(pkg)); err != nil {
		c.release(hash)
		return "", err
	}
	p.stored = true
	return hash, nil
}

// open reads a package. One that turns out to be damaged is stored anew by the
// next upload of it.
func (c *codeStore) open(ctx context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error) {
	r, size, err := c.blobs.Get(ctx, codeKey(hash))
	if err != nil {
		return nil, 0, err
	}
	return &codeReader{ReadCloser: r, store: c, hash: hash}, size, nil
}

type codeReader struct {
	io.ReadCloser
	store *codeStore
	hash  lambent.CodeHash
}

func (r *codeReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if e, ok := errors.AsType[*lambent.Error](err); ok && e.Reason == cluster.ReasonDamaged {
		r.store.spoiled(r.hash)
	}
	return n, err
}

func (c *codeStore) spoiled(hash lambent.CodeHash) {
	c.mu.Lock()
	p, ok := c.packages[hash]
	c.mu.Unlock()
	if !ok {
		return
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.stored = false
}

func (c *codeStore) named(hash lambent.CodeHash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.packages[hash]
	return ok && p.refs > 0
}

// release gives a reference back. The package stays until dropUnused.
func (c *codeStore) release(hash lambent.CodeHash) {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.packages[hash]
	if p.refs--; p.refs == 0 {
		p.unused = now
	}
}

// retain takes a reference to a package that is stored; false where it is not,
// or is being removed.
func (c *codeStore) retain(hash lambent.CodeHash) bool {
	c.mu.Lock()
	p, ok := c.packages[hash]
	if ok {
		p.refs++
	}
	c.mu.Unlock()
	if !ok {
		return false
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	if !p.stored {
		c.release(hash)
	}
	return p.stored
}

// releaseLayers gives the references to layers back.
func (c *codeStore) releaseLayers(layers []lambent.Layer) {
	for _, l := range layers {
		c.release(l.Code)
	}
}

// releaseAll gives back what a function's record had references to.
func (c *codeStore) releaseAll(fn *lambent.Function) {
	if fn.PackageType == lambent.PackageImage {
		return
	}
	c.release(fn.Code)
	c.releaseLayers(fn.Layers)
	if fn.Previous != nil {
		c.releaseAll(fn.Previous)
	}
}

// dropUnused removes the packages that had no reference since before, and
// returns them.
func (c *codeStore) dropUnused(ctx context.Context, before time.Time) (dropped []lambent.CodeHash, err error) {
	candidates := map[lambent.CodeHash]*codePackage{}
	c.mu.Lock()
	for hash, p := range c.packages {
		if p.refs == 0 && p.unused.Before(before) {
			candidates[hash] = p
		}
	}
	c.mu.Unlock()
	for hash, p := range candidates {
		gone, e := c.drop(ctx, hash, p)
		if gone {
			dropped = append(dropped, hash)
		}
		err = errors.Join(err, e)
	}
	return dropped, err
}

// drop removes one package, unless somebody wants it again. Who comes while it
// is being removed waits, and stores it anew.
func (c *codeStore) drop(ctx context.Context, hash lambent.CodeHash, p *codePackage) (gone bool, err error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	c.mu.Lock()
	wanted := p.refs > 0 || c.packages[hash] != p // removed by another call, and perhaps stored anew
	c.mu.Unlock()
	if wanted {
		return false, nil
	}
	if err := c.blobs.Delete(ctx, codeKey(hash)); err != nil { // damaged or not
		return false, err
	}
	p.stored = false
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.refs > 0 {
		return false, nil
	}
	delete(c.packages, hash)
	return true, nil
}

// dropUnusedCode removes what nobody has needed for the grace time, until ctx
// ends.
func (r *Registry) dropUnusedCode(ctx context.Context) {
	tick := time.NewTicker(max(r.opts.CodeGrace/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		dropped, err := r.code.dropUnused(ctx, r.opts.Now().Add(-r.opts.CodeGrace))
		if err != nil && ctx.Err() == nil {
			r.opts.Log.Warn("code that is not needed any more could not be removed; it is tried again", "err", err)
		}
		if r.opts.CodeDropped != nil {
			for _, hash := range dropped {
				r.opts.CodeDropped(hash)
			}
		}
	}
}
