package api

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"lambent"
)

// Layers is what the API needs of whoever remembers layers. Records handed out
// are never changed. Errors are *lambent.Error, as those of Functions. Safe for
// concurrent use.
type Layers interface {
	// PublishLayerVersion makes the next version of spec's layer of a zip that has
	// been checked.
	PublishLayerVersion(ctx context.Context, spec *lambent.LayerVersion, pkg []byte) (*lambent.LayerVersion, error)
	LayerVersion(account lambent.AccountID, name string, version int64) (*lambent.LayerVersion, error)
	// LayerVersions gives all versions of a layer, the newest first; none where
	// there is no such layer.
	LayerVersions(account lambent.AccountID, name string) []*lambent.LayerVersion
	// ListLayers gives, of at most limit layers that come after a name, the newest
	// version that match accepts, and the name to go on after, "" at the end.
	ListLayers(account lambent.AccountID, after string, limit int, match func(*lambent.LayerVersion) bool) (newest []*lambent.LayerVersion, next string)
	DeleteLayerVersion(ctx context.Context, account lambent.AccountID, name string, version int64) error
	// EditLayerPolicy replaces the statements of a version, nil for none there, by
	// what change makes of them.
	EditLayerPolicy(ctx context.Context, account lambent.AccountID, name string, version int64, change func(*lambent.LayerVersion) ([]lambent.LayerStatement, error)) (*lambent.LayerVersion, error)
}

// layerHandlers are the operations on layers.
func layerHandlers() map[string]handler {
	return map[string]handler{
		"PublishLayerVersion":          (*API).publishLayerVersion,
		"GetLayerVersion":              (*API).getLayerVersion,
		"GetLayerVersionByArn":         (*API).getLayerVersionByARN,
		"ListLayers":                   (*API).listLayers,
		"ListLayerVersions":            (*API).listLayerVersions,
		"DeleteLayerVersion":           (*API).deleteLayerVersion,
		"AddLayerVersionPermission":    (*API).addLayerVersionPermission,
		"GetLayerVersionPolicy":        (*API).getLayerVersionPolicy,
		"RemoveLayerVersionPermission": (*API).removeLayerVersionPermission,
	}
}

// layerVersionItem is the model's LayerVersionsListItem.
type layerVersionItem struct {
	LayerVersionArn         string
	Version                 int64
	Description             string
	CreatedDate             string
	CompatibleRuntimes      []lambent.Runtime `json:",omitempty"`
	LicenseInfo             string            `json:",omitempty"`
	CompatibleArchitectures []string          `json:",omitempty"`
}

func (a *API) layerItem(v *lambent.LayerVersion) layerVersionItem {
	return layerVersionItem{
		LayerVersionArn: lambent.LayerVersionARN(a.region, v.Account, v.Name, v.Version), Version: v.Version, Description: v.Description,
		CreatedDate: timestamp(v.Created), CompatibleRuntimes: v.Runtimes, LicenseInfo: v.License, CompatibleArchitectures: v.Architectures,
	}
}

// layerVersionAnswer is what GetLayerVersion and PublishLayerVersion tell.
type layerVersionAnswer struct {
	layerVersionItem
	LayerArn string
	Content  layerContent
}

type layerContent struct {
	Location   string
	CodeSha256 string
	CodeSize   int64
}

func (a *API) layerAnswer(c *call, v *lambent.LayerVersion) layerVersionAnswer {
	return layerVersionAnswer{
		layerVersionItem: a.layerItem(v), LayerArn: lambent.LayerARN(a.region, v.Account, v.Name),
		Content: layerContent{Location: a.codeURL(c.r, v.Code), CodeSha256: string(v.Code), CodeSize: v.CodeSize},
	}
}

// layerTarget tells which layer the caller means by a name or ARN that passed
// the model. Other regions and partitions are refused, as they are for functions.
func (a *API) layerTarget(caller Caller, operation, name string) (lambent.LayerRef, error) {
	ref, err := lambent.ParseLayerRef(name)
	switch {
	case err != nil:
		return ref, &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindNotFound, Message: noSuchLayer, Err: err}
	case ref.Partition != "" && (ref.Partition != partition || ref.Region != a.region):
		return ref, &lambent.Error{Op: operation, Resource: name, Kind: lambent.KindNotFound, Message: noSuchLayer}
	}
	if ref.Account == "" {
		ref.Account = caller.Account
	}
	return ref, nil
}

