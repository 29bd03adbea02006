package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"lambent"
)

// settings are the members that CreateFunction and UpdateFunctionConfiguration
// share. A nil is a member the caller left out.
type settings struct {
	Role        *string
	Handler     *string
	Description *string
	Timeout     *int
	MemorySize  *int
	Runtime     *string
	KMSKeyArn   *string
	Layers      []*string

	Environment      *environmentSettings
	TracingConfig    *tracingSettings
	EphemeralStorage *ephemeralSettings
	LoggingConfig    *loggingSettings
	DeadLetterConfig *deadLetterSettings

	VpcConfig              *vpcSettings
	FileSystemConfigs      []fileSystemSettings
	ImageConfig            *imageSettings
	SnapStart              *snapStartSettings
	CapacityProviderConfig *capacityProviderSettings
	DurableConfig          *durableSettings
}

// member reads one of the shared members; known is false for a name that is
// none of them.
func (s *settings) member(d *decoder, name string) (known bool, err error) {
	switch name {
	case "Role":
		err = d.str(&s.Role)
	case "Handler":
		err = d.str(&s.Handler)
	case "Description":
		err = d.str(&s.Description)
	case "Timeout":
		err = d.integer(&s.Timeout)
	case "MemorySize":
		err = d.integer(&s.MemorySize)
	case "Runtime":
		err = d.str(&s.Runtime)
	case "KMSKeyArn":
		err = d.str(&s.KMSKeyArn)
	case "Layers":
		err = d.strings(&s.Layers)
	case "Environment":
		s.Environment = &environmentSettings{}
		err = d.structure(s.Environment)
	case "TracingConfig":
		s.TracingConfig = &tracingSettings{}
		err = d.structure(s.TracingConfig)
	case "EphemeralStorage":
		s.EphemeralStorage = &ephemeralSettings{}
		err = d.structure(s.EphemeralStorage)
	case "LoggingConfig":
		s.LoggingConfig = &loggingSettings{}
		err = d.structure(s.LoggingConfig)
	case "DeadLetterConfig":
		s.DeadLetterConfig = &deadLetterSettings{}
		err = d.structure(s.DeadLetterConfig)
	default:
		return s.foreignMember(d, name)
	}
	return true, err
}

// check notes what the model finds wrong.
func (s *settings) check(v *violations, sh *shapes) {
	v.str("role", s.Role, sh.roleArn...)
	v.str("handler", s.Handler, sh.handler...)
	v.str("description", s.Description, sh.description...)
	v.integer("timeout", s.Timeout, 1, lambent.MaxTimeoutSecs)
	v.integer("memorySize", s.MemorySize, lambent.MinMemoryMB, lambent.MaxMemoryMB)
	v.str("kMSKeyArn", s.KMSKeyArn, sh.kmsKeyArn...)
	v.list("layers", s.Layers, 0, noBound, sh.layerArn...)
	if s.Environment != nil {
		v.secretMap("environment.variables", s.Environment.Variables, sh.variableName...)
	}
	if s.TracingConfig != nil {
		v.str("tracingConfig.mode", s.TracingConfig.Mode, sh.tracingMode...)
	}
	if s.EphemeralStorage != nil {
		v.required("ephemeralStorage.size", s.EphemeralStorage.Size != nil)
		v.integer("ephemeralStorage.size", s.EphemeralStorage.Size, lambent.MinEphemeralMB, lambent.MaxEphemeralMB)
	}
	if l := s.LoggingConfig; l != nil {
		v.str("loggingConfig.logFormat", l.LogFormat, sh.logFormat...)
		v.str("loggingConfig.applicationLogLevel", l.ApplicationLogLevel, sh.applicationLogLevel...)
		v.str("loggingConfig.systemLogLevel", l.SystemLogLevel, sh.systemLogLevel...)
		v.str("loggingConfig.logGroup", l.LogGroup, sh.logGroup...)
	}
	if c := s.DeadLetterConfig; c != nil {
		v.str("deadLetterConfig.targetArn", c.TargetArn, sh.resourceArn...)
	}
	s.checkForeign(v, sh)
}

