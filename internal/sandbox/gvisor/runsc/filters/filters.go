package filters

import (
	"slices"
	_ "unsafe" // for go:linkname

	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	sentry "gvisor.dev/gvisor/runsc/boot/filter"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter"
)

// The tables that gVisor's build would have filled. It offers no other way in.
var (
	//go:linkname sentryPrograms gvisor.dev/gvisor/runsc/boot/filter.precompiledPrograms
	sentryPrograms map[string]precompiledseccomp.Program
	//go:linkname goferPrograms gvisor.dev/gvisor/runsc/fsgofer/filter.precompiledPrograms
	goferPrograms map[string]precompiledseccomp.Program
)

// Register makes the programs known to gVisor, in a process that is about to
// become part of a sandbox.
func Register() {
	// gVisor fills its tables, with nothing, when it is first asked.
	sentry.ListPrecompiled()
	gofer.ListPrecompiled()
	sentryPrograms, goferPrograms = byName(sentryCompiled()), byName(goferCompiled())
}

func byName(programs []precompiledseccomp.Program) map[string]precompiledseccomp.Program {
	m := make(map[string]precompiledseccomp.Program, len(programs))
	for p := range slices.Values(programs) {
		m[p.Name] = p
	}
	return m
}
