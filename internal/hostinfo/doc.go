// Package hostinfo finds out what a machine has that functions need: language
// runtimes, control groups, user namespaces, memory. It looks and decides; it
// changes nothing.
//
// All looking goes through a Probe, so that every decision is tested against
// machines that are not there. A Probe is asked few, plain questions; what
// follows from the answers is decided here.
package hostinfo
