// Package filters holds the seccomp programs under which the processes of a
// sandbox run, compiled beforehand. gVisor derives them from its rules and
// optimizes them in every process that it starts, which takes 40 to 75 ms in a
// sandbox, unless its own build did so: and that is a Bazel step that the sources
// Go modules are served from have not been through.
//
// The programs are gVisor's own, made by its own compiler from its own rules; a
// test compiles them anew and compares. gVisor looks them up by all that shapes
// its rules: where nothing here matches (another architecture, a build with the
// race detector, a setting of gVisor's that has changed) it compiles as before.
package filters

//go:generate go run ./compile