// ownLayer is layerTarget for what only the owner may do.
func (a *API) ownLayer(caller Caller, operation, name string) (lambent.LayerRef, error) {
	ref, err := a.layerTarget(caller, operation, name)
	if err == nil && ref.Account != caller.Account {
		err = a.deniedLayer(caller, operation, lambent.LayerARN(a.region, ref.Account, ref.Name))
	}
	return ref, err
}

const noSuchLayer = "The resource you requested does not exist."

// deniedLayer is what AWS tells who may not use somebody's layer.
func (a *API) deniedLayer(caller Caller, operation, arn string) error {
	action := "lambda:" + operation
	return &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindDenied,
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
			caller.Principal.ARN, action, arn, action)}
}

// usableLayer finds a version that the caller's account may use. Whether
// somebody else's is there, only those learn who may use it.
func (a *API) usableLayer(caller Caller, operation string, ref lambent.LayerRef) (*lambent.LayerVersion, error) {
	v, err := a.layers.LayerVersion(ref.Account, ref.Name, ref.Version)
	if ref.Account != caller.Account && (err != nil || !v.Allows(caller.Account)) {
		return nil, a.deniedLayer(caller, operation, lambent.LayerVersionARN(a.region, ref.Account, ref.Name, ref.Version))
	}
	return v, err
}

// versionNumber reads the number of a layer version in a path.
func versionNumber(operation, s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return 0, &lambent.Error{Op: operation, Kind: lambent.KindMalformed, Reason: "SerializationException",
			Message: "STRING_VALUE can not be converted to a Long", Err: err}
	case n < 1:
		return 0, invalid(operation, "Layer Version Cannot be less than 1")
	}
	return n, nil
}

// layerVersionTarget reads the layer and the number that a path names.
func (a *API) layerVersionTarget(c *call, operation string) (lambent.LayerRef, error) {
	var v violations
	v.str("layerName", &c.params[0], a.shapes.layerName...)
	if err := v.err(); err != nil {
		return lambent.LayerRef{}, err
	}
	n, err := versionNumber(operation, c.params[1])
	if err != nil {
		return lambent.LayerRef{}, err
	}
	ref, err := a.layerTarget(c.caller, operation, c.params[0])
	ref.Version = n
	return ref, err
}

// getLayerVersion does GetLayerVersion.
func (a *API) getLayerVersion(c *call) error {
	ref, err := a.layerVersionTarget(c, "GetLayerVersion")
	if err != nil {
		return err
	}
	v, err := a.usableLayer(c.caller, "GetLayerVersion", ref)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.layerAnswer(c, v))
}

// getLayerVersionByARN does GetLayerVersionByArn.
func (a *API) getLayerVersionByARN(c *call) error {
	const operation = "GetLayerVersion" // the action that permits it
	arn := c.query("Arn")
	var v violations
	v.required("arn", arn != nil)
	v.str("arn", arn, a.shapes.layerArn...)
	if err := v.err(); err != nil {
		return err
	}
	ref, err := a.layerTarget(c.caller, operation, *arn)
	if err != nil {
		return err
	}
	layer, err := a.usableLayer(c.caller, operation, ref)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.layerAnswer(c, layer))
}

