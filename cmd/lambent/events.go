package main

import (
	"context"
	"log/slog"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/failures"
	"lambent/internal/obs"
	"lambent/internal/queue"
)

// openEvents opens the queue of asynchronous calls and has the metrics show what
// becomes of them.
func openEvents(ctx context.Context, node *cluster.Node, metrics *obs.Metrics, log *slog.Logger) (*queue.Queue, *obs.Events, error) {
	var events *queue.Queue // from below on; nobody scrapes before it serves
	watched := metrics.WatchEvents(obs.EventOptions{Reasons: eventReasons(), Ask: func() ([]obs.EventCount, int64) { return countEvents(events) }})
	events, err := queue.Open(ctx, node, queue.Options{Log: log, Accepted: func(e *queue.Event) { watched.Accepted(e.Source) }})
	return events, watched, err
}

// eventReasons are those for which an event fails, comes again or, where a control
// function says so, is dropped.
func eventReasons() []string {
	reasons := []string{"dropped"}
	for _, r := range failures.Reasons() {
		reasons = append(reasons, string(r))
	}
	return reasons
}

// countEvents adds up the lines of each function.
func countEvents(events *queue.Queue) (counts []obs.EventCount, bytes int64) {
	type function struct {
		account lambent.AccountID
		name    lambent.FunctionName
	}
	at := map[function]int{}
	for _, l := range events.Stats() {
		f := function{l.Line.Account, l.Line.Function}
		i, known := at[f]
		if !known {
			i = len(counts)
			at[f] = i
			counts = append(counts, obs.EventCount{Account: f.account, Function: f.name})
		}
		c := &counts[i]
		c.Waiting += l.Due
		c.Delayed += l.Delayed
		c.UnderWay += l.Taken
		c.Oldest = max(c.Oldest, l.Oldest)
	}
	_, bytes = events.Size()
	return counts, bytes
}
