package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// This file reads what callers send by the service model itself, for the
// operations that have no decoder of their own: what members there are, where
// in the request, of what types, and what constraints AWS checks before it
// looks anything up. model.json is the model's part about requests;
// scripts/apimodel makes it.

//go:embed model.json
var modelText []byte

// model is the service model's part about requests. It is never changed.
type model struct {
	Operations map[string]modelOperation `json:"operations"`
	Shapes     map[string]*shape         `json:"shapes"`
}

type modelOperation struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"` // of a success
	Input  string `json:"input"`  // a structure; empty: there is nothing to send
}

// shape is one of the model's types with its constraints.
type shape struct {
	Type      string                 `json:"type"`
	Min       *float64               `json:"min"`
	Max       *float64               `json:"max"`
	Pattern   string                 `json:"pattern"`
	Enum      []string               `json:"enum"`
	Sensitive bool                   `json:"sensitive"`
	Required  []string               `json:"required"`
	Payload   string                 `json:"payload"`
	Members   map[string]modelMember `json:"members"`
	Of        string                 `json:"of"`
	Key       string                 `json:"key"`

	rules func() []rule // of strings; compiled when first needed
}

type modelMember struct {
	Shape string `json:"shape"`
	In    string `json:"in"` // uri, querystring, header; empty: the body
	As    string `json:"as"`
}

// loadModel reads model.json, which is part of the program.
func loadModel() (*model, error) {
	var m model
	if err := json.Unmarshal(modelText, &m); err != nil {
		return nil, fmt.Errorf("read the service model: %w", err)
	}
	for name, s := range m.Shapes {
		s.rules = sync.OnceValue(func() []rule { return s.stringRules(name) })
	}
	return &m, nil
}

// qualified reports whether an operation takes a version or an alias of its
// function in the query.
func (m *model) qualified(operation string) bool {
	op := m.Operations[operation]
	return op.Input != "" && m.Shapes[op.Input].Members["Qualifier"].In == "querystring"
}

// unusual are the shapes whose patterns look around, which RE2 cannot.
var unusual = map[string]func(string) bool{
	"Alias":                func(s string) bool { return nameWithALetter(s) },
	"FunctionUrlQualifier": func(s string) bool { return nameWithALetter(s) },
	"CollectionName":       func(s string) bool { return !strings.HasPrefix(s, "system.") && !strings.Contains(s, "$") },
	"S3Bucket":             func(s string) bool { return !strings.HasSuffix(s, ".") },
}

func nameWithALetter(s string) bool {
	return strings.Trim(s, "0123456789") != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7F || !isAlphanumeric(byte(r)) && r != '-' && r != '_'
	})
}

// stringRules are the constraints of a string, in the order in which AWS tells
// them.
func (s *shape) stringRules(name string) (rules []rule) {
	if s.Max != nil {
		rules = append(rules, maxLength(int(*s.Max)))
	}
	if s.Min != nil && *s.Min > 0 {
		rules = append(rules, minLength(int(*s.Min)))
	}
	if len(s.Enum) > 0 {
		rules = append(rules, oneOf(s.Enum...))
	}
	switch ok := unusual[name]; {
	case s.Pattern == "":
	case ok != nil:
		pattern := regexp.MustCompile(`\A(?:` + withoutLooking(name, s.Pattern) + `)\z`)
		rules = append(rules, rule{text: "Member must satisfy regular expression pattern: " + s.Pattern,
			ok: func(v string) bool { return ok(v) && pattern.MatchString(v) }})
	default:
		rules = append(rules, matching(s.Pattern))
	}
	return rules
}

// withoutLooking is the part of an unusual pattern that RE2 can have.
func withoutLooking(name, pattern string) string {
	switch name {
	case "CollectionName":
		return `[_a-zA-Z0-9][^$]*`
	case "S3Bucket":
		return `[0-9A-Za-z\.\-_]*`
	}
	return `[a-zA-Z0-9\-_]+`
}

