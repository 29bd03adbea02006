package api

import (
	"encoding/base64"
	"net/http"
	"strconv"

	"lambent"
)

// maxPage is how many functions AWS puts on a page, whatever MaxItems says.
const maxPage = 50

type listFunctionsAnswer struct {
	Functions  []functionConfiguration
	NextMarker *string `json:",omitempty"`
}

// listFunctions does ListFunctions.
func (a *API) listFunctions(c *call) error {
	masterRegion, version := c.query("MasterRegion"), c.query("FunctionVersion")
	maxItems, err := queryInteger(c, "MaxItems")
	if err != nil {
		return err
	}
	var v violations
	v.str("masterRegion", masterRegion, a.shapes.masterRegion...)
	v.str("functionVersion", version, a.shapes.functionVersion...)
	v.integer("maxItems", maxItems, 1, 10000)
	if err := v.err(); err != nil {
		return err
	}
	after, err := readMarker(c.query("Marker"))
	if err != nil {
		return err
	}
	answer := listFunctionsAnswer{Functions: []functionConfiguration{}}
	if masterRegion != nil { // of functions replicated to the edge there are none
		return c.reply(http.StatusOK, answer)
	}
	page := maxPage
	if maxItems != nil {
		page = min(page, *maxItems)
	}
	qualifier := ""
	if version != nil {
		qualifier = string(lambent.Latest)
	}
	functions, next := a.functions.ListFunctions(c.caller.Account, after, page)
	for _, f := range functions {
		answer.Functions = append(answer.Functions, a.configuration(f, qualifier).listed())
	}
	if next != "" {
		marker := writeMarker(next)
		answer.NextMarker = &marker
	}
	return c.reply(http.StatusOK, answer)
}

// A marker is opaque to callers: the name to go on after, in base64.
func writeMarker(name lambent.FunctionName) string {
	return base64.RawURLEncoding.EncodeToString([]byte(name))
}

func readMarker(marker *string) (lambent.FunctionName, error) {
	if marker == nil || *marker == "" {
		return "", nil
	}
	name, err := base64.RawURLEncoding.DecodeString(*marker)
	if err != nil || !isPlainName(string(name)) {
		return "", &lambent.Error{Op: "ListFunctions", Kind: lambent.KindInvalid, Err: err,
			Message: "The Marker is not one that this service gave out as NextMarker."}
	}
	return lambent.FunctionName(name), nil
}

// queryInteger reads a number from the query, nil where there is none.
func queryInteger(c *call, name string) (*int, error) {
	s := c.query(name)
	if s == nil {
		return nil, nil
	}
	n, err := strconv.ParseInt(*s, 10, 32)
	if err != nil {
		return nil, cannotConvert("STRING_VALUE can not be converted to an Integer")
	}
	i := int(n)
	return &i, nil
}

// cannotConvert is the error for a value outside of the body that is of another
// type than the model's.
func cannotConvert(message string) error {
	return &lambent.Error{Op: "read request", Kind: lambent.KindMalformed, Reason: "SerializationException", Message: message}
}
