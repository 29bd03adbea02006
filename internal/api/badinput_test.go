package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/registry"
)

// bad is one request that must be refused.
type bad struct {
	what    string // for the failure
	target  string
	body    string
	member  string // lower camel case path that the answer must name; "": any refusal will do
	anyway  bool   // it may be answered well: what is wrong with it is ignored
	foreign bool   // it names what is another account's
}

// badRequests derives from the model what can be wrong with a request of an
// operation.
func badRequests(m *model, name string) (all []bad) {
	op := m.Operations[name]
	path, query, _ := strings.Cut(op.Path, "?")
	labels := map[string]string{"FunctionName": "f", "Name": "live", "LayerName": "l", "VersionNumber": "1", "StatementId": "s", "Resource": arnOfF,
		"UUID": "00000000-0000-4000-8000-000000000000", "CodeSigningConfigArn": "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-0123456789abcdefg",
		"CapacityProviderName": "p", "DurableExecutionArn": arnOfF + ":1/durable-execution/n/i", "CallbackId": "abcd"}
	if name == "DeleteFunction" {
		labels["FunctionName"] = "none" // f is needed to the end
	}
	target := func(replaced, value, extra string) string {
		parts := strings.Split(path, "/")
		for k, part := range parts {
			if label, ok := strings.CutPrefix(part, "{"); ok {
				label = strings.TrimRight(label, "+}")
				v := labels[label]
				if label == replaced {
					v = value
				}
				parts[k] = url.PathEscape(v)
			}
		}
		return strings.Join(parts, "/") + "?" + strings.TrimPrefix(query+"&"+extra, "&")
	}
	in := m.Shapes[op.Input]
	all = append(all, bad{what: "what nobody asked for", target: target("", "", "NoSuchParameter=1"), body: `{"a":1}`, anyway: true})
	if in == nil {
		return all
	}
	hasBody := in.hasBody()
	if hasBody {
		for _, body := range []string{"[]", `"x"`, "{", "\xff", `{"a":}`, strings.Repeat("[", 2000), `{"a":` + strings.Repeat("1", 5000) + "}x"} {
			all = append(all, bad{what: "a body that is not the structure", target: target("", "", ""), body: body})
		}
		all = append(all, bad{what: "an unknown member", target: target("", "", ""), body: `{"NoSuchMember":{"a":[1,"x",null]}}`, anyway: true})
	}
	for _, member := range slices.Sorted(maps.Keys(in.Members)) {
		at := in.Members[member]
		s := m.Shapes[at.Shape]
		switch at.In {
		case "uri":
			for _, value := range breaking(m, s, 0) {
				text, ok := value.(string)
				if !ok || text == "" || strings.ContainsAny(text, "\x01") {
					text = "no good!"
				}
				all = append(all, bad{what: "a bad " + member, target: target(at.As, text, ""), body: "{}", anyway: s.Pattern == "" && s.Max == nil})
			}
			for _, arn := range []string{"arn:aws:lambda:us-east-1:000000000000:function", "arn:aws:lambda", ":::::::", "arn:aws:lambda:eu-west-9:000000000000:function:f", "arn:aws-cn:lambda:us-east-1:000000000000:function:f", "%00", "..", "$LATEST"} {
				all = append(all, bad{what: "an ARN of nothing", target: target(at.As, arn, ""), body: "{}", anyway: true})
			}
			for _, arn := range []string{foreignARN + "function:secret", "999999999999:function:secret", foreignARN + "code-signing-config:csc-0123456789abcdefg", foreignARN + "capacity-provider:p", foreignARN + "event-source-mapping:" + labels["UUID"], foreignARN + "layer:l"} {
				all = append(all, bad{what: "another account's", target: target(at.As, arn, "Qualifier=1"), body: "{}", anyway: true, foreign: true})
			}
		case "querystring":
			for _, value := range breaking(m, s, 0) {
				if s.Type == "list" {
					break // a query holds no null
				}
				all = append(all, bad{what: fmt.Sprintf("the query's %s of %v", member, value), target: target("", "", url.Values{at.As: {fmt.Sprint(value)}}.Encode()), body: "{}", member: join("", member)})
			}
			if s.Type == "integer" || s.Type == "boolean" {
				all = append(all, bad{what: "the query's " + member + " of another type", target: target("", "", at.As+"=x"), body: "{}"})
			}
		case "":
			for _, v := range wrong(m, s, 0) {
				all = append(all, bad{what: "a wrong type in " + member, target: target("", "", ""), body: encode(member, v)})
			}
			for _, v := range breaking(m, s, 0) {
				b := bad{what: fmt.Sprintf("%s of %.60v", member, v), target: target("", "", ""), body: encode(member, v), member: join("", member)}
				if strings.HasSuffix(b.body, "[null]}") && m.Shapes[s.Of].Type == "structure" || name == "CreateFunction" && (member == "Runtime" || member == "Tags") {
					b.member = "" // is refused in other words, and the latter two only once nothing else is wrong
				}
				all = append(all, b)
			}
		}
	}
	return all
}

