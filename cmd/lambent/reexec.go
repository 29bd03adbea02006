package main

// reexec reports whether this process was started by the sandbox driver to be
// part of a sandbox, in which case it has been that and main has nothing left
// to do.
func reexec() bool { return false }
