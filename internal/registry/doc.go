// Package registry remembers the functions of all accounts, and their code.
//
// Every record is in memory, where reads find it, and on the node's disk before
// a write is acknowledged. A record that was handed out is never changed: a
// change makes a new one, with a new revision. Deployment packages are kept by
// their hash, once however many functions share one, and for as long as a
// record names them and a little longer.
//
// # The life of a function
//
//	create ──► Pending ──► Active ──► (update) InProgress ──► Successful
//	              │                        │
//	              └──► Failed              └──► Failed
//
// How new code takes the place of old, rollout.go tells.
//
// Create and the updates return as soon as the change is durable; Options.Prepare
// then makes the code ready in the background, and the record settles. A change
// meanwhile is refused, as AWS refuses it. What a restart interrupted is settled
// after it.
package registry
