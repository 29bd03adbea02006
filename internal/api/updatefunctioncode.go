package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"lambent"
)

type updateFunctionCodeRequest struct {
	codeSource
	Publish       *bool
	DryRun        *bool
	RevisionID    *string
	Architectures []*string
	PublishTo     *string
}

func (q *updateFunctionCodeRequest) member(d *decoder, name string) error {
	switch name {
	case "Publish":
		return d.boolean(&q.Publish)
	case "DryRun":
		return d.boolean(&q.DryRun)
	case "RevisionId":
		return d.str(&q.RevisionID)
	case "Architectures":
		return d.strings(&q.Architectures)
	case "PublishTo":
		return d.str(&q.PublishTo)
	}
	return q.codeSource.member(d, name)
}

func (q *updateFunctionCodeRequest) check(a *API, name string) error {
	var v violations
	a.checkName(&v, name, a.shapes.functionName, nil)
	q.codeSource.check(&v, a.shapes, "")
	v.list("architectures", q.Architectures, 1, 1, a.shapes.architecture...)
	v.str("publishTo", q.PublishTo, a.shapes.publishTo...)
	return v.err()
}

// updateFunctionCode does UpdateFunctionCode.
func (a *API) updateFunctionCode(c *call) error {
	const operation = "UpdateFunctionCode"
	body, err := a.body(c, maxCodeBody, codeTooLarge(operation, maxCodeBody))
	if err != nil {
		return err
	}
	var q updateFunctionCodeRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	if err := q.check(a, c.params[0]); err != nil {
		return err
	}
	ref, current, err := a.updated(c, operation)
	if err != nil {
		return err
	}
	switch isImage := current.PackageType == lambent.PackageImage; {
	case !isImage && nonEmpty(q.ImageURI) && q.ZipFile == nil:
		return invalid(operation, "Please don't provide ImageUri when updating a function with packageType Zip.")
	case isImage && (!nonEmpty(q.ImageURI) || q.ZipFile != nil || q.S3Bucket != nil || q.S3Key != nil || q.S3ObjectVersion != nil):
		return invalid(operation, "Please provide ImageUri when updating a function with packageType Image.")
	}
	if q.PublishTo != nil {
		return unsupportedField(operation, "PublishTo")
	}
	if err := a.checkArchitectures(operation, q.Architectures); err != nil {
		return err
	}
	if err := a.admitCodeOf(operation, ref); err != nil {
		return err
	}
	code, err := a.code(c, operation, &q.codeSource, current.PackageType, a.architecture)
	if err != nil {
		return err
	}
	if err := checkUnpacked(operation, code.unpacked, current.Layers); err != nil {
		return err
	}
	if q.DryRun != nil && *q.DryRun {
		return a.dryRunCode(c, &q, current, code)
	}
	change := func(f *lambent.Function) {
		code.apply(f)
		if len(q.Architectures) > 0 {
			f.Architectures = []string{*q.Architectures[0]}
		}
	}
	f, err := a.functions.UpdateFunctionCode(c.r.Context(), ref.Account, ref.Name, text(q.RevisionID), change, code.bytes, publishing(q.Publish))
	if err != nil {
		return err
	}
	qualifier := ""
	if f.Version != lambent.Latest {
		qualifier = string(f.Version)
	}
	return c.reply(http.StatusOK, a.configuration(f, qualifier))
}

// dryRunCode answers what the update would make of the function, and makes
// nothing.
func (a *API) dryRunCode(c *call, q *updateFunctionCodeRequest, current *lambent.Function, code functionCode) error {
	if revision := text(q.RevisionID); revision != "" && revision != current.Revision {
		return &lambent.Error{Op: "UpdateFunctionCode", Resource: string(current.Name), Kind: lambent.KindPrecondition}
	}
	would := *current
	if code.apply(&would); code.image == nil {
		hash := sha256.Sum256(code.bytes)
		would.Code, would.CodeSize = lambent.CodeHash(base64.StdEncoding.EncodeToString(hash[:])), int64(len(code.bytes))
	}
	return c.reply(http.StatusOK, a.configuration(&would, ""))
}

// updated finds the function that the path names and that an update is about:
// $LATEST, the only version that can change.
func (a *API) updated(c *call, operation string) (lambent.FunctionRef, *lambent.Function, error) {
	ref, err := a.target(c.caller, operation, c.params[0], nil)
	if err != nil {
		return ref, nil, err
	}
	if ref.Qualifier != "" && ref.Qualifier != string(lambent.Latest) {
		return ref, nil, invalid(operation, "Only $LATEST can be updated: published versions and aliases are named without their function's code and configuration changing.")
	}
	f, err := a.functions.Function(ref.Account, ref.Name, "")
	return ref, f, err
}

// text is a member that the caller may have left out, "" then.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
