package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// mountNSEnv marks a process that is in a mount namespace of its own already.
const mountNSEnv = "LAMBENT_OWN_MOUNTS"

// ownMounts gives a server a mount namespace of its own, so that the sandboxes'
// mounts are seen by nobody else and vanish with the server and its sandboxes
// however they end. A namespace is a thread's until the program is executed
// anew, so the program replaces itself; it returns in the new one, or where the
// command needs none. Only root can; without it there are no mounts to hide.
func ownMounts(args []string) error {
	if os.Getenv(mountNSEnv) != "" {
		return os.Unsetenv(mountNSEnv)
	}
	server := slices.Contains(args[1:], "up") || slices.Contains(args[1:], "quickstart")
	if !server || os.Geteuid() != 0 {
		return nil
	}
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
	return fmt.Errorf("execute %s anew: %w", exe, unix.Exec(exe, args, append(os.Environ(), mountNSEnv+"=1")))
}
