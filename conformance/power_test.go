package conformance

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lambent/conformance/lab"
)

// The power goes while events are accepted and executed: the server, its sandboxes
// and the file system under them end at once, and what had not been synced is not
// there when the disk is read again. Each accepted event is executed, or stands in
// the failure store.
//
// It is a real ext4 that is shut down without a write of its journal (CutPower). A
// disk that says it has written what it has not, or writes half a block, is not in
// it; a file's damaged end is in TestDamagedEnd….
func TestPowerLossLosesNoAcceptedEvent(t *testing.T) {
	t.Parallel()
	const rounds, share = 5, 40
	disk := lab.Ext4(t, 600<<20)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killing{proofs: newProofs(), dice: rand.New(rand.NewPCG(seed, 0)),
		server: lab.Config{Bin: fix.bin, Data: filepath.Join(disk.Dir, "data"), Flags: append([]string{"--idle-timeout", "5s"}, append(fastAsync, noPools...)...)}}
	s := lab.Run(t, k.server)
	k.deploy(t, s)
	for round := range rounds {
		var wg sync.WaitGroup
		wg.Go(func() { k.left += k.sendAll(t.Context(), s, share, senders*span/share) })
		time.Sleep(k.any(span))
		err := s.Freeze()
		if err == nil {
			err = disk.CutPower()
		}
		_, killed := s.KillSandboxes(func() bool { return true })
		s.Kill()
		wg.Wait()
		if err = errors.Join(err, killed, disk.Mount()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s = lab.Run(t, k.server)
	}
	k.sendAll(t.Context(), s, k.left, 0)
	v := k.await(t, s)
	t.Logf("%d power losses, %d events sent, %d of them unanswered", rounds, k.sent, k.unanswered)
	t.Log(v)
	if v.executed == 0 {
		t.Error("it did not hit")
	}
}
