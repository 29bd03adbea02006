package gvisor

import (
	"lambent/internal/cgroup"
	"lambent/internal/sandbox"
)

// TreeName names the cgroups of a driver in dir.
func TreeName(dir string) string { return treeName(dir) }

// GroupUsage reads all that an instance's cgroup counts, gVisor's own included.
func GroupUsage(i sandbox.Instance) (cgroup.Usage, error) { return i.(*instance).group.Usage() }
