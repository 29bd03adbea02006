package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/failures"
)

const (
	failuresPath = "/_lambent/v1/failures"
	asOther      = "AWS4-HMAC-SHA256 Credential=111111111111/20261121/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=0"
)

// keptQueue keeps what it takes.
type keptQueue struct {
	mu sync.Mutex
	// +checklocks:mu
	events []*failures.Record
}

func (q *keptQueue) Accept(_ context.Context, events ...*failures.Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, events...)
	return nil
}

func (q *keptQueue) take() []*failures.Record {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken := q.events
	q.events = nil
	return taken
}

// failuresDoor is a door over a real store, for a queue that only keeps.
func newFailuresDoor(t *testing.T, adjust ...func(*Options)) (*door, *failures.Store, *keptQueue) {
	t.Helper()
	node := cluster.New(cluster.Options{Dir: t.TempDir(), Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	queue := &keptQueue{}
	store, err := failures.Open(t.Context(), node, failures.Options{Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	d := newDoor(t, adjust...)
	d.HandleFailures(store)
	return d, store, queue
}

var failedAt = time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)

func fail(t *testing.T, s *failures.Store, account lambent.AccountID, function, id string) {
	t.Helper()
	err := s.Put(t.Context(), &failures.Record{Key: failures.Key{Account: account, RequestID: lambent.RequestID(id)}, Function: lambent.FunctionName(function), Version: "$LATEST",
		Reason: failures.FunctionError, Error: failures.Error{Type: "TypeError", Message: "no <x>", Stack: []string{"at f"}}, Attempts: 3, FirstAt: failedAt.Add(-time.Hour), LastAt: failedAt, Payload: []byte(`{"id": "` + id + `"}`)})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFailuresAreListedAsTheContractHasThem(t *testing.T) {
	d, s, _ := newFailuresDoor(t)
	if got := d.ask(t, failuresPath, asOperator); got.raw != "[]\n" || got.status != 200 {
		t.Errorf("none: %d %q", got.status, got.raw)
	}
	fail(t, s, "123456789012", "f", "r1")
	fail(t, s, "111111111111", "f", "r2")
	fail(t, s, "123456789012", "g", "r3")
	want := `[{"request_id":"r1","account":"123456789012","function":"f","qualifier":"","version":"$LATEST","reason":"function_error","error":{"type":"TypeError","message":"no <x>","stack":["at f"]},` +
		`"attempts":3,"first_at":"2026-11-21T01:00:00Z","last_at":"2026-11-21T02:00:00Z","redrives":0,"redriving_since":null,"payload":{"id":"r1"},"actions":[]}` + "\n]\n"
	got := d.ask(t, failuresPath+"?function=f&account=123456789012&reason=function_error&since=2026-11-20T00:00:00Z", asOperator)
	if diff := cmp.Diff(want, got.raw); diff != "" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for query, ids := range map[string]string{"": "r3 r2 r1", "?function=f": "r2 r1", "?limit=1": "r3", "?reason=timeout": "", "?since=2026-11-22T00:00:00Z": "", "?payload=false": "r3 r2 r1"} {
		got := d.ask(t, failuresPath+query, asOperator)
		var found []string
		for part := range strings.SplitSeq(got.raw, `"request_id":"`) {
			if id, _, ok := strings.Cut(part, `"`); ok && strings.HasPrefix(id, "r") {
				found = append(found, id)
			}
		}
		if strings.Join(found, " ") != ids {
			t.Errorf("%s lists %v, want %s", query, found, ids)
		}
		if strings.Contains(got.raw, `"id"`) == (query == "?payload=false") && ids != "" {
			t.Errorf("%s: payloads in %s", query, got.raw)
		}
	}
	next := d.ask(t, failuresPath+"?limit=2", asOperator).header.Get("X-Lambent-Next")
	if rest := d.ask(t, failuresPath+"?limit=2&before="+next, asOperator); strings.Count(rest.raw, "request_id") != 1 || !strings.Contains(rest.raw, `"r1"`) || rest.header.Get("X-Lambent-Next") != "" {
		t.Errorf("after %s: %s", next, rest.raw)
	}
	for _, query := range []string{"?limit=0", "?limit=x", "?before=0", "?reason=luck", "?since=soon", "?function=a:b", "?account=1", "?x=1", "?payload=7"} {
		d.ask(t, failuresPath+query, asOperator).wantError(t, 400, "InvalidParameterValueException")
	}
}

func TestSecurityFailuresAreTheirAccountsOnly(t *testing.T) {
	d, s, queue := newFailuresDoor(t)
	fail(t, s, "123456789012", "f", "r1")
	fail(t, s, "111111111111", "f", "r2")
	if got := d.ask(t, failuresPath, asAccount); strings.Contains(got.raw, "r2") || !strings.Contains(got.raw, "r1") {
		t.Errorf("an account sees %s", got.raw)
	}
	d.ask(t, failuresPath+"?account=111111111111", asAccount).wantError(t, 403, "AccessDeniedException")
	auth := []string{"Authorization", asAccount}
	for method, path := range map[string]string{"GET": "/r2", "PUT": "/r2", "DELETE": "/r2", "POST": "/r2/redrive"} {
		d.do(t, method, failuresPath+path, `{"payload":1}`, auth...).wantError(t, 404, "ResourceNotFoundException")
		d.do(t, method, failuresPath+path+"?account=111111111111", `{"payload":1}`, auth...).wantError(t, 403, "AccessDeniedException")
	}
	d.do(t, "POST", failuresPath+"/redrive", `{"filter":{"account":"111111111111"}}`, auth...).wantError(t, 403, "AccessDeniedException")
	if got := d.do(t, "POST", failuresPath+"/redrive", `{}`, auth...); got.status != 200 || got.body["redriven"] != 1.0 {
		t.Errorf("redriven: %d %s", got.status, got.raw)
	}
	if events := queue.take(); len(events) != 1 || events[0].Account != "123456789012" {
		t.Errorf("in the queue: %+v", events)
	}
	for _, to := range []string{"111111111111:function:f", "arn:aws:lambda:us-east-1:111111111111:function:f"} {
		if got := d.do(t, "POST", failuresPath+"/redrive", `{"to":"`+to+`"}`, auth...); got.status != 403 {
			t.Errorf("to another account: %d %s", got.status, got.raw)
		}
	}
}

func TestSecurityFailuresAreForWhoMayCallTheFunction(t *testing.T) {
	caller := Caller{Account: ownAccount}
	d, s, queue := newFailuresDoor(t, askedBy(&caller))
	fail(t, s, ownAccount, "f", "r1")
	const f = "arn:aws:lambda:us-east-1:111111111111:function:f"
	for statements, may := range map[string]string{
		`{"Effect":"Allow","Action":"lambent:*","Resource":"` + f + `"}`:                                                          "get delete",
		`{"Effect":"Allow","Action":["lambent:*","lambda:InvokeFunction"],"Resource":"` + f + `"}`:                                "get edit redrive delete",
		`{"Effect":"Allow","Action":["lambent:*","lambda:InvokeFunction"],"Resource":"arn:aws:lambda:*:111111111111:function:*"}`: "list get edit redrive redriveall delete",
		`{"Effect":"Allow","Action":"lambda:*","Resource":"*"}`:                                                                   "",
	} {
		caller = ann(t, statements)
		var got []string
		for _, try := range []struct{ name, method, path, body string }{
			{"list", "GET", "", ""}, {"get", "GET", "/r1", ""}, {"edit", "PUT", "/r1", `{"payload":1}`}, {"redrive", "POST", "/r1/redrive", ""}, {"redriveall", "POST", "/redrive", "{}"}, {"delete", "DELETE", "/r1", ""},
		} {
			answer := d.do(t, try.method, failuresPath+try.path, try.body)
			if answer.status < 300 {
				got = append(got, try.name)
			} else if answer.status != 403 {
				t.Errorf("%s by %s: %d %s", try.name, statements, answer.status, answer.raw)
			}
			fail(t, s, ownAccount, "f", "r1") // it is there, and not in the queue
			queue.take()
		}
		if strings.Join(got, " ") != may {
			t.Errorf("%s may %v, want %s", statements, got, may)
		}
	}
}

func TestAFailureIsShownEditedRedrivenAndDeleted(t *testing.T) {
	d, s, queue := newFailuresDoor(t)
	d.create(t, "f")
	d.create(t, "g")
	const me = lambent.DefaultAccount
	fail(t, s, me, "f", "r1")
	fail(t, s, me, "f", "r2")
	one := failuresPath + "/r1"
	if got := d.do(t, "GET", one, ""); got.status != 200 || got.body["request_id"] != "r1" {
		t.Errorf("%d %s", got.status, got.raw)
	}
	if got := d.ask(t, one, asOperator); got.status != 200 {
		t.Errorf("the operator: %d %s", got.status, got.raw)
	}
	d.do(t, "GET", failuresPath+"/r9", "").wantError(t, 404, "ResourceNotFoundException")

	got := d.do(t, "PUT", one, `{"payload":{"fixed": true},"function":"g"}`)
	if got.status != 200 || got.body["function"] != "g" || !strings.Contains(got.raw, `"payload":{"fixed":true}`) || !strings.Contains(got.raw, `"original":{"function":"f","qualifier":"","payload":{"id":"r1"}}`) || !strings.Contains(got.raw, "edited by") {
		t.Errorf("edited: %d %s", got.status, got.raw)
	}
	for body, status := range map[string]int{`{}`: 400, `{"function":"none"}`: 404, `{"qualifier":"none"}`: 404, `{"x":1}`: 400, `{"payload":}`: 400, `[]`: 400, `{"function":"a b"}`: 400} {
		if got := d.do(t, "PUT", one, body); got.status != status {
			t.Errorf("edit %s: %d %s", body, got.status, got.raw)
		}
	}
	if got := d.do(t, "POST", one+"/redrive", ""); got.status != 202 || got.body["redriving_since"] == nil || got.body["redrive_by"] != "hand" {
		t.Errorf("redriven: %d %s", got.status, got.raw)
	}
	d.do(t, "POST", one+"/redrive", "").wantError(t, 409, "ResourceConflictException")
	d.do(t, "PUT", one, `{"payload":1}`).wantError(t, 409, "ResourceConflictException")
	if got := d.do(t, "POST", failuresPath+"/r2/redrive", `{"payload":[1],"function":"g"}`); got.status != 202 {
		t.Errorf("redriven to another: %d %s", got.status, got.raw)
	}
	var events []string
	for _, e := range queue.take() {
		events = append(events, fmt.Sprintf("%s %s %s", e.RequestID, e.Function, e.Payload))
	}
	if diff := cmp.Diff([]string{`r1 g {"fixed": true}`, `r2 g [1]`}, events); diff != "" {
		t.Errorf("in the queue (-want +got):\n%s", diff)
	}
	if got := d.do(t, "DELETE", one, ""); got.status != http.StatusNoContent {
		t.Errorf("deleted: %d %s", got.status, got.raw)
	}
	d.do(t, "DELETE", one, "").wantError(t, 404, "ResourceNotFoundException")
}

// What a caller makes of a failure is shown as JSON that everybody reads.
func TestSecurityAnEditedFailureIsShownAsJSONInAnyCase(t *testing.T) {
	d, s, _ := newFailuresDoor(t)
	d.create(t, "f")
	fail(t, s, lambent.DefaultAccount, "f", "r1")
	for body, status := range map[string]int{
		"": 400, "null": 400, "7": 400, `{"payload":1} x`: 400, `{"payload":1}{"payload":2}`: 400, `{"function":7}`: 400, `{"qualifier":"a b\n"}`: 404, `{"function":"../../etc"}`: 400,
		`{"payload":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`: 400, `{"payload":"` + strings.Repeat("x", 1<<20) + `"}`: 413,
		`{"payload":"\u0000"}`: 200, `{"payload":"\ud800"}`: 200, `{"payload":null}`: 200, "{\"payload\":\"\xff\xfe\"}": 200,
	} {
		if got := d.do(t, "PUT", failuresPath+"/r1", body); got.status != status {
			t.Errorf("%.60q: %d %.200s", body, got.status, got.raw)
		}
		for _, path := range []string{failuresPath, failuresPath + "/r1"} {
			if got := d.do(t, "GET", path, ""); got.status != 200 || !utf8.ValidString(got.raw) || !json.Valid([]byte(got.raw)) {
				t.Errorf("after %.60q: %d %q", body, got.status, got.raw)
			}
		}
	}
}

func TestManyAreRedrivenPieceByPiece(t *testing.T) {
	d, s, queue := newFailuresDoor(t)
	d.create(t, "g")
	for i := range 10 {
		fail(t, s, lambent.DefaultAccount, "f", fmt.Sprintf("r%d", i))
	}
	redriven, cursor := 0.0, ""
	for requests := 1; ; requests++ {
		got := d.do(t, "POST", failuresPath+"/redrive", `{"filter":{"function":"f"},"rate":10000,"to":"g","limit":4,"cursor":"`+cursor+`"}`)
		if got.status != 200 {
			t.Fatal(got.raw)
		}
		redriven += got.body["redriven"].(float64)
		for _, e := range queue.take() { // and fail again
			fail(t, s, lambent.DefaultAccount, string(e.Function), string(e.RequestID))
		}
		if cursor = got.body["next"].(string); cursor == "" {
			break
		} else if requests == 4 {
			t.Fatalf("it goes on with %s", cursor)
		}
	}
	if redriven != 10 {
		t.Errorf("%v were redriven", redriven)
	}
	for _, body := range []string{`{"rate":-1}`, `{"rate":0.001}`, `{"rate":1e9}`, `{"limit":-1}`, `{"cursor":"x"}`, `{"cursor":"1-0"}`, `{"filter":{"x":1}}`, `{"filter":{"since":"soon"}}`, `{"to":"a b"}`, `{"to":"none"}`} {
		if got := d.do(t, "POST", failuresPath+"/redrive", body); got.status != 400 && got.status != 404 {
			t.Errorf("%s: %d %s", body, got.status, got.raw)
		}
	}
	if got := d.do(t, "POST", failuresPath+"/redrive", `{"filter":{"function":"g"},"to":"g"}`, "Authorization", asOther); got.status != 404 {
		t.Errorf("another account's function: %d %s", got.status, got.raw)
	}
}
