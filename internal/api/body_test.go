package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lambent"
)

// pipeListener hands the server its ends of pipes, whose deadlines go by the
// clock of a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	gone  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.gone); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// dial serves the door on pipes until the test ends, and gives callers' ends.
func (d *door) dial(t *testing.T) (connect func() net.Conn) {
	l := &pipeListener{conns: make(chan net.Conn), gone: make(chan struct{})}
	s := &http.Server{Handler: d, ReadTimeout: bodyTime}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		time.Sleep(time.Second) // net/http's connections linger for half of one
	})
	return func() net.Conn {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		t.Cleanup(func() { _ = ours.Close() })
		return ours
	}
}

func start(t *testing.T, c net.Conn, account string, length int) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Credential=%s/x\r\nContent-Length: %d\r\n\r\n", invokePath, account, length); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, c net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestSecurityABodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	synctest.Test(t, func(t *testing.T) {
		c := d.dial(t)()
		begin := time.Now()
		start(t, c, "x", 6_000_000)
		if _, err := c.Write(bytes.Repeat([]byte{' '}, 60_000)); err != nil {
			t.Fatal(err)
		}
		if code, text := status(t, c); code != 408 || !strings.Contains(text, "too slowly") {
			t.Errorf("%d %s", code, text)
		}
		if took := time.Since(begin); took != bodyWindow {
			t.Errorf("it was waited for %v, want %v", took, bodyWindow)
		}
		synctest.Wait()
		if n := d.bodies.inFlight(); n != 0 {
			t.Errorf("%d bytes are still taken", n)
		}
	})
}

func TestARefusedExpectationClosesTheConnection(t *testing.T) {
	d := newDoor(t)
	for _, length := range []int{5, 99_000_000} {
		for _, path := range []string{"/nope", "/_lambent/nope", invokePath + "?Qualifier=%zz", "/2015-03-31/functions/a%20b/invocations"} {
			synctest.Test(t, func(t *testing.T) {
				c := d.dial(t)()
				begin := time.Now()
				if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path, length); err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(c)
				if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 40")) || !bytes.Contains(answer, []byte("Connection: close\r\n")) {
					t.Errorf("%s of %d bytes: %v\n%s", path, length, err, answer)
				}
				if took := time.Since(begin); took > 2*leaveTime {
					t.Errorf("%s of %d bytes: closed after %v", path, length, took)
				}
			})
		}
	}
}

func TestABodyThatComesSteadilyIsTakenHoweverLongItTakes(t *testing.T) {
	d := newDoor(t)
	d.create(t, "f")
	synctest.Test(t, func(t *testing.T) {
		c := d.dial(t)()
		const size, chunk = 400_000, 80_000
		start(t, c, "x", size)
		for range size / chunk {
			time.Sleep(9 * time.Second)
			if _, err := c.Write(bytes.Repeat([]byte{'1'}, chunk)); err != nil {
				t.Fatal(err)
			}
		}
		if code, text := status(t, c); code != 200 {
			t.Errorf("%d %.100s", code, text)
		}
	})
}

// A function may run for 15 minutes, a body must come within two: the deadline
// of the one is not the other's.
func TestACallMayWaitLongerThanItsBodyMayTake(t *testing.T) {
	for _, size := range []int{0, 2} {
		var ended error
		d := newDoor(t)
		d.create(t, "f")
		synctest.Test(t, func(t *testing.T) {
			d.invoker.answer = func(inv *lambent.Invocation) (*lambent.Result, error) {
				time.Sleep(10 * time.Minute)
				ended = d.invoker.ctx.Err()
				return echo(inv), nil
			}
			ours := d.dial(t)()
			start(t, ours, "x", size)
			if size > 0 {
				if _, err := io.WriteString(ours, "12"); err != nil {
					t.Fatal(err)
				}
			}
			if code, text := status(t, ours); code != 200 || ended != nil {
				t.Errorf("a body of %d bytes: %d %s, the request's context: %v", size, code, text, ended)
			}
		})
	}
}

func TestSecurityOneAccountCannotTakeTheBodiesOfAll(t *testing.T) {
	b := newBudget(1 << 30)
	taken := int64(0)
	for b.take("111111111111", 1<<20, false) {
		taken += 1 << 20
	}
	if taken != 1<<28 {
		t.Errorf("one account got %d bytes of %d, want a quarter", taken, b.total)
	}
	for _, account := range []lambent.AccountID{"222222222222", "333333333333", "444444444444"} {
		for b.take(account, 1<<20, true) {
			taken += 1 << 20
		}
	}
	if want := int64(3 << 28); taken != want {
		t.Errorf("code took it to %d bytes, want %d: the rest is for calls", taken, want)
	}
	if !b.take("555555555555", 6<<20, false) {
		t.Error("a call has no room beside all the code")
	}
	small := newBudget(128 << 20)
	if !small.take("111111111111", maxCodeBody+lastDouble, true) {
		t.Error("the largest request there is cannot be made on the smallest budget")
	}
}

func TestMemoryIsGivenBackOnceAfterALargePeak(t *testing.T) {
	d := newDoor(t)
	large := httptest.NewRequest("POST", "/2015-03-31/functions", io.LimitReader(zeros{}, 66<<20))
	large.ContentLength = 66 << 20
	d.ServeHTTP(httptest.NewRecorder(), large)
	select {
	case <-d.Relieved():
	default:
		t.Error("nobody is told after 66 MB")
	}
	d.do(t, "POST", invokePath, `"`+strings.Repeat("x", 5<<20)+`"`)
	select {
	case <-d.Relieved():
		t.Error("a call of 5 MB is reason enough")
	default:
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCodeIsDecodedWhereItStands(t *testing.T) {
	zip := bytes.Repeat([]byte("PK\x03\x04\n\r\x00\xff?>"), 1<<18)
	encoded := base64.StdEncoding.EncodeToString(zip)
	for name, text := range map[string]string{
		"plain": encoded, "with escaped slashes": strings.ReplaceAll(encoded, "/", `\/`), "in lines": strings.ReplaceAll(encoded[:80_000], "/", `\u002f\r\n`),
	} {
		body := []byte(`{"Code":{"ZipFile":"` + text + `"}}`)
		var q createFunctionRequest
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := decode(body, &q)
		runtime.ReadMemStats(&after)
		if err != nil || !bytes.HasPrefix(zip, q.Code.ZipFile) || len(q.Code.ZipFile) < 50_000 {
			t.Errorf("%s: %v, or other bytes than were sent", name, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<18 {
			t.Errorf("%s: decoding %d bytes took %d more", name, len(body), grown)
		}
	}
	// The bytes of the code have a line feed each; the request is of two lines.
	err := decode([]byte("{\"Code\":{\"ZipFile\":\""+encoded[:4000]+"\"},\n oops"), &createFunctionRequest{})
	if err == nil || !strings.Contains(err.Error(), "line: 2, column: ") {
		t.Errorf("the place of a broken request: %v", err)
	}
}
