// Package queue holds the events of asynchronous calls from the moment they are
// accepted until they are settled: processed, or written where failures are
// kept.
//
// An event is on the disk before Accept returns, and given at least once from
// then on, through crashes and power losses. It waits in a line, of its function
// and qualifier. Whoever works the lines takes an event, which is then his, and
// settles it, has it come again after a time, or puts it back. The events of one
// line never wait for another's, and one that has to come again is waited for by
// none.
//
// # What is where
//
// One journal has it all: events, and the settlements of earlier ones, in the
// order in which they were written. In memory an event is a ref, 8 bytes, and
// its share of its pack's 16; the newest are there whole besides, so that what is
// taken at once is not read from the disk. An event that changes, because it is
// to come again, is written anew at the end, with the ref of what it replaces in
// the same entry.
//
// The journal is dropped from its beginning as packs have no event any more that
// is not settled. Where old events that wait keep much dead behind them, they are
// written anew at the end, too. So a settlement is never dropped before the event
// it is of, and the journal is at most some twice what waits, and 64 MiB.
//
// # Time
//
// Due times and ages are by a clock of the queue's own, which nothing sets: it
// goes on from the journal's last entry, by what the machine's clock says has
// passed since, or not at all where that went back. So the machine's clock may
// jump while a server runs without an event waiting longer, or growing older.
package queue
