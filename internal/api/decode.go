package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"lambent"
)

// maxDepth is how deep JSON may nest: Jackson's limit, which AWS's front end
// and the managed runtimes stand on (StreamReadConstraints, 1,000).
const maxDepth = 1000

// maxValues bounds the JSON values one request of the control plane may hold,
// so that a body of 67 MB cannot be made of 30 million list entries. The
// largest honest request (4 KB of environment, 50 tags) has a few hundred.
const maxValues = 20000

// syntaxError is JSON that is not JSON, with where it ceases to be.
type syntaxError struct {
	text   string // Jackson's words, as AWS passes them on
	offset int    // in bytes, behind the offending one
}

func (e *syntaxError) Error() string { return e.text }

// typeError is a JSON value of another type than the model's.
type typeError struct{ text string }

func (e *typeError) Error() string { return e.text }

// A decoder reads one JSON document front to back, straight into the fields
// that are wanted. It is strict where AWS is: member names are case-sensitive,
// a value of the wrong type is an error, null is the same as absent, unknown
// members are checked for being JSON and dropped.
type decoder struct {
	data   []byte
	pos    int
	depth  int
	inside string // "Object" or "Array": what pos is in; "" at the root
	values int    // read so far
	limit  int    // of values; 0 for none
}

// members is a structure that takes its members one at a time. member reads
// the value of the named one, or calls skip.
type members interface {
	member(d *decoder, name string) error
}

// decode reads a request body into in. The errors are what the caller is to
// be told: AWS answers SerializationException to both bad JSON and bad types.
// An empty body is the structure without members.
func decode(body []byte, in members) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := &decoder{data: body, limit: maxValues}
	err := d.structure(in)
	if err == nil {
		err = d.end()
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	if s, ok := errors.AsType[*syntaxError](err); ok {
		text = "Could not parse request body into json: " + s.text + locate(body, s.offset)
	}
	return &lambent.Error{Op: "decode request", Kind: lambent.KindMalformed, Reason: "SerializationException", Message: text}
}

// checkJSON reports whether data is one JSON document in UTF-8, as a
// *syntaxError where it is not. It allocates nothing for data that is.
func checkJSON(data []byte) error {
	d := decoder{data: data}
	if err := d.skip(); err != nil {
		return err
	}
	return d.end()
}

// locate renders where a document is broken as AWS passes it on.
func locate(data []byte, offset int) string { return "\n at " + source(data, offset) }

// source renders a place in a document as Jackson does: the document cut to
// 500 bytes, and line and column, counted from 1, of the byte at offset. Its
// errors give where its parser stands, which is behind the offending byte.
func source(data []byte, offset int) string {
	offset = min(offset, len(data))
	line := 1 + bytes.Count(data[:offset], []byte{'\n'})
	column := offset - bytes.LastIndexByte(data[:offset], '\n')
	const most = 500
	shown, cut := data, ""
	if len(shown) > most {
		cut = fmt.Sprintf("[truncated %d bytes]", len(shown)-most)
		shown = shown[:most]
	}
	return fmt.Sprintf("[Source: (byte[])\"%s\"%s; line: %d, column: %d]",
		strings.ToValidUTF8(string(shown), "\uFFFD"), cut, line, column)
}

func (d *decoder) structure(in members) error {
	return d.object(func(name string) error { return in.member(d, name) })
}

// object reads an object and calls member for each of its members that is not
// null, with the decoder in front of the value.
func (d *decoder) object(member func(name string) error) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '{' {
		return d.mismatch(c, "structure")
	}
	return d.entries('{', func() error {
		name, err := d.text()
		if err != nil {
			return err
		}
		if err := d.colon(); err != nil {
			return err
		}
		isNull, err := d.null()
		if err != nil || isNull {
			return err
		}
		return member(name)
	})
}

// list reads an array and calls element for each entry, with the decoder in
// front of it.
func (d *decoder) list(element func() error) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '[' {
		return d.mismatch(c, "list")
	}
	return d.entries('[', element)
}

