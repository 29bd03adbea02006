package cluster

import _ "unsafe" // for go:linkname

// sampledFile is the file that the engine's package pse reads once a second, from
// the moment it is linked into a program, used or not.
//
//go:linkname sampledFile github.com/nats-io/nats-server/v2/server/pse.procStatFile
var sampledFile string

// Quiet ends what the engine does in a process merely by being linked into it: a
// timer that reads /proc once a second. A process of this program that becomes a
// sandbox calls it first, because there the kernel kills it for opening a file.
// A name that no file can have makes the next reading the last, without a system
// call. It is for processes that never open a Node.
func Quiet() { sampledFile = "\x00" }
