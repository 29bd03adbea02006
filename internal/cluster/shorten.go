package cluster

import (
	"context"
	"log/slog"
	"time"
)

const (
	// DropBytes is how much of a journal is dropped at once: a block of the engine's
	// files.
	DropBytes = 8 << 20
	// SpareBytes is how much that is not needed a journal may have beside as much as
	// is.
	SpareBytes = 64 << 20
	// MoveBytes is how much of a journal's beginning is cleared at a time, and
	// MoveBatch how much of it is written at once, while others wait for their turn.
	MoveBytes = 16 << 20
	MoveBatch = 256 << 10
)

// Use tells what of a journal is needed still.
type Use struct {
	Needed uint64 // the first pack of which something is
	Dead   int64  // bytes of the packs before
	Bytes  int64  // of all packs
	Live   int64  // of them, roughly, of what is needed
}

// wasteful tells whether old entries must be written anew so that what is dead
// behind them can be dropped.
func (u Use) wasteful() bool { return u.Bytes-u.Live >= u.Live+SpareBytes }

// Untidy tells whether Shorten has something to do.
func (u Use) Untidy() bool { return u.Dead >= DropBytes || u.wasteful() }

// Contents is what Shorten asks of whoever knows what is in a journal. No lock is
// held while it is asked.
type Contents interface {
	// Use tells how the journal is used now.
	Use() Use
	// Dropped says that the packs before one are gone, and is told whether some of
	// them were there.
	Dropped(first uint64) (some bool)
	// Clear writes anew, at the end, what is needed of the first MoveBytes; moved is
	// false where nothing of it can be moved now.
	Clear(ctx context.Context) (moved bool, err error)
}

// Shorten drops what is not needed from the beginning of a journal, and has what is
// in the way moved, as long as there is much of it. So a journal is, in the end, at
// most some twice what is needed, and SpareBytes.
func (j *Journal) Shorten(ctx context.Context, c Contents) error {
	for {
		u := c.Use()
		switch {
		case u.Dead >= DropBytes:
			first, err := j.Drop(ctx, u.Needed)
			if err != nil {
				return err
			}
			if !c.Dropped(first) {
				return nil // what is dead is not whole blocks of a file yet
			}
		case u.wasteful():
			moved, err := c.Clear(ctx)
			if err != nil || !moved {
				return err // what is in the way is being put back, and will be out of it
			}
		default:
			return nil
		}
	}
}

// upkeepAgain is when an upkeep is tried again after the disk did not let it.
const upkeepAgain = 5 * time.Second

// Upkeep does something at once, whenever it is told to, and again after a time
// where it asks for that or failed, until ctx ends. what says, for the log, what
// cannot be done then.
func Upkeep(ctx context.Context, told <-chan struct{}, log *slog.Logger, what string, do func(context.Context) (again time.Duration, err error)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-timer.C:
		}
		again, err := do(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !failing {
			log.Warn(what+"; it is tried on", "err", err)
		}
		if failing = err != nil; failing {
			again = upkeepAgain
		}
		timer.Stop()
		if again > 0 {
			timer.Reset(again)
		}
	}
}
