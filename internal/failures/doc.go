// Package failures keeps the requests that were not processed successfully, each
// with its payload, why and how often it failed, until it is processed after all,
// deleted, or older than the store keeps.
//
// A failure is found by its account and request id, its Key. It is put by
// whoever gives up a request, on the disk before Put returns; it goes when the
// request succeeds at last (Succeeded), by Delete, or with time. Redrive puts it
// into the queue of events once more, by people or by its function's rules; it
// stays in the store meanwhile, marked, so that it is not put there twice. If it
// fails again it is the same failure, with its attempts added.
//
// # What is where
//
// One journal has it all: failures whole, marks, and what is gone, in the order
// in which they were written. In memory a failure is an entry of 64 bytes and
// its share of a map, so that a million take 100 MB; payloads are on the disk only.
// Whoever changes what is there of a key holds it, so the journal has the changes
// of a key in the order in which they were made.
//
// The journal is dropped from its beginning, and what is in the way is written
// anew at its end, as it is in package queue.
//
// # What may happen twice
//
// A redriven event is in the queue before it is marked here, and settled there
// after it is gone here. A crash in between has it processed once more, never
// less than once.
package failures