// entries reads what stands between the brackets that open starts, calling
// entry in front of each one.
func (d *decoder) entries(open byte, entry func() error) error {
	if d.depth++; d.depth > maxDepth {
		return &syntaxError{text: fmt.Sprintf("Document nesting depth (%d) exceeds the maximum allowed (%d)", d.depth, maxDepth), offset: d.pos}
	}
	start, outer := d.pos, d.inside
	closing := byte(']')
	d.inside = "Array"
	if open == '{' {
		closing, d.inside = '}', "Object"
	}
	d.pos++
	for first := true; ; first = false {
		c, ok := d.peek()
		switch {
		case !ok:
			return &syntaxError{text: fmt.Sprintf("Unexpected end-of-input: expected close marker for %s (start marker at %s)", d.inside, source(d.data, start)), offset: d.pos}
		case c == closing:
			d.pos++
			d.depth--
			d.inside = outer
			return nil
		case first:
		case c != ',':
			return d.unexpected("was expecting comma to separate " + d.inside + " entries")
		default:
			d.pos++
			if c, ok = d.peek(); !ok {
				return d.endOfInput()
			}
		}
		if open == '{' && c != '"' {
			return d.unexpected("was expecting double-quote to start field name")
		}
		if err := entry(); err != nil {
			return err
		}
	}
}

// str reads a string.
func (d *decoder) str(to **string) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '"' {
		return d.mismatch(c, "String")
	}
	s, err := d.text()
	if err != nil {
		return err
	}
	*to = &s
	return nil
}

// integer reads a whole number that fits 32 bits, the model's integer.
func (d *decoder) integer(to **int) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '-' && (c < '0' || c > '9') {
		return d.mismatch(c, "Integer")
	}
	token, err := d.number()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(token), 10, 32)
	if err != nil {
		return &typeError{text: fmt.Sprintf("The value %.40s can not be converted to an Integer", token)}
	}
	i := int(n)
	*to = &i
	return nil
}

// float reads a double.
func (d *decoder) float(to **float64) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '-' && (c < '0' || c > '9') {
		return d.mismatch(c, "Double")
	}
	token, err := d.number()
	if err != nil {
		return err
	}
	f, err := strconv.ParseFloat(string(token), 64)
	if err != nil {
		return &typeError{text: fmt.Sprintf("The value %.40s can not be converted to a Double", token)}
	}
	*to = &f
	return nil
}

// boolean reads true or false.
func (d *decoder) boolean(to **bool) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != 't' && c != 'f' {
		return d.mismatch(c, "Boolean")
	}
	if err := d.literal(); err != nil {
		return err
	}
	b := c == 't'
	*to = &b
	return nil
}

// blob reads base64 in a string. Line breaks in it are passed over.
func (d *decoder) blob(to *[]byte) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '"' {
		return d.mismatch(c, "Blob")
	}
	raw, escaped, err := d.rawText()
	if err != nil {
		return err
	}
	if escaped { // some encoders write "\/"
		raw = []byte(unescape(raw))
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(out, raw)
	if err != nil {
		return &typeError{text: "The value of a blob is not valid base64"}
	}
	*to = out[:n]
	return nil
}

// strings reads a list of strings. A null in it stays a nil: the model's
// constraints, not its types, forbid it.
func (d *decoder) strings(to *[]*string) error {
	out := []*string{}
	err := d.list(func() error {
		var s *string
		isNull, err := d.null()
		if err == nil && !isNull {
			err = d.str(&s)
		}
		out = append(out, s)
		return err
	})
	*to = out
	return err
}

// strMap reads a map of strings. Null values stay nil, as in strings.
func (d *decoder) strMap(to *map[string]*string) error {
	out := map[string]*string{}
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '{' {
		return d.mismatch(c, "map")
	}
	err = d.entries('{', func() error {
		name, err := d.text()
		if err != nil {
			return err
		}
		if err := d.colon(); err != nil {
			return err
		}
		var s *string
		isNull, err := d.null()
		if err == nil && !isNull {
			err = d.str(&s)
		}
		out[name] = s
		return err
	})
	*to = out
	return err
}

