package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"lambent"
	"lambent/internal/cluster"
)

// objectsName is the bucket of everything that is not a function: one for all
// kinds, each with a first key part of its own.
const objectsName = "objects"

// ObjectKey is what an object of a Table is found by. Objects are listed in the
// order of their keys, part by part.
type ObjectKey struct {
	Account lambent.AccountID
	// Parent is what the object belongs to: the name of a function in the tables
	// of functions and of qualifiers; elsewhere what the table says, perhaps "".
	Parent string
	// Name is unique within the parent: a qualifier in the tables of qualifiers.
	Name string
}

func (k ObjectKey) compare(o ObjectKey) int {
	return cmp.Or(cmp.Compare(k.Account, o.Account), cmp.Compare(k.Parent, o.Parent), cmp.Compare(k.Name, o.Name))
}

// function is the function an object of a table of functions belongs to.
func (k ObjectKey) function() functionKey {
	return functionKey{k.Account, lambent.FunctionName(k.Parent)}
}

// scope is what an object goes with when it is deleted.
type scope uint8

const (
	ofAccount   scope = iota // nothing
	ofFunction               // the function its key has for a parent
	ofQualifier              // that, or the version or alias its key has for a name; "" and "$LATEST" are the unpublished one
)

// Table remembers the objects of one kind: T, a struct whose JSON is stored, so
// that its field names are for ever. Fields a later version adds are kept by
// this one where it changes an object, as those of a function are.
//
// An object that was handed out is never changed: whoever wants another makes a
// new T, which may share what the old one refers to. All methods may be called
// from several goroutines at once; those that read take no lock that is held
// for long. A nil Table is empty, and cannot be written to.
type Table[T any] struct {
	r     *Registry
	kind  string
	scope scope

	mu sync.RWMutex
	// +checklocks:mu
	byKey map[ObjectKey]*object[T]
	// +checklocks:mu
	sorted []*object[T] // by key
	// +checklocks:mu
	subscribers []func(ObjectChange[T])
}

// object is a stored T with what is needed to write its successor.
type object[T any] struct {
	key      ObjectKey
	value    *T
	revision uint64 // of the record in the bucket
	extra    extras
}

// ObjectChange is what became of one object. Before is nil where it was
// created, After where it was deleted.
type ObjectChange[T any] struct {
	Key           ObjectKey
	Before, After *T
}

// anyTable is a Table of any T, as the registry knows it.
type anyTable interface {
	load(e cluster.Entry, key ObjectKey) error
	loaded()
	drop(ctx context.Context, k functionKey, qualifiers []string) error
	dropOrphans(ctx context.Context) error
	name() string
}

// newTable makes the table of a kind, which is its name on the disk for ever.
// It must be made before Open reads the objects.
func newTable[T any](r *Registry, kind string, s scope) *Table[T] {
	t := &Table[T]{r: r, kind: kind, scope: s, byKey: map[ObjectKey]*object[T]{}}
	r.tables = append(r.tables, t)
	return t
}

// Get finds an object; nil where there is none. It allocates nothing.
func (t *Table[T]) Get(key ObjectKey) *T {
	if t == nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if o := t.byKey[key]; o != nil {
		return o.value
	}
	return nil
}

// Object is one entry of a list.
type Object[T any] struct {
	Key   ObjectKey
	Value *T
}

// List gives at most limit objects of an account, and where parent is not ""
// only those of that parent, that come after a key, in the order of keys; more
// says that another would have followed. keep leaves out what it returns false
// for, and nil nothing; it must not block.
func (t *Table[T]) List(account lambent.AccountID, parent string, after ObjectKey, limit int, keep func(Object[T]) bool) (found []Object[T], more bool) {
	if t == nil {
		return nil, false
	}
	from := ObjectKey{Account: account, Parent: parent}
	t.mu.RLock()
	defer t.mu.RUnlock()
	at, _ := t.find(from)
	if after.compare(from) >= 0 {
		var there bool
		if at, there = t.find(after); there {
			at++
		}
	}
	for _, o := range t.sorted[at:] {
		if o.key.Account != account || parent != "" && o.key.Parent != parent {
			break
		}
		next := Object[T]{o.key, o.value}
		if keep != nil && !keep(next) {
			continue
		}
		if len(found) >= limit {
			return found, true
		}
		found = append(found, next)
	}
	return found, false
}

