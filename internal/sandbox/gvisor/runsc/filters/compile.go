package filters

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	_ "gvisor.dev/gvisor/pkg/sentry/platform/platforms" // of which systrap is one
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

// CompileSentry compiles what a sandbox runs under with the settings the driver
// gives gVisor.
func CompileSentry() ([]precompiledseccomp.Program, error) {
	systrap, err := platform.Lookup("systrap")
	if err != nil {
		return nil, fmt.Errorf("compile filters: %w", err)
	}
	var compiled []precompiledseccomp.Program
	for _, info := range systrap.PrecompiledSeccompInfo() {
		opts := sentry.Options{Platform: info, HostFilesystem: true}
		program, err := precompiledseccomp.Precompile(opts.ConfigKey(), slices.Collect(maps.Keys(opts.Vars())), func(vars precompiledseccomp.Values) *seccomp.Program {
			stood := opts
			stood.Platform = standIn{SeccompInfo: info, vars: vars}
			stood.ControllerFD = vars["controller_fd"]
			return sentryProgram(stood)
		})
		if err == nil {
			err = checkSentry(program, opts)
		}
		if err != nil {
			return nil, fmt.Errorf("compile filter of a sandbox: %w", err)
		}
		compiled = append(compiled, program)
	}
	return compiled, nil
}

// sentryProgram is what gVisor would compile in a sandbox.
func sentryProgram(opts sentry.Options) *seccomp.Program {
	rules, deny := sentry.Rules(opts)
	return &seccomp.Program{
		RuleSets: []seccomp.RuleSet{{Rules: deny.Copy()}, {Rules: rules.Copy(), Action: seccomp.Allow}},
		Options:  sentry.SeccompOptions(opts),
	}
}

// checkSentry compiles for this process, as gVisor would in it, and compares.
func checkSentry(program precompiledseccomp.Program, opts sentry.Options) error {
	opts.ControllerFD = 7
	want, _, err := sentryProgram(opts).Build()
	if err != nil {
		return err
	}
	program.Bytecode32 = slices.Clone(program.Bytecode32) // rendering writes into it
	got, err := program.RenderInstructions(opts.Vars())
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return errors.New("what was compiled beforehand is not what gVisor compiles for this process")
	}
	return nil
}

// standIn is a platform whose variables, and those of the process with them,
// have values that the compiler finds again in the program.
type standIn struct {
	platform.SeccompInfo
	vars precompiledseccomp.Values
}

func (s standIn) Variables() precompiledseccomp.Values { return s.vars }

// SyscallFilters are the platform's, but for the one place where systrap writes
// the process's own id into a rule instead of taking the variable there is for
// it: what is compiled is for another process.
func (s standIn) SyscallFilters(vars precompiledseccomp.Values) seccomp.SyscallRules {
	const call = unix.SYS_RT_TGSIGQUEUEINFO
	rules := s.SeccompInfo.SyscallFilters(vars)
	if args, ok := rules.Get(call).(seccomp.PerArg); ok && args[0] == seccomp.EqualTo(os.Getpid()) {
		args[0] = seccomp.EqualTo(vars.GetUint64("self_pid"))
		rules.Remove(call)
		rules.Set(call, args)
	}
	return rules
}

// CompileGofer compiles what gofers run under: those of the settings the driver
// gives gVisor, whatever is mounted.
func CompileGofer() ([]precompiledseccomp.Program, error) {
	all, err := gofer.PrecompiledPrograms()
	if err != nil {
		return nil, fmt.Errorf("compile filters of gofers: %w", err)
	}
	wanted := []string{
		gofer.Options{DirectFS: true}.ConfigKey(),
		gofer.Options{DirectFS: true, LisafsNeeded: true}.ConfigKey(),
	}
	all = slices.DeleteFunc(all, func(p precompiledseccomp.Program) bool { return !slices.Contains(wanted, p.Name) })
	slices.SortFunc(all, func(a, b precompiledseccomp.Program) int { return strings.Compare(a.Name, b.Name) })
	if len(all) != len(wanted) {
		return nil, fmt.Errorf("compile filters of gofers: gVisor compiles %d of the %d wanted: %q", len(all), len(wanted), wanted)
	}
	return all, nil
}
