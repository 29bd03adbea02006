package cli

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLogsAsksForWhatWasAskedAndCannotDriveTheTerminal(t *testing.T) {
	f := newFakeServer()
	f.admin = func(w http.ResponseWriter, _ *http.Request) {
		write(w, `{"time":"2026-01-02T03:04:05.678Z","stream":"stdout","request_id":"id","text":"hello\tyou\n"}`+"\n\n")
		write(w, `{"time":"2026-01-02T03:04:06Z","stream":"stderr","request_id":"id","text":"\u001b[2Jgone\u009b"}`+"\n")
	}
	code, out, errOut := f.run(t, nil, "logs", "hello", "--request-id", "id")
	check(t, "logs", code, 0, errOut)
	if want := "hello\tyou\n\\x1b[2Jgone\\x9b\n"; out != want {
		t.Errorf("logs printed %q, want %q", out, want)
	}
	if diff := cmp.Diff([]string{"GET /_lambent/v1/functions/hello/logs?request_id=id"}, f.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}

	f.requests = nil
	code, out, errOut = f.run(t, nil, "logs", "hello", "-f", "-t", "--raw", "--since", "10m")
	check(t, "logs -f", code, 0, errOut)
	if stamp := time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC).Local().Format("2006-01-02T15:04:05.000Z07:00"); !strings.HasPrefix(out, stamp+"  hello") {
		t.Errorf("logs -t printed %q, want a line with %s", out, stamp)
	}
	if !strings.Contains(out, "\x1b[2Jgone") {
		t.Errorf("logs --raw printed %q, without the control characters", out)
	}
	_, query, _ := strings.Cut(f.requests[0], "?")
	values, err := url.ParseQuery(query)
	if err != nil || values.Get("follow") != "1" {
		t.Errorf("query %q, want follow=1", query)
	}
	if since, err := time.Parse(time.RFC3339Nano, values.Get("since")); err != nil || time.Since(since).Round(time.Minute) != 10*time.Minute {
		t.Errorf("since = %q, want ten minutes ago", values.Get("since"))
	}
}

func TestLogsRefusesWhatIsNotALog(t *testing.T) {
	f := newFakeServer()
	f.admin = func(w http.ResponseWriter, _ *http.Request) { write(w, "<html>\n") }
	code, _, errOut := f.run(t, nil, "logs", "hello")
	check(t, "logs", code, 2, errOut, "the answer is not what lambent answers")
	f.admin = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "ResourceNotFoundException", "Function not found: hello")
	}
	code, _, errOut = f.run(t, nil, "logs", "hello")
	check(t, "logs of no function", code, 2, errOut, "read the log of hello: ResourceNotFoundException")
}

func TestLogsFollowSaysThatTheServerWentAway(t *testing.T) {
	f := newFakeServer()
	f.admin = func(w http.ResponseWriter, _ *http.Request) {
		write(w, `{"text":"one"}`+"\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	code, out, errOut := f.run(t, nil, "logs", "hello", "-f")
	check(t, "logs -f", code, 2, errOut, "the server went away")
	if out != "one\n" {
		t.Errorf("it printed %q before", out)
	}
}
