// Package cgroup puts processes into groups that the kernel bounds from
// outside: memory, CPU time and number of processes, with counters of what was
// used.
//
// # Terms
//
// A hierarchy is one mounted tree of groups. Version 2 of the kernel's
// interface has one hierarchy for all controllers, version 1 has one or more,
// and a machine may mix them: each controller sits on exactly one hierarchy.
// So the version is asked for each controller, never for the machine.
//
// A Tree is the place below which one server keeps its groups: a folder
// "lambent-NAME" in each hierarchy in use. A Group is one folder of the same
// name in each of them; its processes are in all of them or none.
//
// # Where the tree is put
//
// On version 1 below the server's own group, so that bounds somebody set
// around the server hold for its groups too. On version 2 a group that holds
// processes cannot hand controllers to its children (the kernel's "no internal
// process" rule), except for the root: so below the root where the server is in
// it, else the server moves itself into a leaf "lambent-server" beside the tree.
//
// What is missing (a controller the kernel was built without, a folder that
// cannot be written) does not fail Open: Weaker says it in words and the bound
// is not enforced. The caller decides whether that is good enough.
//
// # Concurrency
//
// All methods may be called from several goroutines at once, but for New,
// Remove and Sweep of the same name.
package cgroup
