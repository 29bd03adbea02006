package host

import (
	"maps"
	"strconv"
	"strings"

	"lambent"
	"lambent/internal/hostinfo"
	"lambent/internal/runtimeapi"
	"lambent/internal/sandbox"
	"lambent/runtimes"
)

// bootCommand is the process that boots a runtime and waits. Its environment
// holds nothing that would make it look at /var/task or /opt before code is
// attached there (see the contract of package sandbox).
func bootCommand(boot Boot) sandbox.Command {
	rt := boot.Runtime
	cmd := sandbox.Command{
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/tmp", "LANG=en_US.UTF-8", "TZ=:UTC"},
		Dir: "/", UID: sandbox.UserID, GID: sandbox.GroupID,
	}
	if boot.Awaited {
		cmd.Env = append(cmd.Env, runtimes.Awaited+"=1")
	}
	if b, ok := runtimes.For(rt.Family); ok {
		cmd.Path, cmd.Args = rt.Path, b.Args(rt.Path, sandbox.RuntimeDir+"/"+b.File)
		return cmd
	}
	cmd.Path = sandbox.InitPath
	cmd.Args = []string{cmd.Path, "serve"}
	cmd.UID, cmd.GID, cmd.KeepPrivileges = 0, 0, true // it starts the function as sandbox.UserID
	return cmd
}

// Initialization is why a container is initialised, in AWS's words: functions see
// it as AWS_LAMBDA_INITIALIZATION_TYPE.
type Initialization string

// The reasons to initialise a container.
const (
	OnDemand    Initialization = "on-demand"               // for a call
	Provisioned Initialization = "provisioned-concurrency" // before there is one
)

// apiAddress is where the Runtime API is served inside a sandbox, as on AWS.
const apiAddress = "127.0.0.1:9001"

// assignment is what a container is told with its code.
func (h *Host) assignment(fn *lambent.Function, rt hostinfo.Installed, image *ImageRoot, stream string, credentials *Credentials, as Initialization) runtimeapi.Assignment {
	a := runtimeapi.Assignment{
		Handler: fn.Handler, Env: h.environmentOf(fn, rt, image, stream), TaskRoot: sandbox.TaskDir,
		FunctionName: string(fn.Name), Version: string(fn.Version),
		FunctionARN: lambent.FunctionARN(h.opts.Region, fn.Account, fn.Name, ""),
		Account:     string(fn.Account), Region: h.opts.Region, MemoryMB: fn.MemoryMB,
		LogGroup: logGroup(fn), LogStream: stream,
		Bootstraps: []string{sandbox.TaskDir + "/bootstrap", sandbox.LayerDir + "/bootstrap"},
		APIAddress: apiAddress,
		User:       &runtimeapi.User{UID: sandbox.UserID, GID: sandbox.GroupID},
	}
	a.Env["AWS_LAMBDA_INITIALIZATION_TYPE"] = string(as)
	if image != nil {
		startImage(&a, fn, image)
	}
	if credentials != nil {
		credentials.environment(a.Env)
		if rt.Family == lambent.FamilyProvided || rt.Image != "" { // the others' bootstraps serve nothing
			a.Credentials = credentials.served()
		}
	}
	return a
}

func (h *Host) environmentOf(fn *lambent.Function, rt hostinfo.Installed, image *ImageRoot, stream string) map[string]string {
	if image != nil {
		return h.imageEnvironment(fn, image, stream)
	}
	return h.environment(fn, rt, stream)
}

// environment is the whole environment of the user's code: AWS's defined runtime
// variables (developer guide, "Defined runtime environment variables") and the
// function's own, which may replace those that are not reserved.
func (h *Host) environment(fn *lambent.Function, rt hostinfo.Installed, stream string) map[string]string {
	family, _ := fn.Runtime.Family() // known: pool chose the container by it
	env := map[string]string{
		"LANG":            "en_US.UTF-8",
		"TZ":              ":UTC",
		"HOME":            "/tmp",
		"PWD":             sandbox.TaskDir,
		"PATH":            "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH": "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
	}
	switch family {
	case lambent.FamilyNode:
		major, _, _ := strings.Cut(rt.Version, ".")
		env["NODE_PATH"] = "/opt/nodejs/node" + major + "/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
	case lambent.FamilyPython:
		env["PYTHONPATH"] = sandbox.RuntimeDir
	}
	maps.Copy(env, fn.Environment)
	maps.Copy(env, h.reserved(fn, stream))
	if family != lambent.FamilyProvided { // managed runtimes only
		env["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + string(fn.Runtime)
	}
	return env
}

// reserved are the variables that are Lambda's alone.
func (h *Host) reserved(fn *lambent.Function, stream string) map[string]string {
	env := map[string]string{ // reserved: the API refuses them as the function's own
		"_HANDLER":                        fn.Handler,
		"AWS_REGION":                      h.opts.Region,
		"AWS_DEFAULT_REGION":              h.opts.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        string(fn.Name),
		"AWS_LAMBDA_FUNCTION_VERSION":     string(fn.Version),
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(fn.MemoryMB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       logGroup(fn),
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"AWS_LAMBDA_RUNTIME_API":          apiAddress,
		"LAMBDA_TASK_ROOT":                sandbox.TaskDir,
		"LAMBDA_RUNTIME_DIR":              sandbox.RuntimeDir,
		"AWS_XRAY_CONTEXT_MISSING":        "LOG_ERROR",
	}
	if fn.LoggingFormat == "JSON" {
		env["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
	}
	return env
}

func logGroup(fn *lambent.Function) string {
	if fn.LogGroup != "" {
		return fn.LogGroup
	}
	return "/aws/lambda/" + string(fn.Name)
}
