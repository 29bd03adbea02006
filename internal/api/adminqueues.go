package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"lambent"
	"lambent/internal/queue"
)

// Backlogs tells what waits in the lines of events. Safe for concurrent use.
type Backlogs interface{ Stats() []queue.LineStats }

// queueDoc is what waits for one version or alias of a function.
type queueDoc struct {
	Account   lambent.AccountID    `json:"account"`
	Function  lambent.FunctionName `json:"function"`
	Qualifier string               `json:"qualifier"`      // as callers named it; empty: $LATEST
	Waiting   int                  `json:"waiting"`        // events that could be taken now
	Delayed   int                  `json:"delayed"`        // that wait until a retry is due
	UnderWay  int                  `json:"under_way"`      // that are being worked on
	Oldest    int                  `json:"oldest_seconds"` // since that was accepted whose turn is next; 0: none waits
}

// HandleQueues serves GET /_lambent/v1/queues: the lines that have events, by
// account, function and qualifier; the operator's are all accounts', an account's
// its own. Query: function.
func (a *API) HandleQueues(b Backlogs) {
	a.Handle("GET /_lambent/v1/queues", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		docs, err := a.queues(r, b)
		if err != nil {
			a.writeError(w, r, "", err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(docs) // a caller that went away needs no answer
	}))
}

func (a *API) queues(r *http.Request, b Backlogs) ([]queueDoc, error) {
	caller, err := a.Admit(r, "lambent:ListQueues", "*")
	if err != nil {
		return nil, err
	}
	given := r.URL.Query()
	for name := range given {
		if name != "function" && !strings.HasPrefix(name, "X-Amz-") {
			return nil, &lambent.Error{Op: "list queues", Kind: lambent.KindInvalid, Message: "There is no parameter " + quote(name) + " here: there is function"}
		}
	}
	function, only := first(given, "function")
	docs := []queueDoc{}
	for _, l := range b.Stats() {
		if !caller.Operator && l.Line.Account != caller.Account || only && string(l.Line.Function) != function {
			continue
		}
		docs = append(docs, queueDoc{Account: l.Line.Account, Function: l.Line.Function, Qualifier: l.Line.Qualifier,
			Waiting: l.Due, Delayed: l.Delayed, UnderWay: l.Taken, Oldest: int(l.Oldest.Seconds())})
	}
	slices.SortFunc(docs, func(x, y queueDoc) int {
		return cmp.Or(cmp.Compare(x.Account, y.Account), cmp.Compare(x.Function, y.Function), cmp.Compare(x.Qualifier, y.Qualifier))
	})
	return docs, nil
}
