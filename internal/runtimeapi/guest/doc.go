// Package guest is the inside of a container's conversation with its host, for
// programs in Go: Conn speaks the frames of package frame, and API serves AWS's
// Runtime API over HTTP to a runtime that knows only that.
//
// It runs inside the sandbox, next to the user's code and under its hands: what
// arrives over HTTP is hostile, and what it says to the host is checked again
// there.
package guest
