package registry

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// Names of what the registry stores in a node. They stay.
const (
	recordsName = "functions"
	codeName    = "code"
)

// Options configure a Registry.
type Options struct {
	// Region is the one in ARNs.
	Region string
	// Prepare makes the code of a function ready to run; its error is why the
	// function, or its update, failed. Its ctx ends with Close. Nil prepares
	// nothing.
	Prepare func(ctx context.Context, fn *lambent.Function) error
	// Stand has containers of a function stand ready before calls come to it, where
	// old code is warm; see StandFunc. Nil does nothing.
	Stand StandFunc
	// CodeDropped is told of packages that no function has any more. Nil tells
	// nobody. It must not block.
	CodeDropped func(lambent.CodeHash)
	// CodeGrace is how long a package that no function has any more is kept, for
	// invocations that were accepted before; 0 is a minute.
	CodeGrace time.Duration
	// Log takes what goes wrong in the background; nil is nowhere.
	Log *slog.Logger
	// Now is the clock of LastModified; nil is time.Now.
	Now func() time.Time
}

// writeLimit bounds one write to the node. A write is finished even when the
// caller who wanted it is gone, or nobody would know whether it took place.
const writeLimit = 30 * time.Second

// reconcileLimit bounds reading back what a failed write left.
const reconcileLimit = 5 * time.Second

// functionKey is what a function is found by.
type functionKey struct {
	account lambent.AccountID
	name    lambent.FunctionName
}

// stored is a record in memory, with what is needed to write its successor.
type stored struct {
	fn       *lambent.Function
	revision uint64 // of the record in the bucket
	extra    extras // fields of the record this version does not know
}

// Registry is the memory of functions. Make it with Open. All methods may be
// called from several goroutines at once.
type Registry struct {
	opts    Options
	records *cluster.Bucket
	objects *cluster.Bucket
	Objects
	tables []anyTable // all of Objects; fixed once Open returns
	blobs  *cluster.Blobs
	code   codeStore

	stop    context.CancelCauseFunc // ends what runs in the background
	ctx     context.Context         // of the background
	running sync.WaitGroup
	slots   chan struct{} // bounds how many functions are prepared at once

	rolloutMu sync.Mutex
	// +checklocks:rolloutMu
	rollouts map[rolloutKey]*rollout

	// writing serialises the writes of one function; functions share locks. Who
	// holds one may wait for the disk, so it is taken before mu, never within.
	writing [64]sync.Mutex
	seed    maphash.Seed

	mu sync.RWMutex
	// +checklocks:mu
	functions map[functionKey]stored // each one's $LATEST
	// +checklocks:mu
	versions map[functionKey][]stored // the published ones, oldest first
	// +checklocks:mu
	names map[lambent.AccountID][]lambent.FunctionName // sorted
	// +checklocks:mu
	subscribers []func(Change)
	// +checklocks:mu
	closed bool
}

// maxPreparing bounds how many functions are prepared at once: unpacking is
// work for disk and CPU, and after a restart many may wait for it.
const maxPreparing = 4

