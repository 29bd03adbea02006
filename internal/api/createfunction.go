package api

import (
	"context"
	"errors"
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

type createFunctionRequest struct {
	settings
	FunctionName         *string
	Code                 *codeSource
	PackageType          *string
	Publish              *bool
	Tags                 map[string]*string
	Architectures        []*string
	CodeSigningConfigArn *string
	PublishTo            *string
	TenancyConfig        *tenancySettings
}

func (q *createFunctionRequest) member(d *decoder, name string) error {
	switch name {
	case "FunctionName":
		return d.str(&q.FunctionName)
	case "Code":
		q.Code = &codeSource{}
		return d.structure(q.Code)
	case "PackageType":
		return d.str(&q.PackageType)
	case "Publish":
		return d.boolean(&q.Publish)
	case "Tags":
		return d.strMap(&q.Tags)
	case "Architectures":
		return d.strings(&q.Architectures)
	case "CodeSigningConfigArn":
		return d.str(&q.CodeSigningConfigArn)
	case "PublishTo":
		return d.str(&q.PublishTo)
	case "TenancyConfig":
		q.TenancyConfig = &tenancySettings{}
		return d.structure(q.TenancyConfig)
	}
	if known, err := q.settings.member(d, name); known {
		return err
	}
	return d.skip()
}

type tenancySettings struct{ TenantIsolationMode *string }

func (c *tenancySettings) member(d *decoder, name string) error {
	if name == "TenantIsolationMode" {
		return d.str(&c.TenantIsolationMode)
	}
	return d.skip()
}

func (q *createFunctionRequest) check(a *API) error {
	var v violations
	sh := a.shapes
	v.required("functionName", q.FunctionName != nil)
	if q.FunctionName != nil {
		a.checkName(&v, *q.FunctionName, sh.functionName, nil)
	}
	v.required("role", q.Role != nil)
	v.required("code", q.Code != nil)
	if q.Code != nil {
		q.Code.check(&v, sh, "code.")
	}
	v.str("packageType", q.PackageType, sh.packageType...)
	v.list("architectures", q.Architectures, 1, 1, sh.architecture...)
	v.str("codeSigningConfigArn", q.CodeSigningConfigArn, sh.codeSigningArn...)
	v.str("publishTo", q.PublishTo, sh.publishTo...)
	if c := q.TenancyConfig; c != nil {
		v.required("tenancyConfig.tenantIsolationMode", c.TenantIsolationMode != nil)
		v.str("tenancyConfig.tenantIsolationMode", c.TenantIsolationMode, sh.tenantIsolation...)
	}
	q.settings.check(&v, sh)
	return v.err()
}

// acceptable refuses what is well-formed but cannot be had.
func (q *createFunctionRequest) acceptable(a *API, operation string) error {
	var err error
	if q.packageType() == lambent.PackageImage {
		err = q.onlyImage(operation)
	} else {
		err = q.settings.onlyOfImages(operation)
	}
	switch {
	case err != nil:
		return err
	case q.packageType() == lambent.PackageImage:
	case q.Runtime == nil || q.Handler == nil:
		return invalid(operation, "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	if q.PublishTo != nil {
		return unsupportedField(operation, "PublishTo")
	}
	if err := q.settings.acceptable(operation); err != nil {
		return err
	}
	if err := a.checkArchitectures(operation, q.Architectures); err != nil {
		return err
	}
	return checkTags(operation, q.Tags)
}

// packageType is what the function is to be of.
func (q *createFunctionRequest) packageType() string {
	if q.PackageType == nil {
		return lambent.PackageZip
	}
	return *q.PackageType
}

// publishing is what a request says of it.
func publishing(publish *bool) lambent.Publishing {
	return lambent.Publishing(publish != nil && *publish)
}

// createFunction does CreateFunction.
func (a *API) createFunction(c *call) error {
	const operation = "CreateFunction"
	body, err := a.body(c, maxCodeBody, codeTooLarge(operation, maxCodeBody))
	if err != nil {
		return err
	}
	var q createFunctionRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	if err := q.check(a); err != nil {
		return err
	}
	ref, err := a.target(c.caller, operation, *q.FunctionName, nil)
	if err != nil {
		return err
	}
	if err := a.authorize(c, "lambda:CreateFunction", lambent.FunctionARN(a.region, ref.Account, ref.Name, ""), ref.Account, nil); err != nil {
		return err
	}
	if err := a.admitRole(c, q.Role); err != nil {
		return err
	}
	if ref.Qualifier != "" {
		return invalid(operation, "A function is created without a qualifier: leave out what stands behind its name.")
	}
	if err := q.acceptable(a, operation); err != nil {
		return err
	}
	if q.DeadLetterConfig != nil {
		if err := a.checkDeadLetter(operation, ref.Account, *q.Role, deref(q.DeadLetterConfig.TargetArn)); err != nil {
			return err
		}
	}
	layers, err := a.functionLayers(c, operation, q.Layers)
	if err != nil {
		return err
	}
	code, err := a.code(c, operation, q.Code, q.packageType(), a.architecture)
	if err != nil {
		return err
	}
	if err := checkUnpacked(operation, code.unpacked, layers); err != nil {
		return err
	}
	spec := a.spec(ref, &q)
	code.apply(spec)
	if len(layers) > 0 {
		spec.Layers = layers
	}
	f, err := a.createSigned(c, spec, code.bytes, publishing(q.Publish), text(q.CodeSigningConfigArn))
	if err != nil {
		return err
	}
	// AWS: unqualified also where the record is that of the version published.
	return c.reply(http.StatusCreated, a.configuration(f, ""))
}

// spec is the record the caller asks for, with AWS's defaults for what is left
// out.
func (a *API) spec(ref lambent.FunctionRef, q *createFunctionRequest) *lambent.Function {
	f := &lambent.Function{
		Account:       ref.Account,
		Name:          ref.Name,
		Version:       lambent.Latest,
		TimeoutSecs:   3,
		MemoryMB:      lambent.DefaultMemoryMB,
		EphemeralMB:   lambent.MinEphemeralMB,
		PackageType:   q.packageType(),
		Architectures: []string{a.architecture},
		TracingMode:   "PassThrough",
		LoggingFormat: "Text",
	}
	if c := q.TenancyConfig; c != nil {
		set(&f.TenantIsolation, c.TenantIsolationMode)
	}
	q.settings.apply(f)
	if len(q.Tags) > 0 {
		f.Tags = plainMap(q.Tags)
	}
	return f
}

// createSigned creates a function with a code signing configuration, "" for
// none: with both, or not at all.
func (a *API) createSigned(c *call, spec *lambent.Function, pkg []byte, publishing lambent.Publishing, config string) (*lambent.Function, error) {
	const operation = "CreateFunction"
	ctx := c.r.Context()
	if config == "" {
		return a.functions.CreateFunction(ctx, spec, pkg, publishing)
	}
	if err := signable(operation, spec); err != nil {
		return nil, err
	}
	a.signing.Lock()
	defer a.signing.Unlock()
	o, err := a.signingConfig(c, operation, config)
	if err != nil {
		return nil, err
	}
	if err := admitCode(operation, o); err != nil {
		return nil, err
	}
	f, err := a.functions.CreateFunction(ctx, spec, pkg, publishing)
	if err != nil {
		return nil, err
	}
	key := registry.ObjectKey{Account: f.Account, Parent: string(f.Name)}
	if err := a.editSettings(c, operation, key, func(s *registry.FunctionSettings) { s.CodeSigningConfig = config }); err != nil {
		return nil, errors.Join(err, a.functions.DeleteFunction(context.WithoutCancel(ctx), f.Account, f.Name))
	}
	return f, nil
}
