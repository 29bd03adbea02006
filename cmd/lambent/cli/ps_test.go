package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func serveTables(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", "r")
	switch r.URL.Path {
	case "/_lambent/v1/pools":
		write(w, `[{"configuration":"nodejs","target":2,"ready":1,"owner":""}]`)
	case "/_lambent/v1/instances":
		write(w, `[{"instance_id":"i-2","host":"h","state":"warm","account":"","configuration":"nodejs","memory_mb":512,"free_mb":512},
			{"instance_id":"i-1","host":"h","state":"active","account":"123456789012","configuration":"nodejs","memory_mb":2048,"free_mb":1792}]`)
	case "/_lambent/v1/containers":
		idle := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Format(time.RFC3339)
		write(w, `[{"container_id":"c-2","instance_id":"i-1","state":"idle","function":"orders","version":"$LATEST","memory_mb":128,"idle_since":"%s","pid":4711},
			{"container_id":"c-1","instance_id":"i-1","state":"busy","function":"evil\u001b[2J","version":"1","memory_mb":128,"idle_since":null,"pid":4711},
			{"container_id":"c-4","instance_id":"i-1","state":"starting","account":"","function":"","memory_mb":0,"idle_since":null,"pid":4711},
			{"container_id":"c-3","instance_id":"i-2","state":"starting","account":"","function":"","memory_mb":0,"idle_since":null,"pid":4712}]`, idle)
	case "/_lambent/v1/queues":
		write(w, `[{"account":"123456789012","function":"orders","qualifier":"","waiting":0,"delayed":1,"under_way":2,"oldest_seconds":0},
			{"account":"123456789012","function":"slow","qualifier":"live","waiting":40,"delayed":0,"under_way":1,"oldest_seconds":75}]`)
	case "/_lambent/v1/executions":
		write(w, `[{"account":"123456789012","function":"orders","received_at":"2026-01-02T03:04:05Z","exec_started_at":"2026-01-02T03:04:05.00025Z","finished_at":"2026-01-02T03:04:07.5Z",
			"start_kind":"container_reuse","reason":"an idle container was at hand","status":"function_error","error":"Oops\u009b"},
			{"account":"123456789012","function":"orders","received_at":"2026-01-02T03:04:04Z","exec_started_at":null,"finished_at":"2026-01-02T03:04:04Z",
			"start_kind":"","reason":"too many wait","status":"throttled","error":"Limit"}]`)
	default:
		http.NotFound(w, r)
	}
}

func psView(t *testing.T, executions int) *view {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(serveTables))
	defer srv.Close()
	c, err := remote{Endpoint: srv.URL}.client(Streams{Getenv: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	v, err := (&psCommand{Executions: executions}).look(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var psNow = time.Date(2026, 1, 2, 3, 4, 15, 0, time.UTC)

func TestPsShowsContainersBeneathTheirInstances(t *testing.T) {
	at := func(second int) string {
		return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC).Local().Format("15:04:05.000")
	}
	want := fmt.Sprintf(`POOL    READY  TARGET  OWNER
nodejs  1      2       -

INSTANCE  STATE     ACCOUNT       RUNS             MEMORY          IDLE  PID
i-1       active    123456789012  nodejs           256 of 2048 MB  -     4711
  c-1     busy                    evil\x1b[2J 1    128 MB
  c-2     idle                    orders $LATEST   128 MB          10s
  c-4     starting                waits for code   -
i-2       warm      -             nodejs           0 of 512 MB     -     4712

EVENTS OF  WAITING  LATER  UNDER WAY  OLDEST
slow live  40       0      1          1m15s
orders     0        1      2          -

RECEIVED      FUNCTION  STATUS                    START            WAITED   TOOK   REASON
%s  orders    function_error (Oops\x9b)  container_reuse  0.25 ms  2.5 s  an idle container was at hand
%s  orders    throttled (Limit)         -                -        -      too many wait`, at(5), at(4))
	got := strings.Join(psView(t, 5).lines(psNow, terminalSize{}), "\n")
	squeeze := func(s string) string { // columns as wide as their widest cell: that is tested below
		var out []string
		for line := range strings.Lines(s) {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
		return strings.Join(out, "\n")
	}
	if diff := cmp.Diff(squeeze(want), squeeze(got)); diff != "" {
		t.Errorf("ps (-want +got):\n%s\n%s", diff, got)
	}
	lines := strings.Split(got, "\n")
	if at := strings.Index(lines[3], "RUNS"); strings.Index(lines[6], "orders") != at || strings.Index(lines[8], "nodejs") != at {
		t.Errorf("the columns do not stand beneath each other:\n%s", got)
	}
}

func TestPsFitsIntoItsWindow(t *testing.T) {
	v := psView(t, 5)
	for range 50 {
		v.instances = append(v.instances, instanceRow{ID: "i-9", Host: "h", State: "warm"})
	}
	for _, window := range []terminalSize{{40, 20}, {200, 12}, {7, 30}} {
		lines := v.linesWithin(psNow, window, 2)
		if len(lines)+2 > window.rows {
			t.Errorf("%+v: %d lines", window, len(lines))
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > window.columns {
				t.Errorf("%+v: a line of %d: %s", window, n, l)
			}
		}
		text := strings.Join(lines, "\n")
		if !strings.Contains(text, "RECE") || window.columns > 10 && !strings.Contains(text, "more lines") {
			t.Errorf("%+v: the executions, or how much is left out, are not shown:\n%s", window, text)
		}
	}
}

func TestPsAsksAsTheOperatorUnlessAnAccountIsNamed(t *testing.T) {
	for _, tc := range []struct {
		env  map[string]string
		args []string
		auth string
	}{
		{nil, nil, ""},
		{map[string]string{"AWS_ACCESS_KEY_ID": "123456789012"}, nil, "Credential=123456789012/"},
		{map[string]string{"AWS_ACCESS_KEY_ID": "123456789012"}, []string{"--all"}, ""},
	} {
		f := newFakeServer()
		f.admin = serveTables
		code, out, errOut := f.run(t, tc.env, append([]string{"ps", "-n", "3"}, tc.args...)...)
		check(t, "ps", code, 0, out+errOut, "too many wait", "i-1")
		if f.auth == "" != (tc.auth == "") || !strings.Contains(f.auth, tc.auth) {
			t.Errorf("%v %v: asked with %q, want %q in it", tc.env, tc.args, f.auth, tc.auth)
		}
		if last := f.requests[len(f.requests)-1]; last != "GET /_lambent/v1/executions?limit=3" {
			t.Errorf("asked %s", last)
		}
	}
}

func TestPsRefusesWhatItCannotDo(t *testing.T) {
	f := newFakeServer()
	f.admin = serveTables
	for want, args := range map[string][]string{
		"--interval 1ms is shorter than 50ms":             {"ps", "-w", "--interval", "1ms"},
		"--executions 100001 is not between 0 and 100000": {"ps", "-n", "100001"},
		"--executions -2 is not between 0 and 100000":     {"ps", "--executions=-2"},
	} {
		code, _, errOut := f.run(t, nil, args...)
		check(t, strings.Join(args, " "), code, 2, errOut, want)
	}
}

func TestPsWatchWithoutATerminalPrintsPlainTablesAgainAndAgain(t *testing.T) {
	f := newFakeServer()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	shown := 0
	f.admin = func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/_lambent/v1/pools" {
			if shown++; shown == 3 {
				cancel()
			}
		}
		serveTables(w, r)
	}
	srv := httptest.NewServer(f)
	defer srv.Close()
	code, out, errOut := run(ctx, nil, map[string]string{"AWS_ENDPOINT_URL": srv.URL}, nil, "ps", "-w", "--interval", "50ms")
	check(t, "ps -w", code, 0, errOut)
	if strings.Contains(out, "\x1b") || strings.Count(out, "INSTANCE") != 2 || strings.Count(out, "too many wait") != 2 || strings.Count(out, "lambent at "+srv.URL+" · all accounts") != 2 {
		t.Errorf("ps -w printed %q", out)
	}
}

// terminal is the end of a pseudo-terminal that a program writes to, and what
// came out at the other.
type terminal struct {
	*os.File
	master *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	more chan struct{}
}

func newTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{File: slave, master: master, more: make(chan struct{}, 1)}
	term.resize(t, columns, rows)
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			select {
			case term.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { slave.Close(); reading.Wait(); master.Close() })
	return term
}

