package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummaryCountsTestsBuildFailuresAndCrashes(t *testing.T) {
	for name, tc := range map[string]struct {
		before int
		input  string
		want   string // all that is printed
		ok     bool
	}{
		"all well": {0, `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"skip","Package":"q"}
{"Action":"pass","Package":"p","Elapsed":1.25}
{"Action":"exit","Package":"main","Output":"0"}
`, "ok    p  1.2 s\n\n1 passed, 0 failed, 0 skipped\n", true},
		"a failed test shows what it printed": {0, `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: broken\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p","Elapsed":0}
{"Action":"exit","Package":"main","Output":"1"}
`, "FAIL  p TestA\n          a_test.go:3: broken\nFAIL  p  0.0 s\n\n0 passed, 1 failed, 0 skipped\n", false},
		"a skipped test gives its reason": {0, `
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: needs root: run as root\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"exit","Package":"main","Output":"0"}
`, "\nskipped: p TestA: needs root: run as root\n0 passed, 0 failed, 1 skipped\n", true},
		"a package that does not build": {0, `
{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","Elapsed":0}
{"Action":"exit","Package":"main","Output":"1"}
`, "p.go:1: no\nFAIL  p  0.0 s\n\n0 passed, 1 failed, 0 skipped\n", false},
		"a package that dies in a test": {0, `
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p","Elapsed":0}
{"Action":"exit","Package":"main","Output":"1"}
`, "FAIL  p  0.0 s\n      panic: oh\n\n0 passed, 1 failed, 0 skipped\n", false},
		"a go command that fails by itself": {0, `
go: no such module
{"Action":"exit","Package":"conformance","Output":"1"}
`, "go: no such module\nFAIL  conformance: go test ended with status 1\n\n0 passed, 1 failed, 0 skipped\n", false},
		"a go command that fails after a failure before": {1, `
{"Action":"exit","Package":"conformance","Output":"2"}
`, "FAIL  conformance: go test ended with status 2\n\n0 passed, 2 failed, 0 skipped\n", false},
		"a failure before the tests": {1, `
{"Action":"exit","Package":"main","Output":"0"}
`, "\n0 passed, 1 failed, 0 skipped\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			s := newSummary(&out, tc.before)
			if err := s.read(strings.NewReader(strings.TrimPrefix(tc.input, "\n"))); err != nil {
				t.Fatal(err)
			}
			ok := s.finish()
			if diff := cmp.Diff(tc.want, out.String()); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if ok != tc.ok {
				t.Errorf("ok = %v, want %v", ok, tc.ok)
			}
		})
	}
}
