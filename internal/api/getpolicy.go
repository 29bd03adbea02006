package api

import (
	"net/http"

	"lambent"
)

type policyAnswer struct {
	Policy     string
	RevisionID string `json:"RevisionId"`
}

// getPolicy does GetPolicy.
func (a *API) getPolicy(c *call) error {
	const operation = "GetPolicy"
	var q struct {
		FunctionName string
		Qualifier    *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.target(c.caller, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return err
	}
	attached := a.policies.FunctionPolicy(ref.Account, ref.Name, ref.Qualifier)
	if attached == nil {
		if _, err := a.functions.Function(ref.Account, ref.Name, ""); err != nil {
			return err
		}
		return &lambent.Error{Op: operation, Resource: string(ref.Name), Kind: lambent.KindNotFound, Message: "The resource you requested does not exist."}
	}
	revision, err := a.policies.RevisionOf(ref.Account, ref.Name, ref.Qualifier)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, policyAnswer{Policy: string(attached.JSON()), RevisionID: revision})
}
