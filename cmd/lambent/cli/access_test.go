package cli

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// serveAccess answers for the paths of accounts, keys and roles.
func serveAccess(w http.ResponseWriter, r *http.Request) {
	const when = `"created_at":"2026-03-04T05:06:07Z"`
	switch path := strings.TrimPrefix(r.URL.Path, "/_lambent/v1/"); {
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost && path == "accounts":
		write(w, `{"account":"123456789012",%s}`, when)
	case r.Method == http.MethodPost && path == "keys":
		write(w, `{"access_key_id":"AKIA1","secret_access_key":"s/1",%s}`, when)
	case r.Method == http.MethodPost && path == "roles":
		write(w, `{"arn":"arn:aws:iam::123456789012:role/r",%s}`, when)
	case path == "accounts":
		write(w, `[{"account":"123456789012","name":"web",%s}]`, when)
	case path == "keys":
		write(w, `[{"access_key_id":"AKIA0","operator":true,%s},{"access_key_id":"AKIA1","account":"123456789012",%s},{"access_key_id":"AKIA2","account":"123456789012","user":"ci",%s}]`, when, when, when)
	case path == "roles":
		write(w, `[{"role":"r","arn":"arn:aws:iam::123456789012:role/r",%s}]`, when)
	case path == "caller":
		write(w, `{"account":"123456789012","operator":true}`)
	default:
		write(w, `{}`)
	}
}

func TestAccessCommandsAskForWhatTheySay(t *testing.T) {
	policy := writeFile(t, t.TempDir(), "p.json", `{"Version":"2012-10-17"}`)
	text := map[string]any{"Version": "2012-10-17"}
	tests := []struct {
		args    string
		request string
		body    map[string]any
		out     string // a part of what is printed
	}{
		{"account create", "POST accounts", map[string]any{}, "123456789012\n"},
		{"account create web --id 123456789012", "POST accounts", map[string]any{"account": "123456789012", "name": "web"}, "123456789012\n"},
		{"account ls", "GET accounts", nil, "123456789012  web   2026-03-04T05:06:07Z\n"},
		{"account rm 123456789012", "DELETE accounts/123456789012", nil, ""},
		{"key create --account 123456789012", "POST keys", map[string]any{"account": "123456789012"}, "AWS_ACCESS_KEY_ID=AKIA1\nAWS_SECRET_ACCESS_KEY=s/1\n"},
		{"key create --user ci --policy POLICY", "POST keys", map[string]any{"user": "ci", "policy": text}, "AKIA1"},
		{"key create --operator", "POST keys", map[string]any{"operator": true}, "AKIA1"},
		{"key ls", "GET keys", nil, "AKIA2  123456789012  user ci   2026-03-04T05:06:07Z\n"},
		{"key ls --account 123456789012", "GET keys?account=123456789012", nil, "operator"},
		{"key revoke AKIA1", "DELETE keys/AKIA1", nil, ""},
		{"role create service/r --policy POLICY", "POST roles", map[string]any{"role": "service/r", "policy": text}, "arn:aws:iam::123456789012:role/r\n"},
		{"role policy service/r --policy POLICY --account 123456789012", "PUT roles/service/r?account=123456789012", map[string]any{"policy": text}, ""},
		{"role ls", "GET roles", nil, "r     arn:aws:iam::123456789012:role/r  2026-03-04T05:06:07Z\n"},
		{"role rm service/r", "DELETE roles/service/r", nil, ""},
	}
	for _, test := range tests {
		f := newFakeServer()
		f.admin = serveAccess
		args := strings.Fields(strings.ReplaceAll(test.args, "POLICY", policy))
		code, out, errOut := f.run(t, nil, args...)
		check(t, test.args, code, 0, out+errOut, test.out)
		method, path, _ := strings.Cut(test.request, " ")
		if diff := cmp.Diff([]string{method + " /_lambent/v1/" + path}, f.requests); diff != "" {
			t.Errorf("%s: requests (-want +got):\n%s", test.args, diff)
		}
		if diff := cmp.Diff(test.body, f.bodies[0]); diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", test.args, diff)
		}
		if f.auth != "" {
			t.Errorf("%s: without a key it asks as %s", test.args, f.auth)
		}
	}
}

func TestCommandsSignWithTheSDKsVariables(t *testing.T) {
	f := newFakeServer()
	f.admin = serveAccess
	env := map[string]string{"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t", "AWS_REGION": "eu-west-1"}
	code, out, errOut := f.run(t, env, "key", "ls")
	check(t, "key ls", code, 0, out+errOut, "AKIA2")
	if !strings.HasPrefix(f.auth, "AWS4-HMAC-SHA256 Credential=AKIA1/") || !strings.Contains(f.auth, "/eu-west-1/lambda/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=") {
		t.Errorf("Authorization: %s", f.auth)
	}
	dir := t.TempDir()
	writeFile(t, dir, "index.mjs", "export const handler = async () => 1")
	code, out, errOut = f.run(t, env, "deploy", dir, "--name", "hello")
	check(t, "deploy", code, 0, out+errOut, "hello is new")
	if role := f.bodies[len(f.bodies)-1]["Role"]; role != "arn:aws:iam::123456789012:role/lambent" {
		t.Errorf("the role is %v, not one of the key's account", role)
	}
}

func TestAPolicyFileMustBeJSON(t *testing.T) {
	f := newFakeServer()
	f.admin = serveAccess
	code, _, errOut := f.run(t, nil, "key", "create", "--user", "ci", "--policy", writeFile(t, t.TempDir(), "p.json", "{"))
	check(t, "key create", code, 2, errOut, "is not JSON")
	code, _, errOut = f.run(t, nil, "role", "create", "r", "--policy", "absent.json")
	check(t, "role create", code, 2, errOut, "absent.json")
	if len(f.requests) > 0 {
		t.Errorf("it asked %v", f.requests)
	}
}
