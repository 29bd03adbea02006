package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"lambent/internal/runtimeapi/frame"
	"lambent/internal/runtimeapi/guest"
)

// prctl operations (linux/prctl.h) that package syscall does not name, and the
// last capability a kernel may know (linux/capability.h leaves room up to 63).
const (
	prCapBSetDrop   = 24
	prSetNoNewPrivs = 38
	lastCapability  = 63
)

// launcher is a thread that has given up the way to more privileges, while the
// rest of this process keeps what it has: programs are started from it.
type launcher struct {
	orders chan func()
	err    error // why it could not give up; valid after the first order
}

// newLauncher makes the thread, which ends with close.
func newLauncher() *launcher {
	l := &launcher{orders: make(chan func())}
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		l.err = giveUp()
		for order := range l.orders {
			order()
		}
	}()
	return l
}

func (l *launcher) close() { close(l.orders) }

// forkExec is syscall.ForkExec, from the launcher's thread.
func (l *launcher) forkExec(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	done := make(chan struct{})
	l.orders <- func() {
		defer close(done)
		if err = l.err; err == nil {
			pid, err = syscall.ForkExec(path, args, attr)
		}
	}
	<-done
	return pid, err
}

// start starts the program there is to start: as the user of the assignment,
// without capabilities and without the way to any, in the task root as working
// directory, with no environment but the function's, in a process group of its
// own.
func (l *launcher) start(a *frame.Assignment, address string) (pid int, err error) {
	path, args, err := program(a)
	if err != nil {
		return 0, err
	}
	if err := limit(a.Limits); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{
		Dir: a.TaskRoot, Env: environment(a, address),
		Files: []uintptr{null.Fd(), 1, 2},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	}
	if a.User != nil && os.Getuid() == 0 {
		attr.Sys.Credential = &syscall.Credential{Uid: a.User.UID, Gid: a.User.GID}
	}
	if pid, err = l.forkExec(path, args, attr); err != nil {
		return 0, &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	return pid, nil
}

// program finds what to start: the command of an image, else the first bootstrap
// there is.
func program(a *frame.Assignment) (path string, args []string, err error) {
	if len(a.Command) == 0 {
		path, err = findBootstrap(a.Bootstraps)
		return path, []string{path}, err
	}
	if info, err := os.Stat(a.TaskRoot); err != nil || !info.IsDir() {
		return "", nil, workingDirError(a.TaskRoot)
	}
	path = a.Command[0]
	if strings.Contains(path, "/") {
		if !filepath.IsAbs(path) {
			path = filepath.Join(a.TaskRoot, path)
		}
		return path, a.Command, nil
	}
	for _, dir := range filepath.SplitList(a.Env["PATH"]) {
		if dir == "" {
			dir = "."
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(a.TaskRoot, dir)
		}
		if full, err := findBootstrap([]string{filepath.Join(dir, path)}); err == nil {
			return full, a.Command, nil
		}
	}
	return "", nil, &exec.Error{Name: path, Err: exec.ErrNotFound}
}

// workingDirError is that there is no such folder.
type workingDirError string

// Error names the folder.
func (e workingDirError) Error() string { return "chdir " + string(e) + ": no such file or directory" }

// giveUp takes from the calling thread the way to more privileges.
func giveUp() error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("set no_new_privs: %w", errno)
	}
	for c := uintptr(0); c <= lastCapability; c++ {
		// EINVAL: the kernel has no such capability. EPERM: not root, so there
		// is nothing to drop.
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prCapBSetDrop, c, 0)
	}
	return nil
}

// findBootstrap is the first of the paths that is an executable file.
func findBootstrap(paths []string) (string, error) {
	for _, path := range paths {
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", noBootstrapError(paths)
}

// noBootstrapError is that none of the paths is an executable file.
type noBootstrapError []string

// Error is AWS's text.
func (e noBootstrapError) Error() string {
	return fmt.Sprintf("Couldn't find valid bootstrap(s): [%s]", strings.Join(e, " "))
}

// limit sets the resource limits for what is started from now on.
func limit(l *frame.Limits) error {
	if l == nil {
		return nil
	}
	const processes = 6 // RLIMIT_NPROC, which package syscall does not name
	for _, r := range []struct {
		name  string
		which int
		value uint64
	}{{"open files", syscall.RLIMIT_NOFILE, l.OpenFiles}, {"processes", processes, l.Processes}} {
		if r.value == 0 {
			continue
		}
		if err := syscall.Setrlimit(r.which, &syscall.Rlimit{Cur: r.value, Max: r.value}); err != nil {
			return fmt.Errorf("limit %s to %d: %w", r.name, r.value, err)
		}
	}
	return nil
}

// environment is the function's environment with the address of the Runtime API,
// and of its credentials if it has some.
func environment(a *frame.Assignment, address string) []string {
	const api = "AWS_LAMBDA_RUNTIME_API"
	list := make([]string, 0, len(a.Env)+3)
	for k, v := range a.Env {
		if k != api {
			list = append(list, k+"="+v)
		}
	}
	if c := a.Credentials; c != nil {
		list = append(list, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://"+address+guest.CredentialsPath, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+c.Authorization)
	}
	return append(list, api+"="+address)
}

// reportNoBootstrap tells the host that there is nothing to run.
func reportNoBootstrap(host *guest.Conn, a *frame.Assignment, cause error) error {
	kind := "Runtime.InvalidEntrypoint"
	if _, dir := errors.AsType[workingDirError](cause); dir {
		kind = "Runtime.InvalidWorkingDir"
	}
	body, err := json.Marshal(map[string]string{"errorType": kind, "errorMessage": cause.Error()})
	if err != nil {
		return fmt.Errorf("report %w: %w", cause, err)
	}
	if err := host.InitError(kind, body); err != nil {
		return fmt.Errorf("report that %s of %s cannot be started (%w): %w", a.Handler, a.FunctionName, cause, err)
	}
	return nil
}
