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

// The most bytes a schema and a predicate may have.
const (
	MaxSchema    = 64 << 10
	MaxPredicate = 8 << 10
)

// Expectation is what a right answer looks like: a JSON Schema (draft 2020-12 or
// 7) that it conforms to, a predicate in CEL (https://cel.dev) that holds of it, or
// both. An answer that is not so is an unexpected result, and counts as a failure.
type Expectation struct {
	Schema    json.RawMessage // nil: none
	Predicate string          // over response and event; empty: none
}

type expectationJSON struct {
	Schema    json.RawMessage `json:"schema,omitempty"`
	Predicate string          `json:"predicate,omitempty"`
}

// MarshalJSON writes it as it was declared.
func (e Expectation) MarshalJSON() ([]byte, error) {
	return json.Marshal(expectationJSON(e))
}

// UnmarshalJSON reads a document that Compile may be able to compile: whether it
// is, takes what its writer makes it take, and is not found out here.
func (e *Expectation) UnmarshalJSON(text []byte) error {
	var doc expectationJSON
	if err := strict(text, &doc); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	if doc.Schema == nil && doc.Predicate == "" {
		return errors.New("expect: it has neither a schema nor a predicate")
	}
	if n := len(doc.Schema); n > MaxSchema {
		return fmt.Errorf("expect: schema: %d bytes are over the %d there may be", n, MaxSchema)
	}
	if n := len(doc.Predicate); n > MaxPredicate {
		return fmt.Errorf("expect: predicate: %d bytes are over the %d there may be", n, MaxPredicate)
	}
	*e = Expectation(doc)
	return nil
}

// Check is an Expectation that answers are held against.
type Check struct {
	schema    *jsonschema.Resolved // nil: none
	predicate *predicate           // nil: none
}

// Compile makes it ready; the error says what is wrong with it. What that takes is
// up to who wrote it, as with Check.Of.
func (e Expectation) Compile() (c Check, err error) {
	if e.Schema != nil {
		if c.schema, err = readSchema(e.Schema); err != nil {
			return c, fmt.Errorf("expect: schema: %w", err)
		}
	}
	if e.Predicate != "" {
		if c.predicate, err = readPredicate(e.Predicate); err != nil {
			return c, fmt.Errorf("expect: predicate: %w", err)
		}
	}
	return c, nil
}

func readSchema(text []byte) (*jsonschema.Resolved, error) {
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	if err := checkTypes(&schema); err != nil {
		return nil, err
	}
	// Nothing is loaded from elsewhere: a $ref stays within the schema. Its defaults
	// are not held against it: a schema may lead in circles.
	return schema.Resolve(nil)
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

// Of tells why the answer to an event, both JSON, is not what is expected; nil
// where it is. What is empty is null.
//
// How much time, memory and stack that takes is up to those who wrote the
// expectation and the answer, and there is no bound: it is for a process that may
// be lost (package judge).
func (c Check) Of(response, event []byte) error {
	if c.schema != nil {
		var answer any
		if len(bytes.TrimSpace(response)) > 0 {
			if err := json.Unmarshal(response, &answer); err != nil {
				return fmt.Errorf("the answer is not JSON: %w", err)
			}
		}
		if err := c.schema.Validate(answer); err != nil {
			return fmt.Errorf("the answer does not conform to the schema: %w", err)
		}
	}
	if c.predicate != nil {
		return c.predicate.check(response, event)
	}
	return nil
}

// strict reads one document with no member that is not known.
func strict(text []byte, doc any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(doc)
}
