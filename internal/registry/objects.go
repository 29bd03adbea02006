package registry

import (
	"time"

	"lambent/internal/policy"
)

// Objects are the tables of what is not a function. A new kind gets a struct, a
// field here and a line in openTables.
type Objects struct {
	// Aliases are of functions; the name is the alias's.
	Aliases *Table[Alias]
	// numberings are of accounts, so that they outlive what they count: the parent
	// is a function's name, and the name is empty.
	numberings *Table[numbering]
	// FunctionPolicies are of qualifiers, "" being the function's own: see
	// EditFunctionPolicy.
	FunctionPolicies *Table[policy.Attached]
	// EventInvokeConfigs are of qualifiers.
	EventInvokeConfigs *Table[EventInvokeConfig]
	// CodeSigningConfigs are of accounts, without a parent, named by their id.
	CodeSigningConfigs *Table[CodeSigningConfig]
	// Layers and their versions; see PublishLayerVersion.
	layerSeries   *Table[layerSeries]
	layerVersions *Table[layerVersion]
}

// openTables makes the tables; loadObjects fills them.
func (r *Registry) openTables() {
	r.Aliases = newTable[Alias](r, "alias", ofFunction) // first: who is of an alias asks for it
	r.numberings = newTable[numbering](r, "numbering", ofAccount)
	r.FunctionPolicies = newTable[policy.Attached](r, "function-policy", ofQualifier)
	r.EventInvokeConfigs = newTable[EventInvokeConfig](r, "event-invoke", ofQualifier)
	r.CodeSigningConfigs = newTable[CodeSigningConfig](r, "code-signing", ofAccount)
	r.openLayers()
}

// EventInvokeConfig says how asynchronous invocations of a version or alias are
// handled. Nil is AWS's default.
type EventInvokeConfig struct {
	MaximumRetryAttempts     *int      `json:"maximum_retry_attempts,omitempty"`
	MaximumEventAgeInSeconds *int      `json:"maximum_event_age_secs,omitempty"`
	OnSuccess                string    `json:"on_success,omitempty"` // ARN of a destination; empty: none
	OnFailure                string    `json:"on_failure,omitempty"`
	LastModified             time.Time `json:"last_modified"`
}

// CodeSigningConfig says whose signatures code must have, and what happens to
// code without.
type CodeSigningConfig struct {
	Description  string            `json:"description,omitempty"`
	Publishers   []string          `json:"publishers"` // ARNs of signing profile versions
	Untrusted    string            `json:"untrusted"`  // Warn or Enforce
	Tags         map[string]string `json:"tags,omitempty"`
	LastModified time.Time         `json:"last_modified"`
}
