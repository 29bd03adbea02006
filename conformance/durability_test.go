package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// noPools makes a server that boots nothing on its own: it starts at once.
var noPools = []string{"--pool-nodejs", "0", "--pool-python", "0", "--pool-provided", "0"}

// promise is what a server acknowledged about one function, and what was under
// way when it died: either may be found afterwards, nothing else.
type promise struct {
	acknowledged int // number of the code that is surely there; 0: not created yet
	tried        int // number of the code that may be there
}

func numbered(function string, n int) []byte {
	return lab.File("index.js", fmt.Sprintf("exports.handler = async () => '%s %d'", function, n))
}

func codeHash(pkg []byte) string {
	sum := sha256.Sum256(pkg)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A server that is killed at any moment serves all it has acknowledged when it
// is started again.
func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	const rounds, writers = 20, 3
	data := newData(t)
	account := fix.accounts.Next()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	promises := map[string]*promise{}
	for round := range rounds {
		s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
		c := s.Caller(t, account)
		checkPromises(t, c, promises)
		var wg sync.WaitGroup
		for w := range writers {
			name := fmt.Sprintf("w%d-r%d", w, round/4) // lives through four kills
			if promises[name] == nil {
				promises[name] = &promise{}
			}
			p := promises[name]
			wg.Go(func() { keepWriting(t.Context(), c, name, p) })
		}
		time.Sleep(time.Duration(dice.IntN(250)) * time.Millisecond) // the moment is meant to be any
		s.Kill()
		wg.Wait()
	}
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data, Flags: noPools})
	c := s.Caller(t, account)
	checkPromises(t, c, promises)
	writes := 0
	for name, p := range promises {
		writes += p.acknowledged
		if p.acknowledged == 0 || !strings.HasPrefix(name, "w0") {
			continue
		}
		c.AwaitActive(t, name)
		got, _ := lab.Do[string](t, c, name, nil)
		if got != fmt.Sprintf("%s %d", name, p.acknowledged) && got != fmt.Sprintf("%s %d", name, p.tried) {
			t.Errorf("%s answers %q, acknowledged was %d, tried %d", name, got, p.acknowledged, p.tried)
		}
	}
	t.Logf("%d functions, %d acknowledged writes", len(promises), writes)
	if writes < rounds {
		t.Errorf("only %d writes were acknowledged in %d rounds: this proves nothing", writes, rounds)
	}
}

// keepWriting creates a function and gives it new code, again and again, until
// the server is gone. A conflict is an update that is still settling.
func keepWriting(ctx context.Context, c *lab.Caller, name string, p *promise) {
	for {
		var err error
		next := max(p.acknowledged, p.tried) + 1
		pkg := numbered(name, next)
		p.tried = next
		if p.acknowledged == 0 {
			_, err = c.CreateFunction(ctx, c.Input(lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: pkg}))
		} else {
			_, err = c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: pkg})
		}
		switch {
		case err == nil:
			p.acknowledged = next
		case conflict(err):
			p.tried = next - 1 // it was refused: nothing of it can be there
		default:
			return
		}
	}
}

func conflict(err error) bool {
	_, is := errors.AsType[*types.ResourceConflictException](err)
	return is
}

func checkPromises(t *testing.T, c *lab.Caller, promises map[string]*promise) {
	t.Helper()
	for name, p := range promises {
		got, err := c.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			if _, absent := errors.AsType[*types.ResourceNotFoundException](err); absent && p.acknowledged == 0 {
				p.tried = 0
				continue
			}
			t.Fatalf("%s, acknowledged with code %d, is lost: %v", name, p.acknowledged, err)
		}
		found := 0
		for n := max(p.acknowledged, 1); n <= p.tried; n++ {
			if aws.ToString(got.CodeSha256) == codeHash(numbered(name, n)) {
				found = n
			}
		}
		if found == 0 {
			t.Fatalf("%s has none of the codes %d to %d", name, p.acknowledged, p.tried)
		}
		p.acknowledged, p.tried = found, found
	}
}

