package cli

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
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

func serveTables(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_lambent/v1/pools":
		write(w, `[{"configuration":"nodejs","target":2,"ready":1,"owner":""}]`)
	case "/_lambent/v1/instances":
		write(w, `[{"instance_id":"i-1","host":"h","state":"active","account":"123456789012","configuration":"nodejs","memory_mb":2048,"free_mb":1920,"containers":["c-1"]}]`)
	case "/_lambent/v1/containers":
		write(w, `[{"container_id":"c-1","instance_id":"i-1","state":"idle","account":"123456789012","function":"hello","version":"$LATEST","memory_mb":128,"idle_since":"2026-01-02T03:04:05Z","pid":7},`+
			`{"container_id":"c-2","instance_id":"i-1","state":"busy","account":"123456789012","function":"evil\u001b[2J","version":"1","memory_mb":128,"idle_since":"","pid":0}]`)
	default:
		http.NotFound(w, r)
	}
}

func TestPsShowsPoolsInstancesAndContainers(t *testing.T) {
	f := newFakeServer()
	f.admin = serveTables
	srv := httptest.NewServer(f)
	defer srv.Close()
	c := &client{endpoint: srv.URL, http: srv.Client(), now: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 15, 0, time.UTC) }}
	var out bytes.Buffer
	if err := (&psCommand{}).show(t.Context(), c, &out); err != nil {
		t.Fatal(err)
	}
	want := `POOL    TARGET  READY  OWNER
nodejs  2       1      -

INSTANCE  STATE   ACCOUNT       CONFIGURATION  MEMORY   FREE     HOST
i-1       active  123456789012  nodejs         2048 MB  1920 MB  h

CONTAINER  INSTANCE  STATE  ACCOUNT       FUNCTION     VERSION  MEMORY  IDLE  PID
c-1        i-1       idle   123456789012  hello        $LATEST  128 MB  10s   7
c-2        i-1       busy   123456789012  evil\x1b[2J  1        128 MB  -     -
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("ps (-want +got):\n%s", diff)
	}
}

func TestPsWatchGoesOnUntilItIsEnded(t *testing.T) {
	f := newFakeServer()
	ctx, cancel := context.WithCancel(t.Context())
	shown := 0
	f.admin = func(w http.ResponseWriter, r *http.Request) {
		serveTables(w, r)
		if r.URL.Path == "/_lambent/v1/pools" {
			if shown++; shown == 2 {
				cancel()
			}
		}
	}
	srv := httptest.NewServer(f)
	defer srv.Close()
	code, out, errOut := run(ctx, nil, map[string]string{"AWS_ENDPOINT_URL": srv.URL}, nil, "ps", "-w", "--interval", "50ms")
	if code != 0 && !strings.Contains(errOut, "context canceled") {
		t.Errorf("ps -w ended with %d: %s", code, errOut)
	}
	if !strings.Contains(out, "\x1b[2J") || !strings.Contains(out, "i-1") {
		t.Errorf("ps -w printed %q", out)
	}
}