// input reads the request of an operation into to, a pointer to a struct whose
// fields have the names of the model's members, in any case: *string, *int64, *float64, *bool,
// []byte, []string, map[string]string, map[string]float64, pointers to structs
// and slices of them. What is left out stays nil, as do empty lists and maps
// where nobody can tell the difference. Members without a field are read and
// checked all the same.
//
// The errors are what the caller is to be told: SerializationException for what
// cannot be read, ValidationException for what breaks a constraint.
func (a *API) input(c *call, operation string, to any) error {
	op := a.model.Operations[operation]
	if op.Input == "" {
		return nil
	}
	in := a.model.Shapes[op.Input]
	values := map[string]any{}
	if in.hasBody() {
		body, err := a.body(c, maxConfigBody, codeTooLarge(operation, maxConfigBody))
		if err != nil {
			return err
		}
		var b bodyOf
		b.model, b.shape, b.values = a.model, in, values
		if err := decode(body, &b); err != nil {
			return err
		}
	}
	if err := a.model.outsideBody(c, op, in, values); err != nil {
		return err
	}
	var v violations
	a.model.check(&v, "", in, values)
	if err := v.err(); err != nil {
		return err
	}
	fill(reflect.ValueOf(to).Elem(), values)
	return nil
}

func (s *shape) hasBody() bool {
	for _, m := range s.Members {
		if m.In == "" {
			return true
		}
	}
	return false
}

// outsideBody reads the members in the path and the query.
func (m *model) outsideBody(c *call, op modelOperation, in *shape, values map[string]any) error {
	k := 0
	for part := range strings.SplitSeq(op.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			name = strings.TrimRight(name, "+}")
			for member, at := range in.Members {
				if at.In == "uri" && at.As == name {
					value, err := m.plain(at.Shape, c.params[k])
					if err != nil {
						return err
					}
					values[member] = value
				}
			}
			k++
		}
	}
	for member, at := range in.Members {
		given, there := c.values[at.As]
		if at.In != "querystring" || !there {
			continue
		}
		if m.Shapes[at.Shape].Type == "list" {
			list := []any{}
			for _, s := range given {
				list = append(list, s)
			}
			values[member] = list
			continue
		}
		value, err := m.plain(at.Shape, given[0])
		if err != nil {
			return err
		}
		values[member] = value
	}
	return nil
}

// plain reads a value that stands outside of the body.
func (m *model) plain(name, s string) (any, error) {
	switch t := m.Shapes[name].Type; t {
	case "integer", "long":
		n, err := strconv.ParseInt(s, 10, bitsOf(t))
		if err != nil {
			return nil, cannotConvert("STRING_VALUE can not be converted to " + javaName(t))
		}
		return n, nil
	case "boolean":
		if s != "true" && s != "false" {
			return nil, cannotConvert("STRING_VALUE can not be converted to a Boolean")
		}
		return s == "true", nil
	}
	return s, nil
}

func bitsOf(t string) int {
	if t == "long" {
		return 64
	}
	return 32
}

func javaName(t string) string {
	if t == "long" {
		return "a Long"
	}
	return "an Integer"
}

// bodyOf is a structure of the model that takes its members into values.
type bodyOf struct {
	model  *model
	shape  *shape
	values map[string]any
}

func (b *bodyOf) member(d *decoder, name string) error {
	m, ok := b.shape.Members[name]
	if !ok || m.In != "" {
		return d.skip()
	}
	value, err := b.model.read(d, b.model.Shapes[m.Shape])
	b.values[name] = value
	return err
}

