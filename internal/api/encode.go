package api

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"lambent"
)

// lastModifiedLayout is how AWS writes FunctionConfiguration.LastModified,
// always in UTC.
const lastModifiedLayout = "2006-01-02T15:04:05.000-0700"

// functionConfiguration is the model's shape of that name, without the members
// that lambent's functions never have.
type functionConfiguration struct {
	FunctionName               string
	FunctionArn                string
	Runtime                    string `json:",omitempty"`
	Role                       string
	Handler                    string `json:",omitempty"`
	CodeSize                   int64
	Description                string
	Timeout                    int
	MemorySize                 int
	LastModified               string
	CodeSha256                 string
	Version                    string
	Environment                *environment `json:",omitempty"`
	KMSKeyArn                  string       `json:",omitempty"`
	TracingConfig              tracingConfig
	RevisionID                 string  `json:"RevisionId"`
	Layers                     []layer `json:",omitempty"`
	State                      string  `json:",omitempty"`
	StateReason                string  `json:",omitempty"`
	StateReasonCode            string  `json:",omitempty"`
	LastUpdateStatus           string  `json:",omitempty"`
	LastUpdateStatusReason     string  `json:",omitempty"`
	LastUpdateStatusReasonCode string  `json:",omitempty"`
	PackageType                string
	ImageConfigResponse        *imageConfigResponse `json:",omitempty"`
	Architectures              []string
	EphemeralStorage           ephemeralStorage
	SnapStart                  snapStart
	RuntimeVersionConfig       *runtimeVersionConfig `json:",omitempty"`
	LoggingConfig              loggingConfig
	TenancyConfig              *tenancyConfig    `json:",omitempty"`
	DeadLetterConfig           *deadLetterConfig `json:",omitempty"`
}

type (
	environment   struct{ Variables map[string]string }
	tracingConfig struct{ Mode string }
	layer         struct {
		Arn      string
		CodeSize int64
	}
	ephemeralStorage     struct{ Size int }
	tenancyConfig        struct{ TenantIsolationMode string }
	deadLetterConfig     struct{ TargetArn string }
	snapStart            struct{ ApplyOn, OptimizationStatus string }
	runtimeVersionConfig struct{ RuntimeVersionArn string }
	loggingConfig        struct {
		LogFormat           string
		ApplicationLogLevel string `json:",omitempty"`
		SystemLogLevel      string `json:",omitempty"`
		LogGroup            string
	}
)

// configuration renders a record. qualifier is the one that was asked for: it
// is part of the ARN only then. What a caller never set is left out or has
// AWS's default.
func (a *API) configuration(f *lambent.Function, qualifier string) functionConfiguration {
	out := functionConfiguration{
		FunctionName:               string(f.Name),
		FunctionArn:                lambent.FunctionARN(a.region, f.Account, f.Name, qualifier),
		Runtime:                    string(f.Runtime),
		Role:                       f.Role,
		Handler:                    f.Handler,
		CodeSize:                   f.CodeSize,
		Description:                f.Description,
		Timeout:                    f.TimeoutSecs,
		MemorySize:                 f.MemoryMB,
		LastModified:               timestamp(f.LastModified),
		CodeSha256:                 shownHash(f),
		Version:                    string(f.Version),
		KMSKeyArn:                  f.KMSKeyArn,
		TracingConfig:              tracingConfig{Mode: f.TracingMode},
		RevisionID:                 f.Revision,
		State:                      f.State,
		StateReason:                f.StateReason,
		StateReasonCode:            f.StateReasonCode,
		LastUpdateStatus:           f.UpdateStatus,
		LastUpdateStatusReason:     f.UpdateReason,
		LastUpdateStatusReasonCode: f.UpdateReasonCode,
		PackageType:                f.PackageType,
		Architectures:              f.Architectures,
		EphemeralStorage:           ephemeralStorage{Size: f.EphemeralMB},
		SnapStart:                  snapStart{ApplyOn: "None", OptimizationStatus: "Off"},
		LoggingConfig:              loggingConfig{LogFormat: f.LoggingFormat, LogGroup: f.LogGroup},
	}
	out.ImageConfigResponse = imageConfigOf(f)
	if f.Environment != nil {
		out.Environment = &environment{Variables: f.Environment}
	}
	if f.TenantIsolation != "" {
		out.TenancyConfig = &tenancyConfig{f.TenantIsolation}
	}
	if f.DeadLetter != "" {
		out.DeadLetterConfig = &deadLetterConfig{f.DeadLetter}
	}
	for _, l := range f.Layers {
		out.Layers = append(out.Layers, layer{Arn: l.ARN, CodeSize: l.Size})
	}
	if f.Runtime != "" {
		out.RuntimeVersionConfig = &runtimeVersionConfig{RuntimeVersionArn: a.runtimeVersionARN(f.Runtime)}
	}
	if out.LoggingConfig.LogGroup == "" {
		out.LoggingConfig.LogGroup = "/aws/lambda/" + string(f.Name)
	}
	if f.LoggingFormat == "JSON" { // AWS's levels for JSON where none is given
		out.LoggingConfig.ApplicationLogLevel, out.LoggingConfig.SystemLogLevel = "INFO", "INFO"
	}
	return out
}

// listed is the configuration as lists show it: AWS leaves out what changes by
// itself.
func (c functionConfiguration) listed() functionConfiguration {
	c.State, c.StateReason, c.StateReasonCode = "", "", ""
	c.LastUpdateStatus, c.LastUpdateStatusReason, c.LastUpdateStatusReasonCode = "", "", ""
	c.RuntimeVersionConfig = nil
	return c
}

// runtimeVersionARN names the build of a runtime. lambent runs what the machine
// has, so the id says no more than which runtime it is.
func (a *API) runtimeVersionARN(r lambent.Runtime) string {
	id := sha256.Sum256([]byte("lambent/" + r))
	return "arn:aws:lambda:" + a.region + "::runtime:" + hex.EncodeToString(id[:])
}

func timestamp(t time.Time) string { return t.UTC().Format(lastModifiedLayout) }
