package cli

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lambent"
	"lambent/internal/hostinfo"
)

func goodMachine() facts {
	return facts{
		arch: "amd64", root: true, kernel: "6.18.5-cloud", userns: true, totalMB: 24000, availableMB: 20000,
		cgroups: hostinfo.Cgroups{Layout: hostinfo.LayoutV2, Controllers: []string{"cpu", "memory", "pids"}, Writable: true, Where: "/sys/fs/cgroup"},
		runtimes: []hostinfo.Installed{
			{Family: lambent.FamilyNode, Version: "20.20.2", Path: "/usr/bin/node"},
			{Family: lambent.FamilyPython, Version: "3.11.2", Path: "/usr/bin/python3.11"},
		},
		listen: "127.0.0.1:4566", data: "/var/lib/lambent", freeBytes: 80 << 30,
	}
}

func TestDoctorFindsNothingToDoOnAGoodMachine(t *testing.T) {
	for _, f := range judge(goodMachine()) {
		if f.level != levelOK || f.todo != "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestDoctorNamesWhatIsWrongAndWhatToDo(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*facts)
		level  level
		what   string
		text   string
		todo   string
	}{
		"another architecture": {func(f *facts) { f.arch = "riscv64" }, levelFail, "architecture", "riscv64", "amd64 or arm64"},
		"an old kernel":        {func(f *facts) { f.kernel = "4.9.0" }, levelFail, "kernel", "older than gVisor", "4.14"},
		"no root":              {func(f *facts) { f.root = false }, levelWarn, "user", "user namespaces", "root"},
		"neither root nor namespaces": {func(f *facts) { f.root, f.userns, f.usernsWhy = false, false, "x is 0" }, levelFail,
			"user", "not root, and x is 0", "sysctl"},
		"no tracing":             {func(f *facts) { f.ptraceScope = 3 }, levelFail, "sandbox", "ptrace_scope", "sysctl"},
		"no cgroups":             {func(f *facts) { f.cgroups = hostinfo.Cgroups{Layout: hostinfo.LayoutNone} }, levelWarn, "control groups", "none are mounted", "mount"},
		"cgroups of others":      {func(f *facts) { f.cgroups.Writable = false }, levelWarn, "control groups", "v2, and /sys/fs/cgroup cannot be written to", "limits"},
		"a missing controller":   {func(f *facts) { f.cgroups.Controllers = []string{"cpu"} }, levelWarn, "control groups", "v2, without memory, pids", "enable"},
		"cgroups switched off":   {func(f *facts) { f.cgroupMode = "none" }, levelWarn, "control groups", "switched off", "auto"},
		"no Node":                {func(f *facts) { f.runtimes = f.runtimes[1:] }, levelWarn, "nodejs", "such functions cannot run", "apt-get install nodejs"},
		"no Python":              {func(f *facts) { f.runtimes = f.runtimes[:1] }, levelWarn, "python", "such functions cannot run", "apt-get install python3"},
		"little memory":          {func(f *facts) { f.availableMB = 100 }, levelWarn, "memory", "100 of 24000 MB", "free memory"},
		"memory nobody knows":    {func(f *facts) { f.totalMB = 0 }, levelWarn, "memory", "does not say", "limits.instances"},
		"another server":         {func(f *facts) { f.port, f.portErr = portTaken, errors.New("HTTP 404") }, levelFail, "address", "something else listens", "--listen"},
		"an address of nobody":   {func(f *facts) { f.port, f.portErr = portUnusable, errors.New("no such address") }, levelFail, "address", "cannot be listened on", "--listen"},
		"a folder of others":     {func(f *facts) { f.dataErr = errors.New("permission denied") }, levelFail, "data folder", "permission denied", "--data"},
		"a full disk":            {func(f *facts) { f.freeBytes = 1 << 20 }, levelWarn, "data folder", "1.0 MB left", "make room"},
		"a server that is there": {func(f *facts) { f.port = portLambent }, levelOK, "address", "a lambent server answers", ""},
		"a runtime of a home":    {func(f *facts) { f.refused = []hostinfo.Refused{{Path: "/usr/local/bin/node", Reason: "home"}} }, levelOK, "not used", "/usr/local/bin/node: home", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := goodMachine()
			tc.change(&f)
			for _, got := range judge(f) {
				if got.what == tc.what {
					if got.level != tc.level || !strings.Contains(got.text, tc.text) || !strings.Contains(got.todo, tc.todo) {
						t.Errorf("%+v, want %s, %q, %q", got, tc.level, tc.text, tc.todo)
					}
					return
				}
			}
			t.Errorf("no finding about %s", tc.what)
		})
	}
}

func TestDoctorLooksAtThisMachine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// Its verdict depends on the machine; that it looked at everything does not.
	code, out, errOut := run(t.Context(), nil, nil, nil, "doctor", "--listen", addr, "--data", t.TempDir())
	check(t, "doctor", min(code, 1), code, out+errOut, "architecture", "kernel", "control groups", "nodejs", "python", "provided", addr+" is free", "data folder")
	code, out, errOut = run(t.Context(), nil, nil, nil, "doctor", "--listen", addr, "--data", writeFile(t, t.TempDir(), "file", ""))
	check(t, "doctor of a folder that cannot be", code, 1, out+errOut, "fail  data folder", "→ choose another with --data")
	code, _, errOut = run(t.Context(), nil, nil, nil, "doctor", "--listen", "nowhere")
	check(t, "doctor of no address", code, 2, errOut, "is not host:port")
}

func TestLookAtPortTellsLambentFromOthers(t *testing.T) {
	for status, want := range map[int]portState{http.StatusOK: portLambent, http.StatusNotFound: portTaken} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if got, err := lookAtPort(t.Context(), strings.TrimPrefix(srv.URL, "http://")); got != want {
			t.Errorf("a server that answers %d is %v, %v, want %v", status, got, err, want)
		}
		srv.Close()
	}
	if got, err := lookAtPort(t.Context(), "192.0.2.1:80"); got != portUnusable {
		t.Errorf("an address of another machine is %v, %v", got, err)
	}
}

func TestLookAtDataJudgesByTheNearestFolderThatExists(t *testing.T) {
	dir := t.TempDir()
	if free, err := lookAtData(filepath.Join(dir, "a", "b")); err != nil || free == 0 {
		t.Errorf("a folder to be made: %d, %v", free, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lookAtData(file); err == nil {
		t.Error("a file was taken for a folder")
	}
	if _, err := lookAtData(filepath.Join(file, "below")); err == nil {
		t.Error("a folder below a file was taken")
	}
}