// Each calls visit with every object there is, in the order of keys. visit must
// not block, nor use the table.
func (t *Table[T]) Each(visit func(Object[T])) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, o := range t.sorted {
		visit(Object[T]{o.key, o.value})
	}
}

// find tells where in sorted a key is, or would be.
//
// +checklocksread:t.mu
func (t *Table[T]) find(key ObjectKey) (at int, found bool) {
	return slices.BinarySearchFunc(t.sorted, key, func(o *object[T], key ObjectKey) int { return o.key.compare(key) })
}

// Edit decides by change what becomes of an object, and returns once that is
// durable. change gets the object there is, nil for none, and returns the one
// there shall be: nil for none, the same to change nothing. Its error is
// returned as it is, and then nothing has changed.
//
// change runs while all writes of the key's account and parent (so, of the
// function) are held back: what it reads of the registry stays so until its
// decision counts. It must not write to the registry, nor block.
//
// Where the table is of functions or qualifiers, a function, version or alias
// that is not there is KindNotFound. op is what errors say was tried.
func (t *Table[T]) Edit(ctx context.Context, op string, key ObjectKey, change func(old *T) (*T, error)) (*T, error) {
	if t == nil {
		return nil, &lambent.Error{Op: op, Resource: key.Name, Kind: lambent.KindUnavailable, Err: errors.New("there is no table to write to")}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := t.r.lockOf(key.function())
	mu.Lock()
	defer mu.Unlock()
	if err := t.requireWritable(op, key); err != nil {
		return nil, err
	}
	before := t.stored(key)
	next, err := change(before.value)
	switch {
	case err != nil:
		return nil, err
	case next == before.value:
		return next, nil
	case next == nil:
		return nil, t.remove(ctx, op, before)
	}
	return next, t.write(ctx, op, before, next)
}

// Create adds an object that is not there yet. message is what the caller of
// the API is told where it is, which is KindExists.
func (t *Table[T]) Create(ctx context.Context, op string, key ObjectKey, value *T, message string) error {
	_, err := t.Edit(ctx, op, key, func(old *T) (*T, error) {
		if old != nil {
			return nil, &lambent.Error{Op: op, Resource: key.Name, Kind: lambent.KindExists, Message: message}
		}
		return value, nil
	})
	return err
}

// Subscribe has changed called with every change from now on, those of one
// object in their order, before the call that made it returns. It must not
// block, nor write to the registry. There is no way back.
func (t *Table[T]) Subscribe(changed func(ObjectChange[T])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscribers = append(slices.Clip(t.subscribers), changed)
}

// requireWritable says why an object cannot be written now.
func (t *Table[T]) requireWritable(op string, key ObjectKey) error {
	if t.scope == ofQualifier {
		if _, err := t.r.Function(key.Account, lambent.FunctionName(key.Parent), key.Name); err != nil {
			return err
		}
	}
	if t.scope != ofAccount {
		_, err := t.r.current(op, key.function())
		return err
	}
	t.r.mu.RLock()
	defer t.r.mu.RUnlock()
	if t.r.closed {
		return &lambent.Error{Op: op, Resource: key.Name, Kind: lambent.KindUnavailable, Err: errClosed}
	}
	return nil
}

// stored gives what is needed to write the successor of an object, which may
// not be there.
func (t *Table[T]) stored(key ObjectKey) object[T] {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if o := t.byKey[key]; o != nil {
		return *o
	}
	return object[T]{key: key}
}

// recordKey is where an object is stored.
func (t *Table[T]) recordKey(key ObjectKey) string {
	return cluster.Key(t.kind, string(key.Account), key.Parent, key.Name)
}

// objectKeyOf undoes recordKey.
func objectKeyOf(recordKey string) (kind string, key ObjectKey, err error) {
	parts, err := cluster.KeyParts(recordKey)
	if err == nil && len(parts) != 4 {
		err = &lambent.Error{Op: "read key", Resource: recordKey, Kind: lambent.KindInvalid, Err: fmt.Errorf("it has %d parts, not 4", len(parts))}
	}
	if err != nil {
		return "", ObjectKey{}, err
	}
	return parts[0], ObjectKey{lambent.AccountID(parts[1]), parts[2], parts[3]}, nil
}

// write stores next in place of before and remembers it. The caller holds the
// key's lock. A write that failed may have taken place all the same; then what
// is stored is read back and remembered.
func (t *Table[T]) write(ctx context.Context, op string, before object[T], next *T) error {
	text, err := encodeObject(next, before.extra)
	if err != nil {
		return &lambent.Error{Op: op, Resource: before.key.Name, Err: err}
	}
	key := t.recordKey(before.key)
	o := &object[T]{key: before.key, value: next, extra: before.extra}
	if before.value == nil {
		o.revision, err = t.r.objects.Create(ctx, key, text)
	} else {
		o.revision, err = t.r.objects.Update(ctx, key, text, before.revision)
	}
	if err != nil {
		return t.failed(ctx, op, before.key, err)
	}
	t.put(o)
	return nil
}

// remove deletes an object that is there. The caller holds the key's lock.
func (t *Table[T]) remove(ctx context.Context, op string, before object[T]) error {
	if err := t.r.objects.Delete(ctx, t.recordKey(before.key), before.revision); err != nil {
		return t.failed(ctx, op, before.key, err)
	}
	t.forget(before.key)
	return nil
}

// failed remembers what a write that failed has left, and gives the error for
// the caller.
func (t *Table[T]) failed(ctx context.Context, op string, key ObjectKey, err error) error {
	err = &lambent.Error{Op: op, Resource: key.Name, Kind: writeKind(err), Err: err}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reconcileLimit)
	defer cancel()
	known := t.stored(key)
	e, getErr := t.r.objects.Get(ctx, t.recordKey(key))
	switch {
	case getErr != nil && lambent.KindOf(getErr) == lambent.KindNotFound:
		if known.value != nil {
			t.forget(key)
		}
		return err
	case getErr != nil:
		return errors.Join(err, getErr) // the next write will fail by its revision, and come here again
	case known.value != nil && e.Revision == known.revision:
		return err
	}
	value, extra, decodeErr := decodeObject[T](e)
	if decodeErr != nil {
		return errors.Join(err, decodeErr)
	}
	t.put(&object[T]{key, value, e.Revision, extra})
	return err
}

