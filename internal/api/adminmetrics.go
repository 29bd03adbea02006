package api

import (
	"net/http"

	"lambent"
)

// HandleMetrics serves GET /_lambent/metrics by h. The numbers are those of all
// accounts together, and of the server's process: they are the operator's.
func (a *API) HandleMetrics(h http.Handler) {
	a.Handle("GET /_lambent/metrics", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := a.Authenticate(r)
		if err == nil && !caller.Operator {
			err = &lambent.Error{Op: "read metrics", Kind: lambent.KindDenied,
				Message: "The metrics are the operator's: with auth: open, who asks from the server's own machine without credentials; with auth: required, who has an operator's key"}
		}
		if err != nil {
			a.writeError(w, r, "", err)
			return
		}
		h.ServeHTTP(w, r)
	}))
}
