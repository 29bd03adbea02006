package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/cluster"
	"lambent/internal/failures"
	"lambent/internal/obs"
	"lambent/internal/queue"
	"lambent/internal/registry"
)

// openFailures opens the store of failures, which redrives into a queue, by the
// rules and the news of functions.
func openFailures(ctx context.Context, cfg config.Config, node *cluster.Node, events *queue.Queue, functions *registry.Registry, log *slog.Logger) (*failures.Store, error) {
	store, err := failures.Open(ctx, node, failures.Options{
		Retention: cfg.FailureRetention, MaxEntries: cfg.FailureEntries, MaxBytes: cfg.FailureBytes, HealthHosts: cfg.FailureHosts, Log: log,
		Queue: redriven{events, time.Now},
		Rules: func(account lambent.AccountID, name lambent.FunctionName) *failures.Rules {
			return reprocessRules(functions, account, name)
		},
		Changed: func(account lambent.AccountID, name lambent.FunctionName) time.Time {
			return codeChangedAt(functions, account, name)
		},
	})
	if err != nil {
		return nil, err
	}
	functions.Subscribe(func(c registry.Change) {
		if isNewCode(c) {
			store.CodeChanged(c.Account, c.Name)
		}
	})
	functions.Aliases.Subscribe(func(c registry.ObjectChange[registry.Alias]) {
		store.CodeChanged(c.Key.Account, lambent.FunctionName(c.Key.Parent))
	})
	functions.SubscribeSettings(func(lambent.AccountID, lambent.FunctionName) { store.Look() }) // other rules hold for what is there, too
	return store, nil
}

// isNewCode tells whether calls of a function get other code from now on: a version
// was published, or an update of $LATEST is in place.
func isNewCode(c registry.Change) bool {
	isReady := func(f *lambent.Function) bool { return f.State == "Active" && f.UpdateStatus != "InProgress" }
	if c.After == nil || !isReady(c.After) {
		return false
	}
	return c.Before == nil || !isReady(c.Before) || c.Before.Code != c.After.Code
}

// codeChangedAt tells when a function was changed last, as far as that is in place:
// what was published or updated while no server ran, or just before it ended,
// counts, too.
func codeChangedAt(functions *registry.Registry, account lambent.AccountID, name lambent.FunctionName) (last time.Time) {
	latest, err := functions.Function(account, name, "")
	if err != nil {
		return last
	}
	if latest.UpdateStatus != "InProgress" {
		last = latest.LastModified
	}
	versions, _, err := functions.ListVersions(account, name, "", maxVersions)
	if err != nil {
		return last
	}
	for _, v := range versions {
		if v.Version.IsNumbered() && v.LastModified.After(last) {
			last = v.LastModified
		}
	}
	return last
}

const maxVersions = 10_000 // more than any function has

// reprocessRules are those of a function's settings, nil where it has none.
func reprocessRules(functions *registry.Registry, account lambent.AccountID, name lambent.FunctionName) *failures.Rules {
	s, err := functions.PlatformSettings(account, name)
	if err != nil || s == nil || s.Failures == nil || len(s.Failures.Reprocess) == 0 {
		return nil
	}
	rules := &failures.Rules{Max: registry.DefaultReprocessMax, Rate: registry.DefaultReprocessRate}
	if s.Failures.Max > 0 {
		rules.Max = s.Failures.Max
	}
	if s.Failures.Rate > 0 {
		rules.Rate = s.Failures.Rate
	}
	for _, r := range s.Failures.Reprocess {
		switch {
		case r.After > 0:
			rules.After = append(rules.After, r.After)
		case r.OnNewVersion:
			rules.OnChange = true
		default:
			rules.Healthy = append(rules.Healthy, r.WhenHealthy)
		}
	}
	return rules
}

// redriven is the queue as the store of failures sees it.
type redriven struct {
	*queue.Queue
	now func() time.Time
}

// Accept puts failures into the queue as events. A deadline that has passed is
// nobody's any more: who redrives wants it processed all the same.
func (r redriven) Accept(ctx context.Context, records ...*failures.Record) error {
	events := make([]*queue.Event, len(records))
	for i, f := range records {
		events[i] = &queue.Event{
			ID: f.RequestID, Line: queue.Line{Account: f.Account, Function: f.Function, Qualifier: f.Qualifier}, Payload: f.Payload, Source: failures.Source,
			ClientContext: f.ClientContext, TraceID: f.TraceID, TenantID: f.TenantID, Urgency: f.Urgency, Depth: f.Depth, State: f.State, AcceptedAt: r.now(),
		}
		if f.Deadline.After(r.now()) {
			events[i].Deadline = f.Deadline
		}
	}
	return r.Queue.Accept(ctx, events...)
}

// errorOf reads what a function answered that failed: AWS's error document, in
// which the runtimes write a stack each in their own way.
func errorOf(answer []byte) (stack []string, isError bool) {
	var doc struct {
		Type  *string         `json:"errorType"`
		Text  *string         `json:"errorMessage"`
		Trace json.RawMessage `json:"trace"`      // Node.js
		Stack json.RawMessage `json:"stackTrace"` // Python, and others
	}
	if json.Unmarshal(answer, &doc) != nil || doc.Type == nil && doc.Text == nil {
		return nil, false
	}
	for _, lines := range []json.RawMessage{doc.Trace, doc.Stack} {
		if json.Unmarshal(lines, &stack) == nil && len(stack) > 0 {
			return stack, true
		}
		stack = nil
	}
	return nil, true
}

// countFailures is for the metrics.
func countFailures(store *failures.Store) func() ([]obs.FailureCount, int64) {
	return func() (counts []obs.FailureCount, bytes int64) {
		for _, f := range store.Stats() {
			counts = append(counts, obs.FailureCount{Account: f.Account, Function: f.Function, Count: f.Count, Redriving: f.Redriving, Oldest: f.Oldest})
		}
		_, bytes = store.Size()
		return counts, bytes
	}
}
