package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is what this source tree is going to be released as.
const version = "0.1.0"

type versionCommand struct{}

// Run prints one line: version, commit where the build knows it, Go, platform.
func (versionCommand) Run(s Streams) error {
	commit := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				commit = " (" + setting.Value[:min(12, len(setting.Value))] + ")"
			}
		}
	}
	_, err := fmt.Fprintf(s.Out, "lambent %s%s %s %s/%s\n", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
