package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestEveryOperationIsRouted(t *testing.T) {
	if len(operations) != 85 {
		t.Errorf("%d operations, the model has 85", len(operations))
	}
	m, err := loadModel()
	if err != nil {
		t.Fatal(err)
	}
	rs := newRoutes(nil, m)
	names := map[string]bool{}
	for _, op := range operations {
		if names[op.name] {
			t.Errorf("%s is there twice", op.name)
		}
		names[op.name] = true
		for _, arg := range []string{"f", "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Af%2Fx", "arn:aws:x", "a%20b"} {
			for _, slash := range []string{"", "/"} {
				target := strings.ReplaceAll(op.path, "{}", arg) + slash
				if op.query != "" {
					target += "?" + op.query + "&x=y"
				}
				r := httptest.NewRequest(op.method, target, nil)
				path, ok := splitPath(r.URL)
				if !ok {
					t.Errorf("%s %s: no path", op.method, target)
					continue
				}
				if rt := rs.find(r.Method, &path, r.URL.Query()); rt == nil || rt.name != op.name {
					t.Errorf("%s %s found %+v, want %s", op.method, target, rt, op.name)
				}
			}
		}
	}
}

func TestOperationsToComeSaySo(t *testing.T) {
	d := newDoor(t)
	for _, op := range operations {
		if d.routes.find(op.method, &segments{}, nil) != nil {
			t.Fatal("found an operation at /")
		}
		if handlers()[op.name] != nil {
			continue
		}
		target := strings.ReplaceAll(op.path, "{}", "x")
		if op.query != "" {
			target += "?" + op.query
		}
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := splitPath(u); !ok || d.routes.find(op.method, &s, u.Query()).handler != nil {
			continue
		}
		got := d.do(t, op.method, target, "{}")
		if m := got.wantError(t, http.StatusNotImplemented, "NotImplementedException"); !strings.Contains(m, op.name) {
			t.Errorf("%s: %s", op.name, m)
		}
		if got.body["Type"] != "User" {
			t.Errorf("%s: %s", op.name, got.raw)
		}
	}
}

func TestUnknownPathsAreUnknownOperations(t *testing.T) {
	d := newDoor(t)
	for _, target := range []string{"GET /", "GET /2015-03-31", "PATCH /2015-03-31/functions/f", "GET /2015-03-30/functions", "POST /2015-03-31/functions/f/x",
		"GET /2015-03-31/functions/a/b/c/d/e/f/g/h/i/j", "HEAD /2015-03-31/functions/f", "GET /" + strings.Repeat("x", 5000), "GET /_lambent/none"} {
		method, path, _ := strings.Cut(target, " ")
		got := d.do(t, method, path, "")
		got.wantError(t, http.StatusNotFound, "UnknownOperationException")
		if got.header.Get("x-amzn-RequestId") == "" && !strings.HasPrefix(path, operatorPrefix) {
			t.Errorf("%s: no request id", target)
		}
		if len(got.raw) > 1000 {
			t.Errorf("%s: an answer of %d bytes", target, len(got.raw))
		}
	}
}

func TestHealth(t *testing.T) {
	got := newDoor(t).do(t, "GET", "/_lambent/health", "")
	if got.status != 200 || got.body["status"] != "ok" {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

func TestHandleServesOperatorPaths(t *testing.T) {
	d := newDoor(t)
	d.Handle("GET /_lambent/v1/pools", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	if got := d.do(t, "GET", "/_lambent/v1/pools", ""); got.status != http.StatusTeapot {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

func TestNewRefusesWhatItCannotServeWith(t *testing.T) {
	if _, err := New(Options{}); err == nil {
		t.Error("an API without anything behind it was made")
	}
}

func TestAuthenticateOpen(t *testing.T) {
	tests := []struct {
		name, target, auth, remote string
		want                       Caller
	}{
		{"nothing, from here", "/", "", "127.0.0.1:1", openCaller("000000000000", true)},
		{"nothing, from here by IPv6", "/", "", "[::1]:1", openCaller("000000000000", true)},
		{"nothing, from elsewhere", "/", "", "192.0.2.1:1", openCaller("000000000000", false)},
		{"nothing, from nowhere", "/", "", "", openCaller("000000000000", false)},
		{"any key", "/", "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0", "127.0.0.1:1", openCaller("000000000000", true)},
		{"an account", "/", "AWS4-HMAC-SHA256 Credential=123456789012/20261121/us-east-1/lambda/aws4_request", "127.0.0.1:1", openCaller("123456789012", false)},
		{"13 digits", "/", "AWS4-HMAC-SHA256 Credential=1234567890123/x", "192.0.2.1:1", openCaller("000000000000", false)},
		{"in the query", "/?X-Amz-Credential=123456789012%2Fx", "", "127.0.0.1:1", openCaller("123456789012", false)},
		{"nonsense", "/", "Basic 123456789012/", "192.0.2.1:1", openCaller("000000000000", false)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tt.target, nil)
			r.RemoteAddr = tt.remote
			if tt.auth != "" {
				r.Header.Set("Authorization", tt.auth)
			}
			got, err := AuthenticateOpen(r)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}
