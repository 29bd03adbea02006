package handover

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheLedgerIsReadAsItWasWritten(t *testing.T) {
	for _, memory := range []map[string]int64{{}, {"c-1": 0}, {"c-1": 1 << 40, "c_2": 5, "3": 17}} {
		got, err := ParseLedger(FormatLedger(memory, nil))
		if diff := cmp.Diff(memory, got); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	}
	if _, err := ParseLedger(FormatLedger(nil, errors.New("no such luck"))); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Error(err)
	}
	if _, err := ParseLedger(LedgerEmpty); !errors.Is(err, ErrEarly) {
		t.Error(err)
	}
}

func TestSecurityALedgerOfASandboxThatWasBrokenIntoIsAnError(t *testing.T) {
	for _, text := range []string{"c-1", "c-1 -1", "c-1 x", "c-1 1 c-1 2", "c-1 1 c-2", "c-1 99999999999999999999", "c-1 1e3", "1 c-1 1", "!", "c-1 0x10"} {
		if got, err := ParseLedger(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzParseLedger(f *testing.F) {
	f.Add("c-1 17 c-2 4")
	f.Add("!why")
	f.Fuzz(func(t *testing.T, text string) {
		memory, err := ParseLedger(text)
		if err == nil && len(memory) > len(text) {
			t.Errorf("%d containers in %d bytes", len(memory), len(text))
		}
		for id, n := range memory {
			if n < 0 || id == "" {
				t.Errorf("%q: %d", id, n)
			}
		}
	})
}