func encode(member string, value any) string {
	text, err := json.Marshal(map[string]any{member: value})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// wrong gives values of other types than a shape's, at any depth.
func wrong(m *model, s *shape, depth int) (values []any) {
	for kind, v := range map[string]any{"string": "x", "integer": 1.5, "boolean": true, "list": []any{"x"}, "structure": map[string]any{"x": 1}} {
		switch {
		case kind == s.Type, kind == "structure" && s.Type == "map", kind == "integer" && (s.Type == "double" || s.Type == "float" || s.Type == "timestamp"),
			kind == "string" && s.Type == "blob":
		default:
			values = append(values, v)
		}
	}
	return append(values, nested(m, s, depth, wrong)...)
}

// breaking gives values of a shape's type that break its constraints, at any
// depth.
func breaking(m *model, s *shape, depth int) (values []any) {
	switch s.Type {
	case "string":
		if s.Max != nil && *s.Max < 20000 {
			values = append(values, strings.Repeat("a", int(*s.Max)+1))
		}
		if s.Pattern != "" && breaksAny("\x01 \n", s.rules()) {
			values = append(values, "\x01 \n")
		}
		if len(s.Enum) > 0 {
			values = append(values, "nope")
		}
	case "integer", "long", "double", "float":
		if s.Min != nil {
			values = append(values, int64(*s.Min)-1)
		}
		if s.Max != nil {
			values = append(values, int64(*s.Max)+1)
		}
	case "list":
		if s.Max != nil && *s.Max < 100 {
			values = append(values, slices.Repeat([]any{zero(m, m.Shapes[s.Of])}, int(*s.Max)+1))
		}
		values = append(values, []any{nil})
	case "map":
		if m.Shapes[s.Of].Type == "string" && !s.Sensitive {
			values = append(values, map[string]any{"Aa": nil})
		}
	}
	return append(values, nested(m, s, depth, breaking)...)
}

// nested puts what of gives for the parts of a shape into one of it.
func nested(m *model, s *shape, depth int, of func(*model, *shape, int) []any) (values []any) {
	if depth == 4 {
		return nil
	}
	switch s.Type {
	case "structure":
		for _, name := range slices.Sorted(maps.Keys(s.Members)) {
			for _, v := range of(m, m.Shapes[s.Members[name].Shape], depth+1) {
				values = append(values, map[string]any{name: v})
			}
		}
	case "list":
		for _, v := range of(m, m.Shapes[s.Of], depth+1) {
			values = append(values, []any{v})
		}
	case "map":
		for _, v := range of(m, m.Shapes[s.Of], depth+1) {
			values = append(values, map[string]any{"Aa": v})
		}
	}
	return values
}

func zero(m *model, s *shape) any {
	switch s.Type {
	case "string":
		if len(s.Enum) > 0 {
			return s.Enum[0]
		}
		return "a"
	case "structure", "map":
		return map[string]any{}
	case "list":
		return []any{}
	case "boolean":
		return true
	}
	return 1
}

// Every operation is fed what the model forbids, what it does not know, ARNs of
// nothing and of others, and bodies too large. Each must be refused in AWS's
// shape, by the name of the member where the model knows it; nothing may answer
// 5xx (but 501 of what is not there), and nobody sees another account's data.
func TestBadInputOfEveryOperationIsRefusedAsAWSDoes(t *testing.T) {
	d := realDoor(t)
	r := d.API.functions.(*registry.Registry)
	secret := &lambent.Function{Account: "999999999999", Name: "secret", Runtime: "nodejs22.x", Handler: "SECRET", Role: testRole, TimeoutSecs: 3, MemoryMB: 128, PackageType: "Zip"}
	if _, err := r.CreateFunction(t.Context(), secret, testZip(t), lambent.Unpublished); err != nil {
		t.Fatal(err)
	}
	total, works := 0, handlers()
	for _, op := range operations {
		requests := badRequests(d.model, op.name)
		if in := d.model.Shapes[d.model.Operations[op.name].Input]; in != nil && in.hasBody() {
			requests = append(requests, bad{what: "a body over every limit", target: requests[0].target, body: `{"x":"` + strings.Repeat("x", maxConfigBody) + `"}`, anyway: strings.Contains(op.name, "Function") || strings.Contains(op.name, "Layer") || strings.HasPrefix(op.name, "Invoke")})
		}
		for _, q := range requests {
			target, err := url.Parse(q.target)
			if err != nil {
				continue
			}
			request := httptest.NewRequest(op.method, "/", strings.NewReader(q.body))
			request.URL = target
			rec := httptest.NewRecorder()
			d.ServeHTTP(rec, request)
			total++
			checkAnswer(t, op.name+" with "+q.what, rec)
			if strings.Contains(rec.Body.String(), "SECRET") {
				t.Errorf("%s with %s (%s): another account's data: %s", op.name, q.what, q.target, rec.Body)
			}
			if works[op.name] == nil || strings.HasPrefix(op.name, "Invoke") { // whose body is the function's
				continue
			}
			if rec.Code < 300 && !q.anyway {
				t.Errorf("%s with %s (%s %.200s): %d %.200s", op.name, q.what, q.target, q.body, rec.Code, rec.Body)
			}
			if q.member != "" && !strings.Contains(rec.Body.String(), "at '"+q.member) {
				t.Errorf("%s with %s (%s %.200s) does not name %s: %d %.300s", op.name, q.what, q.target, q.body, q.member, rec.Code, rec.Body)
			}
			if q.foreign && strings.HasPrefix(rec.Header().Get("x-amzn-ErrorType"), "ResourceNotFound") && strings.Contains(rec.Body.String(), "Function not found: arn:aws:lambda:us-east-1:999999999999") {
				t.Errorf("%s tells what another account has: %s", op.name, rec.Body)
			}
		}
		if len(requests) < 1 {
			t.Errorf("%s was asked nothing", op.name)
		}
	}
	if total < 2000 {
		t.Errorf("only %d requests", total)
	}
	t.Logf("%d bad requests to %d operations", total, len(operations))
	if got := d.do(t, http.MethodGet, "/2015-03-31/functions/f", ""); got.status != http.StatusOK {
		t.Errorf("the function did not survive: %s", got.raw)
	}
}
