package conformance

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"time"

	"lambent/conformance/lab"

	"regexp"
	"strconv"
	"testing"
)

var (
	logStreamShape = regexp.MustCompile(`^\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}$`)

	// AWS's REPORT line: fields parted by tabs; Init Duration only where the
	// container was new, Status only where the call failed.
	reportShape = regexp.MustCompile(`^REPORT RequestId: (\S+)\tDuration: (\d+\.\d\d) ms\tBilled Duration: (\d+) ms\tMemory Size: (\d+) MB\tMax Memory Used: (\d+) MB\t` +
		`(?:Init Duration: (\d+\.\d\d) ms\t)?(?:Status: (?:timeout|error\tError Type: \S+))?$`)
)

// checkReport holds a REPORT line against AWS's shape and against itself.
func checkReport(t *testing.T, line, requestID string, memoryMB int) {
	t.Helper()
	m := reportShape.FindStringSubmatch(line)
	if m == nil {
		t.Errorf("the REPORT line is %q", line)
		return
	}
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if s != "" && err != nil {
			t.Errorf("REPORT: %v", err)
		}
		return n
	}
	duration, billed, size, used, init := number(m[2]), number(m[3]), number(m[4]), number(m[5]), number(m[6])
	if m[1] != requestID || int(size) != memoryMB {
		t.Errorf("REPORT is of request %s and %g MB, want %s and %d", m[1], size, requestID, memoryMB)
	}
	if billed < duration || billed > duration+init+1 {
		t.Errorf("REPORT bills %g ms for %g ms and %g ms of init", billed, duration, init)
	}
	if used < 1 || used > size {
		t.Errorf("REPORT says that %g MB of %g MB were used", used, size)
	}
}

// runLambent runs a command of lambent's against s.
func runLambent(t *testing.T, s *lab.Server, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), fix.bin, args...)
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+s.URL, "AWS_ACCESS_KEY_ID=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("lambent %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// defaultAccount is whose functions a caller without credentials calls.
const defaultAccount = "000000000000"

func TestLogsOutliveTheServer(t *testing.T) {
	t.Parallel()
	data := newData(t)
	var ids []string
	for round := range 3 {
		s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
		c := s.Caller(t, defaultAccount)
		if round == 0 {
			if _, err := c.CreateFunction(t.Context(), c.Input(python(t).function("talks"))); err != nil {
				t.Fatal(err)
			}
			c.AwaitActive(t, "talks")
		}
		_, a := lab.Do[any](t, c, "talks", op{"op": "log", "lines": []string{"round " + strconv.Itoa(round), "grün"}})
		ids = append(ids, a.RequestID())

		log := runLambent(t, s, "logs", "talks")
		for n, id := range ids {
			for _, want := range []string{"START RequestId: " + id + " Version: $LATEST", "round " + strconv.Itoa(n), "END RequestId: " + id, "REPORT RequestId: " + id + "\t"} {
				if strings.Count(log, want) != 1 {
					t.Errorf("in round %d the log has %q %d times, want once:\n%s", round, want, strings.Count(log, want), log)
				}
			}
		}
		if strings.Count(log, "INIT_START Runtime Version: ") != len(ids) {
			t.Errorf("the log of %d containers has %d INIT_START lines", len(ids), strings.Count(log, "INIT_START Runtime Version: "))
		}
		only := runLambent(t, s, "logs", "talks", "--request-id", ids[0])
		if !strings.Contains(only, "round 0") || strings.Contains(only, "START RequestId: ") && strings.Count(only, "START RequestId: ") != 1 {
			t.Errorf("the log of request %s:\n%s", ids[0], only)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// logs -f shows what is written from now on, as it is written.
func TestLogsFollow(t *testing.T) {
	t.Parallel()
	s := newServer(t, noPools...)
	c := s.Caller(t, defaultAccount)
	c.Create(t, node(t).function("followed"))
	lab.Do[any](t, c, "followed", op{"op": "log", "lines": []string{"before"}})

	cmd := exec.CommandContext(t.Context(), fix.bin, "logs", "followed", "-f")
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+s.URL, "AWS_ACCESS_KEY_ID=")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan string)
	go func() {
		defer close(seen)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			seen <- lines.Text()
		}
	}()
	await := func(want string) {
		t.Helper()
		limit := time.After(lab.Patience)
		for {
			select {
			case line, ok := <-seen:
				if !ok {
					t.Fatalf("logs -f ended before %q was seen", want)
				}
				if strings.HasSuffix(line, want) {
					return
				}
			case <-limit:
				t.Fatalf("logs -f did not show %q", want)
			}
		}
	}
	await("before")
	for _, word := range []string{"one", "two"} {
		lab.Do[any](t, c, "followed", op{"op": "log", "lines": []string{word}})
		await(word)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range seen {
	}
	_ = cmd.Wait() // ended by the signal
}
