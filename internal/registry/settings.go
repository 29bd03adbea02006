package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/control"
)

// PlatformSettings are what can be set of a function and Lambda's API has no field
// for: a section for each part of the platform that asks for some. The names are for ever, on the disk
// and for callers. The zero value is the defaults.
type PlatformSettings struct {
	Update   *UpdateSettings      `json:"update,omitempty"`
	Failures *FailureSettings     `json:"failures,omitempty"`
	Expect   *control.Expectation `json:"expect,omitempty"`  // what a right answer looks like
	Control  control.Rules        `json:"control,omitempty"` // who is asked about what goes wrong
	// Destinations are where records of asynchronous calls go beside AWS's.
	Destinations *DestinationSettings `json:"destinations,omitempty"`
}

// UpdateMode says how new code takes the place of old.
type UpdateMode string

// The modes of an update.
const (
	// UpdateEagerly is the default: the new code is brought up at once, and calls
	// get the old one until it is there.
	UpdateEagerly UpdateMode = "eager"
	// UpdateLazily waits with that for the first call that asks for the new code.
	UpdateLazily UpdateMode = "lazy"
	// UpdateExactly never gives a call old code: it waits.
	UpdateExactly UpdateMode = "exact"
)

// UpdateSettings are how new code takes the place of old. Written as a text it is
// the mode alone.
type UpdateSettings struct {
	Mode UpdateMode // empty: UpdateEagerly
	// MaxStaleness is for how long calls may get the old code, from the first that
	// asked for the new one on; nil is DefaultMaxStaleness.
	MaxStaleness *time.Duration
}

// The bounds of MaxStaleness.
const (
	DefaultMaxStaleness = 5 * time.Minute
	MostMaxStaleness    = 24 * time.Hour
)

type updateSettingsJSON struct {
	Mode         UpdateMode `json:"mode,omitempty"`
	MaxStaleness *string    `json:"max_staleness,omitempty"`
}

// MarshalJSON writes the mode as a text where that is all there is.
func (u UpdateSettings) MarshalJSON() ([]byte, error) {
	if u.MaxStaleness == nil {
		return json.Marshal(u.mode())
	}
	text := u.MaxStaleness.String()
	return json.Marshal(updateSettingsJSON{u.Mode, &text})
}

// UnmarshalJSON reads a text or an object, and nothing in it that is not known or
// out of bounds.
func (u *UpdateSettings) UnmarshalJSON(text []byte) error {
	var doc updateSettingsJSON
	if len(text) > 0 && text[0] == '"' {
		if err := json.Unmarshal(text, &doc.Mode); err != nil {
			return err
		}
	} else {
		extra, err := unmarshal(text, &doc)
		if err != nil {
			return err
		}
		for name := range extra {
			return fmt.Errorf("update: unknown field %q; it has mode and max_staleness", name)
		}
	}
	u.Mode, u.MaxStaleness = doc.Mode, nil
	switch u.Mode {
	case "", UpdateEagerly, UpdateLazily, UpdateExactly:
	default:
		return fmt.Errorf("update: mode %.40q is none of eager, lazy and exact", u.Mode)
	}
	if doc.MaxStaleness == nil {
		return nil
	}
	d, err := time.ParseDuration(*doc.MaxStaleness)
	if err != nil || d < 0 || d > MostMaxStaleness {
		return fmt.Errorf("update: max_staleness %.40q is no duration from 0s to %s", *doc.MaxStaleness, MostMaxStaleness)
	}
	u.MaxStaleness = &d
	return nil
}

func (u UpdateSettings) mode() UpdateMode {
	if u.Mode == "" {
		return UpdateEagerly
	}
	return u.Mode
}

func (u UpdateSettings) maxStaleness() time.Duration {
	if u.MaxStaleness == nil {
		return DefaultMaxStaleness
	}
	return *u.MaxStaleness
}

// PlatformSettings gives the settings of a function, nil where it has the
// defaults; KindNotFound for a function that is not there.
func (r *Registry) PlatformSettings(account lambent.AccountID, name lambent.FunctionName) (*PlatformSettings, error) {
	k := functionKey{account, name}
	if _, err := r.current("find settings", k); err != nil {
		return nil, err
	}
	return r.platformSettings.Get(platformSettingsKey(k)), nil
}

// Declared is what is declared of a function's calls. It is asked for every call.
func (r *Registry) Declared(account lambent.AccountID, name lambent.FunctionName) (expect *control.Expectation, rules control.Rules) {
	if s := r.platformSettings.Get(platformSettingsKey(functionKey{account, name})); s != nil {
		return s.Expect, s.Control
	}
	return nil, nil
}

// SetPlatformSettings gives a function other settings, nil the defaults.
func (r *Registry) SetPlatformSettings(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, s *PlatformSettings) error {
	_, err := r.platformSettings.Edit(ctx, "set settings", platformSettingsKey(functionKey{account, name}), func(old *PlatformSettings) (*PlatformSettings, error) { return s.keepSecret(old) })
	return err
}

// SubscribeSettings has changed called with every function whose settings are
// others from now on, or gone with it. It must not block, nor write to the
// registry. There is no way back.
func (r *Registry) SubscribeSettings(changed func(lambent.AccountID, lambent.FunctionName)) {
	r.platformSettings.Subscribe(func(c ObjectChange[PlatformSettings]) { changed(c.Key.Account, lambent.FunctionName(c.Key.Parent)) })
}

func platformSettingsKey(k functionKey) ObjectKey { return ObjectKey{k.account, string(k.name), ""} }

// updateSettings are those of a function.
func (r *Registry) updateSettings(k functionKey) UpdateSettings {
	if s := r.platformSettings.Get(platformSettingsKey(k)); s != nil && s.Update != nil {
		return *s.Update
	}
	return UpdateSettings{}
}

func (r *Registry) updateMode(k functionKey) UpdateMode { return r.updateSettings(k).mode() }
