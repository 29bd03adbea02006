package gvisor

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/runsc/config"
	"gvisor.dev/gvisor/runsc/flag"

	"lambent/internal/sandbox"
	"lambent/internal/sandbox/gvisor/handover"
)

// The annotations by which gVisor knows a container from a sandbox.
const (
	annotationKind    = "io.kubernetes.cri.container-type"
	annotationSandbox = "io.kubernetes.cri.sandbox-id"
)

// pause is the first process of everything: it holds the process tree and
// reaps.
var pause = [...]string{initPath, "pause"}

// rlimits of every process. gVisor takes those of the instance's own root for
// all processes started by Exec, in any container; so they are the same
// everywhere. As AWS's for open files (1,024). That of processes counts all of
// one user's, in all containers together, so that one container could take what
// the others need: it is out of the way, and each container has a bound of its
// own, handover.ContainerProcesses.
func rlimits() []specs.POSIXRlimit {
	limit := func(kind string, n uint64) specs.POSIXRlimit {
		return specs.POSIXRlimit{Type: "RLIMIT_" + kind, Hard: n, Soft: n}
	}
	return []specs.POSIXRlimit{
		limit("NOFILE", 1024), limit("NPROC", 1<<16), limit("CORE", 0), limit("STACK", 8<<20), limit("MEMLOCK", 64<<10),
	}
}

// rootSpec describes an instance's own root: no application code runs in it.
func rootSpec(root string) *specs.Spec {
	s := baseSpec(root)
	s.Annotations = map[string]string{annotationKind: "sandbox"}
	return s
}

// containerSpec describes a container in instance id, with its /tmp over the
// empty folder.
func containerSpec(root, empty, id string) *specs.Spec {
	s := baseSpec(root)
	s.Annotations = map[string]string{annotationKind: "container", annotationSandbox: id}
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/tmp", Type: "bind", Source: empty, Options: []string{"rw"}},
		specs.Mount{Destination: groupPath, Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "nodev", "noexec"}})
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	return s
}

func baseSpec(root string) *specs.Spec {
	// Half of the scale: when the whole machine is out of memory the kernel ends
	// sandboxes first. gVisor sets it when the instance's root starts (handover.FirstScore).
	score := 500
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: root, Readonly: true},
		Hostname: hostname,
		Process: &specs.Process{
			Args:            pause[:],
			Cwd:             "/",
			Env:             []string{"PATH=/usr/bin:/bin"},
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{},
			Rlimits:         rlimits(),
			OOMScoreAdj:     &score,
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"ro"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.IPCNamespace},
			{Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
		}},
	}
}

// writeBundle writes what gVisor's processes read, and Main before them: the
// description, the groups to join, and the memory to report (0: the machine's).
func writeBundle(dir string, s *specs.Spec, procs []string, memory int64) error {
	description, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("describe container: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	files := map[string]string{"config.json": string(description), handover.ProcessLists: strings.Join(procs, "\n")}
	if memory > 0 {
		files[handover.TotalMemory] = strconv.FormatInt(memory, 10)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write bundle: %w", err)
		}
	}
	return nil
}

// lastWords reads why a sandbox or container whose folder is dir has failed to
// start or has crashed, as far as its processes could say; empty where not.
func lastWords(dir string) string {
	var all []string
	for _, name := range []string{filepath.Join("bundle", handover.Complaint), gvisorLog} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			continue
		}
		text := strings.TrimSpace(string(b[:min(len(b), 2000)])) // a panic's reason comes first, then stacks
		if text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

// gvisorLog is the file in a sandbox's or container's folder to which gVisor
// writes fatal errors and panics of its processes; nothing else.
const gvisorLog = "gvisor.log"

// newConfig makes gVisor's configuration for the instance's root (ephemeralMB
// 0) or a container with a /tmp of that size, whose folder is dir. gVisor's
// processes get it as flags.
func newConfig(opts *Options, dir string, ephemeralMB int) (*config.Config, error) {
	settings := map[string]string{
		"root":     stateDir(opts.Dir),
		"platform": "systrap",
		// The fast path spins for the next system call, on a CPU that another
		// function could have: without it 16 callers on 2 CPUs get a fifth more calls
		// through, and one alone is no slower.
		"systrap-disable-fast-path": "true",
		"network":                   "none", // a namespace with nothing in it; loopback is gVisor's own
		// Of each gofer its own: one that all share is joined by a thread of this process,
		// and a connection to an S3 endpoint was once seen to be made from within it.
		"gofer-network-namespace": "new",
		// The server keeps the groups, and Main joins them.
		"ignore-cgroups": "true",
		// Each container is a group of gVisor's own kernel: see groupPath.
		"in-sandbox-cgroup": "v2",
		"host-settings":     "ignore", // advice for the machine's owner: lambent doctor's business
		"overlay2":          "none",
		"log":               filepath.Join(dir, gvisorLog),
		"panic-log":         filepath.Join(dir, gvisorLog),
		// Spelled out since they are walls, though they are the defaults.
		"host-uds":                "none",
		"host-fifo":               "none",
		"character-device-policy": "emulated-only",
		"allow-suid":              "false",
		"net-raw":                 "false",
		"file-access":             "exclusive", // the root never changes but by Attach
	}
	if ephemeralMB > 0 {
		settings["overlay2"] = fmt.Sprintf("all:dir=%s,size=%dm", scratchDir(opts.Dir), ephemeralMB)
	}
	if opts.DebugDir != "" {
		settings["debug"], settings["debug-log"] = "true", opts.DebugDir+"/"
	}
	flags := flag.NewFlagSet("runsc", flag.ContinueOnError)
	config.RegisterFlags(flags)
	for k, v := range settings {
		if err := flags.Set(k, v); err != nil {
			return nil, fmt.Errorf("configure gVisor: %s=%s: %w", k, v, err)
		}
	}
	conf, err := config.NewFromFlags(flags)
	if err != nil {
		return nil, fmt.Errorf("configure gVisor: %w", err)
	}
	return conf, nil
}

// quietTarget keeps gVisor's own log, which is global to the process and
// would go to standard error.
func quietTarget() log.Emitter { return log.GoogleEmitter{Writer: &log.Writer{Next: discard{}}} }

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// validTarget reports whether a container may have something mounted there
// from the start.
func validTarget(target string) bool {
	clean := filepath.Clean(target)
	if clean != target {
		return false
	}
	for _, top := range []string{"/var/", "/opt/", "/mnt/"} {
		if len(target) > len(top) && target[:len(top)] == top {
			return true
		}
	}
	return target == sandbox.LayerDir
}