// deleteLayerVersion does DeleteLayerVersion.
func (a *API) deleteLayerVersion(c *call) error {
	const operation = "DeleteLayerVersion"
	ref, err := a.layerVersionTarget(c, operation)
	if err == nil && ref.Account != c.caller.Account {
		err = a.deniedLayer(c.caller, operation, lambent.LayerVersionARN(a.region, ref.Account, ref.Name, ref.Version))
	}
	if err == nil {
		err = a.layers.DeleteLayerVersion(c.r.Context(), ref.Account, ref.Name, ref.Version)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// layerFilter is what the two lists of layers have in common in their queries.
type layerFilter struct {
	runtime, architecture *string
	limit                 int
}

func (a *API) readLayerFilter(c *call, v *violations) (layerFilter, error) {
	f := layerFilter{runtime: c.query("CompatibleRuntime"), architecture: c.query("CompatibleArchitecture"), limit: maxPage}
	v.str("compatibleRuntime", f.runtime, a.shapes.runtime...)
	v.str("compatibleArchitecture", f.architecture, a.shapes.architecture...)
	maxItems, err := queryInteger(c, "MaxItems")
	if err != nil {
		return f, err
	}
	v.integer("maxItems", maxItems, 1, maxPage)
	if maxItems != nil {
		f.limit = *maxItems
	}
	return f, v.err()
}

// match reports whether a version says that it is made for what is asked.
func (f layerFilter) match(v *lambent.LayerVersion) bool {
	return (f.runtime == nil || slices.Contains(v.Runtimes, lambent.Runtime(*f.runtime))) &&
		(f.architecture == nil || slices.Contains(v.Architectures, *f.architecture))
}

type listLayersAnswer struct {
	Layers     []layersItem
	NextMarker *string `json:",omitempty"`
}

type layersItem struct {
	LayerName             string
	LayerArn              string
	LatestMatchingVersion layerVersionItem
}

// listLayers does ListLayers.
func (a *API) listLayers(c *call) error {
	var v violations
	filter, err := a.readLayerFilter(c, &v)
	if err != nil {
		return err
	}
	after, err := readLayerMarker("ListLayers", c.query("Marker"))
	if err != nil {
		return err
	}
	newest, next := a.layers.ListLayers(c.caller.Account, after, filter.limit, filter.match)
	answer := listLayersAnswer{Layers: []layersItem{}, NextMarker: layerMarker(next)}
	for _, v := range newest {
		answer.Layers = append(answer.Layers, layersItem{v.Name, lambent.LayerARN(a.region, v.Account, v.Name), a.layerItem(v)})
	}
	return c.reply(http.StatusOK, answer)
}

type listLayerVersionsAnswer struct {
	LayerVersions []layerVersionItem
	NextMarker    *string `json:",omitempty"`
}

// listLayerVersions does ListLayerVersions. Of somebody else's layer it lists
// what the caller may use.
func (a *API) listLayerVersions(c *call) error {
	const operation = "ListLayerVersions"
	var v violations
	v.str("layerName", &c.params[0], a.shapes.layerName...)
	filter, err := a.readLayerFilter(c, &v)
	if err != nil {
		return err
	}
	before := int64(1) << 62
	if marker, err := readLayerMarker(operation, c.query("Marker")); err != nil {
		return err
	} else if marker != "" {
		if before, err = strconv.ParseInt(marker, 10, 64); err != nil {
			return badMarker(operation, err)
		}
	}
	ref, err := a.layerTarget(c.caller, operation, c.params[0])
	if err != nil {
		return err
	}
	answer := listLayerVersionsAnswer{LayerVersions: []layerVersionItem{}}
	for _, v := range a.layers.LayerVersions(ref.Account, ref.Name) {
		if v.Version >= before || !filter.match(v) || !v.Allows(c.caller.Account) {
			continue
		}
		if len(answer.LayerVersions) == filter.limit {
			last := answer.LayerVersions[filter.limit-1].Version
			answer.NextMarker = layerMarker(strconv.FormatInt(last, 10))
			break
		}
		answer.LayerVersions = append(answer.LayerVersions, a.layerItem(v))
	}
	return c.reply(http.StatusOK, answer)
}

// layerMarker makes an opaque marker of what to go on after, nil at the end.
func layerMarker(next string) *string {
	if next == "" {
		return nil
	}
	marker := base64.RawURLEncoding.EncodeToString([]byte(next))
	return &marker
}

func readLayerMarker(operation string, marker *string) (string, error) {
	if marker == nil || *marker == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(*marker)
	if err != nil || strings.ContainsFunc(string(name), func(r rune) bool { return r > 'z' || !isAlphanumeric(byte(r)) && r != '-' && r != '_' }) {
		return "", badMarker(operation, err)
	}
	return string(name), nil
}

func badMarker(operation string, err error) error {
	return &lambent.Error{Op: operation, Kind: lambent.KindInvalid, Err: err, Message: "The Marker is not one that this service gave out as NextMarker."}
}
