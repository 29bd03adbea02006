package gvisor

import (
	"fmt"
	"os"
)

// DetachStdio puts /dev/null in the place of os.Stdin, os.Stdout and os.Stderr
// and returns what they were. gVisor hands these three variables to the first
// process of every container; a program that uses this driver calls this first
// and writes to the returned files instead. Descriptors 0, 1 and 2 stay as they
// are, so a panic of the program itself is still seen.
func DetachStdio() (stdin, stdout, stderr *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("detach standard input and output: %w", err)
	}
	stdin, stdout, stderr = os.Stdin, os.Stdout, os.Stderr
	os.Stdin, os.Stdout, os.Stderr = null, null, null
	return stdin, stdout, stderr, nil
}

// stdioDetached reports whether all three are /dev/null.
func stdioDetached() bool {
	null, err := os.Stat(os.DevNull)
	if err != nil {
		return false
	}
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if info, err := f.Stat(); err != nil || !os.SameFile(info, null) {
			return false
		}
	}
	return true
}
