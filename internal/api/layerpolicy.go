package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"lambent"
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

// layerStatement is a statement of a layer version's policy as AWS writes it.
type layerStatement struct {
	Sid       string
	Effect    string
	Principal any // "*" or {"AWS": ARN}
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

type layerPolicy struct {
	Version   string
	ID        string `json:"Id"`
	Statement []layerStatement
}

func (a *API) layerStatementOf(v *lambent.LayerVersion, s lambent.LayerStatement) layerStatement {
	out := layerStatement{Sid: s.ID, Effect: "Allow", Principal: s.Principal, Action: "lambda:GetLayerVersion",
		Resource: lambent.LayerVersionARN(a.region, v.Account, v.Name, v.Version)}
	if s.Principal != "*" {
		arn := s.Principal
		if lambent.IsAccountID(arn) {
			arn = "arn:" + partition + ":iam::" + arn + ":root"
		}
		out.Principal = map[string]string{"AWS": arn}
	}
	if s.Organization != "" {
		out.Condition = map[string]map[string]string{"StringEquals": {"aws:PrincipalOrgID": s.Organization}}
	}
	return out
}

// jsonText is v as JSON in a string, as AWS hands out policies.
func jsonText(v any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
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

// maxPolicy is AWS's bound for a policy in bytes (Lambda quotas: 20 KB).
const maxPolicy = 20480

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
		if policy, err := a.layerPolicyText(v, next); err != nil || len(policy) > maxPolicy {
			return nil, &lambent.Error{Op: operation, Resource: arn, Kind: lambent.KindInvalid, Reason: "PolicyLengthExceededException", Err: err,
				Message: fmt.Sprintf("The final policy size (%d) is bigger than the limit (%d).", len(policy), maxPolicy)}
		}
		return next, nil
	})
	if err != nil {
		return err
	}
	statement, err := jsonText(a.layerStatementOf(v, added))
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, struct {
		Statement  string
		RevisionID string `json:"RevisionId"`
	}{statement, v.PolicyRevision})
}

func (a *API) layerPolicyText(v *lambent.LayerVersion, statements []lambent.LayerStatement) (string, error) {
	policy := layerPolicy{Version: "2012-10-17", ID: "default"}
	for _, s := range statements {
		policy.Statement = append(policy.Statement, a.layerStatementOf(v, s))
	}
	return jsonText(policy)
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
	policy, err := a.layerPolicyText(v, v.Statements)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, struct {
		Policy     string
		RevisionID string `json:"RevisionId"`
	}{policy, v.PolicyRevision})
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
