// Package obs is what can be seen of the platform from outside: a record of
// every execution (Store) and metrics for Prometheus (Metrics).
//
// Neither may slow a call down. Store.Add copies a record into a buffer and
// returns; a goroutine writes what has gathered, some 30 ms later. Metrics adds
// to counters that were looked up when it was made.
//
// # Files of the execution records
//
//	DIR/00000001.records    oldest segment
//	DIR/00000002.records    …
//
// A segment is 12 bytes of header (the magic "lmbexec1" and 4 random bytes, the
// salt) and records one after the other:
//
//	length   2 bytes, little-endian, of what follows the checksum
//	checksum 4 bytes, CRC-32C over salt, length and body
//	body     as appendExecution writes it, some 80 bytes and the reason
//
// Numbers in a body are unsigned varints, texts have their length before them;
// request, account, instance and container ids of the usual shape are packed to
// half their length. When a segment holds an eighth of what is to be kept, a
// new one is begun, and the oldest goes as soon as the others hold enough.
//
// Nothing is synced: records survive the end of the process, however it ends,
// but for the last 30 ms; a power loss may take more. What is damaged, a tail
// cut short first of all, is passed over, told of once when the store is
// opened, and the rest is served. The salt keeps text that a function chose from
// ever passing for a record.
package obs
