package lambent

// StartKind tells how an execution got its container. Every answer and every
// record carries one, with a reason in words beside it.
type StartKind string

// The start kinds, cheapest first. StartSkipped is an execution that did not
// happen because an idempotent result was at hand (P15).
const (
	StartReuse     StartKind = "container_reuse"
	StartNew       StartKind = "new_container"
	StartWarm      StartKind = "warm_pool"
	StartDedicated StartKind = "dedicated_pool"
	StartSnapshot  StartKind = "snapshot_restore"
	StartOnDemand  StartKind = "on_demand"
	StartSkipped   StartKind = "skipped_idempotent"
)

// MatchKey says which executions may share a container: only where every field
// is equal (systems, §4.1). It is comparable, so it is a map key, and a field
// that is added here is at once part of every decision.
type MatchKey struct {
	Account  AccountID
	Function FunctionName
	Version  Version  // the served version, not the one asked for
	Code     CodeHash // $LATEST changes its code without changing its version
	Config   string   // $LATEST changes its configuration without changing its code: HashConfig
	Policy   string   // hash of the security policy (P11)
	Size     Size
	Shared   string // hash of the shared resources attached (P10)
	Sidecars string // hash of the sidecar set (P12)
	Tenant   string // whose calls are served, of a function that isolates its tenants
	// Dedicated is kept ready for its version, called or not: provisioned
	// concurrency.
	Dedicated bool
}

// Size is the amount of machine an execution is given. CPU is not a field: it
// follows from the memory (CPUShare).
type Size struct {
	MemoryMB    int // 1 MB is 1 MiB here, as in AWS's limits
	EphemeralMB int // size of /tmp
}

// fullCPUMemoryMB is the memory at which a function has one whole CPU (AWS
// developer guide, "Configure Lambda function memory": 1,769 MB).
const fullCPUMemoryMB = 1769

// CPUShare is how many CPUs a size is entitled to, in proportion to its memory.
func (s Size) CPUShare() float64 { return float64(s.MemoryMB) / fullCPUMemoryMB }