// put remembers an object; the caller holds the key's lock.
func (t *Table[T]) put(o *object[T]) {
	t.mu.Lock()
	change := ObjectChange[T]{Key: o.key, After: o.value}
	at, there := t.find(o.key)
	if there {
		change.Before = t.sorted[at].value
		t.sorted[at] = o
	} else {
		t.sorted = slices.Insert(t.sorted, at, o)
	}
	t.byKey[o.key] = o
	subscribers := t.subscribers
	t.mu.Unlock()
	for _, changed := range subscribers {
		changed(change)
	}
}

// forget forgets an object that is there; the caller holds the key's lock.
func (t *Table[T]) forget(key ObjectKey) {
	t.mu.Lock()
	change := ObjectChange[T]{Key: key, Before: t.byKey[key].value}
	if at, there := t.find(key); there {
		t.sorted = slices.Delete(t.sorted, at, at+1)
	}
	delete(t.byKey, key)
	subscribers := t.subscribers
	t.mu.Unlock()
	for _, changed := range subscribers {
		changed(change)
	}
}

func (t *Table[T]) name() string { return t.kind }

// load remembers what Open found; loaded says that that was all.
func (t *Table[T]) load(e cluster.Entry, key ObjectKey) error {
	value, extra, err := decodeObject[T](e)
	if err != nil {
		return err
	}
	o := &object[T]{key, value, e.Revision, extra}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byKey[key] = o
	t.sorted = append(t.sorted, o)
	return nil
}

func (t *Table[T]) loaded() {
	t.mu.Lock()
	slices.SortFunc(t.sorted, func(a, b *object[T]) int { return a.key.compare(b.key) })
	sorted, subscribers := t.sorted, t.subscribers
	t.mu.Unlock()
	for _, o := range sorted { // there is no writer yet
		for _, changed := range subscribers {
			changed(ObjectChange[T]{Key: o.key, After: o.value})
		}
	}
}

// noLimit is for lists of everything.
const noLimit = int(^uint(0) >> 1)

// drop deletes the objects of a function or, where qualifiers are given and the
// table is of qualifiers, those of the qualifiers. The caller holds the
// function's lock.
func (t *Table[T]) drop(ctx context.Context, k functionKey, qualifiers []string) error {
	if t.scope == ofAccount || t.scope == ofFunction && len(qualifiers) > 0 {
		return nil
	}
	found, _ := t.List(k.account, string(k.name), ObjectKey{}, noLimit, func(o Object[T]) bool {
		return len(qualifiers) == 0 || slices.Contains(qualifiers, o.Key.Name)
	})
	for _, o := range found {
		err := t.remove(ctx, "delete what belonged to a function", t.stored(o.Key))
		if err != nil && t.Get(o.Key) != nil { // else it is gone all the same
			return err
		}
	}
	return nil
}

