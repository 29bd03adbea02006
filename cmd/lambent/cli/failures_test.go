package cli

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const failureJSON = `{"request_id":"r1","account":"000000000000","function":"orders","qualifier":"live","version":"3","reason":"timeout","error":{"type":"Sandbox.Timedout","message":"Task timed out\u001b[2J\nmore"},
	"attempts":3,"redrives":1,"last_at":"2026-01-02T03:04:05Z","redriving_since":"2026-01-02T03:05:00Z","payload":{"order": 7}}`

// failuresServer answers as the failure store does, and the redrives of many in
// three pieces.
func failuresServer() *fakeServer {
	f := newFakeServer()
	piece := 0
	f.admin = func(w http.ResponseWriter, r *http.Request) {
		switch path := strings.TrimPrefix(r.URL.Path, "/_lambent/v1/failures"); {
		case path == "" && r.URL.Query().Get("function") == "none":
			write(w, "[]")
		case path == "":
			write(w, "["+failureJSON+"]")
		case path == "/redrive":
			body, _ := io.ReadAll(r.Body)
			if piece++; piece < 3 {
				write(w, `{"redriven":5,"skipped":1,"next":"7-9"}`)
			} else if strings.Contains(string(body), `"reason":"throttled"`) {
				write(w, `{"redriven":1,"skipped":0,"next":"8-9","error":"the disk is full"}`)
			} else {
				write(w, `{"redriven":2,"skipped":0,"next":""}`)
			}
		case strings.HasPrefix(path, "/gone"):
			refuse(w, http.StatusNotFound, "ResourceNotFoundException", "There is no failure of that request id")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			write(w, failureJSON)
		}
	}
	return f
}

func TestFailuresAreListedShownEditedAndDeleted(t *testing.T) {
	for _, c := range []struct {
		args    string
		code    int
		out     []string // parts
		errOut  string   // a part
		request string   // the last
	}{
		{"ls", 0, []string{"FAILED", "2026-01-02T03:04:05Z", "orders:live", "timeout", "1 redriving", `Sandbox.Timedout: Task timed out\x1b[2J`}, "", "GET /_lambent/v1/failures?limit=50&payload=false"},
		{"ls -q --function orders --reason timeout -n 7 --account 123456789012", 0, []string{"r1\n"}, "", "GET /_lambent/v1/failures?account=123456789012&function=orders&limit=7&payload=false&reason=timeout"},
		{"ls --function none", 0, nil, "there are no such failures", ""},
		{"show r1", 0, []string{`"order": 7`}, "", "GET /_lambent/v1/failures/r1"},
		{"show r1 --payload", 0, []string{`{"order": 7}`}, "", ""},
		{"show gone", 2, nil, "There is no failure of that request id", ""},
		{"edit r1 --payload {\"a\":1} --function orders:fixed", 0, []string{`"request_id": "r1"`}, "", "PUT /_lambent/v1/failures/r1"},
		{"edit r1", 2, nil, "nothing is to be changed", ""},
		{"edit r1 --payload {", 2, nil, "not JSON", ""},
		{"edit r1 --payload @/nowhere", 2, nil, "read the payload", ""},
		{"rm r1 gone r2 --account 123456789012", 2, []string{"r1\n", "r2\n"}, "delete failure gone", "DELETE /_lambent/v1/failures/r2?account=123456789012"},
		{"redrive r1 --to orders:fixed", 0, []string{"r1\n"}, "", "POST /_lambent/v1/failures/r1/redrive"},
		{"redrive r1 gone", 2, []string{"r1\n"}, "redrive gone", ""},
		{"redrive r1 --payload 7", 0, []string{"r1\n"}, "", ""},
		{"redrive", 2, nil, "say which failures", ""},
		{"redrive r1 --all", 2, nil, "not both", ""},
		{"redrive --all --payload 7", 2, nil, "--payload is for one", ""},
		{"redrive --function orders --rate 1000", 0, []string{"12 redriven, 2 skipped\n"}, "", "POST /_lambent/v1/failures/redrive"},
		{"redrive --reason throttled", 2, nil, "the disk is full", ""},
	} {
		f := failuresServer()
		code, out, errOut := f.run(t, nil, append([]string{"failures"}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(errOut, c.errOut) {
			t.Errorf("%s: status %d, %s", c.args, code, errOut)
		}
		for _, part := range c.out {
			if !strings.Contains(out, part) {
				t.Errorf("%s prints no %q: %s", c.args, part, out)
			}
		}
		if last := f.requests[max(0, len(f.requests)-1):]; c.request != "" && !slices.Equal(last, []string{c.request}) {
			t.Errorf("%s asks %v", c.args, f.requests)
		}
	}
}

func TestARedriveOfManyGoesOnWhereItEnded(t *testing.T) {
	f := failuresServer()
	f.run(t, nil, "failures", "redrive", "--function", "orders", "--to", "orders:fixed", "--rate", "1000")
	if len(f.bodies) != 3 || f.bodies[0]["cursor"] != nil || f.bodies[1]["cursor"] != "7-9" || f.bodies[0]["to"] != "orders:fixed" || f.bodies[0]["rate"] != 1000.0 || f.bodies[0]["limit"] != 2000.0 {
		t.Errorf("it sent %v", f.bodies)
	}
}
