package conformance

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent/conformance/lab"
)

// killPlan is how often the server is killed, and how many events are sent in all.
// FAULTS=rounds,events has it otherwise; CONTRIBUTING.md names the whole.
func killPlan(t *testing.T) (rounds, events int) {
	t.Helper()
	rounds, events = 12, 600
	if text, given := os.LookupEnv("FAULTS"); given {
		a, b, _ := strings.Cut(text, ",")
		var bad [2]error
		rounds, bad[0] = strconv.Atoi(a)
		events, bad[1] = strconv.Atoi(b)
		if bad[0] != nil || bad[1] != nil || rounds < 1 || events < rounds {
			t.Fatalf("FAULTS is %q; it must be ROUNDS,EVENTS, such as 200,5000", text)
		}
	}
	return rounds, events
}

// The server is killed again and again while it accepts events and executes them:
// alone, together with sandboxes, after sandboxes, and while it starts. Each event
// it has accepted is executed, or stands in the failure store; and each start ends
// what the one before left behind.
func TestKilledAtAnyMomentNoAcceptedEventIsLost(t *testing.T) {
	t.Parallel()
	rounds, events := killPlan(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killing{proofs: newProofs(), left: events, dice: rand.New(rand.NewPCG(seed, 0)),
		server: lab.Config{Bin: fix.bin, Data: newData(t), Flags: []string{"--async-retry-delays", "20ms,20ms", "--async-backoff", "20ms", "--async-backoff-most", "200ms",
			"--idle-timeout", "5s", "--pool-nodejs", "1", "--pool-python", "0", "--pool-provided", "0"}}}
	s := lab.Run(t, k.server)
	k.deploy(t, s)
	s.AwaitSettled(t)
	before := lab.MustCount(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		k.round(t, round, events/rounds)
	}
	s = lab.Run(t, k.server)
	k.sendAll(t.Context(), s, k.left, 0)
	v := k.await(t, s)
	t.Logf("%d rounds, %d events sent, %d of them unanswered; %d sandbox processes killed; the slowest start after a kill took %v",
		rounds, k.sent, k.unanswered, k.sandboxes, k.slowest.Round(time.Millisecond))
	t.Log(v)
	if v.executed == 0 || k.sandboxes == 0 || v.accepted < events/2 {
		t.Error("it did not hit")
	}
	lab.AwaitCensus(t, s, before)
	during := lab.MustCount(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, s, during)
}

// wantNothingLeft checks that a server that has ended left nothing behind. during
// is a census of its life.
func wantNothingLeft(t *testing.T, s *lab.Server, during lab.Census) {
	t.Helper()
	left, err := lab.CountLeft(s, during)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(left.Sandboxes) + len(left.Helpers) + len(left.Orphans) + len(left.Zombies) + len(left.Mounts) + len(left.Cgroups) + len(left.Networks); n != 0 {
		t.Errorf("a server that ended well left %s:\n%q\n%q\n%q", left, left.Orphans, left.Mounts, left.Cgroups)
	}
}

// killing is a server that is killed over and over.
type killing struct {
	*proofs
	server lab.Config
	dice   *rand.Rand
	left   int // events to be sent

	sandboxes int           // processes that were killed
	slowest   time.Duration // start after a kill, until it serves
}

// span is the time within which a round's events are sent and its kill falls.
const span = 700 * time.Millisecond

// any is a moment within a time: it is meant to be any.
func (k *killing) any(within time.Duration) time.Duration {
	return time.Duration(k.dice.Int64N(int64(within)))
}

// round starts the server, sends it some events and kills it meanwhile.
func (k *killing) round(t *testing.T, round, share int) {
	t.Helper()
	if k.dice.IntN(4) == 0 { // while it starts, or just after
		ctx, cancel := context.WithTimeout(t.Context(), k.any(300*time.Millisecond))
		if s, err := lab.Start(ctx, k.server); err == nil {
			s.Kill()
		}
		cancel()
	}
	began := time.Now()
	s, err := lab.Start(t.Context(), k.server)
	if err != nil {
		t.Fatalf("round %d: %v", round, err)
	}
	k.slowest = max(k.slowest, time.Since(began))
	if orphans, err := s.Orphans(); err != nil || len(orphans) > 0 {
		t.Errorf("round %d: of the server before there are %q, %v", round, orphans, err)
	}

	pause := time.Duration(0) // as many as it can take
	if k.dice.IntN(2) == 0 {
		pause = senders * span / time.Duration(share)
	}
	var wg sync.WaitGroup
	sending, stop := context.WithCancel(t.Context())
	n := min(share, k.left)
	wg.Go(func() { k.left -= n - k.sendAll(sending, s, n, pause) })
	time.Sleep(k.any(span))
	pick := func() bool { return true }
	if k.dice.IntN(2) == 0 {
		pick = func() bool { return k.dice.IntN(2) == 0 }
	}
	killed := 0
	switch round % 3 {
	case 0:
		s.Kill()
	case 1: // the sandboxes first; the server notices, or not
		killed, err = s.KillSandboxes(pick)
		time.Sleep(k.any(span / 2))
		s.Kill()
	case 2:
		var both sync.WaitGroup
		both.Go(s.Kill)
		killed, err = s.KillSandboxes(pick)
		both.Wait()
	}
	if err != nil {
		t.Errorf("round %d: %v", round, err)
	}
	k.sandboxes += killed
	wg.Wait()
	stop()
}

const senders = 4

// sendAll sends so many events by several callers, with a pause of that length on
// average after each, until the server is gone. It tells how many it did not send.
func (k *killing) sendAll(ctx context.Context, s *lab.Server, n int, pause time.Duration) (unsent int) {
	transport := &http.Transport{MaxIdleConnsPerHost: senders}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	todo := make(chan struct{}, n)
	for range n {
		todo <- struct{}{}
	}
	close(todo)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range todo {
				e := workEvent{Unlucky: 0.1}
				switch rand.IntN(100) {
				case 0, 1, 2, 3:
					e.Never = true
				case 4:
					e.Filling = strings.Repeat("x", rand.IntN(200_000))
				}
				if !k.send(ctx, client, s.URL, e) {
					return
				}
				if pause > 0 {
					time.Sleep(rand.N(2 * pause)) // so that the kill falls among them
				}
			}
		})
	}
	wg.Wait()
	return len(todo)
}
