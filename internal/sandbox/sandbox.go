// Package sandbox is the contract between the machine (package host) and what
// isolates code on it. A driver starts instances; an instance holds containers;
// a container holds processes.
//
// # Terms
//
// An instance is the wall: nothing in it can see, reach or forge anything
// outside but through the files it was handed. It has its own kernel or at
// least its own view of one, its own network with no way out, and a bound on
// memory, CPU and processes that the machine enforces from outside. It belongs
// to one account at most, which is its owner's business, not the driver's.
//
// A container is a filesystem view and a process tree inside an instance. Its
// root is read-only: the system folders of the host a runtime needs, no secrets,
// no homes, no configuration of the host. /tmp is its own, writable, bounded.
// /var/task and /opt are empty until something is attached there.
//
// # Lifecycle
//
//	Driver.Start ─► Instance ─ NewContainer ─► Container ─ Exec ─► Process
//	                   │                           │ Attach (any time, also under a running process)
//	                Destroy, or death           Destroy
//
// Attach makes a folder of the host visible, read-only, to processes that run
// already: a runtime can be booted and waiting before it is known whose code it
// will run. A target that the container's processes have looked at before it
// was attached may keep its old, empty look; so whoever boots a runtime ahead
// of its code makes sure that it does not look.
//
// An instance that dies on its own (killed, out of memory, crashed) closes
// Done; Cause then says why as far as it is known. Destroy is still called, by
// the one who called Start, and releases what is left. Destroy is idempotent,
// kills everything inside, waits for it, and leaves no process, mount, cgroup,
// namespace, socket or file. Destroying a container leaves its siblings
// unharmed; destroying an instance destroys its containers.
//
// # Memory of one container
//
// The machine bounds an instance's memory, not a container's. What keeps a
// container within its share is its owner: it reads ContainerMemory now and then
// and destroys the one that has more. Counted are the pages of all processes of
// the container, with its shared memory and memory files, each page once and for
// the container that was the first to use it, and what the driver spends on its
// processes; not counted are pages of files that are shared with the host, and
// /tmp. A growth may be seen some moments late. No container has more than its
// instance's Usage.MemoryBytes, but for what is spent on processes: an owner can
// read that first, which costs less.
//
// Code inside can neither change nor stop what is told, of itself or others. It
// can make its instance slow to answer: give it half a second at least before it
// is called sick.
//
// # Concurrency
//
// All methods may be called from several goroutines at once. A context bounds
// the wait of the caller; cleanup that was begun is finished nevertheless.
package sandbox

import (
	"context"
	"os"
	"time"

	"lambent"
)

// Driver starts instances on this machine.
type Driver interface {
	// Capabilities tells what this driver enforces here. Constant.
	Capabilities() Capabilities
	// Sweep removes what an earlier process with the same folder left behind
	// (processes, mounts, cgroups, files) and says how many instances that were.
	// Called once, before the first Start.
	Sweep(ctx context.Context) (removed int, err error)
	// Start boots an instance with no container in it.
	Start(ctx context.Context, spec InstanceSpec) (Instance, error)
	// Close releases the driver's own resources. All instances are destroyed
	// before.
	Close() error
}

// Capabilities tells what a driver enforces on this machine.
type Capabilities struct {
	Isolation    string // for people: "gVisor (systrap)"
	MemoryLimits bool   // Limits.MemoryMB is enforced
	CPULimits    bool   // Limits.CPUs is enforced
	// ContainerMemory says that Instance.ContainerMemory works. Where it does not,
	// an instance's bound is the only one there is, so a container whose memory
	// must be bounded needs an instance of its own.
	ContainerMemory bool
	Weaker          []string
	// Weaker says, a sentence each, what is weaker here than it could be, and
	// what to do about it. Empty where nothing is.
}

// InstanceSpec describes an instance to start.
type InstanceSpec struct {
	ID     lambent.InstanceID
	Limits Limits
}

// Limits bound a whole instance from outside.
type Limits struct {
	// MemoryMB is what the code inside may use, in MiB, all containers together; what the
	// driver itself needs comes on top. 0: the machine's.
	MemoryMB int
	// CPUs is how many CPUs' worth of time the instance may use. 0: all.
	CPUs float64
	// Processes bounds the processes and threads on the host. 0: the driver's
	// default.
	Processes int
}