// mismatch names a type error in Coral's words: c starts the value that is
// there, want is what the model asks for.
func (d *decoder) mismatch(c byte, want string) error {
	switch {
	case c == '{':
		return &typeError{text: "Start of structure or map found where not expected."}
	case c == '[':
		return &typeError{text: "Start of list found where not expected."}
	case want == "structure" || want == "map" || want == "list":
		return &typeError{text: "Unexpected value type in payload: expected a " + want}
	}
	have := "NUMBER_VALUE"
	switch c {
	case '"':
		have = "STRING_VALUE"
	case 't':
		have = "TRUE_VALUE"
	case 'f':
		have = "FALSE_VALUE"
	case 'n':
		have = "NULL_VALUE"
	}
	article := "a"
	if want == "Integer" {
		article = "an"
	}
	return &typeError{text: have + " can not be converted to " + article + " " + want}
}

const expectedValue = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"

// value moves to the next value and returns its first byte, which is one of
// {["tfn- or a digit.
func (d *decoder) value() (byte, error) {
	if d.values++; d.limit > 0 && d.values > d.limit {
		return 0, &typeError{text: fmt.Sprintf("The request holds more than %d values", d.limit)}
	}
	c, ok := d.peek()
	if !ok {
		return 0, d.endOfInput()
	}
	switch c {
	case '{', '[', '"', 't', 'f', 'n', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return c, nil
	}
	return 0, d.unexpected("expected a valid value " + expectedValue)
}

// skip reads any value and drops it.
func (d *decoder) skip() error {
	c, err := d.value()
	if err != nil {
		return err
	}
	switch c {
	case '{', '[':
		return d.skipNested(c)
	case '"':
		_, _, err = d.rawText()
	case 't', 'f', 'n':
		err = d.literal()
	default:
		_, err = d.number()
	}
	return err
}

func (d *decoder) skipNested(open byte) error {
	if open == '[' {
		return d.entries(open, d.skip)
	}
	return d.entries(open, d.skipEntry)
}

func (d *decoder) skipEntry() error {
	if _, _, err := d.rawText(); err != nil {
		return err
	}
	if err := d.colon(); err != nil {
		return err
	}
	return d.skip()
}

// end says whether nothing but space is left.
func (d *decoder) end() error {
	if _, ok := d.peek(); ok {
		return d.unexpected("Expected space separating root-level values")
	}
	return nil
}

func (d *decoder) colon() error {
	c, ok := d.peek()
	if !ok {
		return d.endOfInput()
	}
	if c != ':' {
		return d.unexpected("was expecting a colon to separate field name and value")
	}
	d.pos++
	return nil
}

// null eats a null if there is one.
func (d *decoder) null() (bool, error) {
	if c, ok := d.peek(); !ok || c != 'n' {
		return false, nil
	}
	if _, err := d.value(); err != nil {
		return false, err
	}
	return true, d.literal()
}

// literal reads true, false or null.
func (d *decoder) literal() error {
	end := d.pos
	for end < len(d.data) && (d.data[end] == '_' || d.data[end] == '$' || isAlphanumeric(d.data[end])) {
		end++
	}
	switch string(d.data[d.pos:end]) {
	case "true", "false", "null":
		d.pos = end
		return nil
	}
	return &syntaxError{
		text:   fmt.Sprintf("Unrecognized token '%.100s': was expecting %s", d.data[d.pos:end], expectedValue),
		offset: end,
	}
}

// number reads a number by JSON's grammar and returns its text.
func (d *decoder) number() ([]byte, error) {
	start, p := d.pos, d.pos
	digits := func() bool {
		from := p
		for p < len(d.data) && d.data[p] >= '0' && d.data[p] <= '9' {
			p++
		}
		return p > from
	}
	at := func(set string) bool { return p < len(d.data) && strings.IndexByte(set, d.data[p]) >= 0 }
	bad := func(why string) ([]byte, error) {
		d.pos = p
		if p >= len(d.data) {
			return nil, &syntaxError{text: "Unexpected end-of-input in a number", offset: p}
		}
		return nil, d.unexpected(why)
	}
	if at("-") {
		p++
	}
	if at("0") {
		if p++; at("0123456789") {
			d.pos = p
			return nil, &syntaxError{text: "Invalid numeric value: Leading zeroes not allowed", offset: p}
		}
	} else if !digits() {
		return bad("expected digit (0-9) to follow minus sign, for valid numeric value")
	}
	if at(".") {
		if p++; !digits() {
			return bad("Decimal point not followed by a digit")
		}
	}
	if at("eE") {
		if p++; at("+-") {
			p++
		}
		if !digits() {
			return bad("Exponent indicator not followed by a digit")
		}
	}
	if p < len(d.data) && isAlphanumeric(d.data[p]) {
		return bad("Expected space separating root-level values")
	}
	d.pos = p
	return d.data[start:p], nil
}

