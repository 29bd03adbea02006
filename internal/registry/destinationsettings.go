package registry

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"lambent"
	"lambent/internal/deliver"
)

// DestinationSettings are where records of asynchronous calls go that AWS has no
// ARNs for: URLs of http, https or nats.
type DestinationSettings struct {
	OnSuccess string `json:"on_success,omitempty"`
	OnFailure string `json:"on_failure,omitempty"`
	Secret    string `json:"secret,omitempty"` // signs what is posted; empty: it is not signed
}

// SecretShown stands for a secret where settings are shown, and for the one there
// is where they are set.
const SecretShown = "********"

// The bounds of a secret, in bytes.
const (
	leastSecret = 16
	mostSecret  = 256
)

// UnmarshalJSON reads an object, and nothing in it that is not known or that
// nothing could be delivered to. Who may be connected to is not its business.
func (d *DestinationSettings) UnmarshalJSON(text []byte) error {
	type plain DestinationSettings
	var doc plain
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("destinations: the member %s cannot be a JSON %s", wrong.Field, wrong.Value)
		}
		return fmt.Errorf("destinations: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	for _, place := range []string{doc.OnSuccess, doc.OnFailure} {
		if place == "" {
			continue
		}
		if strings.HasPrefix(place, "arn:") {
			return fmt.Errorf("destinations: %.100q is an ARN: those are set by PutFunctionEventInvokeConfig", place)
		}
		if _, err := deliver.ParseURL(place); err != nil {
			return fmt.Errorf("destinations: %w", err)
		}
	}
	if err := checkSecret(doc.Secret); err != nil {
		return fmt.Errorf("destinations: %w", err)
	}
	*d = DestinationSettings(doc)
	return nil
}

func checkSecret(secret string) error {
	if secret == "" || secret == SecretShown {
		return nil
	}
	if len(secret) < leastSecret || len(secret) > mostSecret || strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' }) {
		return fmt.Errorf("the secret must have %d to %d bytes, and no control characters", leastSecret, mostSecret)
	}
	if encoded, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if _, err := base64.StdEncoding.DecodeString(encoded); err != nil {
			return errors.New("a secret that begins with whsec_ goes on in Base64")
		}
	}
	return nil
}

// Shown is s without its secret.
func (s *PlatformSettings) Shown() *PlatformSettings {
	if s == nil || s.Destinations == nil || s.Destinations.Secret == "" {
		return s
	}
	c, d := *s, *s.Destinations
	d.Secret = SecretShown
	c.Destinations = &d
	return &c
}

// keepSecret is s with the secret of old in the place of what stands for it. Where
// there is none, s is refused: what is posted would not be signed.
func (s *PlatformSettings) keepSecret(old *PlatformSettings) (*PlatformSettings, error) {
	if s == nil || s.Destinations == nil || s.Destinations.Secret != SecretShown {
		return s, nil
	}
	if old == nil || old.Destinations == nil || old.Destinations.Secret == "" {
		return nil, &lambent.Error{Op: "set settings", Kind: lambent.KindInvalid,
			Message: "destinations: the secret " + SecretShown + " stands for the one that is there, and there is none: send the secret itself"}
	}
	c, d := *s, *s.Destinations
	d.Secret = old.Destinations.Secret
	c.Destinations = &d
	return &c, nil
}
