//go:build race

package main

import (
	"fmt"
	"os"
)

// sandboxExecutable is the program that becomes gVisor. The race detector's own
// memory has no place in a sandbox, so it is the plain build beside this one,
// under this one's name and ".plain".
func sandboxExecutable() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the plain build beside this one: %w", err)
	}
	plain := exe + ".plain"
	if _, err := os.Stat(plain); err != nil {
		return "", fmt.Errorf("this build looks for data races and cannot become a sandbox; put a plain one beside it: %w", err)
	}
	return plain, nil
}
