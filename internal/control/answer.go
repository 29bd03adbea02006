package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"lambent"
)

// Decision is what becomes of the request a control function was asked about.
type Decision string

// The decisions.
const (
	Leave Decision = ""      // what would have become of it: retries by its configuration, then the failure store
	Retry Decision = "retry" // it is tried once more, now
	Drop  Decision = "drop"  // it is settled, and not kept
)

// MaxRetries is how often control functions may have one request tried again:
// what they ask for beyond is left.
const MaxRetries = 3

// MaxActions is how many actions one answer may have.
const MaxActions = 10

// The bounds of what an answer has tried again, in bytes: those of an event, and of
// a version's or an alias' name.
const (
	MaxPayload   = 1 << 20
	MaxQualifier = 128
)

// Deed is a kind of action of the platform.
type Deed string

// The deeds.
const (
	RollBackAlias      Deed = "roll_back_alias"     // Alias to Version, or to the newest before the one that failed
	RebuildInstances   Deed = "rebuild_instances"   // containers of the function are ended as soon as they are idle, and made anew
	PauseSource        Deed = "pause_source"        // the event source mapping UUID is disabled
	ReserveConcurrency Deed = "reserve_concurrency" // to Value; nil takes it away
)

// Action is something the platform is to do.
type Action struct {
	Do      Deed            `json:"do"`
	Alias   string          `json:"alias,omitempty"`
	Version lambent.Version `json:"version,omitempty"`
	UUID    string          `json:"uuid,omitempty"`
	Value   *int            `json:"value,omitempty"`
}

// Answer is what a control function says. A function that has nothing to say
// answers null, or {}.
type Answer struct {
	Decision  Decision        `json:"decision,omitempty"`
	Payload   json.RawMessage `json:"payload,omitempty"`   // of Retry: the event in place of the old one; nil: the old one
	Qualifier *string         `json:"qualifier,omitempty"` // of Retry: the version or alias to call; nil: the old one
	Actions   []Action        `json:"actions,omitempty"`
	Note      string          `json:"note,omitempty"` // for the failure's record; the first 1,024 bytes count
}

// ReadAnswer reads an answer strictly. What cannot be read is not done in part.
func ReadAnswer(text []byte) (Answer, error) {
	var a Answer
	if t := bytes.TrimSpace(text); len(t) == 0 || bytes.Equal(t, []byte("null")) {
		return a, nil
	}
	if err := strict(text, &a); err != nil {
		return Answer{}, fmt.Errorf("read the control function's answer: %w", err)
	}
	if err := a.check(); err != nil {
		return Answer{}, fmt.Errorf("read the control function's answer: %w", err)
	}
	const note = 1024
	a.Note = a.Note[:min(len(a.Note), note)]
	return a, nil
}

func (a *Answer) check() error {
	switch a.Decision {
	case Leave, Drop:
		if a.Payload != nil || a.Qualifier != nil {
			return fmt.Errorf("payload and qualifier are for the decision %q", Retry)
		}
	case Retry:
		if len(a.Payload) > MaxPayload {
			return fmt.Errorf("the payload has %d bytes, and an event has %d at most", len(a.Payload), MaxPayload)
		}
		if a.Qualifier != nil && len(*a.Qualifier) > MaxQualifier {
			return fmt.Errorf("the qualifier has %d bytes, and a version's or an alias' name has %d at most", len(*a.Qualifier), MaxQualifier)
		}
	default:
		return fmt.Errorf("decision %.40q is none of %q and %q", a.Decision, Retry, Drop)
	}
	if len(a.Actions) > MaxActions {
		return fmt.Errorf("%d actions are over the %d there may be", len(a.Actions), MaxActions)
	}
	for _, d := range a.Actions {
		if err := d.check(); err != nil {
			return err
		}
	}
	return nil
}

func (d *Action) check() error {
	var want Action
	switch d.Do {
	case RollBackAlias:
		if d.Alias == "" {
			return fmt.Errorf("%s needs an alias", d.Do)
		}
		want = Action{Alias: d.Alias, Version: d.Version}
	case RebuildInstances:
	case PauseSource:
		if d.UUID == "" {
			return fmt.Errorf("%s needs the uuid of an event source mapping", d.Do)
		}
		want = Action{UUID: d.UUID}
	case ReserveConcurrency:
		if d.Value != nil && *d.Value < 0 {
			return fmt.Errorf("%s to %d: there is no concurrency below 0", d.Do, *d.Value)
		}
		want = Action{Value: d.Value}
	default:
		return fmt.Errorf("do %.40q is none of %s, %s, %s and %s", d.Do, RollBackAlias, RebuildInstances, PauseSource, ReserveConcurrency)
	}
	if want.Do = d.Do; *d != want {
		return errors.New(string(d.Do) + " has members that are another action's")
	}
	return nil
}
