package registry

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"lambent"
)

// Alias is a name for a version of a function, or for two of them, one of which
// gets a share of the calls.
type Alias struct {
	Version     lambent.Version `json:"version"`
	Description string          `json:"description,omitempty"`
	// Additional is the other version and Weight its share of the calls, from 0 to
	// 1; empty: there is none.
	Additional lambent.Version `json:"additional,omitempty"`
	Weight     float64         `json:"weight,omitempty"`
	Revision   string          `json:"revision"` // UUID; another one with every change
	// Before are the versions it meant before, newest first, since calls by it last
	// got what they asked for.
	Before []lambent.Version `json:"before,omitempty"`
}

// Choose picks the version for one call by a roll, evenly distributed in [0, 1).
func (a *Alias) Choose(roll float64) lambent.Version {
	if a.Additional != "" && roll < a.Weight {
		return a.Additional
	}
	return a.Version
}

// means tells whether calls by the alias may reach a version.
func (a *Alias) means(v lambent.Version) bool { return a.Version == v || a.Additional == v }

// AliasEntry is an alias with its name.
type AliasEntry struct {
	Name string
	*Alias
}

func aliasKey(account lambent.AccountID, function lambent.FunctionName, name string) ObjectKey {
	return ObjectKey{account, string(function), name}
}

// CreateAlias gives a function an alias of a name that is none of a version.
//
// Errors: KindNotFound for a function or version that is not there, KindExists
// for an alias that is, KindInvalid for versions that do not go together.
func (r *Registry) CreateAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name string, alias Alias) (*Alias, error) {
	const op = "create alias"
	key := aliasKey(account, function, name)
	if _, err := r.current(op, key.function()); lambent.KindOf(err) == lambent.KindNotFound {
		return nil, r.notFound(op, account, function, string(alias.Version)) // AWS names the version, too
	}
	return r.Aliases.Edit(ctx, op, key, func(old *Alias) (*Alias, error) {
		if old != nil {
			return nil, &lambent.Error{Op: op, Resource: name, Kind: lambent.KindExists, Message: "Alias already exists: " + r.arn(account, function, name)}
		}
		return &alias, r.finishAlias(op, key, &alias)
	})
}

// UpdateAlias has change alter a copy of an alias. revision is the one the
// caller believes to be current, "" for any.
//
// Errors are those of CreateAlias; KindNotFound for an alias that is not there,
// and KindPrecondition for another revision.
func (r *Registry) UpdateAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name, revision string, change func(*Alias)) (*Alias, error) {
	const op = "update alias"
	key := aliasKey(account, function, name)
	return r.Aliases.Edit(ctx, op, key, func(old *Alias) (*Alias, error) {
		switch {
		case old == nil:
			return nil, &lambent.Error{Op: op, Resource: name, Kind: lambent.KindNotFound, Message: "Alias not found: " + r.arn(account, function, name)}
		case revision != "" && revision != old.Revision:
			return nil, otherRevision(op, name)
		}
		next := *old
		change(&next)
		if next.Version != old.Version {
			next.Before = movedFrom(old, next.Version)
		}
		return &next, r.finishAlias(op, key, &next)
	})
}

// RollBackAlias has an alias mean an earlier version, which calls get from then on:
// the one it is moved from stands in for none, as it is what went wrong. to is the
// version, "" for the newest before the one there is; then failed, where it is a
// version, is the one to get away from: an alias that is at another stays where it
// is, so that many failures of one version put it back once, and one that gives
// failed a share only, gives it none any more. was and is are what calls got and
// get.
//
// Errors are those of UpdateAlias; KindInvalid where there is no earlier version.
func (r *Registry) RollBackAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name string, to, failed lambent.Version) (was, is lambent.Version, err error) {
	const op = "roll back alias"
	key := aliasKey(account, function, name)
	_, err = r.Aliases.Edit(ctx, op, key, func(old *Alias) (*Alias, error) {
		if old == nil {
			return nil, &lambent.Error{Op: op, Resource: name, Kind: lambent.KindNotFound, Message: "Alias not found: " + r.arn(account, function, name)}
		}
		next := *old
		next.Additional, next.Weight, next.Before = "", 0, nil
		switch was = old.Version; {
		case to != "":
			next.Version = to
		case failed.IsNumbered() && failed == old.Additional:
			was = failed
		case failed.IsNumbered() && failed != old.Version:
			is = was
			return old, nil
		default:
			var err error
			if next.Version, err = r.versionBefore(op, key.function(), old.Version); err != nil {
				return nil, err
			}
		}
		is = next.Version
		return &next, r.finishAlias(op, key, &next)
	})
	return was, is, err
}

