package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/cmd/lambent/config"
	"lambent/internal/hostinfo"
)

type doctorCommand struct {
	Config string `placeholder:"FILE" help:"The server's configuration file."`
	Listen string `placeholder:"ADDR" help:"Address the server is to use."`
	Data   string `placeholder:"DIR" help:"Data folder the server is to use."`
}

func (doctorCommand) Help() string {
	return `Looks at what the server needs and says, for what is missing, what to do about it. Changes nothing. Exit status 0
unless a line says fail. Run it as the user the server will run as.

Examples:
  lambent doctor
  sudo lambent doctor --listen 127.0.0.1:9000 --data /srv/lambent`
}

// facts is what doctor saw; judge decides what it means.
type facts struct {
	arch        string
	root        bool
	kernel      string
	cgroups     hostinfo.Cgroups
	cgroupMode  string
	userns      bool
	usernsWhy   string
	kvm         bool
	ptraceScope int // kernel.yama.ptrace_scope, 0 where there is no such switch
	totalMB     int
	availableMB int
	runtimes    []hostinfo.Installed
	refused     []hostinfo.Refused
	listen      string
	port        portState
	portErr     error
	data        string
	dataErr     error
	freeBytes   uint64
}

// portState is what is at the address the server wants.
type portState int

const (
	portFree portState = iota
	portLambent
	portTaken
	portUnusable
)

// level is how bad a finding is.
type level string

const (
	levelOK   level = "ok"
	levelWarn level = "warn"
	levelFail level = "fail"
)

// finding is one line of doctor's report.
type finding struct {
	level level
	what  string
	text  string
	todo  string // what to do; empty where nothing needs to be done
}

// Run looks, judges and prints.
func (d *doctorCommand) Run(ctx context.Context, s Streams) error {
	defaults := map[string]string{}
	if d.Listen != "" {
		defaults["listen"] = d.Listen
	}
	if d.Data != "" {
		defaults["data"] = d.Data
	}
	cfg, err := loadConfig(d.Config, nil, s, defaults)
	if err != nil {
		return err
	}
	findings := judge(look(ctx, cfg))
	failed := false
	for _, f := range findings {
		failed = failed || f.level == levelFail
		fmt.Fprintf(s.Out, "%-4s  %-16s %s\n", f.level, f.what, printable(f.text))
		if f.todo != "" {
			fmt.Fprintf(s.Out, "%-22s → %s\n", "", f.todo)
		}
	}
	if failed {
		return errFault
	}
	return nil
}

