//go:build !amd64

package filters

import "gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"

// Nothing was compiled for this architecture, for want of such a machine: gVisor
// does it at every start.

func sentryCompiled() []precompiledseccomp.Program { return nil }
func goferCompiled() []precompiledseccomp.Program  { return nil }
