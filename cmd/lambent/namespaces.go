package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"lambent/cmd/lambent/cli"
)

// enteredEnv marks a process that is in the namespaces of its own already.
const enteredEnv = "_LAMBENT_ENTERED"

// enterNamespaces gives a server a mount namespace of its own, so that the
// sandboxes' mounts are seen by nobody else and vanish with the server and its
// sandboxes however they end. Without root it also gets a user namespace, in
// which it is root over nothing but its own: gVisor then runs as it does for
// root. It returns where there is nothing to enter, or in the process that has;
// otherwise the process ends here, with the server's exit status.
func enterNamespaces(args []string) error {
	if os.Getenv(enteredEnv) != "" {
		return os.Unsetenv(enteredEnv)
	}
	if !slices.Contains(args[1:], "up") && !slices.Contains(args[1:], "quickstart") {
		return nil
	}
	if os.Geteuid() != 0 {
		return enterUserNamespace(args)
	}
	return enterMountNamespace(args)
}

// enterMountNamespace replaces this program by itself in a new mount namespace,
// under the same process id. A namespace is a thread's until a program is
// executed.
func enterMountNamespace(args []string) error {
	runtime.LockOSThread() // never unlocked: the thread is replaced, or the error ends the program
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("take a mount namespace of our own: %w", err)
	}
	// What others mount later is still seen here; what is mounted here is not seen there.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cut our mounts off from the machine's: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("take a mount namespace of our own: %w", err)
	}
	return fmt.Errorf("execute %s anew: %w", exe, unix.Exec(exe, args, append(startingEnvironment(os.Environ()), enteredEnv+"=1")))
}

// enterUserNamespace runs this program again in new user and mount namespaces
// and ends as that one ends. The kernel lets only a new process into a user
// namespace, so this one stays and passes signals on.
func enterUserNamespace(args []string) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("take a user namespace of our own: %w", err)
	}
	runtime.LockOSThread() // the child dies with this thread
	child := exec.Command(exe, args[1:]...)
	child.Env = append(startingEnvironment(os.Environ()), enteredEnv+"=1", cli.RootlessEnv+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := child.Start(); err != nil {
		return fmt.Errorf("take a user namespace of our own, which a server without root needs: %w; `lambent doctor` tells what forbids it, or start it as root", err)
	}
	go func() { // ends with the process
		for s := range signals {
			// A terminal's Ctrl-C reaches the child by itself; only what was meant for
			// this process is passed on.
			if s == syscall.SIGTERM {
				_ = child.Process.Signal(s)
			}
		}
	}()
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return fmt.Errorf("wait for the server: %w", err)
	} else if ok && exit.ExitCode() < 0 {
		os.Exit(128 + int(exit.Sys().(syscall.WaitStatus).Signal()))
	}
	os.Exit(child.ProcessState.ExitCode())
	return nil
}
