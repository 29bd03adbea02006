// Command testsummary reads the JSON of any number of `go test -json` runs on
// standard input, shows each package as it ends and each failure whole, and
// counts at the end, with the reasons of what was skipped. Its last line is
// exactly "N passed, N failed, N skipped"; its exit status is 1 if anything
// failed.
//
// A line {"Action":"exit","Package":NAME,"Output":"STATUS"} between the runs says
// how the go command itself ended, so that a failure that belongs to no test
// counts, too.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	failures := flag.Int("failures", 0, "how much failed before the tests")
	flag.Parse()
	s := newSummary(os.Stdout, *failures)
	if err := s.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary: read the tests' output:", err)
		os.Exit(1)
	}
	if !s.finish() {
		os.Exit(1)
	}
}

// event is a line of test2json (go doc cmd/test2json) or of go build -json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// summary collects. Its zero value is not ready: use newSummary.
type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	failedBefore            int                 // failed when the current run began
	output                  map[string][]string // what a test or package printed, by key
	failedTests             map[string]bool     // packages with a failed test
	reasons                 []string
}

// newSummary starts a summary with so many failures from before the tests.
func newSummary(out io.Writer, failures int) *summary {
	return &summary{out: out, failed: failures, failedBefore: failures, output: map[string][]string{}, failedTests: map[string]bool{}}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) line(line string) {
	var e event
	if !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil {
		fmt.Fprint(s.out, line) // the go command's own words
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "exit":
		s.exit(e)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageEnd(e)
		} else {
			s.testEnd(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) testEnd(e event, key string) {
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		s.failedTests[e.Package] = true
		fmt.Fprintf(s.out, "FAIL  %s %s\n", e.Package, e.Test)
		s.show(key)
	case "skip":
		s.skipped++
		s.reasons = append(s.reasons, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(s.output[key])))
	}
}

// packageEnd shows a package. One that failed without a failed test did not
// build, panicked, or ran into its time limit: that counts as a failure.
func (s *summary) packageEnd(e event) {
	switch {
	case e.Action == "pass":
		fmt.Fprintf(s.out, "ok    %s  %.1f s\n", e.Package, e.Elapsed)
	case e.Action == "fail":
		fmt.Fprintf(s.out, "FAIL  %s  %.1f s\n", e.Package, e.Elapsed)
		if !s.failedTests[e.Package] {
			s.failed++
			// What was running when it ended is what there is to see.
			var running []string
			for key := range s.output {
				if strings.HasPrefix(key, e.Package+" ") {
					running = append(running, key)
				}
			}
			slices.Sort(running)
			for _, key := range running {
				s.show(key)
			}
		}
	}
}

// exit ends a run of the go command.
func (s *summary) exit(e event) {
	if e.Output != "0" && s.failed == s.failedBefore {
		s.failed++
		fmt.Fprintf(s.out, "FAIL  %s: go test ended with status %s\n", e.Package, e.Output)
	}
	s.failedBefore = s.failed
	clear(s.output)
}

func (s *summary) show(key string) {
	for _, text := range s.output[key] {
		if !strings.HasPrefix(text, "=== ") {
			fmt.Fprint(s.out, "      ", text)
		}
	}
}

// reason is what a skipped test gave as such: its output without the frame.
func reason(output []string) string {
	var words []string
	for _, text := range output {
		text = strings.TrimSpace(text)
		if text == "" || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		if at, rest, ok := strings.Cut(text, ": "); ok && strings.Contains(at, ".go:") {
			text = rest
		}
		words = append(words, text)
	}
	if len(words) == 0 {
		return "no reason given"
	}
	return strings.Join(words, " ")
}

// finish prints the counts and reports whether nothing failed.
func (s *summary) finish() bool {
	fmt.Fprintln(s.out)
	slices.Sort(s.reasons)
	for _, r := range s.reasons {
		fmt.Fprintln(s.out, "skipped:", r)
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return s.failed == 0
}
