package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"lambent"
)

// A published version is a record of its own, frozen: only its state changes,
// while it settles. Its number is one more than the highest there ever was in
// the account for a function of that name. Where the highest is gone, its
// numbering remembers it, which is written before the record is deleted.

// numbering is what outlives a function's versions.
type numbering struct {
	Last uint64 `json:"last"` // the highest number given away
}

func numberingKey(k functionKey) ObjectKey { return ObjectKey{k.account, string(k.name), ""} }

// number is a published version's, 0 for what is none.
func number(v lambent.Version) uint64 {
	if !v.IsNumbered() {
		return 0
	}
	n, err := strconv.ParseUint(string(v), 10, 63)
	if err != nil || strconv.FormatUint(n, 10) != string(v) {
		return 0
	}
	return n
}

// findVersion tells where a version is, or would be.
func findVersion(versions []stored, v lambent.Version) (at int, found bool) {
	n := number(v)
	if n == 0 {
		return 0, false
	}
	return slices.BinarySearchFunc(versions, n, func(s stored, n uint64) int { return cmp.Compare(number(s.fn.Version), n) })
}

// putVersion remembers a published version.
//
// +checklocks:r.mu
func (r *Registry) putVersion(k functionKey, s stored) {
	at, found := findVersion(r.versions[k], s.fn.Version)
	if found {
		r.versions[k][at] = s
		return
	}
	r.versions[k] = slices.Insert(r.versions[k], at, s)
}

// removeVersion forgets one.
//
// +checklocks:r.mu
func (r *Registry) removeVersion(k functionKey, v lambent.Version) {
	at, found := findVersion(r.versions[k], v)
	if !found {
		return
	}
	if left := slices.Delete(r.versions[k], at, at+1); len(left) > 0 {
		r.versions[k] = left
		return
	}
	delete(r.versions, k)
}

// published copies the list of a function's published versions, oldest first.
func (r *Registry) published(k functionKey) []stored {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.versions[k])
}

// lastNumber is the highest that was given away for a function.
func (r *Registry) lastNumber(k functionKey, versions []stored) (last uint64) {
	if n := len(versions); n > 0 {
		last = number(versions[n-1].fn.Version)
	}
	if kept := r.numberings.Get(numberingKey(k)); kept != nil {
		last = max(last, kept.Last)
	}
	return last
}

// keepNumbering makes sure that no number is given away twice when all of a
// function's versions are gone. The caller holds the function's lock.
func (r *Registry) keepNumbering(ctx context.Context, op string, k functionKey) error {
	last := r.lastNumber(k, r.published(k))
	before := r.numberings.stored(numberingKey(k))
	if last == 0 || before.value != nil && before.value.Last >= last {
		return nil
	}
	return r.numberings.write(ctx, op, before, &numbering{Last: last})
}

