package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/jsonschema-go/jsonschema"
)

// MaxSchema is the most bytes a schema may have.
const MaxSchema = 64 << 10

// Expectation is what a right answer looks like: a JSON Schema (draft 2020-12 or
// 7) that it conforms to. An answer that does not is an unexpected result, and
// counts as a failure.
//
// Read from JSON it has been compiled. Safe for concurrent use.
type Expectation struct {
	Schema json.RawMessage

	schema *jsonschema.Resolved
}

type expectationJSON struct {
	Schema json.RawMessage `json:"schema,omitempty"`
}

// MarshalJSON writes it as it was declared.
func (e Expectation) MarshalJSON() ([]byte, error) {
	return json.Marshal(expectationJSON{e.Schema})
}

// UnmarshalJSON reads and compiles it; the error says what is wrong with it.
func (e *Expectation) UnmarshalJSON(text []byte) error {
	var doc expectationJSON
	if err := strict(text, &doc); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	switch {
	case doc.Schema == nil:
		return errors.New("expect: it has no schema")
	case len(doc.Schema) > MaxSchema:
		return fmt.Errorf("expect: a schema of %d bytes is over the %d there may be", len(doc.Schema), MaxSchema)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(doc.Schema, &schema); err != nil {
		return fmt.Errorf("expect: schema: %w", err)
	}
	if err := checkTypes(&schema); err != nil {
		return fmt.Errorf("expect: schema: %w", err)
	}
	// Nothing is loaded from elsewhere: a $ref stays within the schema.
	resolved, err := schema.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		return fmt.Errorf("expect: schema: %w", err)
	}
	*e = Expectation{Schema: doc.Schema, schema: resolved}
	return nil
}

// checkTypes refuses a type that no JSON has, which the library takes for one that
// nothing conforms to.
func checkTypes(s *jsonschema.Schema) error {
	for _, t := range append(s.Types, s.Type) {
		if t != "" && !slices.Contains([]string{"null", "boolean", "object", "array", "number", "string", "integer"}, t) {
			return fmt.Errorf("JSON has no type %.40q", t)
		}
	}
	below := slices.Concat([]*jsonschema.Schema{s.Items, s.AdditionalItems, s.Contains, s.UnevaluatedItems, s.AdditionalProperties, s.PropertyNames,
		s.UnevaluatedProperties, s.Not, s.If, s.Then, s.Else, s.ContentSchema}, s.ItemsArray, s.PrefixItems, s.AllOf, s.AnyOf, s.OneOf)
	for _, named := range []map[string]*jsonschema.Schema{s.Defs, s.Definitions, s.DependencySchemas, s.Properties, s.PatternProperties, s.DependentSchemas} {
		below = slices.AppendSeq(below, maps.Values(named))
	}
	for _, b := range below {
		if b == nil {
			continue
		}
		if err := checkTypes(b); err != nil {
			return err
		}
	}
	return nil
}

// Check tells why an answer, JSON, is not what is expected; nil where it is. One
// that is empty is null.
func (e *Expectation) Check(response []byte) error {
	var answer any
	if len(bytes.TrimSpace(response)) > 0 {
		if err := json.Unmarshal(response, &answer); err != nil {
			return fmt.Errorf("the answer is not JSON: %w", err)
		}
	}
	if err := e.schema.Validate(answer); err != nil {
		return fmt.Errorf("the answer does not conform to the schema: %w", err)
	}
	return nil
}

// strict reads one document with no member that is not known.
func strict(text []byte, doc any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(doc)
}
