// Package runtimeapi is how a host talks to the process inside a container: one
// Session per container, over one end of a socket pair whose other end the
// process inherits as file descriptor 3.
//
// The wire is package frame. Package guest is the other end for programs in Go;
// the Node and Python bootstraps speak the frames themselves.
//
// Terms: the guest is the process at the other end. It belongs to the user, so
// what it sends is hostile until proven otherwise: sizes are bounded, parts are
// checked, and a guest that breaks the order of the conversation ends its own
// session with a *ProtocolError and harms nobody else.
//
// Lifecycle: NewSession, Open, then Booted, Assign, and Invoke again and again,
// for hours if need be; Close at the end, whatever happened before. Invoke is
// called by one goroutine at a time (a second one gets ErrState); everything
// else may be called by anybody at any time.
//
// Time: nothing in here has a clock or a timer. Whoever calls bounds the wait
// with a context.
package runtimeapi
