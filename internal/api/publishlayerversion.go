package api

import (
	"net/http"

	"lambent"
)

type publishLayerVersionRequest struct {
	Description             *string
	Content                 *codeSource
	CompatibleRuntimes      []*string
	CompatibleArchitectures []*string
	LicenseInfo             *string
}

func (q *publishLayerVersionRequest) member(d *decoder, name string) error {
	switch name {
	case "Description":
		return d.str(&q.Description)
	case "Content":
		q.Content = &codeSource{}
		return d.structure(layerContentSource{q.Content})
	case "CompatibleRuntimes":
		return d.strings(&q.CompatibleRuntimes)
	case "CompatibleArchitectures":
		return d.strings(&q.CompatibleArchitectures)
	case "LicenseInfo":
		return d.str(&q.LicenseInfo)
	}
	return d.skip()
}

// layerContentSource is the part of a codeSource that layers have.
type layerContentSource struct{ *codeSource }

func (s layerContentSource) member(d *decoder, name string) error {
	switch name {
	case "ZipFile", "S3Bucket", "S3Key", "S3ObjectVersion", "S3ObjectStorageMode":
		return s.codeSource.member(d, name)
	}
	return d.skip()
}

// maxCompatible is how many runtimes a layer version may name.
const maxCompatible = 15

func (q *publishLayerVersionRequest) check(a *API, name string) error {
	var v violations
	sh := a.shapes
	v.str("layerName", &name, sh.layerName...)
	v.str("description", q.Description, sh.description...)
	v.required("content", q.Content != nil)
	if q.Content != nil {
		q.Content.check(&v, sh, "content.")
	}
	v.list("compatibleRuntimes", q.CompatibleRuntimes, 0, maxCompatible, sh.runtime...)
	v.list("compatibleArchitectures", q.CompatibleArchitectures, 0, 2, sh.architecture...)
	v.str("licenseInfo", q.LicenseInfo, sh.licenseInfo...)
	return v.err()
}

// publishLayerVersion does PublishLayerVersion.
func (a *API) publishLayerVersion(c *call) error {
	const operation = "PublishLayerVersion"
	body, err := a.body(c, maxCodeBody, codeTooLarge(operation, maxCodeBody))
	if err != nil {
		return err
	}
	var q publishLayerVersionRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	if err := q.check(a, c.params[0]); err != nil {
		return err
	}
	ref, err := a.ownLayer(c.caller, operation, c.params[0])
	if err != nil {
		return err
	}
	pkg, err := a.zip(c, operation, q.Content)
	if err != nil {
		return err
	}
	if pkg.folder != "" {
		return invalid(operation, "A layer version never changes, so it cannot follow a folder: publish what is in it now as ZipFile.")
	}
	spec := &lambent.LayerVersion{Account: ref.Account, Name: ref.Name, Description: text(q.Description), License: text(q.LicenseInfo), Unpacked: pkg.unpacked}
	for _, r := range q.CompatibleRuntimes {
		spec.Runtimes = append(spec.Runtimes, lambent.Runtime(*r))
	}
	for _, s := range q.CompatibleArchitectures {
		spec.Architectures = append(spec.Architectures, *s)
	}
	v, err := a.layers.PublishLayerVersion(c.r.Context(), spec, pkg.bytes)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, a.layerAnswer(c, v))
}
