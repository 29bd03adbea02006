package api

import (
	"net/http"
	"strings"

	"lambent"
)

type listFunctionsAnswer struct {
	Functions  []functionConfiguration
	NextMarker *string `json:",omitempty"`
}

// listFunctions does ListFunctions.
func (a *API) listFunctions(c *call) error {
	const operation = "ListFunctions"
	var q struct {
		page
		MasterRegion, FunctionVersion *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	after, err := q.after(operation, isListed)
	if err != nil {
		return err
	}
	answer := listFunctionsAnswer{Functions: []functionConfiguration{}}
	if q.MasterRegion != nil { // of functions replicated to the edge there are none
		return c.reply(http.StatusOK, answer)
	}
	name, of, _ := strings.Cut(after, ":")
	if q.FunctionVersion == nil {
		functions, next := a.functions.ListFunctions(c.caller.Account, lambent.FunctionName(name), q.size())
		answer.Functions = make([]functionConfiguration, 0, len(functions))
		for _, f := range functions {
			answer.Functions = append(answer.Functions, a.configuration(f, "").listed())
		}
		answer.NextMarker = writeMarker(string(next))
		return c.reply(http.StatusOK, answer)
	}
	functions, next, nextOf := a.functions.ListAllVersions(c.caller.Account, lambent.FunctionName(name), lambent.Version(of), q.size())
	answer.Functions = make([]functionConfiguration, 0, len(functions))
	for _, f := range functions {
		answer.Functions = append(answer.Functions, a.configuration(f, string(f.Version)).listed())
	}
	if next != "" {
		answer.NextMarker = writeMarker(string(next) + ":" + string(nextOf))
	}
	return c.reply(http.StatusOK, answer)
}

// isListed tells whether a list of functions may go on after s: a name, or a
// name and a version.
func isListed(s string) bool {
	name, version, all := strings.Cut(s, ":")
	return isPlainName(name) && (!all || isVersion(version))
}

// cannotConvert is the error for a value outside of the body that is of another
// type than the model's.
func cannotConvert(message string) error {
	return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Reason: "SerializationException", Message: message}
}
