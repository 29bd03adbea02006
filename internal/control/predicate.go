package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// predicate is a CEL expression over response and event.
type predicate struct {
	text    string
	program cel.Program
}

// readPredicate compiles a predicate, or says what is wrong with it.
func readPredicate(text string) (*predicate, error) {
	env, err := cel.NewEnv(cel.Variable("response", cel.DynType), cel.Variable("event", cel.DynType), ext.Strings())
	if err != nil {
		return nil, err
	}
	ast, issues := env.Compile(text)
	if err := issues.Err(); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("it is of type %s, and has to be true or false", t)
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, err
	}
	return &predicate{text: text, program: program}, nil
}

// check tells why the predicate does not hold of an answer.
func (p *predicate) check(response, event []byte) error {
	answer, err := celValue(response)
	if err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	got, _, err := p.program.Eval(map[string]any{
		"response": answer,
		// Read only by who asks for it. A function may be called with what is no
		// JSON: that is null.
		"event": func() any { v, _ := celValue(event); return v },
	})
	if err != nil {
		return fmt.Errorf("the predicate %.200q cannot be told of the answer: %w", p.text, err)
	}
	if holds, is := got.Value().(bool); !is || !holds {
		return fmt.Errorf("the predicate %.200q does not hold of the answer", p.text)
	}
	return nil
}

// celValue reads JSON as CEL has it: a number that is written as an integer is an
// int.
func celValue(text []byte) (any, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("something follows it")
	}
	return celNumbers(v), nil
}

// celNumbers replaces the numbers in what was read.
func celNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // one that is too large is infinite
		return f
	case []any:
		for i := range v {
			v[i] = celNumbers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = celNumbers(v[k])
		}
	}
	return v
}
