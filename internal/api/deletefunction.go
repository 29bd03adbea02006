package api

import (
	"net/http"

	"lambent"
)

// deleteFunction does DeleteFunction.
func (a *API) deleteFunction(c *call) error {
	const operation = "DeleteFunction"
	name, qualifier := c.params[0], c.query("Qualifier")
	var v violations
	a.checkName(&v, name, a.shapes.namespacedFunctionName, qualifier)
	if err := v.err(); err != nil {
		return err
	}
	ref, err := a.target(c.caller, operation, name, qualifier)
	if err != nil {
		return err
	}
	switch version := lambent.Version(ref.Qualifier); {
	case version == "":
		err = a.functions.DeleteFunction(c.r.Context(), ref.Account, ref.Name)
	case version == lambent.Latest:
		err = invalid(operation, "$LATEST version cannot be deleted without deleting the function.")
	case !version.IsNumbered():
		err = invalid(operation, "Deletion of aliases is not currently supported.")
	default:
		err = a.functions.DeleteVersion(c.r.Context(), ref.Account, ref.Name, version)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
