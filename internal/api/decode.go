package api

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lambent"
)

// maxValues bounds the JSON values one request of the control plane may hold,
// so that a body of 67 MB cannot be made of 30 million list entries. The
// largest honest request (4 KB of environment, 50 tags) has a few hundred.
const maxValues = 20000

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
	inside string   // "Object" or "Array": what pos is in; "" at the root
	values int      // read so far
	blobs  [][]byte // parts of data that no longer are what was sent
	limit  int      // of values; 0 for none
}

// members is a structure that takes its members one at a time. member reads
// the value of the named one, or calls skip.
type members interface {
	member(d *decoder, name string) error
}

// decode reads a request body into in. The errors are what the caller is to
// be told: AWS answers SerializationException to both bad JSON and bad types.
// They never repeat the body, which may hold a function's secrets.
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
	for _, blob := range d.blobs { // places are told in lines, and a blob was of one
		for i := range blob {
			blob[i] = 'A'
		}
	}
	if s, ok := errors.AsType[*syntaxError](err); ok {
		text = "Could not parse request body into json: " + s.text + " at " + place(body, s.offset)
	}
	return &lambent.Error{Op: "decode request", Kind: lambent.KindMalformed, Reason: "SerializationException", Message: text}
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
	var n int64
	if err := d.whole(&n, "integer"); err != nil {
		return err
	}
	i := int(n)
	*to = &i
	return nil
}

// whole reads a whole number of one of the model's types: integer or long.
func (d *decoder) whole(to *int64, kind string) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	article, java, _ := strings.Cut(javaName(kind), " ")
	if c != '-' && (c < '0' || c > '9') {
		return d.mismatch(c, java)
	}
	token, err := d.number()
	if err != nil {
		return err
	}
	if *to, err = strconv.ParseInt(string(token), 10, bitsOf(kind)); err != nil {
		return &typeError{text: fmt.Sprintf("The value %.40s can not be converted to %s %s", token, article, java)}
	}
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

// blob reads base64 in a string. Line breaks in it are passed over. It is
// decoded where it stands, since it may be most of the request's memory: what
// is written never reaches what is still to be read, as three bytes come of
// four, and what unescaping leaves is never longer.
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
	whole := raw
	if escaped { // some encoders write "\/"
		raw = appendUnescaped(raw[:0], raw)
	}
	n, err := base64.StdEncoding.Decode(raw, raw)
	if err != nil {
		return &typeError{text: "The value of a blob is not valid base64"}
	}
	*to = raw[:n:n]
	d.blobs = append(d.blobs, whole)
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
	err := d.mapping(func(name string) error {
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

// mapping reads a map and calls entry for each of its entries, with the decoder
// in front of the value, which may be null.
func (d *decoder) mapping(entry func(name string) error) error {
	c, err := d.value()
	if err != nil {
		return err
	}
	if c != '{' {
		return d.mismatch(c, "map")
	}
	return d.entries('{', func() error {
		name, err := d.text()
		if err != nil {
			return err
		}
		if err := d.colon(); err != nil {
			return err
		}
		return entry(name)
	})
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
