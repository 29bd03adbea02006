package api

import (
	"encoding/base64"
	"strings"
	"time"

	"lambent"
	"lambent/internal/registry"
)

// This file holds what the operations on objects share: everything of an
// account that is not a function.

// functionOf tells which function is meant, as target does, and finds the
// version the qualifier names: AWS's not-found where there is none.
func (a *API) functionOf(c *call, operation, name string, qualifier *string) (lambent.FunctionRef, *lambent.Function, error) {
	ref, err := a.target(c.caller, operation, name, qualifier)
	if err != nil {
		return ref, nil, err
	}
	f, err := a.functions.Function(ref.Account, ref.Name, ref.Qualifier)
	return ref, f, err
}

// unqualified is functionOf for operations on functions as a whole.
func (a *API) unqualified(c *call, operation, name string) (lambent.FunctionRef, *lambent.Function, error) {
	ref, err := a.target(c.caller, operation, name, nil)
	if err != nil {
		return ref, nil, err
	}
	if ref.Qualifier != "" {
		return ref, nil, invalid(operation, "This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. Please specify either a function name or an unqualified function ARN.")
	}
	f, err := a.functions.Function(ref.Account, ref.Name, "")
	return ref, f, err
}

// wholeFunction is unqualified for a request that says nothing but which function.
func (a *API) wholeFunction(c *call, operation string) (lambent.FunctionRef, error) {
	var q struct{ FunctionName string }
	if err := a.input(c, operation, &q); err != nil {
		return lambent.FunctionRef{}, err
	}
	ref, _, err := a.unqualified(c, operation, q.FunctionName)
	return ref, err
}

// settingsKey is where the settings of a function as a whole are.
func settingsKey(ref lambent.FunctionRef) registry.ObjectKey {
	return registry.ObjectKey{Account: ref.Account, Parent: string(ref.Name)}
}

// qualifiedKey is where an object of a version or alias is; of $LATEST with and
// without a name for it.
func qualifiedKey(ref lambent.FunctionRef) registry.ObjectKey {
	key := settingsKey(ref)
	if ref.Qualifier != string(lambent.Latest) {
		key.Name = ref.Qualifier
	}
	return key
}

// keyARN is the ARN of what an object belongs to; latest is how $LATEST is
// called in it, perhaps not at all.
func (a *API) keyARN(key registry.ObjectKey, latest string) string {
	qualifier := key.Name
	if qualifier == "" {
		qualifier = latest
	}
	return lambent.FunctionARN(a.region, key.Account, lambent.FunctionName(key.Parent), qualifier)
}

// noResource is AWS's error where the text is all that differs.
func noResource(operation, message string) error {
	return &lambent.Error{Op: operation, Kind: lambent.KindNotFound, Message: message}
}

// withMessage replaces what a caller is told of a thing that is not there.
func withMessage(err error, message string) error {
	if err != nil && lambent.KindOf(err) == lambent.KindNotFound {
		return &lambent.Error{Op: "find resource", Kind: lambent.KindNotFound, Message: message, Err: err}
	}
	return err
}

// defaultPage is how many objects AWS puts on a page where it is not told.
const defaultPage = 50

// pageOf is one page of a table: of an account and, where parent is not "", of a
// parent in it. next is the marker of the page after, nil at the end.
func pageOf[T any](t *registry.Table[T], account lambent.AccountID, parent string, marker *string, maxItems *int, keep func(registry.Object[T]) bool) (page []registry.Object[T], next *string, err error) {
	after := registry.ObjectKey{}
	if nonEmpty(marker) {
		text, err := base64.RawURLEncoding.DecodeString(*marker)
		of, name, ok := strings.Cut(string(text), "/")
		if err != nil || !ok {
			return nil, nil, badMarker("list objects", err)
		}
		after = registry.ObjectKey{Account: account, Parent: of, Name: name}
	}
	limit := defaultPage
	if maxItems != nil {
		limit = min(limit, *maxItems)
	}
	page, more := t.List(account, parent, after, limit, keep)
	if more {
		last := page[len(page)-1].Key
		text := base64.RawURLEncoding.EncodeToString([]byte(last.Parent + "/" + last.Name))
		next = &text
	}
	return page, next, nil
}

// pageOfFunction is one page of what the function that a request names has in a
// table. missing is what AWS says there of one that is not there; "" for the usual.
func pageOfFunction[T any](a *API, c *call, operation string, t *registry.Table[T], missing string) (page []registry.Object[T], next *string, err error) {
	var q struct {
		FunctionName string
		Marker       *string
		MaxItems     *int
	}
	if err := a.input(c, operation, &q); err != nil {
		return nil, nil, err
	}
	ref, _, err := a.unqualified(c, operation, q.FunctionName)
	if err != nil && missing != "" {
		err = withMessage(err, missing)
	}
	if err != nil {
		return nil, nil, err
	}
	return pageOf(t, ref.Account, string(ref.Name), q.Marker, q.MaxItems, nil)
}

// seconds is how AWS writes most times of objects.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// dated is how the model writes a time in a string that is not a function's.
func dated(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05-0700") }

// deref is what p points to, and the zero value where it is nil.
func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
