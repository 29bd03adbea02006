package registry

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

// filled sets every field of a record to something that is not zero.
func filled(t *testing.T) *lambent.Function {
	fn := filledAlone(t)
	fn.Previous = filledAlone(t)
	fn.Previous.Code = "the code before"
	return fn
}

func filledAlone(t *testing.T) *lambent.Function {
	fn := &lambent.Function{}
	v := reflect.ValueOf(fn).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Tenant" {
			continue // of a call, never of a record
		}
		switch p := v.Field(i).Addr().Interface().(type) {
		case **lambent.Function: // filled's
		case *[]string:
			*p = []string{name, "x\x00"}
		case *lambent.ImageConfig:
			*p = lambent.ImageConfig{EntryPoint: []string{"e"}, Command: []string{"c"}, WorkingDirectory: "/w"}
		case *[]lambent.Layer:
			*p = []lambent.Layer{{ARN: name, Code: "c", Size: 1, Unpacked: 2}}
		case *map[string]string:
			*p = map[string]string{name: "é"}
		case *time.Time:
			*p = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		case *int:
			*p = i + 1
		case *int64:
			*p = int64(i + 1)
		default:
			if v.Field(i).Kind() != reflect.String {
				t.Fatalf("field %s is a %s: say how to fill it", name, v.Field(i).Type())
			}
			v.Field(i).SetString(name + " $/.☃")
		}
	}
	return fn
}

func TestRecordKeepsEveryFieldAndThoseItDoesNotKnow(t *testing.T) {
	fn := filled(t)
	text := must(encodeRecord(fn, nil))(t)
	back, extra, err := decodeRecord(recordKey(fn), text)
	if err != nil || extra != nil {
		t.Fatalf("extras %v, %v", extra, err)
	}
	if diff := cmp.Diff(fn, back); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	newer := strings.Replace(string(text), "{", `{"from_the_future":{"a":[1]},`, 1)
	back, extra, err = decodeRecord(recordKey(fn), []byte(newer))
	if err != nil || !cmp.Equal(fn, back) {
		t.Fatal(err)
	}
	if rewritten := string(must(encodeRecord(back, extra))(t)); !strings.Contains(rewritten, `"from_the_future":{"a":[1]}`) {
		t.Errorf("rewritten as %s", rewritten)
	}
}

func TestRecordsThatCannotBeReadAreErrors(t *testing.T) {
	fn := spec("hello")
	fn.Version = lambent.Latest
	text := string(must(encodeRecord(fn, nil))(t))
	for name, bad := range map[string]string{
		"no JSON": "{", "more than JSON": text + "x", "null": "null", "other format": strings.Replace(text, `"format":1`, `"format":2`, 1), "other key": strings.Replace(text, `"hello"`, `"hullo"`, 1),
		"wrong type": strings.Replace(text, `"memory_mb":128`, `"memory_mb":"a lot"`, 1),
	} {
		if _, _, err := decodeRecord(recordKey(fn), []byte(bad)); err == nil || !strings.Contains(err.Error(), "hello") {
			t.Errorf("%s: %v", name, err)
		}
	}
	node := openNode(t, t.TempDir())
	records := must(node.Bucket(t.Context(), recordsName))(t)
	must(records.Put(t.Context(), recordKey(fn), []byte("{")))(t)
	if _, err := Open(t.Context(), node, Options{}); err == nil {
		t.Error("opened")
	}
}
