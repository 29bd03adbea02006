package invoke_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain has the tests wait beside each other for what takes its time: a
// function's timeout is a second at least.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, "invoke:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}