// Instance is one sandbox.
type Instance interface {
	ID() lambent.InstanceID
	// PID is the host's process that is the instance, for people who look at or
	// kill it from outside; 0 where there is no such one.
	PID() int
	// NewContainer makes a container; no process of the user's runs in it yet.
	NewContainer(ctx context.Context, spec ContainerSpec) (Container, error)
	// SetLimits changes the bounds under running code. Cheap: a few microseconds.
	SetLimits(Limits) error
	// Usage reads the counters.
	Usage() (Usage, error)
	// ContainerMemory reads how many bytes each container uses now; see "Memory of
	// one container". One that is being made or destroyed may be missing. An
	// instance that does not answer in time, or not soundly, is an error of
	// lambent.KindUnavailable: it is sick then, and nothing is known of any of its
	// containers.
	ContainerMemory(ctx context.Context) (map[lambent.ContainerID]int64, error)
	// Done is closed when the instance has died or was destroyed.
	Done() <-chan struct{}
	// Cause is why an instance died on its own; nil while it lives and where
	// Destroy ended it. Destroy of a dead one leaves its cause.
	Cause() error
	// Destroy ends and releases everything.
	Destroy(ctx context.Context) error
}

// Usage is what an instance has used.
type Usage struct {
	MemoryBytes int64         // now, of the code inside: without the driver's own
	CPUTime     time.Duration // since Start, the driver's own included
	OOMKills    int           // how often the machine killed inside for memory
}

// ContainerSpec describes a container.
type ContainerSpec struct {
	ID lambent.ContainerID
	// EphemeralMB is the size of /tmp in MiB. It lives on the host's disk, not
	// in the instance's memory. Writing over it fails with ENOSPC.
	EphemeralMB int
	// Root is a folder of the host that is the container's root instead of the
	// common one, shown read-only: the whole file system of an image. What RootNeeds
	// lists is in it, reached without a symbolic link; the driver shows its own in
	// these places. Empty: the common one. Mounts go with the common one only.
	Root string
	// Mounts are folders of the host shown read-only from the start.
	Mounts []Mount
}

// RootNeeds are the folders, and the files, that a root of a container's own has.
func RootNeeds() (folders, files []string) {
	return []string{"dev", "proc", "sys", "tmp", "lambent", "etc", "var", "opt"}, []string{"etc/hosts", "etc/hostname", "etc/resolv.conf"}
}

// Mount shows a folder of the host inside a container, read-only.
type Mount struct {
	Source string // absolute path of a folder on the host
	Target string // absolute path in the container, below /var, /opt or /mnt
}

// The places code is attached to.
const (
	TaskDir    = "/var/task"    // the function's code
	LayerDir   = "/opt"         // its layers
	RuntimeDir = "/var/runtime" // the language bootstraps
)

// InitPath is where every container has the program lambent-init: its first
// process, and the supervisor of runtimes that speak HTTP.
const InitPath = "/lambent/init"

// The user that a function's code runs as, in every container: no root, no
// capabilities. AWS's own is sbx_user1051.
const (
	UserName = "sbx_user1051"
	UserID   = 993
	GroupID  = 990
)

// Container is a filesystem view and process tree inside an instance.
type Container interface {
	ID() lambent.ContainerID
	// Attach shows the host's folder at target (TaskDir or LayerDir),
	// read-only, at once. Once per target. The folder is not copied: it must
	// not change while it is attached.
	Attach(target, source string) error
	// Exec starts a process.
	Exec(ctx context.Context, p Command) (Process, error)
	// Destroy ends all processes of the container and releases it.
	Destroy(ctx context.Context) error
}

// Command describes a process to start in a container.
type Command struct {
	Path     string   // absolute, in the container
	Args     []string // with Args[0]
	Env      []string
	Dir      string
	UID, GID uint32
	// KeepPrivileges leaves a UID 0 process the capabilities lambent-init needs to start a
	// function as another user and to signal it; all others run with none.
	KeepPrivileges bool
	// Files become the process's descriptors 0, 1, 2, …; nil is /dev/null. The
	// caller keeps and closes its own copies.
	Files []*os.File
}

// Process is a started process.
type Process interface {
	// PID is the process's id inside its container.
	PID() int
	// Wait blocks until the process has ended. When its container or instance
	// ended first, the exit says killed.
	Wait(ctx context.Context) (Exit, error)
}

// Exit is how a process ended.
type Exit struct {
	Code   int // exit status; 0 where Signal is set
	Signal int // the signal that ended it, or 0
}
