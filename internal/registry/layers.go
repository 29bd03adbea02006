package registry

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"lambent"
)

// layerSeries is a layer: what is left of it when all its versions are gone, so
// that none of their numbers is given out again. Its key has no parent.
type layerSeries struct {
	Last int64 `json:"last"` // the highest number given out
}

// layerVersion is a lambent.LayerVersion as it is stored. Its key has the layer's
// name for a parent, and a name that sorts by number.
type layerVersion struct {
	Version        int64            `json:"version"`
	Description    string           `json:"description,omitempty"`
	License        string           `json:"license,omitempty"`
	Runtimes       []string         `json:"runtimes,omitempty"`
	Architectures  []string         `json:"architectures,omitempty"`
	Code           string           `json:"code"`
	CodeSize       int64            `json:"code_size"`
	Unpacked       int64            `json:"unpacked"`
	Created        time.Time        `json:"created"`
	Statements     []layerStatement `json:"statements,omitempty"`
	PolicyRevision string           `json:"policy_revision,omitempty"`
}

type layerStatement struct {
	ID           string `json:"id"`
	Principal    string `json:"principal"`
	Organization string `json:"organization,omitempty"`
}

// openLayers makes the tables of layers.
func (r *Registry) openLayers() {
	r.layerSeries = newTable[layerSeries](r, "layer", ofAccount)
	r.layerVersions = newTable[layerVersion](r, "layer-version", ofAccount)
	r.layerVersions.Subscribe(func(c ObjectChange[layerVersion]) {
		if c.Before == nil {
			r.code.count(lambent.CodeHash(c.After.Code))
		}
		if c.After == nil {
			r.code.release(lambent.CodeHash(c.Before.Code))
		}
	})
}

// countLayers takes a reference to the package of each layer version that Open
// has read.
func (r *Registry) countLayers() {
	t := r.layerVersions
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, o := range t.sorted {
		r.code.count(lambent.CodeHash(o.value.Code))
	}
}

func layerSeriesKey(account lambent.AccountID, name string) ObjectKey {
	return ObjectKey{Account: account, Name: name}
}

func layerVersionKey(account lambent.AccountID, name string, version int64) ObjectKey {
	return ObjectKey{Account: account, Parent: name, Name: fmt.Sprintf("%019d", version)}
}

// PublishLayerVersion makes the next version of a layer of spec and a zip that
// has been checked, and the layer where it is not there yet. Account, name,
// description, license, runtimes, architectures and unpacked size are spec's.
func (r *Registry) PublishLayerVersion(ctx context.Context, spec *lambent.LayerVersion, pkg []byte) (*lambent.LayerVersion, error) {
	const op = "publish layer version"
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	hash, err := r.code.acquire(ctx, pkg)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", op, spec.Name, err)
	}
	defer r.code.release(hash) // the version that is made takes a reference of its own
	series, err := r.layerSeries.Edit(ctx, op, layerSeriesKey(spec.Account, spec.Name), func(old *layerSeries) (*layerSeries, error) {
		if old == nil {
			return &layerSeries{Last: 1}, nil
		}
		return &layerSeries{Last: old.Last + 1}, nil
	})
	if err != nil {
		return nil, err
	}
	v := &layerVersion{
		Version: series.Last, Description: spec.Description, License: spec.License, Architectures: slices.Clone(spec.Architectures),
		Code: string(hash), CodeSize: int64(len(pkg)), Unpacked: spec.Unpacked, Created: r.opts.Now().UTC(),
	}
	for _, rt := range spec.Runtimes {
		v.Runtimes = append(v.Runtimes, string(rt))
	}
	key := layerVersionKey(spec.Account, spec.Name, v.Version)
	if err := r.layerVersions.Create(ctx, op, key, v, ""); err != nil {
		return nil, err
	}
	return v.published(key), nil
}

// published is the record in the vocabulary's terms.
func (v *layerVersion) published(key ObjectKey) *lambent.LayerVersion {
	out := &lambent.LayerVersion{
		Account: key.Account, Name: key.Parent, Version: v.Version, Description: v.Description, License: v.License,
		Architectures: v.Architectures, Code: lambent.CodeHash(v.Code), CodeSize: v.CodeSize, Unpacked: v.Unpacked, Created: v.Created,
		PolicyRevision: v.PolicyRevision,
	}
	for _, rt := range v.Runtimes {
		out.Runtimes = append(out.Runtimes, lambent.Runtime(rt))
	}
	for _, s := range v.Statements {
		out.Statements = append(out.Statements, lambent.LayerStatement(s))
	}
	return out
}

