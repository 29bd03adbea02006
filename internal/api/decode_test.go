package api

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// every is a structure with a member of each type.
type every struct {
	S     *string
	I     *int
	F     *float64
	B     *bool
	Blob  []byte
	List  []*string
	Map   map[string]*string
	Inner *every
}

func (e *every) member(d *decoder, name string) error {
	switch name {
	case "S":
		return d.str(&e.S)
	case "I":
		return d.integer(&e.I)
	case "F":
		return d.float(&e.F)
	case "B":
		return d.boolean(&e.B)
	case "Blob":
		return d.blob(&e.Blob)
	case "List":
		return d.strings(&e.List)
	case "Map":
		return d.strMap(&e.Map)
	case "Inner":
		e.Inner = &every{}
		return d.structure(e.Inner)
	}
	return d.skip()
}

func ptr[T any](v T) *T { return &v }

func TestDecodeEveryType(t *testing.T) {
	var got every
	body := ` {"S":"a\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t\ud800é","I":-7,"F":1.5e1,"B":true,"Blob":"aG\nk=","List":["x",null],"Map":{"k":"v","n":null},
		"Inner":{"s":"case matters","S":null,"List":[]},"other":[{"deep":[1,2.5,-0e+1,true,false,null,""]}]} `
	if err := decode([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := every{S: ptr("aé😀\"\\/\b\f\n\r\t\uFFFDé"), I: ptr(-7), F: ptr(15.0), B: ptr(true), Blob: []byte("hi"), List: []*string{ptr("x"), nil},
		Map: map[string]*string{"k": ptr("v"), "n": nil}, Inner: &every{List: []*string{}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeRefusesWithWhere(t *testing.T) {
	tests := []struct{ body, message string }{
		{`[]`, "Start of list found where not expected."},
		{`null`, "Unexpected value type in payload: expected a structure"},
		{`{"S":true}`, "TRUE_VALUE can not be converted to a String"},
		{`{"I":1.5}`, "The value 1.5 can not be converted to an Integer"},
		{`{"I":99999999999}`, "The value 99999999999 can not be converted to an Integer"},
		{`{"F":1e999}`, "The value 1e999 can not be converted to a Double"},
		{`{"B":"true"}`, "STRING_VALUE can not be converted to a Boolean"},
		{`{"Blob":"a"}`, "The value of a blob is not valid base64"},
		{`{"List":{}}`, "Start of structure or map found where not expected."},
		{`{"List":[1]}`, "NUMBER_VALUE can not be converted to a String"},
		{`{"Map":{"a":[]}}`, "Start of list found where not expected."},
		{`{"a":1,}`, `was expecting double-quote to start field name`},
		{`{a:1}`, "Unexpected character ('a' (code 97)): was expecting double-quote to start field name"},
		{`{"a" 1}`, "was expecting a colon to separate field name and value"},
		{`{"a":1 "b":2}`, "was expecting comma to separate Object entries"},
		{`{"a":[1 2]}`, "was expecting comma to separate Array entries"},
		{`{"a":01}`, "Leading zeroes not allowed"},
		{`{"a":-}`, "to follow minus sign"},
		{`{"a":1.}`, "Decimal point not followed by a digit"},
		{`{"a":1e}`, "Exponent indicator not followed by a digit"},
		{`{"a":nul}`, "Unrecognized token 'nul'"},
		{`{"a":"\x"}`, "Unrecognized character escape"},
		{"{\"a\":\"\t\"}", "Illegal unquoted character ((CTRL-CHAR, code 9))"},
		{`{"a`, "was expecting closing quote for a string value"},
		{`{`, "expected close marker for Object (start marker at line: 1, column: 1) at line: 1, column: 2"},
		{`{"a":`, "Unexpected end-of-input within/between Object entries"},
		{`{"a"`, "Unexpected end-of-input within/between Object entries"},
		{`{"a":[{},`, "Unexpected end-of-input within/between Array entries"},
		{`{"a":[],`, "Unexpected end-of-input within/between Object entries"},
		{`{} x`, "Unexpected character ('x' (code 120)): Expected space separating root-level values"},
		{`{"a":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, "Document nesting depth (1001) exceeds the maximum allowed (1000)"},
		{`{"List":[` + strings.Repeat(`"",`, 30000) + `""]}`, "The request holds more than 20000 values"},
	}
	for _, tt := range tests {
		err := decode([]byte(tt.body), &every{})
		if err == nil || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%.60s: %v, want %q", tt.body, err, tt.message)
		}
	}
}

func TestSecurityDecodeNeverRepeatsTheBody(t *testing.T) {
	for _, body := range []string{`{"Environment":{"Variables":{"KEY":"hunter2"}},}`, `{"S":"hunter2"`, `{"S":"hunter2`, `{"Blob":"hunter2"}`} {
		if err := decode([]byte(body), &every{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func FuzzCheckJSONAgreesWithTheStandardLibrary(f *testing.F) {
	for _, s := range []string{`{}`, `[1,2.5e-3,"a\u0041",true,false,null,{"a":[]}]`, `{"a":1,}`, `[1,]`, `01`, `-`, `"\ud800"`, "\"\x80\"", ` 1 `, ``, `nullx`, `1a`, `"a`, `[`, `{"a"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkJSON(data)
		if strings.Count(string(data), "[")+strings.Count(string(data), "{") > maxDepth {
			return
		}
		if want := json.Valid(data) && utf8.Valid(data); want != (err == nil) {
			t.Errorf("%q: %v, the standard library says %v", data, err, want)
		}
		if err == nil {
			var s *string
			d := decoder{data: data}
			if c, verr := d.value(); verr == nil && c == '"' && d.str(&s) == nil {
				var want string
				if json.Unmarshal(data, &want) == nil && *s != want {
					t.Errorf("%q is %q, the standard library says %q", data, *s, want)
				}
			}
		}
	})
}