// dropOrphans deletes what a crash has left of functions, versions and aliases
// that are gone. It is Open's, before there are other writers.
func (t *Table[T]) dropOrphans(ctx context.Context) error {
	if t.scope == ofAccount {
		return nil
	}
	var orphans []object[T]
	t.mu.RLock()
	for _, o := range t.sorted {
		qualifier := ""
		if t.scope == ofQualifier {
			qualifier = o.key.Name
		}
		if _, err := t.r.Function(o.key.Account, lambent.FunctionName(o.key.Parent), qualifier); err != nil {
			orphans = append(orphans, *o)
		}
	}
	t.mu.RUnlock()
	for _, o := range orphans {
		if err := t.remove(ctx, "delete what belonged to a function", o); err != nil {
			return err
		}
	}
	return nil
}

// dropObjects deletes everything that belongs to a function or, where qualifiers
// are given, to those versions or aliases of it. The caller holds the function's
// lock, and calls it after what they belong to is gone, and again before it is
// made anew: what could not be deleted the first time must not be found by
// another of the same name.
func (r *Registry) dropObjects(ctx context.Context, k functionKey, qualifiers ...string) error {
	for _, t := range r.tables {
		if err := t.drop(ctx, k, qualifiers); err != nil {
			return err
		}
	}
	return nil
}

// loadObjects fills the tables. What belongs to nothing any more is deleted;
// where that fails, it is left for whoever makes the function anew.
func (r *Registry) loadObjects(ctx context.Context) error {
	byKind := map[string]anyTable{}
	for _, t := range r.tables {
		byKind[t.name()] = t
	}
	unknown := map[string]int{}
	err := r.objects.All(ctx, func(e cluster.Entry) error {
		kind, key, err := objectKeyOf(e.Key)
		if err != nil {
			return err
		}
		if t := byKind[kind]; t != nil {
			return t.load(e, key)
		}
		unknown[kind]++
		return nil
	})
	if err != nil {
		return err
	}
	for kind, n := range unknown {
		r.opts.Log.Warn("there are objects of a kind that only another version of lambent knows; they are kept and do nothing", "kind", kind, "count", n)
	}
	for _, t := range r.tables {
		t.loaded()
	}
	for _, t := range r.tables {
		if err := t.dropOrphans(ctx); err != nil {
			r.opts.Log.Warn("what belonged to a deleted function could not be removed; it is tried again when its name is used, and at the next start", "kind", t.name(), "err", err)
		}
	}
	return nil
}

// objectFormat is the newest form of an object this version reads; see
// formatVersion.
const objectFormat = 1

// objectRecord is how an object is stored.
type objectRecord struct {
	Format int             `json:"format"`
	Value  json.RawMessage `json:"value"`
}

// encodeObject gives the JSON of an object, with the extras it came with.
func encodeObject[T any](value *T, extra extras) ([]byte, error) {
	text, err := json.Marshal(value)
	if err == nil {
		text, err = withExtras(text, extra)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(objectRecord{objectFormat, text})
}

// decodeObject reads what encodeObject wrote, perhaps in another version.
func decodeObject[T any](e cluster.Entry) (*T, extras, error) {
	fail := func(err error) (*T, extras, error) {
		return nil, nil, &lambent.Error{Op: "read object", Resource: e.Key, Kind: lambent.KindInternal, Reason: "Unreadable", Err: err}
	}
	var rec objectRecord
	if err := json.Unmarshal(e.Value, &rec); err != nil {
		return fail(err)
	}
	if rec.Format < 1 || rec.Format > objectFormat {
		return fail(fmt.Errorf("it has format %d, and this version of lambent reads up to %d: use the version that wrote it, or a newer one", rec.Format, objectFormat))
	}
	if len(bytes.TrimSpace(rec.Value)) == 0 || !strings.HasPrefix(string(bytes.TrimSpace(rec.Value)), "{") {
		return fail(errors.New("it has no value"))
	}
	var value T
	extra, err := unmarshal(rec.Value, &value)
	if err != nil {
		return fail(err)
	}
	return &value, extra, nil
}