// LayerVersion finds a version of a layer; KindNotFound where there is none.
func (r *Registry) LayerVersion(account lambent.AccountID, name string, version int64) (*lambent.LayerVersion, error) {
	key := layerVersionKey(account, name, version)
	v := r.layerVersions.Get(key)
	if v == nil {
		return nil, &lambent.Error{Op: "find layer version", Resource: name, Kind: lambent.KindNotFound, Message: "The resource you requested does not exist."}
	}
	return v.published(key), nil
}

// LayerVersions gives the versions of a layer, the newest first; none for a
// layer that is not there.
func (r *Registry) LayerVersions(account lambent.AccountID, name string) []*lambent.LayerVersion {
	const all = int(^uint(0) >> 1)
	found, _ := r.layerVersions.List(account, name, ObjectKey{}, all, nil)
	out := make([]*lambent.LayerVersion, 0, len(found))
	for _, o := range slices.Backward(found) {
		out = append(out, o.Value.published(o.Key))
	}
	return out
}

// ListLayers gives for at most limit layers of an account, in the order of
// their names, that come after a name, the newest version that match accepts;
// layers without one are left out. next is the name to go on after, "" at the
// end.
func (r *Registry) ListLayers(account lambent.AccountID, after string, limit int, match func(*lambent.LayerVersion) bool) (newest []*lambent.LayerVersion, next string) {
	const page = 100
	for from := layerSeriesKey(account, after); ; {
		series, more := r.layerSeries.List(account, "", from, page, nil)
		for _, s := range series {
			versions := r.LayerVersions(account, s.Key.Name)
			k := slices.IndexFunc(versions, match)
			if k < 0 {
				continue
			}
			if len(newest) == limit {
				return newest, newest[limit-1].Name
			}
			newest = append(newest, versions[k])
		}
		if !more {
			return newest, ""
		}
		from = series[len(series)-1].Key
	}
}

// DeleteLayerVersion forgets a version of a layer; that it is not there is no
// error. Functions that have it keep it.
func (r *Registry) DeleteLayerVersion(ctx context.Context, account lambent.AccountID, name string, version int64) error {
	_, err := r.layerVersions.Edit(ctx, "delete layer version", layerVersionKey(account, name, version), func(*layerVersion) (*layerVersion, error) { return nil, nil })
	return err
}

// EditLayerPolicy replaces the statements of a layer version's policy by what
// change makes of them, and gives them another revision. change gets the
// version, nil where it is not there, and must not alter it; its error is
// returned as it is, and then nothing has changed.
func (r *Registry) EditLayerPolicy(ctx context.Context, account lambent.AccountID, name string, version int64,
	change func(*lambent.LayerVersion) ([]lambent.LayerStatement, error)) (*lambent.LayerVersion, error) {
	key := layerVersionKey(account, name, version)
	v, err := r.layerVersions.Edit(ctx, "change layer policy", key, func(old *layerVersion) (*layerVersion, error) {
		var current *lambent.LayerVersion
		if old != nil {
			current = old.published(key)
		}
		statements, err := change(current)
		if err != nil {
			return nil, err
		}
		if old == nil {
			return nil, &lambent.Error{Op: "change layer policy", Resource: name, Kind: lambent.KindNotFound}
		}
		next := *old
		next.PolicyRevision, next.Statements = uuid.NewString(), nil
		for _, s := range statements {
			next.Statements = append(next.Statements, layerStatement(s))
		}
		return &next, nil
	})
	if err != nil {
		return nil, err
	}
	return v.published(key), nil
}

// retainLayers takes a reference to the packages of a function's layers;
// KindInvalid where one is gone.
func (r *Registry) retainLayers(op string, layers []lambent.Layer) error {
	for k, l := range layers {
		if !r.code.retain(l.Code) {
			r.code.releaseLayers(layers[:k])
			return &lambent.Error{Op: op, Resource: l.ARN, Kind: lambent.KindInvalid, Message: "Layer version " + l.ARN + " does not exist."}
		}
	}
	return nil
}
