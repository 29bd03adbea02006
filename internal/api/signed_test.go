package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/identity"
	"lambent/internal/sigv4"
)

var signedNow = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

// closedDoor is an API that verifies signatures, over a store of its own, with
// an operator's key.
type closedDoor struct {
	*door
	who      *identity.Store
	operator sigv4.Credentials
}

func newClosedDoor(t testing.TB) *closedDoor {
	t.Helper()
	dir := t.TempDir()
	node := cluster.New(cluster.Options{Dir: dir, Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	now := func() time.Time { return signedNow }
	who, err := identity.Open(t.Context(), node, identity.Options{Dir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	d := &closedDoor{who: who, door: newDoor(t, func(o *Options) { o.Authenticate = AuthenticateSigned(who, "us-east-1", now) })}
	d.HandleIdentities(who)
	k, secret, err := who.CreateKey(context.Background(), identity.KeySpec{Operator: true})
	if err != nil {
		t.Fatal(err)
	}
	d.operator = sigv4.Credentials{AccessKeyID: k.ID, SecretAccessKey: secret}
	return d
}

// signed sends a request signed by a key; declared or not, its body is covered.
func (d *closedDoor) signed(t testing.TB, who sigv4.Credentials, method, target, body string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	sum := sha256.Sum256([]byte(body))
	if err := sigv4.Sign(r, who, hex.EncodeToString(sum[:]), "lambda", "us-east-1", signedNow); err != nil {
		t.Fatal(err)
	}
	return d.serve(t, r)
}

func (d *closedDoor) serve(t testing.TB, r *http.Request) answer {
	t.Helper()
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	a := answer{status: rec.Code, header: rec.Header(), raw: rec.Body.String()}
	if strings.HasPrefix(a.raw, "{") {
		if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
			t.Error(err)
		}
	}
	return a
}

// make makes a key by the API.
func (d *closedDoor) make(t testing.TB, by sigv4.Credentials, body string) sigv4.Credentials {
	t.Helper()
	a := d.signed(t, by, "POST", "/_lambent/v1/keys", body)
	if a.status != 201 || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	return sigv4.Credentials{AccessKeyID: a.body["access_key_id"].(string), SecretAccessKey: a.body["secret_access_key"].(string)}
}

func TestTheOperatorMakesAccountsAndTheirRootsMakeKeys(t *testing.T) {
	d := newClosedDoor(t)
	a := d.signed(t, d.operator, "POST", "/_lambent/v1/accounts", `{"account":"111111111111","name":"web"}`)
	if a.status != 201 || a.body["account"] != "111111111111" || a.body["name"] != "web" || a.body["created_at"] != "2026-11-21T03:00:00Z" {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	d.signed(t, d.operator, "POST", "/_lambent/v1/accounts", `{"account":"111111111111"}`).wantError(t, 409, "ResourceConflictException")
	root := d.make(t, d.operator, `{"account":"111111111111"}`)
	user := d.make(t, root, `{"user":"ann","policy":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}}`)
	if a := d.signed(t, root, "GET", "/2015-03-31/functions", ""); a.status != 200 {
		t.Error(a.raw)
	}
	if a := d.signed(t, user, "GET", "/_lambent/v1/caller", ""); a.body["arn"] != "arn:aws:iam::111111111111:user/ann" || a.body["account"] != "111111111111" || a.body["operator"] != false {
		t.Error(a.raw)
	}
	list := d.signed(t, root, "GET", "/_lambent/v1/keys", "").raw
	if !strings.Contains(list, user.AccessKeyID) || strings.Contains(list, d.operator.AccessKeyID) || strings.Contains(list, "secret") {
		t.Error(list)
	}
	if a := d.signed(t, root, "POST", "/_lambent/v1/roles", `{"role":"service/r","policy":{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}}`); a.status != 201 || a.body["arn"] != "arn:aws:iam::111111111111:role/service/r" {
		t.Error(a.raw)
	}
	if a := d.signed(t, root, "PUT", "/_lambent/v1/roles/service/r", `{"policy":{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}}`); a.status != 200 || !strings.Contains(a.raw, "Deny") {
		t.Error(a.raw)
	}
	if a := d.signed(t, d.operator, "GET", "/_lambent/v1/roles?account=111111111111", ""); a.status != 200 || !strings.Contains(a.raw, "service/r") {
		t.Error(a.raw)
	}
	if a := d.signed(t, root, "DELETE", "/_lambent/v1/roles/service/r", ""); a.status != 204 {
		t.Error(a.raw)
	}
	if a := d.signed(t, root, "DELETE", "/_lambent/v1/keys/"+user.AccessKeyID, ""); a.status != 204 {
		t.Error(a.raw)
	}
	d.signed(t, user, "GET", "/2015-03-31/functions", "").wantError(t, 403, "UnrecognizedClientException")
	d.functions.byName["f"] = &lambent.Function{Account: ownAccount, Name: "f"}
	d.signed(t, d.operator, "DELETE", "/_lambent/v1/accounts/111111111111", "").wantError(t, 409, "ResourceConflictException")
	delete(d.functions.byName, "f")
	if a := d.signed(t, d.operator, "DELETE", "/_lambent/v1/accounts/111111111111", ""); a.status != 204 {
		t.Error(a.raw)
	}
	d.signed(t, root, "GET", "/2015-03-31/functions", "").wantError(t, 403, "UnrecognizedClientException")
}

func TestSecurityIdentitiesAreTheirAccountsAndTheOperators(t *testing.T) {
	d := newClosedDoor(t)
	for _, id := range []string{"111111111111", "222222222222"} {
		if a := d.signed(t, d.operator, "POST", "/_lambent/v1/accounts", `{"account":"`+id+`"}`); a.status != 201 {
			t.Fatal(a.raw)
		}
	}
	const all = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	root, other := d.make(t, d.operator, `{"account":"111111111111"}`), d.make(t, d.operator, `{"account":"222222222222"}`)
	user := d.make(t, root, `{"user":"ann","policy":`+all+`}`)
	if a := d.signed(t, other, "POST", "/_lambent/v1/roles", `{"role":"r","policy":`+all+`}`); a.status != 201 {
		t.Fatal(a.raw)
	}
	role := d.who.Role("222222222222", "r")
	session, err := d.who.Session(role, "f")
	if err != nil {
		t.Fatal(err)
	}
	function := sigv4.Credentials{AccessKeyID: session.AccessKeyID, SecretAccessKey: session.SecretAccessKey, SessionToken: session.SessionToken}
	if a := d.signed(t, function, "GET", "/2015-03-31/functions", ""); a.status != 200 {
		t.Fatal(a.raw)
	}
	requests := []struct{ method, target, body string }{
		{"POST", "accounts", `{}`}, {"DELETE", "accounts/222222222222", ""},
		{"POST", "keys", `{"account":"222222222222"}`}, {"POST", "keys", `{"operator":true}`}, {"POST", "keys?account=222222222222", `{"account":"222222222222"}`},
		{"GET", "keys?account=222222222222", ""}, {"DELETE", "keys/" + other.AccessKeyID, ""}, {"DELETE", "keys/" + d.operator.AccessKeyID, ""},
		{"DELETE", "keys/" + other.AccessKeyID + "?account=222222222222", ""},
		{"POST", "roles", `{"account":"222222222222","role":"s","policy":` + all + `}`}, {"GET", "roles?account=222222222222", ""},
		{"PUT", "roles/r?account=222222222222", `{"policy":` + all + `}`}, {"DELETE", "roles/r?account=222222222222", ""}, {"DELETE", "roles/r", ""},
	}
	for _, q := range requests {
		if a := d.signed(t, root, q.method, "/_lambent/v1/"+q.target, q.body); a.status != 403 && a.status != 404 {
			t.Errorf("root of another account: %v: %d %s", q, a.status, a.raw)
		}
		for _, who := range []sigv4.Credentials{user, function} {
			d.signed(t, who, q.method, "/_lambent/v1/"+q.target, q.body).wantError(t, 403, "AccessDeniedException")
		}
		r := httptest.NewRequest(q.method, "/_lambent/v1/"+q.target, strings.NewReader(q.body))
		d.serve(t, r).wantError(t, 403, "MissingAuthenticationTokenException")
	}
	for _, q := range []string{"keys", "roles", "accounts"} {
		d.signed(t, user, "GET", "/_lambent/v1/"+q, "").wantError(t, 403, "AccessDeniedException")
	}
	if a := d.signed(t, root, "GET", "/_lambent/v1/accounts", ""); strings.Contains(a.raw, "222222222222") {
		t.Error(a.raw)
	}
	if len(d.who.Keys("")) != 4 || len(d.who.Roles("")) != 1 || len(d.who.Accounts()) != 2 {
		t.Error("something was changed")
	}
	for _, body := range []string{"", "{", "[]", `{"acount":"111111111111"}`, `{} {}`, `{"access_key_id":"AKIA"}`, `{"account":1}`} {
		if a := d.signed(t, d.operator, "POST", "/_lambent/v1/keys", body); a.status != 400 {
			t.Errorf("body %q: %d %s", body, a.status, a.raw)
		}
	}
}

func TestSecurityARequestThatWasSignedForAnotherBodyDoesNothing(t *testing.T) {
	d := newClosedDoor(t)
	for _, target := range []string{"/_lambent/v1/accounts", "/2015-03-31/functions/f/invocations"} {
		r := httptest.NewRequest("POST", target, strings.NewReader("{}"))
		sum := sha256.Sum256([]byte("{}"))
		if err := sigv4.Sign(r, d.operator, hex.EncodeToString(sum[:]), "lambda", "us-east-1", signedNow); err != nil {
			t.Fatal(err)
		}
		r.Body = io.NopCloser(strings.NewReader("[]"))
		d.serve(t, r).wantError(t, 403, "InvalidSignatureException")
	}
	if len(d.who.Accounts()) != 0 || d.invoker.last != nil {
		t.Error("something was done")
	}
}

// BenchmarkInvokeSigned is BenchmarkInvokeAlone with a signature to verify.
func BenchmarkInvokeSigned(b *testing.B) {
	d := newClosedDoor(b)
	d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) { return echo(inv), nil }
	r := httptest.NewRequest("POST", invokePath, strings.NewReader(benchmarkPayload))
	sum := sha256.Sum256([]byte(benchmarkPayload))
	if err := sigv4.Sign(r, d.operator, hex.EncodeToString(sum[:]), "lambda", "us-east-1", signedNow); err != nil {
		b.Fatal(err)
	}
	body := strings.NewReader(benchmarkPayload)
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(benchmarkPayload)
		r.Body = io.NopCloser(body)
		clear(w.header)
		d.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Errorf("status %d", w.status)
	}
}