// read reads one value of a shape: a string, an int64, a float64, a bool, []byte,
// []any or map[string]any. A null in a list or a map is a nil.
func (m *model) read(d *decoder, s *shape) (any, error) {
	switch s.Type {
	case "structure":
		b := bodyOf{m, s, map[string]any{}}
		err := d.structure(&b)
		return b.values, err
	case "list":
		of, list := m.Shapes[s.Of], []any{}
		err := d.list(func() error {
			value, err := m.readOrNull(d, of)
			list = append(list, value)
			return err
		})
		return list, err
	case "map":
		of, values := m.Shapes[s.Of], map[string]any{}
		err := d.mapping(func(name string) error {
			value, err := m.readOrNull(d, of)
			values[name] = value
			return err
		})
		return values, err
	case "integer", "long":
		var n int64
		err := d.whole(&n, s.Type)
		return n, err
	case "double", "float", "timestamp":
		var f *float64
		if err := d.float(&f); err != nil {
			return nil, err
		}
		return *f, nil
	case "boolean":
		var b *bool
		if err := d.boolean(&b); err != nil {
			return nil, err
		}
		return *b, nil
	case "blob":
		var b []byte
		err := d.blob(&b)
		return b, err
	}
	var text *string
	if err := d.str(&text); err != nil {
		return nil, err
	}
	return *text, nil
}

func (m *model) readOrNull(d *decoder, s *shape) (any, error) {
	if isNull, err := d.null(); err != nil || isNull {
		return nil, err
	}
	return m.read(d, s)
}

// check notes what the model finds wrong with a value. path is the member's, in
// AWS's spelling.
func (m *model) check(v *violations, path string, s *shape, value any) {
	switch value := value.(type) {
	case map[string]any:
		if s.Type == "map" {
			m.checkMap(v, path, s, value)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(s.Members)) {
			at := join(path, name)
			if given, there := value[name]; there {
				m.check(v, at, m.Shapes[s.Members[name].Shape], given)
			} else if slices.Contains(s.Required, name) {
				v.required(at, false)
			}
		}
	case []any:
		m.checkList(v, path, s, value)
	case string:
		for _, r := range s.rules() {
			if !r.ok(value) {
				v.add(path, s.shown(value), r.text)
			}
		}
	case int64:
		m.checkNumber(v, path, s, float64(value), strconv.FormatInt(value, 10))
	case float64:
		m.checkNumber(v, path, s, value, strconv.FormatFloat(value, 'g', -1, 64))
	case []byte:
		if s.Max != nil && len(value) > int(*s.Max) {
			v.add(path, "", maxLength(int(*s.Max)).text)
		}
	}
}

func (s *shape) shown(value string) string {
	if s.Sensitive {
		return ""
	}
	return quote(value)
}

// join makes the path of a member in lowerCamelCase, as AWS writes it.
func join(path, name string) string {
	name = strings.ToLower(name[:1]) + name[1:]
	if path == "" {
		return name
	}
	return path + "." + name
}

func (m *model) checkNumber(v *violations, path string, s *shape, n float64, shown string) {
	if s.Min != nil && n < *s.Min {
		v.add(path, quote(shown), "Member must have value greater than or equal to "+bound(s, *s.Min))
	}
	if s.Max != nil && n > *s.Max {
		v.add(path, quote(shown), "Member must have value less than or equal to "+bound(s, *s.Max))
	}
}

