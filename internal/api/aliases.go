package api

import (
	"net/http"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/registry"
)

type aliasConfiguration struct {
	AliasArn        string
	Name            string
	FunctionVersion string
	Description     string
	RoutingConfig   *routingConfig `json:",omitempty"`
	RevisionID      string         `json:"RevisionId"`
}

type routingConfig struct {
	AdditionalVersionWeights map[string]double
}

// double is a number in JSON as AWS writes it.
type double float64

// MarshalJSON writes 1.0 for 1.
func (d double) MarshalJSON() ([]byte, error) { return []byte(javaDouble(float64(d))), nil }

// alias renders an alias.
func (a *API) alias(ref lambent.FunctionRef, name string, alias *registry.Alias) aliasConfiguration {
	out := aliasConfiguration{
		AliasArn:        lambent.FunctionARN(a.region, ref.Account, ref.Name, name),
		Name:            name,
		FunctionVersion: string(alias.Version),
		Description:     alias.Description,
		RevisionID:      alias.Revision,
	}
	if alias.Additional != "" {
		out.RoutingConfig = &routingConfig{AdditionalVersionWeights: map[string]double{string(alias.Additional): double(alias.Weight)}}
	}
	return out
}

// aliasRequest is what CreateAlias and UpdateAlias take; the name is in the body
// of the one and in the path of the other.
type aliasRequest struct {
	Name, FunctionVersion, Description, RevisionID *string
	RoutingConfig                                  *routingSettings
}

type routingSettings struct {
	AdditionalVersionWeights map[string]float64
}

// apply sets in an alias what the caller gave.
func (q *aliasRequest) apply(a *registry.Alias) {
	if q.FunctionVersion != nil {
		a.Version = lambent.Version(*q.FunctionVersion)
	}
	set(&a.Description, q.Description)
	if q.RoutingConfig == nil {
		return
	}
	a.Additional, a.Weight = "", 0
	for version, weight := range q.RoutingConfig.AdditionalVersionWeights { // one at most
		a.Additional, a.Weight = lambent.Version(version), weight
	}
}

// acceptable refuses what is well-formed but cannot be had.
func (q *aliasRequest) acceptable(operation string) error {
	if q.RoutingConfig != nil && len(q.RoutingConfig.AdditionalVersionWeights) > 1 {
		return invalid(operation, "Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	return nil
}

// createAlias does CreateAlias.
func (a *API) createAlias(c *call) error {
	const operation = "CreateAlias"
	var q aliasRequest
	ref, err := a.aliased(c, operation, &q)
	if err == nil {
		err = q.acceptable(operation)
	}
	if err != nil {
		return err
	}
	var alias registry.Alias
	q.apply(&alias)
	made, err := a.functions.CreateAlias(c.r.Context(), ref.Account, ref.Name, *q.Name, alias)
	if err != nil {
		return err
	}
	return c.reply(http.StatusCreated, a.alias(ref, *q.Name, made))
}

// updateAlias does UpdateAlias.
func (a *API) updateAlias(c *call) error {
	const operation = "UpdateAlias"
	var q aliasRequest
	ref, err := a.aliased(c, operation, &q)
	if err == nil {
		err = q.acceptable(operation)
	}
	if err != nil {
		return err
	}
	alias, err := a.functions.UpdateAlias(c.r.Context(), ref.Account, ref.Name, *q.Name, text(q.RevisionID), q.apply)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.alias(ref, *q.Name, alias))
}

// getAlias does GetAlias.
func (a *API) getAlias(c *call) error {
	var q aliasRequest
	ref, err := a.aliased(c, "GetAlias", &q)
	if err != nil {
		return err
	}
	alias, err := a.functions.Alias(ref.Account, ref.Name, *q.Name)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.alias(ref, *q.Name, alias))
}

// deleteAlias does DeleteAlias.
func (a *API) deleteAlias(c *call) error {
	var q aliasRequest
	ref, err := a.aliased(c, "DeleteAlias", &q)
	if err == nil {
		err = a.functions.DeleteAlias(c.r.Context(), ref.Account, ref.Name, *q.Name)
	}
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// aliased reads the request of an operation on an alias, and finds its function.
func (a *API) aliased(c *call, operation string, q *aliasRequest) (lambent.FunctionRef, error) {
	if err := a.input(c, operation, q); err != nil {
		return lambent.FunctionRef{}, err
	}
	return a.whole(c, operation)
}

type listAliasesAnswer struct {
	Aliases    []aliasConfiguration
	NextMarker *string `json:",omitempty"`
}

// listAliases does ListAliases.
func (a *API) listAliases(c *call) error {
	const operation = "ListAliases"
	var q struct {
		page
		FunctionVersion *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, err := a.whole(c, operation)
	if err != nil {
		return err
	}
	after, err := q.after(operation, nameWithALetter)
	if err != nil {
		return err
	}
	aliases, next, err := a.functions.ListAliases(ref.Account, ref.Name, lambent.Version(text(q.FunctionVersion)), after, q.size())
	if err != nil {
		return err
	}
	answer := listAliasesAnswer{Aliases: []aliasConfiguration{}, NextMarker: writeMarker(next)}
	for _, e := range aliases {
		answer.Aliases = append(answer.Aliases, a.alias(ref, e.Name, e.Alias))
	}
	return c.reply(http.StatusOK, answer)
}

// javaDouble writes a number as Java does, whose text is in AWS's errors.
func javaDouble(f float64) string {
	if abs := max(f, -f); abs != 0 && (abs < 1e-3 || abs >= 1e7) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		sign := ""
		if exponent[0] == '-' {
			sign = "-"
		}
		return mantissa + "E" + sign + strings.TrimLeft(exponent[1:], "0")
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}
