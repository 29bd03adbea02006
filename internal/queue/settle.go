package queue

import (
	"context"
	"time"

	"lambent/internal/cluster"
)

// mostSettled is how many settlements one entry has at most: 10 bytes each make
// half a MiB.
const mostSettled = 50_000

// settleAgain is when the disk is asked again after it took no settlements; they
// wait in memory, and the events come again if the server is killed meanwhile.
const settleAgain = time.Second

// closeLimit bounds the last write of settlements.
const closeLimit = 10 * time.Second

// writeSettlements writes what is settled: while one write is under way the next
// gathers.
func (q *Queue) writeSettlements() {
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	failing := false
	for {
		select {
		case <-q.running.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(q.running), closeLimit)
			defer cancel()
			if err := q.flush(ctx); err != nil {
				q.opts.Log.Warn("events that are settled come again after the next start: that could not be written", "err", err)
			}
			return
		case <-q.settle:
		case <-again.C:
		}
		err := q.flush(q.running)
		if err != nil && !failing && q.running.Err() == nil {
			q.opts.Log.Warn("that events are settled cannot be written; it is tried on, and after a crash before they come again", "err", err)
		}
		if failing = err != nil; failing {
			again.Reset(settleAgain)
		}
	}
}

// flush writes all settlements that wait.
func (q *Queue) flush(ctx context.Context) error {
	for {
		q.mu.Lock()
		n := min(len(q.settled), mostSettled)
		refs := q.settled[:n:n]
		q.settled = q.settled[n:]
		if len(q.settled) == 0 {
			q.settled = nil
		}
		first := q.packs.first
		q.mu.Unlock()
		if n == 0 {
			return nil
		}
		kept := refs[:0]
		for _, r := range refs {
			if r.pack() >= first { // else it is gone
				kept = append(kept, r)
			}
		}
		if len(kept) == 0 {
			continue
		}
		entry := encodeSettled(q.clock.stamp(), kept)
		err := q.journal.Append(ctx, cluster.Append{Entries: [][]byte{entry}, Essential: true, Stored: func(at cluster.Position) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.written(at)
		}})
		if err != nil {
			q.mu.Lock()
			q.settled = append(q.settled, kept...)
			q.mu.Unlock()
			return err
		}
	}
}
