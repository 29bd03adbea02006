package runtimeapi_test

import (
	"testing"

	"lambent/internal/runtimeapi"
)

func TestEveryStateHasANameAndAWayOut(t *testing.T) {
	for s := runtimeapi.Started; s < runtimeapi.Closed; s++ {
		if s.String() == "unknown" || !s.CanBecome(runtimeapi.Closed) {
			t.Errorf("state %d: %s", s, s)
		}
	}
	if runtimeapi.Closed.CanBecome(runtimeapi.Ready) || runtimeapi.State(99).String() != "unknown" || runtimeapi.State(99).CanBecome(runtimeapi.Closed) {
		t.Error("states beyond the last")
	}
}
