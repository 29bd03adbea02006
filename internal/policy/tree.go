package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// maxDepth is deeper than any policy: document, list of statements, statement,
// condition, operator, list of values.
const maxDepth = 8

// object is a JSON object in the order it was written, without a member twice.
type object []member

type member struct {
	name  string
	value any // object, []any, string, json.Number, bool or nil
}

// readTree reads one JSON document, whole.
func readTree(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, maxDepth)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the end of its JSON")
	}
	return v, nil
}

func readValue(d *json.Decoder, depth int) (any, error) {
	if depth == 0 {
		return nil, errors.New("its JSON is nested deeper than a policy's")
	}
	t, err := token(d)
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = token(d)
		return list, err
	case json.Delim('{'):
		o := object{}
		for d.More() {
			t, err := token(d)
			if err != nil {
				return nil, err
			}
			name, _ := t.(string) // the decoder takes nothing else there
			if slices.ContainsFunc(o, func(m member) bool { return m.name == name }) {
				return nil, fmt.Errorf("the member %.100q is given twice", name)
			}
			v, err := readValue(d, depth-1)
			if err != nil {
				return nil, err
			}
			o = append(o, member{name, v})
		}
		_, err = token(d)
		return o, err
	}
	return t, nil
}

func token(d *json.Decoder) (json.Token, error) {
	t, err := d.Token()
	if err == nil {
		return t, nil
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return nil, fmt.Errorf("its JSON is broken near byte %d: %w", s.Offset, s)
	}
	return nil, fmt.Errorf("its JSON is cut short: %w", err)
}

// oneOrMany is a value as the list it may stand for.
func oneOrMany(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

// strs reads a string or a list of strings, of which there must be one.
func strs(v any) ([]string, error) {
	list := oneOrMany(v)
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, errors.New("a string or a list of strings is expected")
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errors.New("the list is empty")
	}
	return out, nil
}

// scalars reads the values of a condition, where numbers and booleans may be
// written without quotes. There may be none: then nothing is equal to them.
func scalars(v any) ([]string, error) {
	list := oneOrMany(v)
	out := make([]string, 0, len(list))
	for _, v := range list {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case json.Number:
			out = append(out, v.String())
		case bool:
			out = append(out, fmt.Sprint(v))
		default:
			return nil, errors.New("a string, number, boolean or a list of such is expected")
		}
	}
	return out, nil
}
