package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Sources are what a configuration is made of.
type Sources struct {
	Place    Place
	FileName string // for errors
	File     []byte // YAML; may be empty
	Getenv   func(string) string
	Environ  []string          // NAME=VALUE, to find misspelt names in; may be nil
	Flags    map[string]string // by Key.Flag; only those that were given
}

// Load makes the configuration of the sources and validates it. The error holds
// every problem there is, a line each, and says for each where it came from. An
// environment variable that is set but empty counts as not set.
func Load(s Sources) (Config, error) {
	c := Default(s.Place)
	var problems []error
	values, err := readFile(s.File)
	if err != nil {
		problems = append(problems, fmt.Errorf("%s: %w", s.FileName, err))
	}
	for _, k := range Keys() {
		set := func(from, value string) {
			if err := k.set(&c, value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w (from %s)", k.Name, err, from))
			}
		}
		if v, ok := values[k.Name]; ok {
			set(fmt.Sprintf("%s, line %d", s.FileName, v.line), v.text)
		}
		if s.Getenv != nil {
			if v := s.Getenv(k.Env()); v != "" {
				set(k.Env(), v)
			}
		}
		if v, ok := s.Flags[k.Flag()]; ok {
			set("--"+k.Flag(), v)
		}
	}
	problems = append(problems, unknownVariables(s.Environ)...)
	if c.Data != "" && !filepath.IsAbs(c.Data) && s.Place.Dir != "" {
		c.Data = filepath.Join(s.Place.Dir, c.Data)
	}
	if err := c.Validate(); err != nil {
		problems = append(problems, err)
	} else if err := c.checkPools(s.Place.Instances); err != nil {
		problems = append(problems, err)
	}
	return c, errors.Join(problems...)
}

// ofOthers are variables that start as lambent's do and are not meant for it:
// Kubernetes and Docker tell every container of a service named lambent so, and
// the conformance tests are told of the program they test.
var ofOthers = regexp.MustCompile(`^LAMBENT_(BIN|SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)$`)

// unknownVariables refuses LAMBENT_… variables that are no key's: a setting
// that was misspelt would else be the default, unnoticed.
func unknownVariables(environ []string) (problems []error) {
	byEnv, names := map[string]bool{}, []string{}
	for _, k := range Keys() {
		byEnv[k.Env()] = true
		names = append(names, k.Name)
	}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok || value == "" || byEnv[name] || ofOthers.MatchString(name) {
			continue
		}
		hint := "lambent up --print-config lists all"
		if best, ok := Nearest(strings.ToLower(rest), names); ok {
			hint = "did you mean " + Key{Name: best}.Env() + "?"
		}
		problems = append(problems, fmt.Errorf("%s: there is no such setting in the environment; %s", name, hint))
	}
	return problems
}

// value is one scalar of a file.
type value struct {
	text string
	line int
}

// readFile reads the scalars of a YAML file by key. What it cannot place is an
// error, all of them at once; the others are returned nevertheless.
func readFile(data []byte) (map[string]value, error) {
	values := map[string]value{}
	if secondDocument(data) {
		return values, errSecondDocument
	}
	file, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey()) // read tells of those with the others
	if err != nil {
		return values, fmt.Errorf("not YAML: %w", err)
	}
	r := fileReader{values: values, groups: map[string]bool{}}
	for _, k := range Keys() {
		r.names = append(r.names, k.Name)
		if group, _, ok := strings.Cut(k.Name, "."); ok {
			r.groups[group] = true
		}
	}
	docs := 0
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if docs++; docs > 1 {
			return values, errSecondDocument
		}
		r.read("", doc.Body)
	}
	return values, errors.Join(r.problems...)
}

var errSecondDocument = errors.New("more than one YAML document; a configuration is one")

// secondDocument reports whether a document starts after another, be it empty:
// the parser passes over what follows an empty one.
func secondDocument(data []byte) bool {
	begun := false
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\r\n")
		separator := bytes.HasPrefix(line, []byte("---")) && (len(line) == 3 || line[3] == ' ' || line[3] == '\t')
		switch text := bytes.TrimSpace(line); {
		case separator && begun:
			return true
		case separator, len(text) > 0 && text[0] != '#' && text[0] != '%':
			begun = true
		}
	}
	return false
}

type fileReader struct {
	names    []string
	groups   map[string]bool // what keys may stand below
	values   map[string]value
	problems []error
}

func (r *fileReader) problem(node ast.Node, format string, args ...any) {
	line := 0
	if t := node.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	r.problems = append(r.problems, fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...)))
}

// read takes in a mapping whose keys stand below the group, or at the top.
func (r *fileReader) read(group string, node ast.Node) {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.NullNode, *ast.CommentGroupNode:
		return
	default:
		r.problem(node, "keys with values are wanted here, as in listen: 127.0.0.1:4566")
		return
	}
	for _, pair := range pairs {
		name := pair.Key.GetToken().Value
		if group != "" {
			name = group + "." + name
		}
		switch {
		case group == "" && r.groups[name]:
			r.read(name, pair.Value)
		case !slices.Contains(r.names, name):
			r.problem(pair.Key, "unknown key %s%s", name, r.suggest(name))
		default:
			r.readValue(name, pair)
		}
	}
}

func (r *fileReader) readValue(name string, pair *ast.MappingValueNode) {
	if _, twice := r.values[name]; twice {
		r.problem(pair.Key, "%s is given twice", name)
		return
	}
	text, ok := scalar(pair.Value)
	if !ok {
		r.problem(pair.Key, "%s takes one plain value", name)
		return
	}
	r.values[name] = value{text: text, line: pair.Key.GetToken().Position.Line}
}

// scalar is the text of a plain or quoted value, or of a list of them joined by
// commas.
func scalar(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, true
	case *ast.SequenceNode:
		var parts []string
		for _, v := range n.Values {
			s, ok := v.(*ast.StringNode)
			if !ok {
				return "", false
			}
			parts = append(parts, s.Value)
		}
		return strings.Join(parts, ","), true
	}
	return "", false
}

// suggest is "; did you mean X?" for the nearest known key, or a pointer to the
// list of all.
func (r *fileReader) suggest(name string) string {
	candidates := slices.Concat(r.names, slices.Sorted(maps.Keys(r.groups)))
	if best, ok := Nearest(name, candidates); ok {
		return "; did you mean " + best + "?"
	}
	return "; lambent up --print-config lists all keys"
}

// Nearest is the candidate with the fewest letters to change, if those are few
// enough that a slip explains them.
func Nearest(name string, candidates []string) (string, bool) {
	best, at := "", max(2, len(name)/3)+1
	for _, c := range candidates {
		d := distance(name, c)
		// The last part alone may have been meant: memory for instance.memory.
		if _, last, ok := strings.Cut(c, "."); ok {
			d = min(d, distance(name, last)+1)
		}
		if d < at {
			best, at = c, d
		}
	}
	return best, best != ""
}

// distance is the Levenshtein distance in bytes, by its textbook recurrence.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
