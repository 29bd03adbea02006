package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"lambent/conformance/lab"
)

// sleeper sleeps for as many milliseconds as its event says.
const sleeper = `exports.handler = async (ms) => { await new Promise((done) => setTimeout(done, ms)); return process.env.AWS_LAMBDA_INITIALIZATION_TYPE; };`

func sleeping(name string) lab.Function {
	return lab.Function{Name: name, Runtime: types.RuntimeNodejs22x, Handler: "index.handler", Zip: lab.File("index.js", sleeper), Memory: 128, Timeout: 30}
}

// atOnce is how many of the executions ran at the same time, at most.
func atOnce(t *testing.T, all []lab.Execution) (most int) {
	t.Helper()
	type edge struct {
		at   time.Time
		step int
	}
	var edges []edge
	for _, e := range all {
		if e.ExecStartedAt == "" {
			continue
		}
		began, err1 := time.Parse(time.RFC3339Nano, e.ExecStartedAt)
		ended, err2 := time.Parse(time.RFC3339Nano, e.FinishedAt)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, edge{began, 1}, edge{ended, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return a.step - b.step
	})
	now := 0
	for _, e := range edges {
		now += e.step
		most = max(most, now)
	}
	return most
}

// A flood of callers, many of whom leave before they are answered, never has more
// executions of a function at once than are reserved for it; afterwards as many
// as are reserved may run, and nothing is left.
func TestReservedConcurrencyHoldsUnderAFloodOfCallersWhoLeave(t *testing.T) {
	const reserved, callers = 3, 40
	s := newServer(t, "--limits-instances", "4", "--instance-memory", "512", "--idle-timeout", "3s", "--pool-nodejs", "1", "--pool-python", "0", "--pool-provided", "0")
	c := s.Caller(t, fix.accounts.Next())
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	f := sleeping("flooded")
	c.Create(t, f)
	put := func(n int32) {
		t.Helper()
		if _, err := c.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &f.Name, ReservedConcurrentExecutions: &n}); err != nil {
			t.Fatal(err)
		}
	}
	put(reserved)
	end := time.Now().Add(6 * time.Second)
	var all sync.WaitGroup
	var answered, refused, left atomic.Int64
	for n := range callers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(n)))
			for time.Now().Before(end) {
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(3) == 0 {
					ctx, cancel = context.WithTimeout(t.Context(), time.Duration(r.IntN(40))*time.Millisecond)
				}
				_, err := c.Call(ctx, f.Name, r.IntN(60))
				gone := ctx.Err() != nil
				cancel()
				throttled, ok := errors.AsType[*types.TooManyRequestsException](err)
				switch {
				case gone:
					left.Add(1)
				case err == nil:
					answered.Add(1)
				case ok && throttled.Reason == types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded:
					refused.Add(1)
				default:
					t.Errorf("caller %d: %v", n, err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d answered, %d refused, %d left", answered.Load(), refused.Load(), left.Load())
	lab.Eventually(t, "as many as are reserved run at once", func() error {
		var calls sync.WaitGroup
		var err atomic.Value
		for range reserved {
			calls.Go(func() {
				if _, e := c.Call(t.Context(), f.Name, 300); e != nil {
					err.Store(e)
				}
			})
		}
		calls.Wait()
		if e, ok := err.Load().(error); ok {
			return e
		}
		return nil
	})
	ran, err := s.Executions("function=" + f.Name + "&limit=100000")
	if err != nil {
		t.Fatal(err)
	}
	if most := atOnce(t, ran); most > reserved {
		t.Errorf("%d of %d executions ran at once, of %d", most, len(ran), reserved)
	}
	c.Delete(t, f.Name)
	lab.AwaitCensus(t, s, before)
}

// Provisioned concurrency that is given, moved and taken in any order, while its
// functions are called, updated and deleted and its sandboxes killed, comes to what
// was said last, or says why not; and nothing is left of it.
func TestProvisionedConcurrencyEndsAsItWasSaidLast(t *testing.T) {
	s := newServer(t, "--limits-instances", "8", "--instance-memory", "512", "--idle-timeout", "3s", "--pool-nodejs", "1", "--pool-python", "0", "--pool-provided", "0")
	s.AwaitSettled(t)
	warmUp(t, s)
	before := lab.MustCount(t, s)
	end := time.Now().Add(20 * time.Second)
	var all sync.WaitGroup
	var callers []*lab.Caller
	for n := range 3 {
		c := s.Caller(t, fix.accounts.Next())
		callers = append(callers, c)
		all.Go(func() { churnProvisioned(t, c, rand.New(rand.NewPCG(9, uint64(n))), end) })
	}
	all.Go(func() {
		r := rand.New(rand.NewPCG(10, 0))
		for time.Now().Before(end) {
			containers, err := s.Containers()
			if err != nil {
				t.Errorf("list the containers: %v", err)
				return
			}
			if len(containers) > 0 {
				killKernel(containers[r.IntN(len(containers))].PID)
			}
			time.Sleep(time.Second) // so that some of them live
		}
	})
	all.Wait()
	for _, c := range callers {
		f := sleeping("last")
		c.Create(t, f)
		ctx := t.Context()
		if _, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &f.Name}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: &f.Name, Qualifier: aws.String("1"), ProvisionedConcurrentExecutions: aws.Int32(2)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range callers {
		lab.Eventually(t, "what was said last is ready", func() error {
			got, err := c.GetProvisionedConcurrencyConfig(t.Context(), &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: aws.String("last"), Qualifier: aws.String("1")})
			if err == nil && (got.Status != types.ProvisionedConcurrencyStatusEnumReady || aws.ToInt32(got.AvailableProvisionedConcurrentExecutions) != 2) {
				err = fmt.Errorf("%s (%s), %d of 2 available", got.Status, aws.ToString(got.StatusReason), aws.ToInt32(got.AvailableProvisionedConcurrentExecutions))
			}
			return err
		})
	}
	containers, err := s.Containers()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if c.Function != "" && c.Function != "last" {
			t.Logf("left: %+v", c)
		}
	}
	for _, c := range callers {
		c.Delete(t, "last")
	}
	lab.AwaitCensus(t, s, before)
}