// versionBefore is the newest version that is older than one.
func (r *Registry) versionBefore(op string, k functionKey, version lambent.Version) (before lambent.Version, err error) {
	all, _, err := r.ListVersions(k.account, k.name, "", noLimit)
	if err != nil {
		return "", err
	}
	for _, f := range all { // by number
		if f.Version == version {
			break
		}
		before = f.Version
	}
	if !version.IsNumbered() || !before.IsNumbered() {
		return "", &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindInvalid, Message: "there is no version before " + string(version)}
	}
	return before, nil
}

// finishAlias checks what an alias means and stamps it as a change. It runs
// while the function's writes are held back.
func (r *Registry) finishAlias(op string, key ObjectKey, a *Alias) error {
	fail := func(reason, message string) error {
		return &lambent.Error{Op: op, Resource: key.Name, Kind: lambent.KindInvalid, Reason: reason, Message: message}
	}
	k := key.function()
	if _, err := r.currentVersion(op, k, a.Version); err != nil {
		return r.notFound(op, k.account, k.name, string(a.Version))
	}
	if a.Additional != "" {
		switch {
		case a.Additional == a.Version:
			return fail("", "Invalid function version "+string(a.Version)+". Function version "+string(a.Version)+" is already included in routing configuration.")
		case a.Version == lambent.Latest:
			return fail(ReasonAliasOfLatest, "$LATEST is not supported for an alias pointing to more than 1 version")
		}
		if _, err := r.currentVersion(op, k, a.Additional); err != nil {
			return err
		}
	}
	a.Revision = uuid.NewString()
	return nil
}

// ReasonAliasOfLatest is the Reason of an alias that shares calls between
// $LATEST and a version, which cannot be.
const ReasonAliasOfLatest = "AliasOfLatest"

// DeleteAlias deletes an alias, and what belongs to it. One that is not there is
// no error, KindNotFound is for a function that is not.
func (r *Registry) DeleteAlias(ctx context.Context, account lambent.AccountID, function lambent.FunctionName, name string) error {
	const op = "delete alias"
	key := aliasKey(account, function, name)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	mu := r.lockOf(key.function())
	mu.Lock()
	defer mu.Unlock()
	if _, err := r.current(op, key.function()); err != nil {
		return err
	}
	before := r.Aliases.stored(key)
	if before.value == nil {
		return nil
	}
	if err := r.Aliases.remove(ctx, op, before); err != nil {
		return err
	}
	if err := r.dropObjects(ctx, key.function(), name); err != nil { // the alias is gone all the same
		r.opts.Log.Warn("what belonged to a deleted alias could not be removed; it is tried again at the next start", "function", function, "account", account, "alias", name, "err", err)
	}
	return nil
}

// Alias finds an alias; KindNotFound where there is none.
func (r *Registry) Alias(account lambent.AccountID, function lambent.FunctionName, name string) (*Alias, error) {
	const op = "find alias"
	if _, err := r.current(op, functionKey{account, function}); err != nil {
		return nil, err
	}
	if a := r.Aliases.Get(aliasKey(account, function, name)); a != nil {
		return a, nil
	}
	return nil, &lambent.Error{Op: op, Resource: name, Kind: lambent.KindNotFound, Message: "Cannot find alias arn: " + r.arn(account, function, name)}
}

// ListAliases gives at most limit aliases of a function by name, those after a
// name, and the name to go on after, which is "" at the end. version leaves out
// those that do not mean it; "" leaves out none.
func (r *Registry) ListAliases(account lambent.AccountID, function lambent.FunctionName, version lambent.Version, after string, limit int) (as []AliasEntry, next string, err error) {
	if _, err := r.current("list aliases", functionKey{account, function}); err != nil {
		return nil, "", err
	}
	found, more := r.Aliases.List(account, string(function), aliasKey(account, function, after), limit, func(o Object[Alias]) bool {
		return version == "" || o.Value.means(version)
	})
	for _, o := range found {
		as = append(as, AliasEntry{o.Key.Name, o.Value})
	}
	if more && len(as) > 0 {
		next = as[len(as)-1].Name
	}
	return as, next, nil
}

// requireUnaliased refuses to delete a version that an alias means. The caller
// holds the function's lock.
func (r *Registry) requireUnaliased(op string, k functionKey, version lambent.Version) error {
	const all = int(^uint(0) >> 1)
	found, _ := r.Aliases.List(k.account, string(k.name), ObjectKey{}, all, func(o Object[Alias]) bool { return o.Value.means(version) })
	if len(found) == 0 {
		return nil
	}
	names := make([]string, len(found))
	for i, o := range found {
		names[i] = o.Key.Name
	}
	return &lambent.Error{Op: op, Resource: string(k.name), Kind: lambent.KindExists,
		Message: "Unable to delete version because the following aliases reference it: [" + strings.Join(names, ", ") + "]"}
}

func otherRevision(op, resource string) error {
	return &lambent.Error{Op: op, Resource: resource, Kind: lambent.KindPrecondition,
		Message: "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"}
}
