// Package bundle reads, checks, unpacks and makes deployment packages: the zip
// files functions are uploaded as.
//
// A package comes from a stranger. What Inspect lets through is safe to unpack
// on a host and to attach to a sandbox: every entry is a regular file, a folder
// or a symbolic link; every path and every link stays inside the root; nothing
// is there twice; and the whole is no larger than it may be, counted in bytes
// that were really inflated and not in those a header declares. Unpack makes the
// same checks again, writes through an os.Root besides, and leaves either the
// whole tree or nothing.
//
// The package keeps no state and starts no goroutine; all functions may be
// called at once from several.
package bundle