// churnProvisioned does what an account may do with provisioned concurrency.
func churnProvisioned(t *testing.T, c *lab.Caller, r *rand.Rand, end time.Time) {
	ctx := t.Context()
	for round := 0; time.Now().Before(end); round++ {
		f := sleeping(fmt.Sprint("churned-", round%2))
		if _, err := c.CreateFunction(ctx, c.Input(f)); err != nil {
			t.Errorf("create: %v", err)
			return
		}
		c.AwaitActive(t, f.Name)
		var versions []string // their numbers go on from those of the one before
		for k := range 2 {
			if k > 0 {
				zip := lab.File("index.js", fmt.Sprintf("%s // %d", sleeper, r.Int()))
				if _, err := c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &f.Name, ZipFile: zip}); err != nil {
					t.Errorf("update: %v", err)
					return
				}
				c.AwaitActive(t, f.Name)
			}
			published, err := c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &f.Name})
			if err != nil {
				t.Errorf("publish: %v", err)
				return
			}
			versions = append(versions, *published.Version)
		}
		if _, err := c.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &f.Name, Name: aws.String("live"), FunctionVersion: &versions[0]}); err != nil {
			t.Errorf("alias: %v", err)
			return
		}
		for range 8 {
			qualifier := aws.String(append(versions, "live")[r.IntN(3)])
			var err error
			switch r.IntN(6) {
			case 0, 1:
				_, err = c.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: &f.Name, Qualifier: qualifier, ProvisionedConcurrentExecutions: aws.Int32(int32(1 + r.IntN(3)))})
			case 2:
				_, err = c.DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: &f.Name, Qualifier: qualifier})
			case 3:
				_, err = c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: &f.Name, Name: aws.String("live"), FunctionVersion: &versions[r.IntN(2)]})
			case 4:
				_, err = c.Call(ctx, f.Name, r.IntN(50), qualified(*qualifier))
			case 5:
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond) // so that some of it comes to pass
			}
			_, conflict := errors.AsType[*types.ResourceConflictException](err)
			_, missing := errors.AsType[*types.ProvisionedConcurrencyConfigNotFoundException](err)
			_, gone := errors.AsType[*types.ResourceNotFoundException](err)
			if err != nil && !conflict && !missing && !gone {
				t.Errorf("%v", err)
			}
		}
		if _, err := c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &f.Name}); err != nil {
			t.Errorf("delete: %v", err)
			return
		}
	}
}

// Two accounts ask for more than the machine has, one of them by far more callers
// than the other: it does not get by far more of the machine.
func TestAFloodOfOneAccountLeavesAnotherItsShare(t *testing.T) {
	s := newServer(t, "--limits-instances", "4", "--instance-memory", "256", "--pool-nodejs", "0", "--pool-python", "0", "--pool-provided", "0")
	ctx, stop := context.WithTimeout(t.Context(), 12*time.Second)
	defer stop()
	var all sync.WaitGroup
	flood := func(callers int) *atomic.Int64 {
		c, answered := s.Caller(t, fix.accounts.Next()), &atomic.Int64{}
		c.Create(t, sleeping("flood"))
		for range callers {
			all.Go(func() {
				for ctx.Err() == nil {
					if _, err := c.Call(ctx, "flood", 200); err == nil {
						answered.Add(1)
					}
				}
			})
		}
		return answered
	}
	many := flood(300)
	lab.Eventually(t, "the flood has the machine", func() error {
		if n := many.Load(); n < 40 {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})
	few := flood(12)
	all.Wait()
	t.Logf("%d callers had %d answers, 12 had %d", 300, many.Load(), few.Load())
	if few.Load() < many.Load()/5 {
		t.Errorf("of two accounts one had %d answers, the other %d", many.Load(), few.Load())
	}
}

// On a machine that another account floods, calls that follow each other find the
// container of the one before.
func TestBesideAFloodCallsThatFollowEachOtherFindTheirContainer(t *testing.T) {
	s := newServer(t, "--limits-instances", "3", "--instance-memory", "256", "--pool-nodejs", "0", "--pool-python", "0", "--pool-provided", "0")
	flooder, other := s.Caller(t, fix.accounts.Next()), s.Caller(t, fix.accounts.Next())
	flooder.Create(t, sleeping("flood"))
	other.Create(t, sleeping("quiet"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	var flooded atomic.Int64
	for range 100 {
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := flooder.Call(ctx, "flood", 200); err == nil {
					flooded.Add(1)
				}
			}
		})
	}
	lab.Eventually(t, "the flood has the machine", func() error {
		if n := flooded.Load(); n < 20 {
			return fmt.Errorf("%d answers", n)
		}
		return nil
	})
	const calls = 10
	reused := 0
	for range calls {
		if _, a := lab.Do[string](t, other, "quiet", 1); a.Header.Get("X-Lambent-Start-Kind") == "container_reuse" {
			reused++
		}
	}
	stop()
	all.Wait()
	if reused < calls/2 {
		t.Errorf("%d of %d calls found a container", reused, calls)
	}
}
