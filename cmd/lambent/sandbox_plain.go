//go:build !race

package main

// sandboxExecutable is the program that becomes gVisor: empty is this one.
func sandboxExecutable() (string, error) { return "", nil }
