// Package gvisor drives gVisor: an instance is one gVisor sandbox, its own
// kernel in user space, started in process from gVisor's packages and run by a
// program of its own, lambent-sandbox, which is embedded: package runsc.
//
// # Processes
//
//	lambent ─┬─ runsc-sandbox   one an instance: the kernel ("sentry") and, as
//	         │                  children, the stubs that run application code
//	         └─ runsc-gofer     one a container and one for the instance's own
//	                            root: opens the container's files for the kernel
//
// All of them are children of the server, which reaps them, and members of the
// instance's cgroup from their first moments: runsc.Main joins it before it
// hands over to gVisor. An instance's first process is "lambent-init pause"; it holds
// the read end of a pipe whose other end only the server has. However the
// server ends, that pipe reaches its end, and with it the sandbox.
//
// # Files
//
// Below Options.Dir: lock (one server at a time), scratch (the disk behind every
// /tmp), and run, a tmpfs with lambent-sandbox, with base, the root file system
// all containers have in common, and i/INSTANCE/… with a read-only clone of it
// for each container. Such a clone is a shared mount, and gVisor's gofer holds a
// slave copy of it; so what Attach mounts into the clone appears under running
// code.
//
// # Containers
//
// Each container is a group of gVisor's own kernel, which counts its pages by it.
// A part of this package runs within that kernel, the ledger: it tells what each
// container uses and refuses processes over a container's bound. See runsc's
// ledger.go for its side and memory.go for the server's.
//
// # Walls
//
// Application code meets: gVisor's kernel, which has no network device but
// loopback, no host sockets, pipes or devices; a user without capabilities and
// with no_new_privs; read-only, nosuid, nodev mounts of the host's /usr and a
// made-up /etc. Should it break into the kernel, it finds itself in seccomp, in
// empty namespaces, chrooted, bounded by the cgroup.
//
// # Standard input and output
//
// gVisor hands the calling process's os.Stdin, os.Stdout and os.Stderr to the
// first process of every container. That process is lambent-init, as root, and
// no other user can open its descriptors. So that not even gVisor's kernel holds
// them, main calls DetachStdio before anything else; Capabilities says where it
// did not. Other files of the server never get that far: closeOnExec,
// closeInherited.
package gvisor
