package api

import (
	"strings"
	"testing"

	"lambent/internal/registry"
)

func TestSettingsOfAFunctionAreReplacedWholeAndReadStrictly(t *testing.T) {
	d := newStoredDoor(t)
	d.API.HandleSettings(d.stored)
	const path = "/_lambent/v1/functions/f/settings"
	d.do(t, "GET", path, "").wantError(t, 404, "ResourceNotFoundException")
	d.do(t, "PUT", path, "{}").wantError(t, 404, "ResourceNotFoundException")
	d.create(t, "f")
	d.wait()
	for _, step := range []struct {
		method, body string
		status       int
		want         string
	}{
		{"GET", "", 200, `{}`},
		{"PUT", `{"update":"lazy"}`, 200, `{"update":"lazy"}`},
		{"GET", "", 200, `{"update":"lazy"}`},
		{"PUT", `{"update":{"mode":"eager","max_staleness":"90s"}}`, 200, `{"update":{"mode":"eager","max_staleness":"1m30s"}}`},
		{"PUT", `{}`, 200, `{}`},
		{"PUT", `{"failures":{"store_sync":true,"reprocess":[{"after":"600s"},{"on":"new_version"},{"when_healthy":"https://db.example/health"}],"max":5,"rate":0.5}}`, 200,
			`{"failures":{"store_sync":true,"reprocess":[{"after":"10m0s"},{"on":"new_version"},{"when_healthy":"https://db.example/health"}],"max":5,"rate":0.5}}`},
		{"GET", "", 200, `{"failures":{"store_sync":true,"reprocess":[{"after":"10m0s"},{"on":"new_version"},{"when_healthy":"https://db.example/health"}],"max":5,"rate":0.5}}`},
		{"PUT", `{"update":"exact"}`, 200, `{"update":"exact"}`},
		{"DELETE", "", 204, ""},
		{"GET", "", 200, `{}`},
		{"DELETE", "", 204, ""},
	} {
		if got := d.do(t, step.method, path, step.body); got.status != step.status || got.raw != step.want {
			t.Errorf("%s %s: %d %s, want %d %s", step.method, step.body, got.status, got.raw, step.status, step.want)
		}
	}
	for body, part := range map[string]string{
		`{"updates":"lazy"}`: `unknown field "updates"`, `{"update":"soon"}`: `"soon" is none of eager, lazy and exact`, `{"update":{"mode":"lazy","x":1}}`: `unknown field "x"`,
		`{"failures":{"reprocess":[{}]}}`: "rule 1", `{"failures":{"reprocess":[{"after":"1m","on":"new_version"}]}}`: "must be one of", `{"failures":{"x":1}}`: `unknown field "x"`,
		`{"failures":{"reprocess":[{"on":"luck"}]}}`: `"luck"`, `{"failures":{"reprocess":[{"after":"1ms"}]}}`: "10ms", `{"failures":{"reprocess":[{"when_healthy":"file:///etc/passwd"}]}}`: "no URL",
		`{"failures":{"reprocess":[{"when_healthy":"http://a:b@c/"}]}}`: "without a user", `{"failures":{"max":0}}`: "between 1 and 100", `{"failures":{"rate":1e9}}`: "rate", `{"failures":{"max":"many"}}`: "JSON string",
		`{"update":{"max_staleness":"1y"}}`: "max_staleness", `[]`: "it is a JSON array", `{"update":{"mode":7}}`: "cannot be a JSON number", `{`: "", `{} {}`: "more after", ``: "",
	} {
		if m := d.do(t, "PUT", path, body).wantError(t, 400, "InvalidRequestContentException"); !strings.Contains(m, part) || strings.Contains(m, "Go ") || strings.Contains(m, "json:") {
			t.Errorf("%s: %s", body, m)
		}
	}
	d.do(t, "GET", "/_lambent/v1/functions/f:1/settings", "").wantError(t, 400, "InvalidParameterValueException")
	d.do(t, "POST", path, "{}").wantError(t, 404, "UnknownOperationException")
	var _ PlatformSettings = (*registry.Registry)(nil)
}

func TestSecuritySettingsAreTheirAccountsOnly(t *testing.T) {
	d := newStoredDoor(t)
	d.API.HandleSettings(d.stored)
	d.create(t, "f")
	d.wait()
	auth := []string{"Authorization", "AWS4-HMAC-SHA256 Credential=111111111111/20261121/eu-west-3/lambda/aws4_request, SignedHeaders=host, Signature=0"}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		d.do(t, method, "/_lambent/v1/functions/f/settings", "{}", auth...).wantError(t, 404, "ResourceNotFoundException")
		d.do(t, method, "/_lambent/v1/functions/f/settings?account=000000000000", "{}", auth...).wantError(t, 403, "AccessDeniedException")
		d.do(t, method, "/_lambent/v1/functions/000000000000:function:f/settings", "{}", auth...).wantError(t, 403, "AccessDeniedException")
	}
}
