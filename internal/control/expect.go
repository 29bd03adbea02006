package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"cel.dev/cel-go/cel"
	"github.com/google/jsonschema-go/jsonschema"
)

// The bounds of an expectation.
const (
	MaxSchema    = 64 << 10  // bytes
	MaxPredicate = 4 << 10   // bytes
	MaxCost      = 1_000_000 // of evaluating a predicate, in CEL's units: some 100 ms
)

// Expectation is what a right answer looks like: a JSON Schema (draft 2020-12 or
// 7) it conforms to, a CEL predicate of `response`, the answer, and `event`, what
// the function was given, that is true of it, or both. An answer that does not is
// an unexpected result, and counts as a failure.
//
// Read from JSON it has been compiled. Safe for concurrent use.
type Expectation struct {
	Schema json.RawMessage // nil: any
	CEL    string          // empty: any

	schema    *jsonschema.Resolved
	predicate cel.Program
}

type expectationJSON struct {
	Schema json.RawMessage `json:"schema,omitempty"`
	CEL    string          `json:"cel,omitempty"`
}

// MarshalJSON writes it as it was declared.
func (e Expectation) MarshalJSON() ([]byte, error) {
	return json.Marshal(expectationJSON{e.Schema, e.CEL})
}

// UnmarshalJSON reads and compiles it; the error says what is wrong with it.
func (e *Expectation) UnmarshalJSON(text []byte) error {
	var doc expectationJSON
	if err := strict(text, &doc); err != nil {
		return fmt.Errorf("expect: %w", err)
	}
	switch {
	case doc.Schema == nil && doc.CEL == "":
		return errors.New("expect: it has neither schema nor cel")
	case len(doc.Schema) > MaxSchema:
		return fmt.Errorf("expect: a schema of %d bytes is over the %d there may be", len(doc.Schema), MaxSchema)
	case len(doc.CEL) > MaxPredicate:
		return fmt.Errorf("expect: a predicate of %d bytes is over the %d there may be", len(doc.CEL), MaxPredicate)
	}
	next := Expectation{Schema: doc.Schema, CEL: doc.CEL}
	if doc.Schema != nil {
		var schema jsonschema.Schema
		if err := json.Unmarshal(doc.Schema, &schema); err != nil {
			return fmt.Errorf("expect: schema: %w", err)
		}
		if err := checkTypes(&schema); err != nil {
			return fmt.Errorf("expect: schema: %w", err)
		}
		var err error // nothing is loaded from elsewhere: a $ref stays within the schema
		if next.schema, err = schema.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true}); err != nil {
			return fmt.Errorf("expect: schema: %w", err)
		}
	}
	if doc.CEL != "" {
		var err error
		if next.predicate, err = compile(doc.CEL); err != nil {
			return fmt.Errorf("expect: cel: %w", err)
		}
	}
	*e = next
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

func compile(predicate string) (cel.Program, error) {
	env, err := cel.NewEnv(cel.Variable("response", cel.DynType), cel.Variable("event", cel.DynType), cel.CrossTypeNumericComparisons(true))
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(predicate)
	if err := issues.Err(); err != nil {
		return nil, err
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it is a %s, not true or false", t)
	}
	return env.Program(ast, cel.CostLimit(MaxCost))
}

// Check tells why an answer to an event is not what is expected; nil where it is.
// Both are JSON; an event that is empty is null.
func (e *Expectation) Check(event, response []byte) error {
	answer, err := decode(response)
	if err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	if e.schema != nil {
		if err := e.schema.Validate(answer); err != nil {
			return fmt.Errorf("the answer does not conform to the schema: %w", err)
		}
	}
	if e.predicate == nil {
		return nil
	}
	given, err := decode(event)
	if err != nil {
		return fmt.Errorf("the event is not JSON: %w", err)
	}
	out, _, err := e.predicate.Eval(map[string]any{"response": answer, "event": given})
	if err != nil {
		return fmt.Errorf("the predicate %q cannot be evaluated: %w", e.CEL, err)
	}
	switch holds := out.Value().(type) {
	case bool:
		if !holds {
			return fmt.Errorf("the predicate %q is false", e.CEL)
		}
	default:
		return fmt.Errorf("the predicate %q is neither true nor false", e.CEL)
	}
	return nil
}

func decode(text []byte) (v any, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	return v, json.Unmarshal(text, &v)
}

// strict reads one document with no member that is not known.
func strict(text []byte, doc any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(doc)
}
