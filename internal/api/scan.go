package api

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file is the decoder's grammar: JSON by RFC 8259 in UTF-8, with errors
// in the words of Jackson, whose words AWS's are.

// maxDepth is how deep JSON may nest: Jackson's limit, which AWS's front end
// and the managed runtimes stand on (StreamReadConstraints, 1,000).
const maxDepth = 1000

// syntaxError is JSON that is not JSON, with where it ceases to be.
type syntaxError struct {
	text   string // Jackson's words, as AWS passes them on
	offset int    // in bytes, behind the offending one
}

func (e *syntaxError) Error() string { return e.text }

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
// 500 bytes, and the place of the byte at offset. Its errors give where its
// parser stands, which is behind the offending byte.
func source(data []byte, offset int) string {
	const most = 500
	shown, cut := data, ""
	if len(shown) > most {
		cut = fmt.Sprintf("[truncated %d bytes]", len(shown)-most)
		shown = shown[:most]
	}
	return fmt.Sprintf("[Source: (byte[])\"%s\"%s; %s]", strings.ToValidUTF8(string(shown), "\uFFFD"), cut, place(data, offset))
}

// place is line and column of the byte at offset, counted from 1.
func place(data []byte, offset int) string {
	offset = min(offset, len(data))
	line := 1 + bytes.Count(data[:offset], []byte{'\n'})
	column := offset - bytes.LastIndexByte(data[:offset], '\n')
	return fmt.Sprintf("line: %d, column: %d", line, column)
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
			return &syntaxError{text: fmt.Sprintf("Unexpected end-of-input: expected close marker for %s (start marker at %s)", d.inside, place(d.data, start)), offset: d.pos}
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
	return string(appendUnescaped(make([]byte, 0, len(raw)), raw)), nil
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
func appendUnescaped(out, raw []byte) []byte {
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
	return out
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