// bound prints a bound as the type of its shape has it: 1.0 is a double.
func bound(s *shape, n float64) string {
	text := strconv.FormatFloat(n, 'f', -1, 64)
	if s.Type != "integer" && s.Type != "long" && !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

func (m *model) checkList(v *violations, path string, s *shape, list []any) {
	m.checkLength(v, path, s, len(list), show(list))
	of := m.Shapes[s.Of]
	if of.Type == "structure" {
		for k, value := range list {
			at := path + "." + strconv.Itoa(k+1) + ".member"
			v.required(at, value != nil)
			m.check(v, at, of, value)
		}
		return
	}
	if slices.ContainsFunc(list, func(value any) bool { return m.breaks(of, value) }) {
		v.add(path, quote(show(list)), "Member must satisfy constraint: "+allOf(m.rulesOf(of)))
	}
}

func (m *model) checkMap(v *violations, path string, s *shape, values map[string]any) {
	m.checkLength(v, path, s, len(values), show(values))
	key, of := m.Shapes[s.Key], m.Shapes[s.Of]
	badKey, badValue := false, false
	for k, value := range values {
		badKey = badKey || m.breaks(key, k)
		badValue = badValue || m.breaks(of, value)
	}
	if badKey {
		v.add(path, quote(show(values)), "Map keys must satisfy constraint: "+allOf(m.rulesOf(key)))
	}
	if badValue {
		v.add(path, quote(show(values)), "Map value must satisfy constraint: "+allOf(m.rulesOf(of)))
	}
}

func (m *model) checkLength(v *violations, path string, s *shape, n int, shown string) {
	if s.Max != nil && n > int(*s.Max) {
		v.add(path, quote(shown), maxLength(int(*s.Max)).text)
	}
	if s.Min != nil && n < int(*s.Min) {
		v.add(path, quote(shown), minLength(int(*s.Min)).text)
	}
}

// breaks reports whether an element of a list or map breaks any constraint.
func (m *model) breaks(s *shape, value any) bool {
	if value == nil {
		return true
	}
	var v violations
	m.check(&v, "", s, value)
	return len(v.found) > 0
}

// rulesOf are the constraints on elements, for a text that tells all of them.
func (m *model) rulesOf(s *shape) []rule {
	switch s.Type {
	case "string":
		return s.rules()
	case "list":
		var rules []rule
		if s.Max != nil {
			rules = append(rules, maxLength(int(*s.Max)))
		}
		if s.Min != nil {
			rules = append(rules, minLength(int(*s.Min)))
		}
		return append(rules, rule{text: "Member must satisfy constraint: " + allOf(m.rulesOf(m.Shapes[s.Of]))})
	case "integer", "long", "double":
		var rules []rule
		if s.Max != nil {
			rules = append(rules, rule{text: "Member must have value less than or equal to " + bound(s, *s.Max)})
		}
		if s.Min != nil {
			rules = append(rules, rule{text: "Member must have value greater than or equal to " + bound(s, *s.Min)})
		}
		return rules
	}
	return nil
}

// show prints a value as Java does, within bounds: no more of it is told than
// a caller can use.
func show(value any) string {
	var b strings.Builder
	write(&b, value)
	return b.String()
}

func write(b *strings.Builder, value any) {
	if b.Len() > maxShown {
		return
	}
	switch value := value.(type) {
	case nil:
		b.WriteString("null")
	case []any:
		b.WriteByte('[')
		for k, v := range value {
			if k > 0 {
				b.WriteString(", ")
			}
			write(b, v)
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for k, name := range slices.Sorted(maps.Keys(value)) {
			if k > 0 {
				b.WriteString(", ")
			}
			b.WriteString(name)
			b.WriteByte('=')
			write(b, value[name])
		}
		b.WriteByte('}')
	case float64:
		b.WriteString(javaDouble(value))
	default:
		fmt.Fprint(b, value)
	}
}

// fieldOf finds the field of a member, which Go's initialisms may spell in
// another case: RevisionID.
func fieldOf(to reflect.Value, member string) reflect.Value {
	if f := to.FieldByName(member); f.IsValid() {
		return f
	}
	return to.FieldByNameFunc(func(field string) bool { return strings.EqualFold(field, member) })
}

// fill sets to, a field or a struct, to a value that was checked.
func fill(to reflect.Value, value any) {
	switch to.Kind() {
	case reflect.Pointer:
		to.Set(reflect.New(to.Type().Elem()))
		fill(to.Elem(), value)
	case reflect.Struct:
		for name, v := range value.(map[string]any) {
			if f := fieldOf(to, name); f.IsValid() && v != nil {
				fill(f, v)
			}
		}
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok { // a blob
			to.Set(reflect.ValueOf(value))
			return
		}
		to.Set(reflect.MakeSlice(to.Type(), len(list), len(list)))
		for k, v := range list {
			fill(to.Index(k), v)
		}
	case reflect.Map:
		to.Set(reflect.MakeMap(to.Type()))
		for k, v := range value.(map[string]any) {
			e := reflect.New(to.Type().Elem()).Elem()
			fill(e, v)
			to.SetMapIndex(reflect.ValueOf(k).Convert(to.Type().Key()), e)
		}
	default:
		to.Set(reflect.ValueOf(value).Convert(to.Type()))
	}
}
