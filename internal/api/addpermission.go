package api

import (
	"net/http"

	"lambent"
	"lambent/internal/policy"
)

type addPermissionRequest struct {
	FunctionName, StatementID, Action, Principal string
	Qualifier, RevisionID                        *string
	SourceArn, SourceAccount, EventSourceToken   string
	PrincipalOrgID, FunctionURLAuthType          string
	InvokedViaFunctionURL                        *bool
}

// acceptable refuses conditions that could never be met.
func (q *addPermissionRequest) acceptable(operation string) error {
	switch {
	case q.FunctionURLAuthType != "" && q.Action != "lambda:InvokeFunctionUrl":
		return invalid(operation, "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
	case q.InvokedViaFunctionURL != nil && q.Action != "lambda:InvokeFunction":
		return invalid(operation, "InvokedViaFunctionUrl is only supported for lambda:InvokeFunction action")
	}
	return nil
}

type addPermissionAnswer struct{ Statement string }

// addPermission does AddPermission.
func (a *API) addPermission(c *call) error {
	const operation = "AddPermission"
	var q addPermissionRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.target(c.caller, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return err
	}
	if ref.Qualifier == string(lambent.Latest) {
		return invalid(operation, "We currently do not support adding policies for $LATEST.")
	}
	if err := q.acceptable(operation); err != nil {
		return err
	}
	grant := policy.Grant{
		Sid: q.StatementID, Principal: q.Principal, Action: q.Action,
		Resource:            lambent.FunctionARN(a.region, ref.Account, ref.Name, ref.Qualifier),
		FunctionURLAuthType: q.FunctionURLAuthType, PrincipalOrgID: q.PrincipalOrgID, SourceAccount: q.SourceAccount,
		EventSourceToken: q.EventSourceToken, SourceARN: q.SourceArn, InvokedViaFunctionURL: q.InvokedViaFunctionURL,
	}
	var answer addPermissionAnswer
	err = a.policies.EditFunctionPolicy(c.r.Context(), ref.Account, ref.Name, ref.Qualifier, func(old *policy.Attached, revision string) (next *policy.Attached, err error) {
		if err := requireRevision(operation, text(q.RevisionID), revision, "GetPolicy"); err != nil {
			return nil, err
		}
		next, answer.Statement, err = granted(operation, old, &grant)
		return next, err
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, answer)
}
