package cluster

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server/pse"
)

func TestQuietTakesTheSampledFileAway(t *testing.T) {
	before := sampledFile
	defer func() { sampledFile = before }()
	var cpu float64
	var rss, vss int64
	if err := pse.ProcUsage(&cpu, &rss, &vss); err != nil || before == "" {
		t.Fatalf("the engine samples %q: %v; has it changed what it reads?", before, err)
	}
	Quiet()
	if err := pse.ProcUsage(&cpu, &rss, &vss); err == nil {
		t.Error("the engine still reads a file")
	}
}
