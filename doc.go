// Package lambent is the vocabulary of the platform: the identities, records,
// states and errors every other package speaks in. It is the floor all others
// stand on, so it imports the standard library only and holds no I/O, no
// goroutine and no clock: where a decision needs the time, the time is an
// argument.
//
// The words follow the design: an account owns functions; a function has
// versions; an instance is one gVisor sandbox and belongs to no account (warm)
// or to exactly one (active), never to two in its life; a container lives in an
// instance, holds one function version and runs one execution at a time.
package lambent
