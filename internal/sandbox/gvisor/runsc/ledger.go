package runsc

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/errors/linuxerr"
	"gvisor.dev/gvisor/pkg/fd"
	"gvisor.dev/gvisor/pkg/sentry/kernel"
	"gvisor.dev/gvisor/pkg/sentry/pgalloc"
	"gvisor.dev/gvisor/pkg/sentry/seccheck"
	pb "gvisor.dev/gvisor/pkg/sentry/seccheck/points/points_go_proto"
	"gvisor.dev/gvisor/pkg/sentry/usage"

	"lambent/internal/sandbox/gvisor/handover"
)

// ledger runs within a sandbox, as a part of gVisor's kernel: it tells what that
// has counted for each container, and bounds each container's processes. gVisor
// takes such parts as sinks of its trace points; this one wants a single point,
// clone, which comes with the kernel and can be refused. What the ledger knows it
// tells as its name, for that is what gVisor asks its sinks for. No code of the
// sandbox's containers runs in it, and none can reach it.
type ledger struct {
	seccheck.SinkDefaults
	kernel atomic.Pointer[kernel.Kernel] // nil before the first process

	mu sync.Mutex
	// +checklocks:mu
	looked map[uint32]time.Duration // by group: the CPU time it had used when its pages were looked at
	// +checklocks:mu
	next time.Time // when pages may be looked at again
}

// registerLedger makes the ledger known to gVisor in the process that becomes a
// sandbox.
func registerLedger() {
	seccheck.RegisterSink(seccheck.SinkDesc{
		Name: handover.LedgerName,
		New: func(map[string]any, *fd.FD) (seccheck.Sink, error) {
			return &ledger{looked: map[uint32]time.Duration{}}, nil
		},
	})
}

// Clone implements seccheck.Sink: it is called when a process or thread has been
// made and does not run yet, and refuses those over handover.ContainerProcesses. (A
// group's pids.max would do the same, but gVisor cannot write it from here while
// groups are bounds of delegation.)
func (l *ledger) Clone(ctx context.Context, _ seccheck.FieldSet, _ *pb.CloneInfo) error {
	k := kernel.KernelFromContext(ctx)
	l.kernel.CompareAndSwap(nil, k)
	group := kernel.TaskFromContext(ctx).Cgroup2()
	if group == k.Cgroup2FS().RootCgroup() { // the instance's own root
		return nil
	}
	text, err := group.ReadControl(k.SupervisorContext(), "pids.current")
	if err != nil {
		return linuxerr.EAGAIN // none without a bound
	}
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err != nil || n > handover.ContainerProcesses {
		return linuxerr.EAGAIN
	}
	return nil
}

// processCost is what the sandbox spends on a process, in bytes, beside the
// process's own pages: 80 KiB of its heap and 200 KiB of the host's kernel,
// measured over 400 of them. The instance's bound counts it, so a container with
// many small processes has to be seen before it gets there.
const processCost = 280 << 10

// Name implements seccheck.Sink: the memory of every container in which a
// process runs, as handover.FormatLedger writes it.
func (l *ledger) Name() string {
	k := l.kernel.Load()
	if k == nil {
		return handover.LedgerEmpty
	}
	memory, groups, cpu := map[string]int64{}, map[string]uint32{}, map[string]time.Duration{}
	for _, tg := range k.TaskSet().Root.ThreadGroups() {
		leader := tg.Leader()
		container := leader.ContainerID()
		memory[container] += processCost
		stats := tg.CPUStats()
		cpu[container] += stats.UserTime + stats.SysTime
		// One that has ended is in no group any more.
		if id := pgalloc.MemoryCgroupIDFromContext(leader); id != 0 {
			groups[container] = id
		}
	}
	used := make(map[uint32]time.Duration, len(groups))
	for container, id := range groups {
		used[id] = cpu[container]
	}
	if err := l.update(k.MemoryFile(), used); err != nil {
		return handover.FormatLedger(nil, err)
	}
	for container, id := range groups {
		s, _ := usage.MemoryAccounting.CopyPerCg(id)
		// Not Mapped: files of the host, which all containers share.
		memory[container] += int64(s.System + s.Anonymous + s.PageCache + s.Tmpfs + s.Ramdiskfs)
	}
	for container := range memory {
		if groups[container] == 0 {
			delete(memory, container) // all of it has ended
		}
	}
	return handover.FormatLedger(memory, nil)
}

// unbooked is how much memory in use (bytes) may be in nobody's account when the
// ledger tells: to find out whose it is takes long.
const unbooked = 1 << 20

// lookShare is what part of a CPU looking at pages may take: an eighth, as
// gVisor has it. So code inside that scatters its pages makes its growth be seen
// later, but cannot make the ledger take the instance's time.
const lookShare = 8

// update brings the accounts up to date. What is given back is booked at once;
// what the host has given, gVisor learns only by asking for every page that it
// might have given. First it asks for those of groups that have run since it did
// so last: used is the CPU time of each. That time is sampled, and code could run
// between the samples; so where memory is left that they do not have, all are
// asked.
func (l *ledger) update(mf *pgalloc.MemoryFile, used map[uint32]time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := time.Now()
	if booked, err := allBooked(mf); err != nil || booked || began.Before(l.next) {
		return err
	}
	ran := map[uint32]struct{}{}
	for id, t := range used {
		if before, known := l.looked[id]; !known || before != t {
			ran[id] = struct{}{}
		}
	}
	l.looked = used
	err := mf.UpdateUsage(ran)
	if err == nil {
		var booked bool
		if booked, err = allBooked(mf); err == nil && !booked {
			err = mf.UpdateUsage(nil)
		}
	}
	l.next = began.Add(max(10*time.Millisecond, lookShare*time.Since(began)))
	return err
}

// allBooked reports whether all memory in use is in some account.
func allBooked(mf *pgalloc.MemoryFile) (bool, error) {
	used, err := mf.TotalUsage()
	booked, total := usage.MemoryAccounting.Copy()
	return used < total-booked.Mapped+unbooked, err
}
