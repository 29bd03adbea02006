package gvisor

// TreeName names the cgroups of a driver in dir.
func TreeName(dir string) string { return treeName(dir) }