// Open reads all records and begins to settle those a restart interrupted.
// Errors are *lambent.Error; a record that cannot be read is one, because to go
// on without it would lose it and its code.
func Open(ctx context.Context, node *cluster.Node, o Options) (*Registry, error) {
	const op = "open registry"
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CodeGrace == 0 {
		o.CodeGrace = time.Minute
	}
	if o.Prepare == nil {
		o.Prepare = func(context.Context, *lambent.Function) error { return nil }
	}
	records, err := node.Bucket(ctx, recordsName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	objects, err := node.Bucket(ctx, objectsName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	blobs, err := node.Blobs(ctx, codeName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	r := &Registry{
		opts: o, records: records, objects: objects, blobs: blobs, seed: maphash.MakeSeed(), slots: make(chan struct{}, maxPreparing),
		rollouts: map[rolloutKey]*rollout{},
	}
	r.code = codeStore{blobs: blobs, packages: map[lambent.CodeHash]*codePackage{}, now: o.Now}
	r.openTables()
	unsettled, err := r.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := r.loadObjects(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	r.countLayers()
	if err := r.sweepCode(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	// The background outlives the caller's context, and ends with Close.
	r.ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	r.watchRollouts()
	for _, fn := range unsettled {
		r.settleLater(fn)
	}
	r.running.Go(func() { r.dropUnusedCode(r.ctx) })
	return r, nil
}

// load fills the memory with functions.
func (r *Registry) load(ctx context.Context) (unsettled []*lambent.Function, err error) {
	functions, names := map[functionKey]stored{}, map[lambent.AccountID][]lambent.FunctionName{}
	versions := map[functionKey][]stored{}
	err = r.records.All(ctx, func(e cluster.Entry) error {
		fn, extra, err := decodeRecord(e.Key, e.Value)
		if err != nil {
			return err
		}
		k, s := functionKey{fn.Account, fn.Name}, stored{fn, e.Revision, extra}
		switch {
		case fn.Version == lambent.Latest:
			functions[k] = s
			names[fn.Account] = append(names[fn.Account], fn.Name)
		case number(fn.Version) > 0:
			versions[k] = append(versions[k], s)
		default:
			return &lambent.Error{Op: "read function record", Resource: e.Key, Kind: lambent.KindInternal, Reason: "Unreadable", Err: fmt.Errorf("%q is no version", fn.Version)}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	r.dropOrphanVersions(ctx, functions, versions)
	for k, latest := range functions {
		for _, s := range append(slices.Clip(versions[k]), latest) {
			r.code.countAll(s.fn)
			if changing(s.fn) {
				unsettled = append(unsettled, s.fn)
			}
		}
	}
	for _, ofAccount := range names {
		slices.Sort(ofAccount)
	}
	r.mu.Lock()
	r.functions, r.names, r.versions = functions, names, versions
	r.mu.Unlock()
	return unsettled, nil
}

// sweepCode removes code that nothing names, and tells what is missing.
func (r *Registry) sweepCode(ctx context.Context) error {
	missing, err := r.code.sweep(ctx)
	if err != nil {
		return err
	}
	for _, hash := range missing {
		r.opts.Log.Warn("the code of a function is missing; upload it again", "code", hash)
	}
	return nil
}

var errClosed = errors.New("the registry is closed")

// Close ends the background work, waits for it and for writes under way, and
// refuses what comes after. The node is its owner's to close.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for i := range r.writing { // whoever had it is done, whoever gets it sees closed
		r.writing[i].Lock()
		//lint:ignore SA2001 the wait is the point
		r.writing[i].Unlock()
	}
	r.stop(errClosed)
	r.running.Wait()
	return nil
}

// Function finds the version of a function that qualifier names: "" and
// "$LATEST", a number, or an alias, of which it is the version it points to.
// KindNotFound where there is none. It takes no lock anybody holds for long, and
// allocates nothing where it finds one.
func (r *Registry) Function(account lambent.AccountID, name lambent.FunctionName, qualifier string) (*lambent.Function, error) {
	fn, _, err := r.find(functionKey{account, name}, qualifier, 1)
	return fn, err
}

// Route is Function for one call: an alias of two versions means one of them, by
// roll, which is evenly distributed in [0, 1). Where fn is not in place yet the
// caller tells Rollout, too; standIns are records of which a container that is
// warm may serve the call until then, best first.
func (r *Registry) Route(account lambent.AccountID, name lambent.FunctionName, qualifier string, roll float64) (fn *lambent.Function, standIns []*lambent.Function, inPlace bool, err error) {
	k := functionKey{account, name}
	fn, alias, err := r.find(k, qualifier, roll)
	if err != nil {
		return nil, nil, false, err
	}
	before := r.before(k, fn, alias)
	if before == nil {
		return fn, nil, true, nil
	}
	return fn, r.standInsFor(keyOfRollout(k, qualifier, fn), fn, before), false, nil
}

// find finds the version that a qualifier means for a roll, and the alias, if it
// is one.
func (r *Registry) find(k functionKey, qualifier string, roll float64) (*lambent.Function, *Alias, error) {
	version := lambent.Version(qualifier)
	if version == "" {
		version = lambent.Latest
	}
	if version == lambent.Latest || version.IsNumbered() {
		if s, ok := r.reachable(k, version); ok {
			return s.fn, nil, nil
		}
		return nil, nil, r.notFound("find function", k.account, k.name, qualifier)
	}
	for {
		alias := r.Aliases.Get(aliasKey(k.account, k.name, qualifier))
		if alias == nil {
			return nil, nil, r.notFound("find function", k.account, k.name, qualifier)
		}
		if s, ok := r.reachable(k, alias.Choose(roll)); ok {
			return s.fn, alias, nil
		}
		if r.Aliases.Get(aliasKey(k.account, k.name, qualifier)) == alias { // else it was moved, and the version deleted
			return nil, nil, r.notFound("find function", k.account, k.name, qualifier)
		}
	}
}

// reachable finds the record of a version of a function that is there.
func (r *Registry) reachable(k functionKey, version lambent.Version) (s stored, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if s, ok = r.functions[k]; !ok || version == lambent.Latest {
		return s, ok
	}
	at, ok := findVersion(r.versions[k], version)
	if !ok {
		return stored{}, false
	}
	return r.versions[k][at], true
}

// ListFunctions gives at most limit functions of an account, sorted by name, that
// come after a name, and the name to go on after, which is "" at the end.
func (r *Registry) ListFunctions(account lambent.AccountID, after lambent.FunctionName, limit int) (fs []*lambent.Function, next lambent.FunctionName) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := r.names[account]
	from, found := slices.BinarySearch(names, after)
	if found {
		from++
	}
	names = names[from:]
	if len(names) > limit {
		names = names[:max(limit, 0)]
		if len(names) > 0 {
			next = names[len(names)-1]
		}
	}
	fs = make([]*lambent.Function, len(names))
	for i, name := range names {
		fs[i] = r.functions[functionKey{account, name}].fn
	}
	return fs, next
}

// CodePackage opens a deployment package as it was uploaded and tells its size;
// KindNotFound where there is none. The reader verifies what it reads; a package
// that is damaged is stored anew when it is uploaded again.
func (r *Registry) CodePackage(ctx context.Context, hash lambent.CodeHash) (io.ReadCloser, int64, error) {
	return r.code.open(ctx, hash)
}

// HasCode reports whether a record, or one that is being written, names a
// package.
func (r *Registry) HasCode(hash lambent.CodeHash) bool { return r.code.named(hash) }

// lockOf is the lock under which a function is written.
func (r *Registry) lockOf(k functionKey) *sync.Mutex {
	return &r.writing[maphash.Comparable(r.seed, k)%uint64(len(r.writing))]
}

// recorded finds the record of a version, also where its function is gone and it
// is still to be deleted.
func (r *Registry) recorded(k functionKey, version lambent.Version) (s stored, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if version == lambent.Latest {
		s, ok = r.functions[k]
		return s, ok
	}
	at, ok := findVersion(r.versions[k], version)
	if !ok {
		return stored{}, false
	}
	return r.versions[k][at], true
}

// current gives the record of a function for writing its successor.
func (r *Registry) current(op string, k functionKey) (stored, error) {
	return r.currentVersion(op, k, lambent.Latest)
}

// currentVersion is current for any version.
func (r *Registry) currentVersion(op string, k functionKey, version lambent.Version) (stored, error) {
	s, ok := r.recorded(k, version)
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch {
	case r.closed:
		return stored{}, &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindUnavailable, Err: errClosed}
	case !ok && version == lambent.Latest:
		return stored{}, r.notFound(op, k.account, k.name, "")
	case !ok:
		return stored{}, r.notFound(op, k.account, k.name, string(version))
	}
	return s, nil
}

// put makes s the record of its version and tells the subscribers. The caller
// holds the function's lock, so they are told in the order of the changes.
func (r *Registry) put(s stored) {
	k, version := functionKey{s.fn.Account, s.fn.Name}, s.fn.Version
	before, existed := r.recorded(k, version)
	r.mu.Lock()
	if version != lambent.Latest {
		r.putVersion(k, s)
	} else {
		r.functions[k] = s
		if !existed {
			names := r.names[k.account]
			at, _ := slices.BinarySearch(names, k.name)
			r.names[k.account] = slices.Insert(names, at, k.name)
		}
	}
	subscribers := r.subscribers
	r.mu.Unlock()
	tell(subscribers, Change{k.account, k.name, version, before.fn, s.fn})
}

// remove forgets a version; the caller holds the function's lock.
func (r *Registry) remove(k functionKey, version lambent.Version) {
	before, _ := r.recorded(k, version)
	r.mu.Lock()
	if version != lambent.Latest {
		r.removeVersion(k, version)
	} else {
		delete(r.functions, k)
		names := r.names[k.account]
		if at, found := slices.BinarySearch(names, k.name); found {
			r.names[k.account] = slices.Delete(names, at, at+1)
		}
		if len(r.names[k.account]) == 0 {
			delete(r.names, k.account)
		}
	}
	subscribers := r.subscribers
	r.mu.Unlock()
	tell(subscribers, Change{k.account, k.name, version, before.fn, nil})
}

// Change is what became of one version of a function. A function is deleted with
// its $LATEST; that of each of its published versions is told after.
type Change struct {
	Account lambent.AccountID
	Name    lambent.FunctionName
	Version lambent.Version
	Before  *lambent.Function // nil: it was created, or published
	After   *lambent.Function // nil: it was deleted
}

// FunctionDeleted tells whether the whole function is gone, not a version of it.
func (c Change) FunctionDeleted() bool { return c.After == nil && c.Version == lambent.Latest }

// Subscribe has changed called with every change from now on, those of one
// function in their order, before the call that made it returns. It must not
// block, nor change functions itself. There is no way back: who subscribes
// lives as long as the registry.
func (r *Registry) Subscribe(changed func(Change)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.subscribers = append(slices.Clip(r.subscribers), changed)
}

func tell(subscribers []func(Change), c Change) {
	for _, changed := range subscribers {
		changed(c)
	}
}

func (r *Registry) arn(account lambent.AccountID, name lambent.FunctionName, qualifier string) string {
	return lambent.FunctionARN(r.opts.Region, account, name, qualifier)
}

func (r *Registry) notFound(op string, account lambent.AccountID, name lambent.FunctionName, qualifier string) error {
	return &lambent.Error{Op: op, Resource: string(name), Kind: lambent.KindNotFound, Message: "Function not found: " + r.arn(account, name, qualifier)}
}

// Codes is the set of packages that functions have, those of their layers
// included.
func (r *Registry) Codes() map[lambent.CodeHash]bool {
	set := map[lambent.CodeHash]bool{}
	var add func(fn *lambent.Function)
	add = func(fn *lambent.Function) {
		if fn.PackageType == lambent.PackageImage {
			return
		}
		set[fn.Code] = true
		for _, l := range fn.Layers {
			set[l.Code] = true
		}
		if fn.Previous != nil {
			add(fn.Previous)
		}
	}
	for _, fn := range r.all() {
		add(fn)
	}
	return set
}

// all lists the versions of all functions, $LATEST among them, in no order.
func (r *Registry) all() []*lambent.Function {
	r.mu.RLock()
	defer r.mu.RUnlock()
	fns := make([]*lambent.Function, 0, len(r.functions))
	for _, latest := range r.functions {
		fns = append(fns, latest.fn)
	}
	for _, versions := range r.versions {
		for _, s := range versions {
			fns = append(fns, s.fn)
		}
	}
	return fns
}
