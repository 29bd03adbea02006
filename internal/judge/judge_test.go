package judge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"lambent"
	"lambent/internal/control"
	"lambent/internal/judge"
)

func TestMain(m *testing.M) {
	if judge.IsJudge() {
		if err := judge.Main(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, o judge.Options) *judge.Judge {
	t.Helper()
	before := children(t)
	j := judge.New(o)
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Error(err)
		}
		if after := children(t); after != before {
			t.Errorf("%d processes are left, before there were %d", after, before)
		}
		if err := j.Check(t.Context(), "a", expect(t, "true", ""), nil, nil); err == nil {
			t.Error("a closed judge judges")
		}
	})
	return j
}

// children counts this process's.
func children(t *testing.T) int { return len(childIDs(t)) }

func childIDs(t *testing.T) (pids []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children") // the thread may have ended
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func expect(t *testing.T, predicate, schema string) *control.Expectation {
	t.Helper()
	text, err := json.Marshal(control.Expectation{Predicate: predicate, Schema: []byte(schema)})
	if err != nil {
		t.Fatal(err)
	}
	var e control.Expectation
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return &e
}

func TestAnswersAreJudged(t *testing.T) {
	j := open(t, judge.Options{Processes: 3})
	var all sync.WaitGroup
	for k := range 21 { // of more accounts than there are processes
		all.Go(func() {
			account := lambent.AccountID(fmt.Sprintf("%012d", k%7))
			e := expect(t, fmt.Sprintf("response.n == event.n + %d", k), `{"type":"object"}`)
			if err := j.Check(t.Context(), account, e, fmt.Appendf(nil, `{"n":%d}`, k+5), []byte(`{"n":5}`)); err != nil {
				t.Errorf("%d: %v", k, err)
			}
			if err := j.Check(t.Context(), account, e, fmt.Appendf(nil, `{"n":%d}`, k+6), []byte(`{"n":5}`)); err == nil || !strings.Contains(err.Error(), "does not hold") {
				t.Errorf("%d: %v", k, err)
			}
			if err := j.Check(t.Context(), account, e, []byte(`[]`), nil); err == nil || !strings.Contains(err.Error(), "does not conform") {
				t.Errorf("%d: %v", k, err)
			}
		})
	}
	all.Wait()
	large := []byte(`{"n":5,"text":"` + strings.Repeat("x", 6<<20) + `"}`)
	if err := j.Check(t.Context(), "a", expect(t, "size(response.text) > 6000000", ""), large, large); err != nil {
		t.Error(err)
	}
}

// Whoever may declare what is right and write the answers to it takes a bounded
// part of the machine, from his own account.
func TestSecurityWhatIsDeclaredTakesNoMoreThanThereIs(t *testing.T) {
	j := open(t, judge.Options{})
	double := "response"
	for range 60 {
		double = "[" + double + "].map(a, a + a)[0]"
	}
	many := "[1,2,3,4,5,6,7,8,9].all(x, true"
	nested := strings.Repeat(strings.Replace(many, "true", "", 1), 12) + "response != ''" + strings.Repeat(")", 12)
	for _, c := range []struct{ predicate, schema, why string }{
		{double + " != ''", "", "took more than"}, // memory, or time where that is slow
		{nested, "", "of computing"},
		{"", `{"$ref":"#"}`, "circle"},
		{"", `{"allOf":[{"$ref":"#"}]}`, "circle"},
		{"", `{"default":{},"$ref":"#"}`, "circle"},
		{"response.replace('', response.replace('a', response)) != ''", "", "memory"},
	} {
		answer := []byte(`"` + strings.Repeat("a", 1<<20) + `"`)
		if err := j.Check(t.Context(), "a", expect(t, c.predicate, c.schema), answer, nil); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60s%s: %v", c.predicate, c.schema, err)
		}
		if err := j.Check(t.Context(), "a", expect(t, "response == 1", ""), []byte("1"), nil); err != nil {
			t.Errorf("after %.60s%s: %v", c.predicate, c.schema, err)
		}
	}
}

// What it takes to read what is declared is bounded, too: schemas and predicates
// that are nested deep take minutes.
func TestSecurityWhatIsDeclaredIsReadWithinBounds(t *testing.T) {
	j := open(t, judge.Options{})
	for _, c := range []struct{ predicate, schema, why string }{
		{"", strings.Repeat(`{"not":`, 8100) + "{}" + strings.Repeat("}", 8100), "than"},
		{strings.Repeat("{1:", 240) + "1" + strings.Repeat("}", 240) + " == {}", "", "of computing"},
		{"response ==", "", "Syntax error"},
		{"", `{"pattern":"("}`, "pattern"},
		{"response == 1", `{"type":"integer"}`, ""},
	} {
		err := j.CheckDeclared(t.Context(), "a", expect(t, c.predicate, c.schema))
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%.60s%.60s: %v", c.predicate, c.schema, err)
		case c.why != "" && (lambent.KindOf(err) != lambent.KindInvalid || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%.60s%.60s: %v, want %q", c.predicate, c.schema, err, c.why)
		}
	}
}

// However many of an account's answers wait, and whatever each takes: another
// account has its turn after the one that is being judged.
func TestSecurityAccountsGetProcessesInTurn(t *testing.T) {
	j := open(t, judge.Options{Processes: 1})
	long := expect(t, strings.Repeat("[1,2,3,4,5,6,7,8,9].all(x, ", 12)+"response != ''"+strings.Repeat(")", 12), "")
	var judged atomic.Int32
	var all sync.WaitGroup
	first := make(chan struct{})
	for range 12 {
		all.Go(func() {
			if err := j.Check(t.Context(), "a", long, []byte(`"a"`), nil); err == nil {
				t.Error("a whole second was enough")
			}
			if judged.Add(1) == 1 {
				close(first)
			}
		})
	}
	<-first
	before := judged.Load()
	if err := j.Check(t.Context(), "b", expect(t, "response == 1", ""), []byte("1"), nil); err != nil {
		t.Error(err)
	}
	if n := judged.Load() - before; n > 3 { // of eleven: some may have got the process before, or have been judged since
		t.Errorf("%d answers were judged before", n)
	}
	if err := j.Close(); err != nil { // the others need not be judged
		t.Error(err)
	}
	all.Wait()
}

// A process that something else ends, as a machine does that is out of memory, says
// nothing about an answer.
func TestAProcessThatIsKilledIsReplaced(t *testing.T) {
	j := open(t, judge.Options{})
	e := expect(t, "response == 1", "")
	for range 3 {
		if err := j.Check(t.Context(), "a", e, []byte("1"), nil); err != nil {
			t.Error(err)
		}
		for _, pid := range judges(t) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// judges are this process's that judge.
func judges(t *testing.T) (pids []int) {
	t.Helper()
	for _, pid := range childIDs(t) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(string(line), "lambent-judge") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestWhoNoLongerWaitsEndsTheProcess(t *testing.T) {
	j := open(t, judge.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Check(ctx, "a", expect(t, "true", ""), nil, nil); err == nil {
		t.Error("judged for nobody")
	}
	if err := j.Check(t.Context(), "a", expect(t, "true", ""), nil, nil); err != nil {
		t.Error(err)
	}
}

func BenchmarkCheck(b *testing.B) {
	j := judge.New(judge.Options{})
	defer j.Close()
	e := &control.Expectation{Predicate: "response.total > 0"}
	for b.Loop() {
		if err := j.Check(b.Context(), "a", e, []byte(`{"total":7}`), nil); err != nil {
			b.Fatal(err)
		}
	}
}