// noBound is for lists the model does not bound.
const noBound = 1 << 30

// acceptable refuses what is well-formed but cannot be had: reserved or too
// many variables, runtimes nobody serves, features lambent does not have. The
// errors are InvalidParameterValueExceptions.
func (s *settings) acceptable(operation string) error {
	if s.Environment != nil {
		if err := checkVariables(operation, s.Environment.Variables); err != nil {
			return err
		}
	}
	if s.Runtime != nil {
		if err := checkRuntime(operation, lambent.Runtime(*s.Runtime)); err != nil {
			return err
		}
	}
	if s.Handler != nil && strings.ContainsRune(*s.Handler, 0) {
		return invalid(operation, "The handler must not hold a NUL character.")
	}
	if t := s.TracingConfig; t != nil && t.Mode != nil && *t.Mode == "Active" {
		return invalid(operation, "lambent does not trace yet: leave TracingConfig out, or set its Mode to PassThrough.")
	}
	if l := s.LoggingConfig; l != nil {
		if err := l.acceptable(operation); err != nil {
			return err
		}
	}
	return s.foreignAcceptable(operation)
}

// apply sets in f what the caller gave.
func (s *settings) apply(f *lambent.Function) {
	set(&f.Role, s.Role)
	set(&f.Handler, s.Handler)
	set(&f.Description, s.Description)
	set(&f.TimeoutSecs, s.Timeout)
	set(&f.MemoryMB, s.MemorySize)
	set(&f.KMSKeyArn, s.KMSKeyArn)
	if s.Runtime != nil {
		f.Runtime = lambent.Runtime(*s.Runtime)
	}
	if s.Environment != nil {
		f.Environment = plainMap(s.Environment.Variables)
	}
	if s.TracingConfig != nil {
		set(&f.TracingMode, s.TracingConfig.Mode)
	}
	if s.EphemeralStorage != nil {
		set(&f.EphemeralMB, s.EphemeralStorage.Size)
	}
	if s.DeadLetterConfig != nil {
		f.DeadLetter = deref(s.DeadLetterConfig.TargetArn)
	}
	s.ImageConfig.set(f)
	if s.LoggingConfig != nil {
		set(&f.LoggingFormat, s.LoggingConfig.LogFormat)
		set(&f.LogGroup, s.LoggingConfig.LogGroup)
	}
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// plainMap is m without the indirection: checked maps hold no nil.
func plainMap(m map[string]*string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

type environmentSettings struct{ Variables map[string]*string }

func (e *environmentSettings) member(d *decoder, name string) error {
	if name == "Variables" {
		return d.strMap(&e.Variables)
	}
	return d.skip()
}

type tracingSettings struct{ Mode *string }

func (t *tracingSettings) member(d *decoder, name string) error {
	if name == "Mode" {
		return d.str(&t.Mode)
	}
	return d.skip()
}

type ephemeralSettings struct{ Size *int }

func (e *ephemeralSettings) member(d *decoder, name string) error {
	if name == "Size" {
		return d.integer(&e.Size)
	}
	return d.skip()
}

type loggingSettings struct{ LogFormat, ApplicationLogLevel, SystemLogLevel, LogGroup *string }

func (l *loggingSettings) member(d *decoder, name string) error {
	switch name {
	case "LogFormat":
		return d.str(&l.LogFormat)
	case "ApplicationLogLevel":
		return d.str(&l.ApplicationLogLevel)
	case "SystemLogLevel":
		return d.str(&l.SystemLogLevel)
	case "LogGroup":
		return d.str(&l.LogGroup)
	}
	return d.skip()
}

// acceptable refuses levels other than the ones JSON logs have anyway: lambent
// does not filter logs.
func (l *loggingSettings) acceptable(operation string) error {
	for field, level := range map[string]*string{"ApplicationLogLevel": l.ApplicationLogLevel, "SystemLogLevel": l.SystemLogLevel} {
		if level != nil && *level != "INFO" {
			return invalid(operation, "lambent does not filter logs by level: leave LoggingConfig."+field+" out, or set it to INFO.")
		}
	}
	return nil
}

// maxEnvironment is AWS's limit on a function's variables, as compact JSON.
const maxEnvironment = 4096

// reservedVariables are those Lambda sets itself (developer guide, "Defined
// runtime environment variables").
var reservedVariables = []string{"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
	"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
	"AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"}

func checkVariables(operation string, variables map[string]*string) error {
	const because = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	var reserved []string
	for _, k := range slices.Sorted(maps.Keys(variables)) {
		if slices.Contains(reservedVariables, k) {
			reserved = append(reserved, k)
		}
		if v := variables[k]; v != nil && strings.ContainsRune(*v, 0) {
			return invalid(operation, because+"hold a NUL character: "+k)
		}
	}
	if len(reserved) > 0 {
		return invalid(operation, because+"contains reserved keys that are currently not supported for modification. Reserved keys used in this request: "+strings.Join(reserved, ", "))
	}
	measured := compactJSON(plainMap(variables))
	if len(measured) > maxEnvironment {
		if len(measured) > 2*maxEnvironment {
			measured = strings.ToValidUTF8(measured[:2*maxEnvironment], "") + "…"
		}
		return invalid(operation, because+"exceeded the 4KB limit. String measured: "+measured)
	}
	return nil
}

// compactJSON renders a map as AWS measures it: keys in order, no space,
// nothing escaped that need not be.
func compactJSON(m map[string]string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// offeredRuntimes is the set AWS prints for a name it does not know, in its own
// order (seen at AWS, November 2025).
const offeredRuntimes = "[nodejs20.x, python3.14, provided.al2023, python3.12, python3.13, nodejs24.x, nodejs22.x, java17, nodejs16.x, java25, dotnet8, python3.10, java11, python3.11, dotnet6, java21, nodejs18.x, provided.al2, ruby3.3, ruby3.4, java8.al2, ruby3.2, python3.8, python3.9]"

func checkRuntime(operation string, r lambent.Runtime) error {
	if !r.Known() {
		shown := string(r)
		if len(shown) > maxShown {
			shown = strings.ToValidUTF8(shown[:maxShown], "") + "…"
		}
		return invalid(operation, fmt.Sprintf("Value %s at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: %s or be a valid ARN", shown, offeredRuntimes))
	}
	if r.Retired() {
		return invalid(operation, fmt.Sprintf("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", r))
	}
	if _, ok := r.Family(); !ok {
		families := make([]string, 0, len(lambent.Families()))
		for _, f := range lambent.Families() {
			families = append(families, string(f))
		}
		return invalid(operation, fmt.Sprintf("lambent does not run the runtime %s. It runs the families %s; \"provided\" takes any executable named bootstrap.", r, strings.Join(families, ", ")))
	}
	return nil
}

// The bounds of tags (developer guide, "Using tags on Lambda functions").
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

func checkTags(operation string, tags map[string]*string) error {
	if len(tags) > maxTags {
		return invalid(operation, "Number of tags exceeds resource tag limit.")
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		switch {
		case k == "" || utf8.RuneCountInString(k) > maxTagKey:
			return invalid(operation, fmt.Sprintf("A tag key must have between 1 and %d characters.", maxTagKey))
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return invalid(operation, "A tag key must not start with aws: in any case.")
		case tags[k] != nil && utf8.RuneCountInString(*tags[k]) > maxTagValue:
			return invalid(operation, fmt.Sprintf("The value of the tag %q must have at most %d characters.", k, maxTagValue))
		}
	}
	return nil
}
