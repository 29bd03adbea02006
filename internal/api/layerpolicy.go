package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"lambent"
	"lambent/internal/policy"
)

type addLayerVersionPermissionRequest struct {
	StatementID, Action, Principal, OrganizationID *string
}

func (q *addLayerVersionPermissionRequest) member(d *decoder, name string) error {
	switch name {
	case "StatementId":
		return d.str(&q.StatementID)
	case "Action":
		return d.str(&q.Action)
	case "Principal":
		return d.str(&q.Principal)
	case "OrganizationId":
		return d.str(&q.OrganizationID)
	}
	return d.skip()
}

func (q *addLayerVersionPermissionRequest) check(a *API, name string) error {
	var v violations
	sh := a.shapes
	v.str("layerName", &name, sh.layerName...)
	v.required("statementId", q.StatementID != nil)
	v.str("statementId", q.StatementID, sh.layerStatementID...)
	v.required("action", q.Action != nil)
	v.str("action", q.Action, sh.layerAction...)
	v.required("principal", q.Principal != nil)
	v.str("principal", q.Principal, sh.layerPrincipal...)
	v.str("organizationId", q.OrganizationID, sh.organizationID...)
	return v.err()
}

// layerGrant is a statement of a layer version's policy, as AWS writes it.
func (a *API) layerGrant(v *lambent.LayerVersion, s lambent.LayerStatement) (json.RawMessage, error) {
	g := policy.Grant{Sid: s.ID, Principal: s.Principal, Action: "lambda:GetLayerVersion", PrincipalOrgID: s.Organization,
		Resource: lambent.LayerVersionARN(a.region, v.Account, v.Name, v.Version)}
	return g.Statement()
}

// policyTarget is the version whose policy a path is about, for its owner only.
func (a *API) policyTarget(c *call, operation string) (ref lambent.LayerRef, arn string, err error) {
	ref, err = a.layerVersionTarget(c, operation)
	arn = lambent.LayerVersionARN(a.region, ref.Account, ref.Name, ref.Version)
	if err == nil && ref.Account != c.caller.Account {
		err = a.deniedLayer(c.caller, operation, arn)
	}
	return ref, arn, err
}

func noLayerVersion(operation, arn string) error {
	return &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Message: "Layer version " + arn + " does not exist."}
}

// requirePolicyRevision refuses a change by who believes the policy to be of
// another revision than it is.
func requirePolicyRevision(operation string, v *lambent.LayerVersion, given *string) error {
	if !nonEmpty(given) || *given == v.PolicyRevision {
		return nil
	}
	return &lambent.Error{Op: operation, Kind: lambent.KindPrecondition,
		Message: "The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id"}
}

// addLayerVersionPermission does AddLayerVersionPermission.
func (a *API) addLayerVersionPermission(c *call) error {
	const operation = "AddLayerVersionPermission"
	body, err := a.body(c, maxConfigBody, codeTooLarge(operation, maxConfigBody))
	if err != nil {
		return err
	}
	var q addLayerVersionPermissionRequest
	if err := decode(body, &q); err != nil {
		return err
	}
	if err := q.check(a, c.params[0]); err != nil {
		return err
	}
	ref, arn, err := a.policyTarget(c, operation)
	if err != nil {
		return err
	}
	added := lambent.LayerStatement{ID: *q.StatementID, Principal: *q.Principal, Organization: text(q.OrganizationID)}
	v, err := a.layers.EditLayerPolicy(c.r.Context(), ref.Account, ref.Name, ref.Version, func(v *lambent.LayerVersion) ([]lambent.LayerStatement, error) {
		if v == nil {
			return nil, noLayerVersion(operation, arn)
		}
		if slices.ContainsFunc(v.Statements, func(s lambent.LayerStatement) bool { return s.ID == added.ID }) {
			return nil, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindExists,
				Message: fmt.Sprintf("The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", added.ID)}
		}
		if err := requirePolicyRevision(operation, v, c.query("RevisionId")); err != nil {
			return nil, err
		}
		next := append(slices.Clip(v.Statements), added)
		whole, err := a.layerPolicy(v, next)
		if err == nil && len(whole) > policy.MaxSize {
			err = policyTooLong(operation, arn, len(whole))
		}
		return next, err
	})
	if err != nil {
		return err
	}
	statement, err := a.layerGrant(v, added)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, struct {
		Statement  string
		RevisionID string `json:"RevisionId"`
	}{string(statement), v.PolicyRevision})
}

// layerPolicy is the whole policy of a layer version, of these statements.
func (a *API) layerPolicy(v *lambent.LayerVersion, statements []lambent.LayerStatement) ([]byte, error) {
	var whole policy.Attached
	for _, s := range statements {
		text, err := a.layerGrant(v, s)
		if err != nil {
			return nil, err
		}
		whole.Statements = append(whole.Statements, text)
	}
	return whole.JSON(), nil
}

// getLayerVersionPolicy does GetLayerVersionPolicy.
func (a *API) getLayerVersionPolicy(c *call) error {
	const operation = "GetLayerVersionPolicy"
	ref, arn, err := a.policyTarget(c, operation)
	if err != nil {
		return err
	}
	v, err := a.layers.LayerVersion(ref.Account, ref.Name, ref.Version)
	switch {
	case lambent.KindOf(err) == lambent.KindNotFound && err != nil:
		return noLayerVersion(operation, arn)
	case err != nil:
		return err
	case len(v.Statements) == 0:
		return &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound, Message: "No policy is associated with the given resource."}
	}
	whole, err := a.layerPolicy(v, v.Statements)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, struct {
		Policy     string
		RevisionID string `json:"RevisionId"`
	}{string(whole), v.PolicyRevision})
}

// removeLayerVersionPermission does RemoveLayerVersionPermission.
func (a *API) removeLayerVersionPermission(c *call) error {
	const operation = "RemoveLayerVersionPermission"
	var v violations
	v.str("statementId", &c.params[2], a.shapes.layerStatementID...)
	if err := v.err(); err != nil {
		return err
	}
	ref, arn, err := a.policyTarget(c, operation)
	if err != nil {
		return err
	}
	_, err = a.layers.EditLayerPolicy(c.r.Context(), ref.Account, ref.Name, ref.Version, func(v *lambent.LayerVersion) ([]lambent.LayerStatement, error) {
		if v == nil {
			return nil, noLayerVersion(operation, arn)
		}
		if err := requirePolicyRevision(operation, v, c.query("RevisionId")); err != nil {
			return nil, err
		}
		k := slices.IndexFunc(v.Statements, func(s lambent.LayerStatement) bool { return s.ID == c.params[2] })
		if k < 0 {
			return nil, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindNotFound,
				Message: fmt.Sprintf("Statement %s is not found in resource policy.", c.params[2])}
		}
		return slices.Delete(slices.Clone(v.Statements), k, k+1), nil
	})
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
