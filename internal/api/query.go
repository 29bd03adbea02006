package api

import (
	"net/http"
	"net/url"

	"lambent"
)

// readQuery takes a request's query apart, all of it or nothing: a part that
// does not parse may be the one that says what to spare (Qualifier), so it is
// never passed over. A parameter has one value: which of two is meant nobody
// can know. tagKeys is the model's one list.
func readQuery(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &lambent.Error{Op: "read query", Kind: lambent.KindInvalid, Err: err,
			Message: "The query string could not be parsed: its parameters are separated by & and percent-encoded."}
	}
	for name, given := range values {
		if len(given) > 1 && name != "tagKeys" {
			return nil, &lambent.Error{Op: "read query", Resource: name, Kind: lambent.KindInvalid,
				Message: "The query string gives the parameter " + quote(name) + " more than once."}
		}
	}
	return values, nil
}