func look(ctx context.Context, cfg config.Config) facts {
	probe := hostinfo.System{}
	f := facts{
		arch: runtime.GOARCH, root: os.Geteuid() == 0, kernel: kernelRelease(),
		cgroups: hostinfo.FindCgroups(probe), cgroupMode: cfg.CgroupMode, listen: cfg.Listen, data: cfg.Data,
		kvm: unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) == nil,
	}
	f.userns, f.usernsWhy = hostinfo.UserNamespaces(probe)
	f.totalMB, f.availableMB = hostinfo.Memory(probe)
	f.runtimes, f.refused = hostinfo.FindRuntimes(ctx, probe)
	if text, err := probe.Head("/proc/sys/kernel/yama/ptrace_scope", 16); err == nil {
		f.ptraceScope, _ = strconv.Atoi(strings.TrimSpace(string(text))) // 0 is the harmless value
	}
	f.port, f.portErr = lookAtPort(ctx, cfg.Listen)
	f.freeBytes, f.dataErr = lookAtData(cfg.Data)
	return f
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// lookAtPort tries to listen, and where something else does, asks it who it is.
func lookAtPort(ctx context.Context, addr string) (portState, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err == nil {
		return portFree, l.Close()
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return portUnusable, err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/_lambent/health", nil)
	if err != nil {
		return portTaken, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return portTaken, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return portLambent, nil
	}
	return portTaken, fmt.Errorf("it answers HTTP %d", resp.StatusCode)
}

// lookAtData finds the nearest folder that exists, at or above dir, and asks
// whether it can be written to and how much room it has.
func lookAtData(dir string) (free uint64, err error) {
	at := dir
	for {
		info, err := os.Stat(at)
		if err == nil {
			if !info.IsDir() {
				return 0, fmt.Errorf("%s is not a folder", at)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return 0, err
		}
		at = filepath.Dir(at)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return 0, fmt.Errorf("%s cannot be written to: %w", at, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		return 0, fmt.Errorf("ask for the room in %s: %w", at, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}

// judge says what the facts mean for a server.
func judge(f facts) []finding {
	var findings []finding
	add := func(l level, what, text, todo string) {
		findings = append(findings, finding{l, what, text, todo})
	}

	switch f.arch {
	case "amd64", "arm64":
		add(levelOK, "architecture", f.arch, "")
	default:
		add(levelFail, "architecture", f.arch+" is not one gVisor runs on", "use a machine of amd64 or arm64")
	}

	// gVisor's documentation names 4.14.77 as the oldest kernel.
	if major, minor, ok := kernelVersion(f.kernel); ok && (major < 4 || major == 4 && minor < 14) {
		add(levelFail, "kernel", "Linux "+f.kernel+" is older than gVisor can use", "use Linux 4.14 or newer")
	} else {
		add(levelOK, "kernel", "Linux "+f.kernel, "")
	}

	switch {
	case f.root:
		add(levelOK, "user", "root", "")
	case f.userns:
		add(levelWarn, "user", "not root: sandboxes run in user namespaces, and limits depend on what was delegated to you",
			"run it as root for limits on memory, CPU and processes that hold")
	default:
		add(levelFail, "user", "not root, and "+f.usernsWhy, "run it as root, or allow user namespaces (sysctl)")
	}

	sandbox := "gVisor on systrap"
	if f.kvm {
		sandbox += "; /dev/kvm is there and is not used"
	}
	if f.ptraceScope >= 3 {
		add(levelFail, "sandbox", "kernel.yama.ptrace_scope is 3: systrap may not trace its own processes",
			"boot with another value: sysctl kernel.yama.ptrace_scope=1 (it cannot be lowered at run time)")
	} else {
		add(levelOK, "sandbox", sandbox, "")
	}

	findings = append(findings, judgeCgroups(f)...)
	findings = append(findings, judgeRuntimes(f)...)

	switch {
	case f.totalMB == 0:
		add(levelWarn, "memory", "the kernel does not say how much there is", "set limits.instances yourself")
	case f.availableMB < 1024:
		add(levelWarn, "memory", fmt.Sprintf("%d of %d MB are free: few instances fit", f.availableMB, f.totalMB), "free memory, or lower the pool settings")
	default:
		add(levelOK, "memory", fmt.Sprintf("%d of %d MB are free", f.availableMB, f.totalMB), "")
	}

	switch f.port {
	case portFree:
		add(levelOK, "address", f.listen+" is free", "")
	case portLambent:
		add(levelOK, "address", "a lambent server answers at "+f.listen, "")
	case portTaken:
		add(levelFail, "address", fmt.Sprintf("something else listens on %s (%v)", f.listen, f.portErr), "stop it, or choose another address with --listen")
	default:
		add(levelFail, "address", fmt.Sprintf("%s cannot be listened on: %v", f.listen, f.portErr), "choose another address with --listen")
	}

	const littleRoom = 2 << 30
	switch {
	case f.dataErr != nil:
		add(levelFail, "data folder", fmt.Sprintf("%s: %v", f.data, f.dataErr), "choose another with --data, or let this user write there")
	case f.freeBytes < littleRoom:
		add(levelWarn, "data folder", fmt.Sprintf("%s has %s left", f.data, bytesText(int64(f.freeBytes))), "make room, or choose another with --data")
	default:
		add(levelOK, "data folder", fmt.Sprintf("%s has %s left", f.data, bytesText(int64(f.freeBytes))), "")
	}
	return findings
}

func judgeCgroups(f facts) []finding {
	const what = "control groups"
	todo := "mount cgroup v2 at /sys/fs/cgroup, or in a container give it a writable /sys/fs/cgroup; without, limits on memory and CPU are not kept"
	if f.cgroupMode == config.CgroupNone {
		return []finding{{levelWarn, what, "switched off by the configuration (cgroup: none): no limit on memory or CPU is kept", "set cgroup: auto"}}
	}
	missing := f.cgroups.Missing()
	switch {
	case f.cgroups.Layout == hostinfo.LayoutNone:
		return []finding{{levelWarn, what, "none are mounted", todo}}
	case len(missing) > 0:
		return []finding{{levelWarn, what, fmt.Sprintf("%s, without %s", f.cgroups.Layout, strings.Join(missing, ", ")),
			"enable these controllers in the kernel, or delegate them to this user"}}
	case !f.cgroups.Writable:
		return []finding{{levelWarn, what, fmt.Sprintf("%s, and %s cannot be written to", f.cgroups.Layout, f.cgroups.Where), todo}}
	}
	return []finding{{levelOK, what, fmt.Sprintf("%s with %s", f.cgroups.Layout, strings.Join(f.cgroups.Controllers, ", ")), ""}}
}

func judgeRuntimes(f facts) []finding {
	var findings []finding
	for _, family := range []struct {
		name    lambent.Family
		install string
	}{
		{lambent.FamilyNode, "apt-get install nodejs (18 or newer)"},
		{lambent.FamilyPython, "apt-get install python3 (3.9 or newer)"},
	} {
		var found []string
		for _, r := range f.runtimes {
			if r.Family == family.name {
				found = append(found, r.Version+" ("+r.Path+")")
			}
		}
		if len(found) == 0 {
			findings = append(findings, finding{levelWarn, string(family.name), "none in /usr/bin, /usr/local/bin or /opt/*/bin: such functions cannot run",
				family.install})
			continue
		}
		findings = append(findings, finding{levelOK, string(family.name), strings.Join(found, ", "), ""})
	}
	findings = append(findings, finding{levelOK, string(lambent.FamilyProvided), "needs nothing: the function brings its runtime", ""})
	for _, r := range f.refused {
		findings = append(findings, finding{levelOK, "not used", r.Path + ": " + r.Reason, ""})
	}
	return findings
}

// kernelVersion reads "6.18.5-cloud" as 6 and 18.
func kernelVersion(release string) (major, minor int, ok bool) {
	n, err := fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor, n == 2 && err == nil
}