func (term *terminal) resize(t *testing.T, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(term.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

// await waits until a text was written and gives what was written up to it, and
// forgets that.
func (term *terminal) await(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		term.mu.Lock()
		seen := term.seen.String()
		if before, _, found := strings.Cut(seen, text); found {
			term.seen.Next(len(before) + len(text))
			term.mu.Unlock()
			return before
		}
		term.mu.Unlock()
		select {
		case <-term.more:
		case <-timeout:
			t.Fatalf("%q was not written; written was %q", text, seen)
		}
	}
}

func TestPsWatchLivesInTheTerminalAndLeavesItAsItWas(t *testing.T) {
	f := newFakeServer()
	var mu sync.Mutex
	down := false
	f.admin = func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			refuse(w, http.StatusServiceUnavailable, "ServiceUnavailableException", "busy\x1b[2J")
			return
		}
		serveTables(w, r)
	}
	setDown := func(is bool) { mu.Lock(); defer mu.Unlock(); down = is }
	srv := httptest.NewServer(f)
	defer srv.Close()
	term := newTerminal(t, 60, 30)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var c commands
		c.Ps = psCommand{remote: remote{Endpoint: srv.URL}, Watch: true, Interval: minInterval, Executions: 10}
		ended <- c.Ps.Run(ctx, Streams{Out: term.File, Getenv: func(string) string { return "" }})
	}()
	if before := term.await(t, enterScreen); before != "" {
		t.Errorf("before the screen was taken %q was written", before)
	}
	term.await(t, beginFrame)
	whole := term.await(t, endFrame)
	for line := range strings.SplitSeq(whole, "\x1b[K\r\n") {
		if n := len([]rune(line)); n > 60 {
			t.Errorf("a line of %d in a window of 60: %q", n, line)
		}
	}
	if !strings.Contains(whole, "lambent at ") || !strings.Contains(whole, "  c-1") || !strings.Contains(whole, "RECEIVED") || strings.Contains(whole, "\x1b[2J") {
		t.Errorf("the first frame is %q", whole)
	}
	term.resize(t, 200, 30) // seen with the next frame
	term.await(t, "an idle container was at hand")
	setDown(true)
	if text := term.await(t, "TRYING AGAIN: read the pools: ServiceUnavailableException"); strings.Contains(text, "\x1b[2J") {
		t.Errorf("a server drives the terminal: %q", text)
	}
	term.await(t, "i-1") // what was last known stays
	setDown(false)
	term.await(t, "Ctrl-C ends\x1b[K")
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	term.await(t, leaveScreen)
}

func TestOnlyATerminalHasASize(t *testing.T) {
	term := newTerminal(t, 0, 0)
	if size, is := sizeOf(term.File); !is || size != (terminalSize{80, 24}) {
		t.Errorf("a terminal that does not know its size has %v, %v", size, is)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, is := sizeOf(file); is {
		t.Error("a file is taken for a terminal")
	}
	if _, is := sizeOf(&bytes.Buffer{}); is {
		t.Error("a buffer is taken for a terminal")
	}
}
