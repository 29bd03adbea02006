package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// FailureSettings say which of a function's requests are kept that were not
// processed successfully, and when they are processed again.
type FailureSettings struct {
	// StoreSync keeps those of synchronous callers, too, who are told anyway.
	StoreSync bool
	// Reprocess has failures processed again when any of its rules says so.
	Reprocess []ReprocessRule
	Max       int     // how often one is, until it stays; 0: DefaultReprocessMax
	Rate      float64 // how many of the function are a second; 0: DefaultReprocessRate
}

// ReprocessRule is one of: a time since the failure, a change of the function, a
// URL that answers 200.
type ReprocessRule struct {
	After        time.Duration
	OnNewVersion bool
	WhenHealthy  string
}

// The bounds of FailureSettings and their defaults.
const (
	DefaultReprocessMax  = 3
	MostReprocessMax     = 100
	DefaultReprocessRate = 10
	MostReprocessRate    = 1000
	MostReprocessRules   = 20
	LeastReprocessAfter  = 10 * time.Millisecond
	MostReprocessAfter   = 14 * 24 * time.Hour

	onNewVersion = "new_version"
)

type failureSettingsJSON struct {
	StoreSync bool                `json:"store_sync,omitempty"`
	Reprocess []reprocessRuleJSON `json:"reprocess,omitempty"`
	Max       *int                `json:"max,omitempty"`
	Rate      *float64            `json:"rate,omitempty"`
}

type reprocessRuleJSON struct {
	After       string `json:"after,omitempty"`
	On          string `json:"on,omitempty"`
	WhenHealthy string `json:"when_healthy,omitempty"`
}

// MarshalJSON writes what differs from the defaults.
func (f FailureSettings) MarshalJSON() ([]byte, error) {
	doc := failureSettingsJSON{StoreSync: f.StoreSync}
	for _, r := range f.Reprocess {
		rule := reprocessRuleJSON{WhenHealthy: r.WhenHealthy}
		if r.After > 0 {
			rule.After = r.After.String()
		}
		if r.OnNewVersion {
			rule.On = onNewVersion
		}
		doc.Reprocess = append(doc.Reprocess, rule)
	}
	if f.Max != 0 {
		doc.Max = &f.Max
	}
	if f.Rate != 0 {
		doc.Rate = &f.Rate
	}
	return json.Marshal(doc)
}

// UnmarshalJSON reads an object, and nothing in it that is not known or out of
// bounds.
func (f *FailureSettings) UnmarshalJSON(text []byte) error {
	var doc failureSettingsJSON
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("failures: the member %s cannot be a JSON %s", wrong.Field, wrong.Value)
		}
		return fmt.Errorf("failures: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	*f = FailureSettings{StoreSync: doc.StoreSync}
	if len(doc.Reprocess) > MostReprocessRules {
		return fmt.Errorf("failures: reprocess has %d rules; it may have %d", len(doc.Reprocess), MostReprocessRules)
	}
	for i, rule := range doc.Reprocess {
		r, err := rule.read()
		if err != nil {
			return fmt.Errorf("failures: rule %d of reprocess: %w", i+1, err)
		}
		f.Reprocess = append(f.Reprocess, r)
	}
	if doc.Max != nil {
		if f.Max = *doc.Max; f.Max < 1 || f.Max > MostReprocessMax {
			return fmt.Errorf("failures: max %d is not between 1 and %d", f.Max, MostReprocessMax)
		}
	}
	if doc.Rate != nil {
		if f.Rate = *doc.Rate; !(f.Rate >= 0.01 && f.Rate <= MostReprocessRate) {
			return fmt.Errorf("failures: rate %v is not between 0.01 and %d", f.Rate, MostReprocessRate)
		}
	}
	return nil
}

func (j reprocessRuleJSON) read() (r ReprocessRule, err error) {
	given := 0
	for _, s := range []string{j.After, j.On, j.WhenHealthy} {
		if s != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return r, errors.New(`it must be one of {"after":"10m"}, {"on":"new_version"} and {"when_healthy":"http://…"}`)
	case j.After != "":
		if r.After, err = time.ParseDuration(j.After); err != nil || r.After < LeastReprocessAfter || r.After > MostReprocessAfter {
			return r, fmt.Errorf("after %.40q is no duration from %s to %s", j.After, LeastReprocessAfter, MostReprocessAfter)
		}
	case j.On != "":
		if r.OnNewVersion = j.On == onNewVersion; !r.OnNewVersion {
			return r, fmt.Errorf("on %.40q is not %s", j.On, onNewVersion)
		}
	default:
		r.WhenHealthy = j.WhenHealthy
		u, err := url.Parse(j.WhenHealthy)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(j.WhenHealthy) > 1000 {
			return r, fmt.Errorf("when_healthy %.40q is no URL of http or https without a user, of at most 1000 bytes", j.WhenHealthy)
		}
	}
	return r, nil
}
