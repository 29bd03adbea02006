package api

import (
	"net/http"

	"lambent"
	"lambent/internal/policy"
)

// removePermission does RemovePermission.
func (a *API) removePermission(c *call) error {
	const operation = "RemovePermission"
	var q struct {
		FunctionName, StatementID string
		Qualifier, RevisionID     *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.target(c.caller, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return err
	}
	arn := lambent.FunctionARN(a.region, ref.Account, ref.Name, ref.Qualifier)
	if _, err := a.functions.Function(ref.Account, ref.Name, ""); lambent.KindOf(err) == lambent.KindNotFound {
		return &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Err: err,
			Message: "No policy found for: " + lambent.FunctionARN(a.region, ref.Account, ref.Name, "")}
	}
	err = a.policies.EditFunctionPolicy(c.r.Context(), ref.Account, ref.Name, ref.Qualifier, func(old *policy.Attached, revision string) (*policy.Attached, error) {
		if old == nil {
			return nil, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Message: "No policy is associated with the given resource."}
		}
		next, err := revoked(operation, old, arn, q.StatementID)
		if err != nil {
			return nil, err
		}
		return next, requireRevision(operation, text(q.RevisionID), revision, "GetFunction/GetAlias")
	})
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