// text reads a string, unescaped.
func (d *decoder) text() (string, error) {
	raw, escaped, err := d.rawText()
	if err != nil {
		return "", err
	}
	if !escaped {
		return string(raw), nil
	}
	return unescape(raw), nil
}

// plain tells which bytes stand for themselves in a string: printable ASCII
// but for the quote and the backslash.
var plain = func() (t [256]bool) {
	for c := ' '; c < 0x80; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// rawText reads a string and returns what stands between its quotes, checked
// for being UTF-8 with valid escapes.
func (d *decoder) rawText() (raw []byte, escaped bool, err error) {
	start := d.pos + 1
	p := start
	for {
		for p < len(d.data) && plain[d.data[p]] {
			p++
		}
		if p >= len(d.data) {
			return nil, false, &syntaxError{text: "Unexpected end-of-input: was expecting closing quote for a string value", offset: p}
		}
		switch c := d.data[p]; {
		case c == '"':
			d.pos = p + 1
			return d.data[start:p], escaped, nil
		case c == '\\':
			escaped = true
			n := escapeLength(d.data[p:])
			if n == 0 {
				return nil, false, &syntaxError{text: "Unrecognized character escape", offset: p + 1}
			}
			p += n
		case c < ' ':
			return nil, false, &syntaxError{text: fmt.Sprintf("Illegal unquoted character ((CTRL-CHAR, code %d)): has to be escaped using backslash to be included in string value", c), offset: p + 1}
		default:
			r, n := utf8.DecodeRune(d.data[p:])
			if r == utf8.RuneError && n <= 1 {
				return nil, false, &syntaxError{text: fmt.Sprintf("Invalid UTF-8 start byte 0x%02x", c), offset: p + 1}
			}
			p += n
		}
	}
}

// escapeLength is the length of the escape at the start of s, 0 for none that
// JSON knows.
func escapeLength(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	if s[1] != 'u' {
		if strings.IndexByte(`"\/bfnrt`, s[1]) < 0 {
			return 0
		}
		return 2
	}
	if len(s) < 6 {
		return 0
	}
	for _, c := range s[2:6] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return 0
		}
	}
	return 6
}

// unescape resolves the escapes of a string that rawText has checked. A lone
// surrogate becomes U+FFFD.
func unescape(raw []byte) string {
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			out = append(out, raw[i])
			i++
			continue
		}
		switch c := raw[i+1]; c {
		case 'u':
			r := hexRune(raw[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if len(raw)-i >= 6 && raw[i] == '\\' && raw[i+1] == 'u' {
					low = hexRune(raw[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			out = utf8.AppendRune(out, r)
			continue
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		default:
			out = append(out, c)
		}
		i += 2
	}
	return string(out)
}

func hexRune(s []byte) rune {
	n, err := strconv.ParseUint(string(s[:4]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n)
}

// peek moves over space and returns the byte after it.
func (d *decoder) peek() (byte, bool) {
	for d.pos < len(d.data) {
		switch c := d.data[d.pos]; c {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return c, true
		}
	}
	return 0, false
}

// endOfInput is the error for a document that ends where it may not.
func (d *decoder) endOfInput() error {
	if d.inside == "" {
		return &syntaxError{text: "No content to map due to end-of-input", offset: d.pos}
	}
	return &syntaxError{text: "Unexpected end-of-input within/between " + d.inside + " entries", offset: d.pos}
}

// unexpected is the error for the byte the decoder stands before.
func (d *decoder) unexpected(why string) error {
	r, _ := utf8.DecodeRune(d.data[d.pos:])
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		if strings.HasPrefix(why, "expected a valid value") {
			return d.literal()
		}
	}
	return &syntaxError{text: fmt.Sprintf("Unexpected character ('%c' (code %d)): %s", r, r, why), offset: d.pos + 1}
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
