package handover

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gvisor.dev/gvisor/pkg/sentry/seccheck"
)

// LedgerName is what the ledger is created by, LedgerEmpty what it says before
// the sandbox's first process has come to its first thread, some milliseconds
// after its start.
const (
	LedgerName  = "lambent-ledger"
	LedgerEmpty = "?"
)

// LedgerSession creates the ledger in a sandbox.
func LedgerSession() seccheck.SessionConfig {
	return seccheck.SessionConfig{
		Name:   seccheck.DefaultSessionName,
		Points: []seccheck.PointConfig{{Name: "sentry/clone"}},
		Sinks:  []seccheck.SinkConfig{{Name: LedgerName}},
	}
}

// FormatLedger writes "ID BYTES ID BYTES …", or "!" and the failure.
func FormatLedger(memory map[string]int64, err error) string {
	if err != nil {
		return "!" + err.Error()
	}
	words := make([]string, 0, 2*len(memory))
	for id, n := range memory {
		words = append(words, id, strconv.FormatInt(n, 10))
	}
	return strings.Join(words, " ")
}

// ErrEarly is LedgerEmpty.
var ErrEarly = errors.New("no process has started in the sandbox yet")

// ParseLedger reads what FormatLedger has written. A sandbox that code has
// broken into could write anything else.
func ParseLedger(text string) (map[string]int64, error) {
	if text == LedgerEmpty {
		return nil, ErrEarly
	}
	if why, failed := strings.CutPrefix(text, "!"); failed {
		return nil, fmt.Errorf("the sandbox cannot tell: %.200q", why)
	}
	words := strings.Fields(text)
	if len(words)%2 != 0 {
		return nil, fmt.Errorf("the sandbox told of %d words, want pairs", len(words))
	}
	memory := make(map[string]int64, len(words)/2)
	for n := 0; n < len(words); n += 2 {
		bytes, err := strconv.ParseInt(words[n+1], 10, 64)
		if err != nil || bytes < 0 {
			return nil, fmt.Errorf("the sandbox gave %.40q as the memory of container %.40q", words[n+1], words[n])
		}
		if _, twice := memory[words[n]]; twice {
			return nil, fmt.Errorf("the sandbox told of container %.40q twice", words[n])
		}
		memory[words[n]] = bytes
	}
	return memory, nil
}
