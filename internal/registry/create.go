package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"lambent"
)

// What AWS says of a function, or an update, that is not ready yet.
const (
	statePending = "Pending"
	stateActive  = "Active"
	stateFailed  = "Failed"

	updateInProgress = "InProgress"
	updateSuccessful = "Successful"
	updateFailed     = "Failed"

	reasonCreating = "The function is being created."
	codeCreating   = "Creating"
)

// changing reports whether a change of fn has not settled yet.
func changing(fn *lambent.Function) bool {
	return fn.State == statePending || fn.UpdateStatus == updateInProgress
}

// CreateFunction remembers a new function: spec's identity and configuration,
// and the code in pkg, a zip that has been checked; nil for an image, whose spec
// names it and holds its digest as Code. The record comes back
// Pending and settles in the background. KindExists where the account has a
// function of that name. Where it is to be published at once, the record is the
// version's, which settles likewise.
func (r *Registry) CreateFunction(ctx context.Context, spec *lambent.Function, pkg []byte, publishing lambent.Publishing) (*lambent.Function, error) {
	const op = "create function"
	k := functionKey{spec.Account, spec.Name}
	if err := r.requireAbsent(op, k); err != nil { // before the upload, and again when it counts
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	fn := clone(spec)
	if fn.PackageType != lambent.PackageImage {
		hash, err := r.code.acquire(ctx, pkg)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", op, spec.Name, err)
		}
		if err := r.retainLayers(op, fn.Layers); err != nil {
			r.code.release(hash)
			return nil, err
		}
		fn.Code = hash
	}
	fn.Version = lambent.Latest
	fn.State, fn.StateReason, fn.StateReasonCode = statePending, reasonCreating, codeCreating
	fn.UpdateStatus, fn.UpdateReason, fn.UpdateReasonCode = "", "", ""
	fn.CodeSize = int64(len(pkg))
	fn.LastModified = r.opts.Now().UTC()

	mu := r.lockOf(k)
	mu.Lock()
	defer mu.Unlock()
	err := r.requireAbsent(op, k)
	if err == nil {
		err = errors.Join(r.dropObjects(ctx, k), r.dropVersions(ctx, op, k)) // what a deletion before could not remove
	}
	if err == nil {
		err = r.write(ctx, stored{fn: fn}, nil)
	}
	if err != nil {
		r.code.releaseAll(fn)
		return nil, err
	}
	r.settleLater(fn)
	if publishing == lambent.Published {
		return r.publish(ctx, op, stored{fn: fn}, nil)
	}
	return fn, nil
}

func (r *Registry) requireAbsent(op string, k functionKey) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindUnavailable, Err: errClosed}
	}
	if _, ok := r.functions[k]; ok {
		return &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindExists, Message: "Function already exist: " + string(k.name)}
	}
	return nil
}

// write stamps next as a change, stores it in place of before (nil: as a new
// record) and then remembers it. The caller holds the function's lock and gives
// up next, which readers have from here on.
//
// A write that failed may have taken place all the same; then what is stored is
// read back and remembered.
func (r *Registry) write(ctx context.Context, next stored, before *stored) error {
	next.fn.Revision = uuid.NewString()
	next.fn.ConfigHash = next.fn.HashConfig()
	return r.store(ctx, next, before)
}

// store is write without the stamp: the revision stays.
func (r *Registry) store(ctx context.Context, next stored, before *stored) error {
	fn := next.fn
	text, err := encodeRecord(fn, next.extra)
	if err != nil {
		return &lambent.Error{Op: "write function record", Resource: string(fn.Name), Err: err}
	}
	if before == nil {
		next.revision, err = r.records.Create(ctx, recordKey(fn), text)
	} else {
		next.revision, err = r.records.Update(ctx, recordKey(fn), text, before.revision)
	}
	if err != nil {
		err = &lambent.Error{Op: "write function record", Resource: string(fn.Name), Kind: writeKind(err), Err: err}
		return errors.Join(err, r.reconcile(ctx, recordKey(fn), functionKey{fn.Account, fn.Name}, fn.Version))
	}
	r.put(next)
	return nil
}

// reconcile remembers what is stored of a version after a write of it failed: it
// may have taken place all the same, or another node may have been first.
// The caller holds the function's lock.
func (r *Registry) reconcile(ctx context.Context, key string, k functionKey, version lambent.Version) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reconcileLimit)
	defer cancel()
	known, ok := r.recorded(k, version)
	e, err := r.records.Get(ctx, key)
	switch {
	case err != nil && lambent.KindOf(err) == lambent.KindNotFound:
		if ok {
			r.remove(k, version)
			r.code.releaseAll(known.fn)
			if version != lambent.Latest {
				return r.dropObjects(ctx, k, string(version))
			}
			return errors.Join(r.dropObjects(ctx, k), r.dropVersions(ctx, "write function record", k))
		}
		return nil
	case err != nil:
		return err // the next write will fail by its revision, and come here again
	case ok && e.Revision == known.revision:
		return nil
	}
	fn, extra, err := decodeRecord(e.Key, e.Value)
	if err != nil {
		return err
	}
	r.code.countAll(fn)
	r.put(stored{fn, e.Revision, extra})
	if ok {
		r.code.releaseAll(known.fn)
	}
	if changing(fn) {
		r.settleLater(fn)
	}
	return nil
}

// writeKind is what a failed write means to the caller. That somebody else
// wrote the record, which is another node's doing, is not a matter of the
// revision the caller named.
func writeKind(err error) lambent.Kind {
	switch kind := lambent.KindOf(err); kind {
	case lambent.KindPrecondition, lambent.KindExists:
		return lambent.KindUnavailable
	default:
		return kind
	}
}

// reasonOf tells why preparing a function failed, in AWS's terms: a text for
// people and one of the codes of StateReasonCode. What is the server's fault is
// told in words made for callers; its paths and causes are for its log.
func reasonOf(err error) (text, code string) {
	text, code = "The server could not prepare the function's code. Its log says why. Update the code to try again.", "InternalError"
	if told, ok := errors.AsType[*lambent.Error](err); ok && told.Message != "" {
		text = told.Message
	}
	told, _ := errors.AsType[*lambent.Error](err)
	switch {
	case told != nil && slices.Contains(imageReasons(), told.Reason):
		code = told.Reason
	case lambent.KindOf(err) == lambent.KindInvalid:
		code = "InvalidZipFileException"
	}
	return text, code
}

// imageReasons are the codes of StateReasonCode that are of images.
func imageReasons() []string { return []string{"InvalidImage", "ImageDeleted", "ImageAccessDenied"} }
