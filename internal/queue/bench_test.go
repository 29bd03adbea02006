package queue

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// openDurable opens a queue as a server does: every write is synced. It is closed
// by the function that is returned, or at the end.
func openDurable(b *testing.B, dir string) (q *Queue, end func()) {
	b.Helper()
	node := cluster.New(cluster.Options{Dir: dir})
	must(0, node.Open(b.Context()))(b)
	q = must(Open(b.Context(), node, Options{}))(b)
	end = sync.OnceFunc(func() {
		must(0, q.Close())(b)
		must(0, node.Close())(b)
	})
	b.Cleanup(end)
	return q, end
}

func small(l Line, i int64) *Event {
	return &Event{
		ID: lambent.RequestID(fmt.Sprintf("8d2f0c4e-9f54-4f0f-8a4a-%012d", i)), Line: l, Payload: make([]byte, 1024), AcceptedAt: time.Now(),
		TraceID: "Root=1-5759e988-bd862e3fe1be46a994272793",
	}
}

// BenchmarkAccept tells what an acceptance of 1 KB costs, synced, while somebody
// takes and settles what comes.
func BenchmarkAccept(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			q, _ := openDurable(b, b.TempDir())
			ready := make(chan Line, 1)
			q.Notify(func(l Line) {
				select {
				case ready <- l:
				default:
				}
			})
			var worker sync.WaitGroup
			worker.Go(func() {
				for l := range ready {
					for {
						t, ok, err := q.Take(b.Context(), l)
						if !ok || err != nil {
							break
						}
						t.Settle()
					}
				}
			})
			var next atomic.Int64
			var mu sync.Mutex
			var took []time.Duration
			var calls sync.WaitGroup
			b.ResetTimer()
			for range callers {
				calls.Go(func() {
					var mine []time.Duration
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						began := time.Now()
						if err := q.Accept(b.Context(), small(hello, i)); err != nil {
							b.Error(err)
						}
						mine = append(mine, time.Since(began))
					}
					mu.Lock()
					took = append(took, mine...)
					mu.Unlock()
				})
			}
			calls.Wait()
			b.StopTimer()
			close(ready)
			worker.Wait()
			slices.Sort(took)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepts/s")
			b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
		})
	}
}

// BenchmarkMillion tells what a million events that wait cost: memory of the
// process, and how fast they are taken and settled, the first and the last of
// them. It is one run, whatever b.N: -bench Million -benchtime 1x.
func BenchmarkMillion(b *testing.B) {
	for _, c := range []struct {
		lines, callers int
		anew           bool // another process drains them
	}{{1, 64, true}, {100, 64, true}, {1, 64, false}} {
		b.Run(fmt.Sprintf("lines=%d/anew=%v", c.lines, c.anew), func(b *testing.B) {
			const events = 1_000_000
			dir := b.TempDir()
			q, end := openDurable(b, dir)
			before := resident(b)
			lineOf := func(i int64) Line {
				return Line{"000000000000", lambent.FunctionName(fmt.Sprintf("f%d", i%int64(c.lines))), ""}
			}
			var next atomic.Int64
			var calls sync.WaitGroup
			peak := watch(b)
			began := time.Now()
			for range c.callers {
				calls.Go(func() {
					for i := next.Add(1); i <= events; i = next.Add(1) {
						if err := q.Accept(b.Context(), small(lineOf(i), i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			calls.Wait()
			b.ReportMetric(events/time.Since(began).Seconds(), "accepts/s")
			b.ReportMetric(peak()-before, "MB-peak-accepting")
			runtime.GC()
			b.ReportMetric(resident(b)-before, "MB-waiting")
			if c.anew {
				end()
				peak, began = watch(b), time.Now()
				q, _ = openDurable(b, dir)
				b.ReportMetric(time.Since(began).Seconds(), "s-opening")
				b.ReportMetric(peak()-before, "MB-peak-opening")
				runtime.GC()
				peak = watch(b)
				pace(b, q, lineOf(1))
				b.ReportMetric(peak()-before, "MB-peak-at-5000/s")
				runtime.GC()
			}
			peak = watch(b)
			rates := drain(b, q, c.lines, lineOf)
			b.ReportMetric(peak()-before, "MB-peak-draining")
			b.ReportMetric(rates[0], "first-drained/s")
			b.ReportMetric(rates[len(rates)/2], "middle-drained/s")
			b.ReportMetric(rates[len(rates)-1], "last-drained/s")
		})
	}
}

// pace takes and settles 5,000 events a second for ten seconds, of one line as long
// as it has any.
func pace(b *testing.B, q *Queue, l Line) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 5000 {
		<-tick.C
		for range 10 {
			if t, ok, err := q.Take(b.Context(), l); err != nil {
				b.Fatal(err)
			} else if ok {
				t.Settle()
			}
		}
	}
}

// drain takes and settles all events, by 16 workers that go round the lines, and
// gives the rate of each tenth.
func drain(b *testing.B, q *Queue, lines int, lineOf func(int64) Line) (rates []float64) {
	events, _ := q.Size()
	var drained atomic.Int64
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for i, empty := int64(w), 0; empty < lines; i++ {
				t, ok, err := q.Take(b.Context(), lineOf(i))
				if err != nil {
					b.Error(err)
					return
				}
				if !ok {
					empty++
					continue
				}
				empty = 0
				t.Settle()
				drained.Add(1)
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began, last := time.Now(), time.Now()
	for tenth := 1; tenth <= 10 && time.Since(began) < 5*time.Minute; {
		<-tick.C
		if drained.Load() >= int64(events*tenth/10) {
			rates = append(rates, float64(events)/10/time.Since(last).Seconds())
			last = time.Now()
			tenth++
		}
	}
	workers.Wait()
	return rates
}

// resident is the process's memory, in MB.
func resident(b *testing.B) float64 {
	debug.FreeOSMemory()
	return residentNow(b)
}

func residentNow(b *testing.B) float64 {
	data := must(os.ReadFile("/proc/self/statm"))(b)
	pages := must(strconv.Atoi(strings.Fields(string(data))[1]))(b)
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// watch looks for the most memory the process has until the function it returns
// is called.
func watch(b *testing.B) (peak func() float64) {
	stop, most := make(chan bool), make(chan float64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		top := 0.0
		for {
			select {
			case <-stop:
				most <- top
				return
			case <-tick.C:
				top = max(top, residentNow(b))
			}
		}
	}()
	return func() float64 { close(stop); return <-most }
}
