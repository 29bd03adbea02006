// Command apimodel makes internal/api/model.json of AWS's service model: the
// shapes of what callers send, without documentation and answers.
//
//	go run ./scripts/apimodel service-2.json > internal/api/model.json
//
// The service model is the one published with the SDKs: botocore has it at
// data/lambda/2015-03-31/service-2.json.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type source struct {
	Operations map[string]struct {
		HTTP struct {
			Method       string `json:"method"`
			RequestURI   string `json:"requestUri"`
			ResponseCode int    `json:"responseCode"`
		} `json:"http"`
		Input struct {
			Shape string `json:"shape"`
		} `json:"input"`
	} `json:"operations"`
	Shapes map[string]struct {
		Type      string                     `json:"type"`
		Min       *float64                   `json:"min"`
		Max       *float64                   `json:"max"`
		Pattern   string                     `json:"pattern"`
		Enum      []string                   `json:"enum"`
		Required  []string                   `json:"required"`
		Sensitive bool                       `json:"sensitive"`
		Payload   string                     `json:"payload"`
		Members   map[string]json.RawMessage `json:"members"`
		Member    ref                        `json:"member"`
		Key       ref                        `json:"key"`
		Value     ref                        `json:"value"`
	} `json:"shapes"`
}

type ref struct {
	Shape        string `json:"shape"`
	Location     string `json:"location"`
	LocationName string `json:"locationName"`
}

// member and shape are what internal/api reads.
type member struct {
	Shape string `json:"shape"`
	In    string `json:"in,omitempty"` // uri, querystring or header; empty: the body
	As    string `json:"as,omitempty"` // its name there
}

type shape struct {
	Type      string            `json:"type"`
	Min       *float64          `json:"min,omitempty"`
	Max       *float64          `json:"max,omitempty"`
	Pattern   string            `json:"pattern,omitempty"`
	Enum      []string          `json:"enum,omitempty"`
	Sensitive bool              `json:"sensitive,omitempty"`
	Required  []string          `json:"required,omitempty"`
	Payload   string            `json:"payload,omitempty"` // the member that is the whole body
	Members   map[string]member `json:"members,omitempty"`
	Of        string            `json:"of,omitempty"`  // a list's elements, or a map's values
	Key       string            `json:"key,omitempty"` // a map's keys
}

type operation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	Input  string `json:"input,omitempty"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "make the API's model:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("name one service-2.json, decompressed")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var from source
	if err := json.Unmarshal(text, &from); err != nil {
		return err
	}
	out := struct {
		Operations map[string]operation `json:"operations"`
		Shapes     map[string]shape     `json:"shapes"`
	}{map[string]operation{}, map[string]shape{}}
	var add func(name string) error
	add = func(name string) error {
		s, ok := from.Shapes[name]
		if _, done := out.Shapes[name]; done || name == "" {
			return nil
		}
		if !ok {
			return fmt.Errorf("there is no shape %s", name)
		}
		to := shape{Type: s.Type, Min: s.Min, Max: s.Max, Pattern: s.Pattern, Enum: s.Enum, Sensitive: s.Sensitive, Required: s.Required,
			Payload: s.Payload, Of: s.Member.Shape + s.Value.Shape, Key: s.Key.Shape}
		out.Shapes[name] = to
		for k, raw := range s.Members {
			var r ref
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("%s.%s: %w", name, k, err)
			}
			if to.Members == nil {
				to.Members = map[string]member{}
			}
			to.Members[k] = member{Shape: r.Shape, In: r.Location, As: r.LocationName}
			if err := add(r.Shape); err != nil {
				return err
			}
		}
		out.Shapes[name] = to
		if err := add(to.Of); err != nil {
			return err
		}
		return add(to.Key)
	}
	for name, op := range from.Operations {
		path := strings.TrimSuffix(op.HTTP.RequestURI, "/")
		out.Operations[name] = operation{Method: op.HTTP.Method, Path: path, Status: op.HTTP.ResponseCode, Input: op.Input.Shape}
		if err := add(op.Input.Shape); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	e := json.NewEncoder(os.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(out)
}