// publicationOf digests what a version of fn is made of: all of $LATEST but
// what changes by itself and what a version does not have.
func publicationOf(fn *lambent.Function) (string, error) {
	c := *fn
	c.Version, c.Revision, c.ConfigHash, c.PublishedFrom, c.HotFolder, c.Tags, c.Previous = "", "", "", "", "", nil, nil
	c.LastModified = time.Time{}
	c.State, c.StateReason, c.StateReasonCode = "", "", ""
	c.UpdateStatus, c.UpdateReason, c.UpdateReasonCode = "", "", ""
	text, err := encodeRecord(&c, nil)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// PublishVersion freezes $LATEST as a version of its own: the one published last
// where nothing has changed since. revision and code are what the caller
// believes $LATEST to be of, "" for any; description takes the place of
// $LATEST's, nil keeps that.
//
// Errors: KindNotFound, KindPrecondition for another revision, KindInvalid for
// other code, KindExists while a change is under way or where the function has
// failed.
func (r *Registry) PublishVersion(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, revision string, code lambent.CodeHash,
	description *string) (*lambent.Function, error) {
	const op = "publish version"
	k := functionKey{account, name}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	latest, err := r.requireChangeable(op, k, revision)
	switch {
	case err != nil:
		return nil, err
	case code != "" && code != latest.fn.Code:
		return nil, &lambent.Error{Op: op, Resource: string(name), Kind: lambent.KindInvalid,
			Message: "CodeSHA256 (" + string(code) + ") is different from current CodeSHA256 in $LATEST (" + string(latest.fn.Code) + "). Please try again with the CodeSHA256 in $LATEST."}
	case latest.fn.State != stateActive:
		return nil, &lambent.Error{Op: op, Resource: string(name), Kind: lambent.KindExists,
			Message: "The operation cannot be performed at this time. The function is currently in the following state: " + latest.fn.State}
	}
	return r.publish(ctx, op, latest, description)
}

// publish makes a version of a record of $LATEST. One that was not prepared yet,
// or could not be, makes a version that settles by itself. The caller holds the
// function's lock.
func (r *Registry) publish(ctx context.Context, op string, latest stored, description *string) (*lambent.Function, error) {
	k := functionKey{latest.fn.Account, latest.fn.Name}
	from, err := publicationOf(latest.fn)
	if err != nil {
		return nil, &lambent.Error{Op: op, Resource: string(k.name), Err: err}
	}
	versions := r.published(k)
	last := r.lastNumber(k, versions)
	if n := len(versions); n > 0 {
		if newest := versions[n-1].fn; newest.PublishedFrom == from && number(newest.Version) == last {
			return newest, nil
		}
	}
	fn := *latest.fn // what it refers to is never changed, so both may have it
	fn.Version, fn.PublishedFrom, fn.Tags = lambent.Version(strconv.FormatUint(last+1, 10)), from, nil
	fn.HotFolder = "" // a version does not change
	fn.Previous = nil
	fn.LastModified = r.opts.Now().UTC()
	if description != nil {
		fn.Description = *description
	}
	fn.State, fn.StateReason, fn.StateReasonCode = stateActive, "", ""
	fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = updateSuccessful, "", ""
	if latest.fn.State != stateActive || latest.fn.UpdateStatus != updateSuccessful {
		fn.State, fn.StateReason, fn.StateReasonCode = statePending, reasonCreating, codeCreating
		fn.UpdateStatus = ""
	}
	r.code.countAll(&fn) // which $LATEST has, so it is stored
	if err := r.write(ctx, stored{fn: &fn, extra: latest.extra}, nil); err != nil {
		r.code.releaseAll(&fn)
		return nil, err
	}
	if changing(&fn) {
		r.settleLater(&fn)
	}
	return &fn, nil
}

// DeleteVersion forgets a published version. One that is not there is none of
// the function's, which is no error (as at AWS); one that an alias means stays.
//
// Errors: KindNotFound for a function that is not there, KindExists for a
// version an alias means.
func (r *Registry) DeleteVersion(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, version lambent.Version) error {
	const op = "delete version"
	k := functionKey{account, name}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	if _, err := r.current(op, k); err != nil {
		return err
	}
	s, ok := r.recorded(k, version)
	if !ok {
		return nil
	}
	if err := r.requireUnaliased(op, k, version); err != nil {
		return err
	}
	if err := r.keepNumbering(ctx, op, k); err != nil {
		return err
	}
	if err := r.dropVersion(ctx, op, k, s); err != nil {
		return err
	}
	if err := r.dropObjects(ctx, k, string(version)); err != nil { // the version is gone all the same
		r.opts.Log.Warn("what belonged to a deleted version could not be removed; it is tried again at the next start", "function", name, "account", account, "version", version, "err", err)
	}
	return nil
}

// dropVersion deletes one record. The caller holds the function's lock.
func (r *Registry) dropVersion(ctx context.Context, op string, k functionKey, s stored) error {
	if err := r.records.Delete(ctx, recordKey(s.fn), s.revision); err != nil {
		err = &lambent.Error{Op: op, Resource: string(k.name), Kind: writeKind(err), Err: err}
		return errors.Join(err, r.reconcile(ctx, recordKey(s.fn), k, s.fn.Version))
	}
	r.remove(k, s.fn.Version)
	r.code.releaseAll(s.fn)
	return nil
}

// dropVersions deletes all of a function that is gone. What could not be deleted
// is out of everybody's reach, and is tried again before another function gets
// the name. The caller holds the function's lock.
func (r *Registry) dropVersions(ctx context.Context, op string, k functionKey) error {
	for _, s := range r.published(k) {
		if err := r.dropVersion(ctx, op, k, s); err != nil {
			return err
		}
	}
	return nil
}

// dropOrphanVersions deletes the versions a crash has left of functions that are
// gone; those it cannot delete stay in versions, for dropVersions. It is Open's,
// before there are other writers. Their numbers were remembered before their
// function was deleted.
func (r *Registry) dropOrphanVersions(ctx context.Context, functions map[functionKey]stored, versions map[functionKey][]stored) {
	for k, orphans := range versions {
		slices.SortFunc(orphans, func(a, b stored) int { return cmp.Compare(number(a.fn.Version), number(b.fn.Version)) })
		if _, ok := functions[k]; ok {
			continue
		}
		var left []stored
		for _, s := range orphans {
			if err := r.records.Delete(ctx, recordKey(s.fn), s.revision); err != nil {
				r.opts.Log.Warn("a version of a deleted function could not be removed; it is tried again when its name is used, and at the next start",
					"function", k.name, "account", k.account, "version", s.fn.Version, "err", err)
				r.code.countAll(s.fn)
				left = append(left, s)
			}
		}
		if versions[k] = left; left == nil {
			delete(versions, k)
		}
	}
}

// ListVersions gives at most limit versions of a function, $LATEST first, then
// the published ones from the oldest on, that come after a version ("": from
// the start), and the version to go on after, which is "" at the end.
func (r *Registry) ListVersions(account lambent.AccountID, name lambent.FunctionName, after lambent.Version, limit int) (fs []*lambent.Function, next lambent.Version, err error) {
	k := functionKey{account, name}
	r.mu.RLock()
	defer r.mu.RUnlock()
	latest, ok := r.functions[k]
	if !ok {
		return nil, "", r.notFound("list versions", account, name, "")
	}
	fs, next = listVersions(latest, r.versions[k], after, limit)
	return fs, next, nil
}

// listVersions is ListVersions of a function that is there.
func listVersions(latest stored, versions []stored, after lambent.Version, limit int) (fs []*lambent.Function, next lambent.Version) {
	if after == "" {
		fs = append(fs, latest.fn)
	} else if after != lambent.Latest {
		at, found := findVersion(versions, after)
		if found {
			at++
		}
		versions = versions[at:]
	}
	for _, s := range versions {
		if len(fs) >= limit {
			return fs, fs[len(fs)-1].Version
		}
		fs = append(fs, s.fn)
	}
	return fs, ""
}

// ListAllVersions gives at most limit versions of all functions of an account,
// by name and then as ListVersions, that come after a version of a name, and
// what to go on after, which is "" at the end.
func (r *Registry) ListAllVersions(account lambent.AccountID, after lambent.FunctionName, version lambent.Version, limit int) (fs []*lambent.Function, next lambent.FunctionName, nextVersion lambent.Version) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := r.names[account]
	from, found := slices.BinarySearch(names, after)
	if found && version == "" {
		from++
	}
	for _, name := range names[from:] {
		k := functionKey{account, name}
		if name != after {
			version = ""
		}
		if len(fs) >= limit {
			last := fs[len(fs)-1]
			return fs, last.Name, last.Version
		}
		more, rest := listVersions(r.functions[k], r.versions[k], version, limit-len(fs))
		fs = append(fs, more...)
		if rest != "" {
			return fs, name, rest
		}
	}
	return fs, "", ""
}
