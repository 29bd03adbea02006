package api

import (
	"context"
	"fmt"
	"io"
	"strings"

	"lambent"
	"lambent/internal/policy"
)

// functionLayers finds the layer versions that a function is to have; nil where
// the caller left Layers out, else perhaps empty.
func (a *API) functionLayers(c *call, operation string, arns []*string) ([]lambent.Layer, error) {
	switch {
	case arns == nil:
		return nil, nil
	case len(arns) > lambent.MaxLayers:
		return nil, invalid(operation, fmt.Sprintf("Cannot reference more than %d layers.", lambent.MaxLayers))
	case len(arns) > 0 && a.layers == nil:
		return nil, unsupportedField(operation, "Layers")
	}
	layers := []lambent.Layer{}
	seen := map[string]string{} // a layer's ARN → that of the version
	for _, arn := range arns {
		ref, err := lambent.ParseLayerRef(*arn)
		switch {
		case err != nil:
			return nil, invalid(operation, "Layer version "+*arn+" does not exist.")
		case ref.Partition != partition || ref.Region != a.region:
			if ref.Account != c.caller.Account {
				return nil, a.deniedLayer(c.caller, "GetLayerVersion", *arn)
			}
			return nil, invalid(operation, "Layers are not in the same region as the function. Layers are expected to be in region "+a.region+".")
		}
		var attached *policy.Document
		if ref.Account != c.caller.Account {
			attached = a.anybody // usableLayer asks the layer's own policy
		}
		if err := a.authorize(c, "lambda:GetLayerVersion", *arn, ref.Account, attached); err != nil {
			return nil, err
		}
		v, err := a.usableLayer(c.caller, "GetLayerVersion", ref)
		switch {
		case err != nil && lambent.KindOf(err) == lambent.KindNotFound:
			return nil, invalid(operation, "Layer version "+*arn+" does not exist.")
		case err != nil:
			return nil, err
		}
		layer, _, _ := cutLast(*arn, ":")
		if other, twice := seen[layer]; twice {
			return nil, invalid(operation, fmt.Sprintf("Two different versions of the same layer are not allowed to be referenced in the same function. %s and %s are versions of the same layer.", other, *arn))
		}
		seen[layer] = *arn
		layers = append(layers, lambent.Layer{ARN: lambent.LayerVersionARN(a.region, v.Account, v.Name, v.Version), Code: v.Code, Size: v.CodeSize, Unpacked: v.Unpacked})
	}
	return layers, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// checkUnpacked refuses code that is too large together with its layers.
func checkUnpacked(operation string, code int64, layers []lambent.Layer) error {
	sum := code
	for _, l := range layers {
		sum += l.Unpacked
	}
	if len(layers) == 0 || sum <= lambent.MaxUnzipped {
		return nil
	}
	return invalid(operation, fmt.Sprintf("Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.", lambent.MaxUnzipped, sum))
}

// unpacked is how large the code of a function is unpacked. A record that an
// earlier version of lambent wrote does not say.
func (a *API) unpacked(ctx context.Context, f *lambent.Function) (int64, error) {
	if f.Unpacked > 0 || f.PackageType == "Image" {
		return f.Unpacked, nil
	}
	r, size, err := a.functions.CodePackage(ctx, f.Code)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	pkg := make([]byte, size)
	if _, err := io.ReadFull(r, pkg); err != nil {
		return 0, err
	}
	return a.checkPackage(pkg)
}
