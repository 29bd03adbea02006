package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzAnyRequest sends anything to any operation and holds every answer
// against what AWS's clients can read: never a panic, no 5xx but 501, an error
// always with its name, a body of JSON and a request id.
func FuzzAnyRequest(f *testing.F) {
	bodies := []string{"", "{}", "null", "[", `{"FunctionName":"f","Role":"` + testRole + `","Runtime":"nodejs22.x","Handler":"h","Code":{"ZipFile":""}}`,
		`{"Timeout":1e99,"Environment":{"Variables":{"AB":"c"}},"Layers":[null],"Tags":{"":null}}`, `{"FileSystemConfigs":[{},null],"CapacityProviderConfig":{}}`,
		`{"ZipFile":"AAAA","DryRun":true,"Architectures":["x86_64"]}`, "\xff", `{"a":` + strings.Repeat("[", 50)}
	for i := range operations {
		for j, body := range bodies {
			if i < 8 { // those that read one
				f.Add(uint8(i), "f", "Qualifier=$LATEST", body, []string{"", "Event", "DryRun", "x\xff"}[j%4])
			}
		}
		f.Add(uint8(i), "arn%3aaws:lambda:us-east-1:000000000000:function:f:1", "Qualifier=2&MaxItems=-1&Marker=%", "{}", "")
		f.Add(uint8(i), "%zz/%2F/..//", "%", "1", "Tail")
	}
	for i, op := range operations {
		if strings.HasSuffix(op.name, "Permission") {
			f.Add(uint8(i), "f", "RevisionId=x", `{"StatementId":"s","Action":"lambda:*","Principal":"*","SourceArn":"arn:aws:s3:::${aws:username}","InvokedViaFunctionUrl":true}`, "")
			f.Add(uint8(i), "222222222222:function:f", "", `{"StatementId":"s","Action":"lambda:InvokeFunction","Principal":"s3.amazonaws.com","SourceArn":"arn:aws:s3:::${"}`, "")
		}
	}
	d := newDoor(f, func(o *Options) { o.Objects = &openRegistry(f).Objects }) // one for all: patterns are slow to compile
	f.Fuzz(func(t *testing.T, which uint8, name, query, body, header string) {
		op := operations[int(which)%len(operations)]
		path := strings.ReplaceAll(op.path, "{}", name)
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return // not a request line a client can send: net/http refuses it before the door
		}
		u.RawQuery = query
		clear(d.functions.byName)
		clear(d.policies.attached)
		d.create(t, "f")
		r := httptest.NewRequest(op.method, "/", strings.NewReader(body))
		r.URL = u
		for _, h := range []string{"X-Amz-Invocation-Type", "X-Amz-Log-Type", "X-Amz-Client-Context", "X-Amzn-Trace-Id", "X-Amz-Tenant-Id", "Authorization"} {
			if header != "" && len(header)%7 != len(h)%7 {
				r.Header.Set(h, header)
			}
		}
		rec := httptest.NewRecorder()
		d.ServeHTTP(rec, r)
		checkAnswer(t, op.name, rec)
		if n := d.bodies.inFlight(); n != 0 {
			t.Errorf("%s: %d bytes of bodies are still taken", op.name, n)
		}
	})
}

func checkAnswer(t *testing.T, operation string, rec *httptest.ResponseRecorder) {
	t.Helper()
	if rec.Code >= 500 && rec.Code != http.StatusNotImplemented {
		t.Errorf("%s: %d %s", operation, rec.Code, rec.Body)
	}
	if rec.Header().Get("x-amzn-RequestId") == "" {
		t.Errorf("%s: no request id", operation)
	}
	if rec.Code < 300 {
		return
	}
	var shape struct{ Type, Message, Reason *string }
	if err := json.Unmarshal(rec.Body.Bytes(), &shape); err != nil || shape.Message == nil || *shape.Message == "" {
		t.Errorf("%s: %d with a body no client can read: %q", operation, rec.Code, rec.Body)
	}
	if name := rec.Header().Get("x-amzn-ErrorType"); !strings.HasSuffix(name, "Exception") {
		t.Errorf("%s: %d is called %q", operation, rec.Code, name)
	}
	if rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: content type %q", operation, rec.Header().Get("Content-Type"))
	}
}
