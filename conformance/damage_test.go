package conformance

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// damages are what may become of the end of a file, by a crash of the machine or a
// bad disk, in the order in which they are tried.
func damages(dice *rand.Rand) []damage {
	const end = 300 // bytes: of the last record or two
	return []damage{
		{"cut", func(b []byte) []byte { return b[:len(b)-1-dice.IntN(min(end, len(b)))] }},
		{"zeroes at the end", func(b []byte) []byte { clear(b[len(b)-1-dice.IntN(min(end, len(b))):]); return b }},
		{"garbage after it", func(b []byte) []byte {
			for range 1 + dice.IntN(5000) {
				b = append(b, byte(dice.Uint32()))
			}
			return b
		}},
		{"a flipped bit at the end", func(b []byte) []byte { b[len(b)-1-dice.IntN(min(end, len(b)))] ^= 1 << dice.IntN(8); return b }},
		{"a flipped bit anywhere", func(b []byte) []byte {
			// But not in the length of a record, 4 of its first bytes: behind that nobody
			// knows where records begin, and the file is cut there. Nor in that of its
			// subject, over which the engine has no checksum.
			for {
				k, length := dice.IntN(len(b)), false
				for at := 0; at <= k; at += int(binary.LittleEndian.Uint32(b[at:]) &^ (1 << 31)) {
					length = k < at+4 || k == at+20 || k == at+21
				}
				if !length {
					b[k] ^= 1 << dice.IntN(8)
					return b
				}
			}
		}},
	}
}

type damage struct {
	name string
	do   func([]byte) []byte
}

// spoil damages the file that a stream's messages were written to last.
func (d damage) spoil(t *testing.T, data, stream string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(data, "jetstream/*/streams", stream, "msgs/*.blk"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("blocks of %s: %q, %v", stream, paths, err)
	}
	number := func(path string) (n int) {
		_, _ = fmt.Sscanf(filepath.Base(path), "%d.blk", &n) // 0, which none has, where it is no number
		return n
	}
	last := slices.MaxFunc(paths, func(a, b string) int { return number(a) - number(b) })
	whole, err := os.ReadFile(last)
	if err == nil {
		err = os.WriteFile(last, d.do(whole), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damaged is a server whose data is damaged, over and over.
type damaged struct {
	cfg     lab.Config
	account string
	*lab.Caller
}

func newDamaged(t *testing.T) *damaged {
	t.Helper()
	d := &damaged{account: fix.accounts.Next(), cfg: lab.Config{Bin: fix.bin, Data: newData(t), Flags: append(slices.Clone(fastAsync), noPools...)}}
	d.Caller = lab.Run(t, d.cfg).Caller(t, d.account)
	return d
}

// again kills the server, damages a stream and starts it again. It must say what it
// lost where lost, which counts that then, is not zero.
func (d *damaged) again(t *testing.T, by damage, stream string, lost func() int) {
	t.Helper()
	d.Server.Kill()
	by.spoil(t, d.cfg.Data, stream)
	d.Caller = lab.Run(t, d.cfg).Caller(t, d.account)
	n := lost()
	log := d.Server.Log()
	said := strings.Contains(log, "stream "+stream+" could not be read and were dropped") || strings.Contains(log, "is lost")
	t.Logf("%s: %d lost, told: %v", by.name, n, said)
	if n > 0 && !said {
		t.Errorf("%s: it does not say what it lost", by.name)
	}
}

func seeded(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// event has a function get an event and returns its request id.
func (d *damaged) event(t *testing.T, function, payload string) (id string) {
	t.Helper()
	out, err := d.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &function, Payload: []byte(payload), InvocationType: types.InvocationTypeEvent})
	if err != nil {
		t.Fatal(err)
	}
	return requestID(out)
}

// Events wait in their line when the server is killed and the end of their file is
// damaged. The server starts and says what is lost; all else is executed.
func TestDamagedEndOfTheQueueCostsTheLastEventsOnlyAndIsTold(t *testing.T) {
	t.Parallel()
	const events = 60
	d := newDamaged(t)
	for _, by := range damages(seeded(t)) {
		hold(t, d.Caller, "held")
		waiting := map[string]bool{}
		for range events {
			waiting[d.event(t, "held", `{"op":"echo","value":1}`)] = true
		}
		d.again(t, by, "JOURNAL_events", func() int {
			last := d.event(t, "held", `{"op":"echo","value":2}`) // of a line that has one execution at a time
			awaitExecuted(t, d.Caller, "held", map[string]bool{last: true})
			records, err := d.Server.Executions("limit=100000&function=held")
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Status == "success" {
					delete(waiting, r.RequestID)
				}
			}
			return len(waiting)
		})
		if len(waiting) > 2 {
			t.Errorf("%s: %d of %d events are lost", by.name, len(waiting), events)
		}
		d.Delete(t, "held")
	}
}

// What failed is kept but for what the damage hit, and more can be kept.
func TestDamagedEndOfTheFailureStoreCostsTheLastFailuresOnlyAndIsTold(t *testing.T) {
	t.Parallel()
	const failing = 15
	d := newDamaged(t)
	d.Create(t, node(t).function("failing"))
	if _, err := d.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("failing"), MaximumRetryAttempts: aws.Int32(0)}); err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	fail := func() {
		t.Helper()
		for range failing {
			kept[d.event(t, "failing", `{"op":"throw"}`)] = true
			// One by one: those that fail together stand in one record.
			awaitFailures(t, d.Caller, "?limit=1000", func(all []failure) bool { return len(all) == len(kept) })
		}
	}
	for _, by := range damages(seeded(t)) {
		fail()
		before := len(kept)
		d.again(t, by, "JOURNAL_failures", func() int {
			all := failuresOf(t, d.Caller, "?limit=1000")
			there := map[string]bool{}
			for _, f := range all {
				if !kept[f.RequestID] || f.Reason != "function_error" {
					t.Errorf("%s: there is %+v", by.name, f)
				}
				there[f.RequestID] = true
			}
			kept = there
			return before - len(kept)
		})
		if lost := before - len(kept); lost > 2 {
			t.Errorf("%s: %d of %d failures are lost", by.name, lost, before)
		}
	}
	fail()
}

// Functions are served but for the one that the damage hit, and others can be made.
func TestDamagedEndOfTheRegistryCostsTheLastRecordOnlyAndIsTold(t *testing.T) {
	t.Parallel()
	const functions = 6
	d := newDamaged(t)
	there := map[string]bool{}
	for k, by := range damages(seeded(t)) {
		for n := range functions {
			name := fmt.Sprintf("f%d-%d", k, n)
			d.Create(t, node(t).function(name))
			there[name] = true
		}
		before := len(there)
		d.again(t, by, "KV_functions", func() int {
			left := map[string]bool{}
			for name := range there {
				if _, err := d.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name}); err == nil {
					left[name] = true
				} else {
					wantError[*types.ResourceNotFoundException](t, err, "ResourceNotFoundException", "")
				}
			}
			there = left
			return before - len(there)
		})
		if lost := before - len(there); lost > 1 {
			t.Errorf("%s: %d of %d functions are lost", by.name, lost, before)
		}
		for name := range maps.Keys(there) {
			if got, _ := lab.Do[string](t, d.Caller, name, op{"op": "echo", "value": "served"}); got != "served" {
				t.Errorf("%s: %s answers %q", by.name, name, got)
			}
			break // one stands for them
		}
	}
}
