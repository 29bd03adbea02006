// Package handover is what the server and the processes that it starts as gVisor
// agree on: names, files in a bundle, and what the ledger tells.
package handover

// The names gVisor runs its processes under: argv[0].
const (
	Sandbox = "runsc-sandbox"
	Gofer   = "runsc-gofer"
)

// Files that the server writes into a bundle beside config.json.
const (
	ProcessLists = "cgroup.procs" // the cgroup.procs files to join, a line each
	TotalMemory  = "total-memory" // of the instance in bytes, if it is bounded
)

// Complaint is the file in a bundle in which a process that could not be prepared
// says why.
const Complaint = "complaint"

// ContainerProcesses is how many processes and threads a container may have. As
// AWS's.
const ContainerProcesses = 1024

// FirstScore is what a sandbox's processes are weighed by (proc(5),
// oom_score_adj, of 1000) until gVisor sets what the spec says. It has two
// digits on purpose: gVisor's starter may be reading the old "0\n" meanwhile, by
// two reads, and of a longer number the second would find a digit more.
const FirstScore = "99"
