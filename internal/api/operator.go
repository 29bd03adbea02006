package api

import (
	"net/http"
	"time"

	"lambent"
)

type healthAnswer struct {
	Status        string `json:"status"`
	Region        string `json:"region"`
	UptimeSeconds int64  `json:"uptime_seconds"`
}

// health answers that the server serves.
func (a *API) health(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, healthAnswer{Status: "ok", Region: a.region, UptimeSeconds: int64(a.now().Sub(a.started) / time.Second)})
}

func (a *API) unknownOperatorPath(w http.ResponseWriter, r *http.Request) {
	a.writeError(w, r, "", &lambent.Error{Op: "route", Kind: lambent.KindNotFound, Reason: "UnknownOperationException",
		Message: "There is nothing at this path of lambent"})
}
