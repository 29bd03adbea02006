// Package functionlog keeps what functions print, for each function apart, and
// hands it out: from the past (Read) and as it comes (Follow).
//
// Printing must never slow a function down. Append puts a line into a bounded
// queue and returns; one goroutine takes whatever is queued and writes it. Over
// the bound, which one account cannot use up alone, lines are dropped, and a
// line that says how many takes their place. Lines survive a restart, not a
// power loss: nothing is synced.
//
// # Files
//
//	DIR/ACCOUNT/FUNCTION/current.log     the newest lines, one JSON object each
//	DIR/ACCOUNT/FUNCTION/previous.log    those before
//
// When current.log is half as large as a function may have, it takes the place
// of previous.log. A line that cannot be read, as after a crash in the midst of
// writing it, is passed over.
package functionlog
