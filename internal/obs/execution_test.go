package obs

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"lambent"
)

var received = time.Date(2026, 11, 21, 6, 7, 8, 123456789, time.UTC)

// usual is a record as most are.
func usual() Execution {
	return Execution{
		RequestID: "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff", Account: "000000000042", Function: "orders", Version: lambent.Latest,
		ReceivedAt: received, ExecStartedAt: received.Add(200 * time.Microsecond), FinishedAt: received.Add(900 * time.Microsecond),
		StartKind: lambent.StartReuse, Reason: "an idle container of this version was at hand, last used 12 ms ago",
		Instance: "i-0123456789abcdef0", Container: "c-fedcba98765432100", MemoryMB: 128, MaxMemoryUsedMB: 47, CPU: 350 * time.Microsecond,
	}
}

func TestExecutionsComeBackAsTheyWere(t *testing.T) {
	odd := func(change func(*Execution)) Execution {
		e := usual()
		change(&e)
		return e
	}
	for name, e := range map[string]Execution{
		"usual":   usual(),
		"nothing": {},
		"throttled": {RequestID: "r", Account: "123456789012", Function: "f", Version: "7", ReceivedAt: received, FinishedAt: received,
			Reason: "the account's concurrency of 1 is in use", Outcome: lambent.OutcomeThrottled, Error: "ConcurrentInvocationLimitExceeded", MemoryMB: 128},
		"warm": odd(func(e *Execution) { e.StartKind, e.Pool = lambent.StartWarm, "nodejs" }),
		"stood in": odd(func(e *Execution) {
			e.RequestedVersion, e.Code, e.RequestedCode = "2", "8cvqLmqzeAsbvB4WX6YxhHXqT51oq09zPwyPavWvGHk=", "x"
		}),
		"unknown kind":                odd(func(e *Execution) { e.StartKind = "teleported" }),
		"unknown outcome":             odd(func(e *Execution) { e.Outcome = 77 }),
		"a clock that went back":      odd(func(e *Execution) { e.FinishedAt = received.Add(-time.Hour) }),
		"finished, never received":    odd(func(e *Execution) { e.ReceivedAt, e.ExecStartedAt = time.Time{}, time.Time{} }),
		"upper-case request":          odd(func(e *Execution) { e.RequestID = "0F1E2D3C-4b5a-4978-8695-a4b3c2d1e0ff" }),
		"almost a UUID":               odd(func(e *Execution) { e.RequestID = "0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0fg" }),
		"an id of another shape":      odd(func(e *Execution) { e.Instance, e.Container = "i-0123456789abcdefg", "machine 1" }),
		"an id that begins with ä":    odd(func(e *Execution) { e.Instance = "ä0123456789abcdef0" }),
		"an account of another shape": odd(func(e *Execution) { e.Account = "1234567890123" }),
		"large numbers":               odd(func(e *Execution) { e.MemoryMB, e.MaxMemoryUsedMB, e.CPU = math.MaxInt, math.MaxInt, math.MaxInt64 }),
		"words of everywhere":         odd(func(e *Execution) { e.Reason, e.Error = "Grüße, 世界 🌍\n\x00", "Пример" }),
	} {
		body := appendExecution(nil, &e)
		got, err := parseExecution(body)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

func TestTextsAreCutToTheirBounds(t *testing.T) {
	long := strings.Repeat("é", 1<<16)
	e := Execution{RequestID: lambent.RequestID(long), Account: lambent.AccountID(long), Function: lambent.FunctionName(long), Version: lambent.Version(long),
		ReceivedAt: received, ExecStartedAt: received.Add(-math.MaxInt64), FinishedAt: received.Add(-math.MaxInt64), StartKind: lambent.StartKind(long),
		Reason: "x" + long, Pool: long, Instance: lambent.InstanceID(long), Container: lambent.ContainerID(long),
		MemoryMB: math.MaxInt, MaxMemoryUsedMB: math.MaxInt, CPU: math.MaxInt64, Error: "bad \xff" + long,
		RequestedVersion: lambent.Version(long), Code: lambent.CodeHash(long), RequestedCode: lambent.CodeHash(long)}
	body := appendExecution(nil, &e)
	if len(body) > maxBody {
		t.Errorf("a body has %d bytes, the bound is %d", len(body), maxBody)
	}
	got, err := parseExecution(body)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Reason) != maxReason-1 || got.Reason != e.Reason[:maxReason-1] { // not within a rune
		t.Errorf("the reason is %d bytes", len(got.Reason))
	}
	if len(got.Function) != maxName || !strings.HasPrefix(got.Error, "bad é") {
		t.Errorf("function of %d bytes, error %q", len(got.Function), got.Error)
	}
}

func TestTheUsualRecordIsSmall(t *testing.T) {
	e := usual()
	if n := frameSize + len(appendExecution(nil, &e)); n > 150 {
		t.Errorf("it has %d bytes, want at most 150", n)
	}
}

func FuzzParseExecution(f *testing.F) {
	e := usual()
	f.Add(appendExecution(nil, &e))
	f.Add(appendExecution(nil, &Execution{Version: "1", Error: "Oops"}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := parseExecution(body)
		if err != nil {
			return
		}
		again := appendExecution(nil, &e)
		got, err := parseExecution(again)
		if diff := cmp.Diff(e, got); err != nil || diff != "" {
			t.Errorf("read back: %v (-want +got):\n%s", err, diff)
		}
		if len(again) > maxBody {
			t.Errorf("a body has %d bytes", len(again))
		}
	})
}

// What a file holds cannot make a segment misbehave, and the sound records in it
// are found.
func FuzzScan(f *testing.F) {
	write := func(n int) []byte {
		var s segment
		s.size = int64(headerSize)
		s.tail = append([]byte(magic), 1, 2, 3, 4)
		copy(s.salt[:], s.tail[len(magic):])
		for range n {
			e := usual()
			s.append(&e)
		}
		return s.tail
	}
	f.Add(write(0), write(3)[headerSize:], uint16(5))
	f.Add(write(2), []byte{0xff, 0xff}, uint16(400))
	f.Fuzz(func(t *testing.T, data, insert []byte, at uint16) {
		data = append(write(1), data...)
		k := headerSize + int(at)%(len(data)-headerSize+1)
		data = append(data[:k:k], append(insert, data[k:]...)...)
		var s segment
		damaged := s.scan(data)
		if damaged < 0 || s.size > int64(len(data)) || k >= len(write(1)) && len(s.index) == 0 {
			t.Errorf("%d records, %d damaged bytes, size %d of %d", len(s.index), damaged, s.size, len(data))
		}
		for _, e := range s.index {
			if _, _, ok := s.frame(data[e.offset:]); !ok {
				t.Errorf("no record at %d", e.offset)
			}
		}
	})
}