// Killed while sandboxes run, a server leaves nothing that the next start does
// not remove.
func TestNextStartRemovesTheOrphansOfAKilledServer(t *testing.T) {
	t.Parallel()
	data := newData(t)
	s := lab.Run(t, lab.Config{Bin: fix.bin, Data: data})
	s.AwaitSettled(t)
	before := lab.MustCount(t, s)
	for range 2 {
		c := s.Caller(t, fix.accounts.Next())
		var wg sync.WaitGroup
		for _, l := range languages(t) {
			f := l.function("orphan-" + l.name)
			f.Timeout = 600
			c.Create(t, f)
			wg.Go(func() {
				if a, err := c.Call(t.Context(), f.Name, op{"op": "sleep", "ms": 500_000}); err == nil {
					t.Errorf("a call to a server that was killed is answered: %s", a.Payload)
				}
			})
		}
		awaitBusy(t, s, 3)
		alive := lab.MustCount(t, s)
		s.Kill()
		wg.Wait()

		s = lab.Run(t, lab.Config{Bin: fix.bin, Data: data})
		s.AwaitSettled(t)
		for _, l := range languages(t) {
			s.Caller(t, c.Account).Delete(t, "orphan-"+l.name)
		}
		lab.AwaitCensus(t, s, before)
		t.Logf("while it ran: %s", alive)
	}
	during := lab.MustCount(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	left, err := lab.CountLeft(s, during)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(left.Sandboxes) + len(left.Helpers) + len(left.Orphans) + len(left.Zombies) + len(left.Mounts) + len(left.Cgroups) + len(left.Networks); n != 0 {
		t.Errorf("a server that ended well left %s:\n%q\n%q\n%q", left, left.Orphans, left.Mounts, left.Cgroups)
	}
}

// awaitBusy waits until n executions run.
func awaitBusy(t *testing.T, s *lab.Server, n int) {
	t.Helper()
	lab.Eventually(t, "wait for executions to run", func() error {
		containers, err := s.Containers()
		if err != nil {
			return err
		}
		busy := 0
		for _, c := range containers {
			if c.State == "busy" {
				busy++
			}
		}
		if busy < n {
			return fmt.Errorf("%d of %d are busy", busy, n)
		}
		return nil
	})
}

func TestSecondServerOnADataFolderSaysSo(t *testing.T) {
	t.Parallel()
	s := newServer(t, noPools...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // it must not wait for the other one
	defer cancel()
	args := append([]string{"up", "--listen", "127.0.0.1:0", "--data", s.Data}, noPools...)
	out, err := exec.CommandContext(ctx, fix.bin, args...).CombinedOutput()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() <= 0 {
		t.Fatalf("the second server ended with %v, want an exit status of its own:\n%s", err, out)
	}
	for _, word := range []string{s.Data, fmt.Sprint(s.PID())} {
		if !strings.Contains(string(out), word) {
			t.Errorf("the second server does not name %s:\n%s", word, out)
		}
	}
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, node(t).function("first"))
	if got, _ := lab.Do[string](t, c, "first", op{"op": "echo", "value": "unharmed"}); got != "unharmed" {
		t.Errorf("the first server answers %q", got)
	}
}

func TestTerminationLetsRunningCallsEnd(t *testing.T) {
	t.Parallel()
	s := newServer(t, noPools...)
	c := s.Caller(t, fix.accounts.Next())
	c.Create(t, node(t).function("long"))
	type result struct {
		a   *lab.Answer
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := c.Call(t.Context(), "long", op{"op": "sleep", "ms": 2000})
		done <- result{a, err}
	}()
	awaitBusy(t, s, 1)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if r := <-done; r.err != nil || r.a.FunctionError != nil || string(r.a.Payload) != `"slept"` {
		t.Errorf("the running call ends with %v, %+v", r.err, r.a)
	}
	if resp, err := http.Get(s.URL + "/_lambent/health"); err == nil {
		resp.Body.Close()
		t.Error("the server still answers")
	}
}

func TestTerminationWaitsNoLongerThanTheDrainTimeout(t *testing.T) {
	t.Parallel()
	s := newServer(t, append([]string{"--drain-timeout", "300ms"}, noPools...)...)
	c := s.Caller(t, fix.accounts.Next())
	f := python(t).function("endless")
	f.Timeout = 900
	c.Create(t, f)
	done := make(chan error, 1)
	go func() {
		a, err := c.Call(t.Context(), "endless", op{"op": "sleep", "ms": 800_000})
		if err == nil && a.FunctionError == nil {
			err = fmt.Errorf("answered %s", a.Payload)
		}
		done <- err
	}()
	awaitBusy(t, s, 1)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the call that was ended is not answered: %v", err)
	}
}
