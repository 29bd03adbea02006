package api

import (
	"net/http"

	"lambent"
)

type updateFunctionConfigurationRequest struct {
	settings
	RevisionID *string
}

func (q *updateFunctionConfigurationRequest) member(d *decoder, name string) error {
	if name == "RevisionId" {
		return d.str(&q.RevisionID)
	}
	if known, err := q.settings.member(d, name); known {
		return err
	}
	return d.skip()
}

// updateFunctionConfiguration does UpdateFunctionConfiguration.
func (a *API) updateFunctionConfiguration(c *call) error {
	const operation = "UpdateFunctionConfiguration"
	body, err := a.body(c, maxConfigBody, codeTooLarge(operation, maxConfigBody))
	if err != nil {
		return err
	}
	var q updateFunctionConfigurationRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	var v violations
	a.checkName(&v, c.params[0], a.shapes.functionName, nil)
	q.settings.check(&v, a.shapes)
	if err := v.err(); err != nil {
		return err
	}
	ref, current, err := a.updated(c, operation)
	if err != nil {
		return err
	}
	if err := a.admitRole(c, q.Role); err != nil {
		return err
	}
	if current.PackageType == lambent.PackageImage {
		err = q.settings.notOfImages(operation)
	} else {
		err = q.settings.onlyOfImages(operation)
	}
	if err == nil {
		err = q.settings.acceptable(operation)
	}
	if err != nil {
		return err
	}
	if err := a.checkChangedDeadLetter(operation, current, &q.settings); err != nil {
		return err
	}
	layers, err := a.functionLayers(c, operation, q.Layers)
	if err != nil {
		return err
	}
	unpacked := current.Unpacked
	if len(layers) > 0 {
		if unpacked, err = a.unpacked(c.r.Context(), current); err != nil {
			return err
		}
	}
	change := func(f *lambent.Function) error {
		q.settings.apply(f)
		if layers != nil {
			f.Layers = layers
		}
		return checkUnpacked(operation, max(unpacked, f.Unpacked), f.Layers)
	}
	f, err := a.functions.UpdateFunctionConfiguration(c.r.Context(), ref.Account, ref.Name, text(q.RevisionID), change)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.configuration(f, ""))
}
