package api

import (
	"strings"
	"testing"
)

type m = map[string]any

func TestSettingsLambentLacksAreRefusedByName(t *testing.T) {
	tests := []struct {
		field string
		value any
	}{
		{"VpcConfig", m{"SubnetIds": []any{}, "SecurityGroupIds": []any{"sg"}, "Ipv6AllowedForDualStack": true}},
		{"FileSystemConfigs", []any{m{"Arn": "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0123456789abcdef0", "LocalMountPath": "/mnt/x"}}},
		{"SnapStart", m{"ApplyOn": "PublishedVersions"}},
		{"CapacityProviderConfig", m{"LambdaManagedInstancesCapacityProviderConfig": m{"CapacityProviderArn": "arn:aws:lambda:us-east-1:123456789012:capacity-provider:c",
			"PerExecutionEnvironmentMaxConcurrency": 2, "ExecutionEnvironmentMemoryGiBPerVCpu": 2.5}}},
		{"DurableConfig", m{"RetentionPeriodInDays": 1, "ExecutionTimeout": 1}},
		{"PublishTo", "LATEST_PUBLISHED"},
	}
	for _, tt := range tests {
		t.Run(tt.field, func(t *testing.T) {
			d := newDoor(t)
			want := "lambent does not support " + tt.field + " yet: leave it out, or empty."
			if got := d.create(t, "f", tt.field, tt.value).wantError(t, 400, "InvalidParameterValueException"); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

func TestSettingsThatAskForNothingPass(t *testing.T) {
	d := newDoor(t)
	got := d.create(t, "f", "Layers", []any{}, "VpcConfig", m{"SubnetIds": []any{}, "other": 1}, "DeadLetterConfig", m{"TargetArn": "", "other": 1},
		"FileSystemConfigs", []any{}, "ImageConfig", m{"other": 1}, "SnapStart", m{"other": 1}, "CodeSigningConfigArn", nil, "KMSKeyArn", "",
		"LoggingConfig", m{"ApplicationLogLevel": "INFO", "other": 1}, "TracingConfig", m{"other": 1}, "Environment", m{"other": 1}, "Tags", m{"k": nil})
	if got.status != 201 {
		t.Errorf("%d %s", got.status, got.raw)
	}
}

func TestSettingsBreakTheModelsConstraints(t *testing.T) {
	const failed = "' failed to satisfy constraint: Member must "
	tests := []struct {
		field string
		value any
		want  string // part of the text
	}{
		{"Description", strings.Repeat("d", 257), "at 'description" + failed + "have length less than or equal to 256"},
		{"Description", strings.Repeat("😀", 129), "at 'description" + failed + "have length less than or equal to 256"}, // Java counts UTF-16
		{"Handler", strings.Repeat("h", 129), "at 'handler" + failed + "have length less than or equal to 128"},
		{"MemorySize", 10241, "Value '10241' at 'memorySize" + failed + "have value less than or equal to 10240"},
		{"KMSKeyArn", "key", "at 'kMSKeyArn" + failed + "satisfy regular expression pattern: (arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()"},
		{"EphemeralStorage", m{}, "Value null at 'ephemeralStorage.size" + failed + "not be null"},
		{"EphemeralStorage", m{"Size": 10241}, "at 'ephemeralStorage.size" + failed + "have value less than or equal to 10240"},
		{"TracingConfig", m{"Mode": "On"}, "at 'tracingConfig.mode" + failed + "satisfy enum value set: [Active, PassThrough]"},
		{"LoggingConfig", m{"LogFormat": "XML"}, "at 'loggingConfig.logFormat" + failed + "satisfy enum value set: [JSON, Text]"},
		{"LoggingConfig", m{"LogGroup": "a b"}, "at 'loggingConfig.logGroup" + failed + `satisfy regular expression pattern: [\.\-_/#A-Za-z0-9]+`},
		{"LoggingConfig", m{"ApplicationLogLevel": "LOUD"}, "at 'loggingConfig.applicationLogLevel" + failed + "satisfy enum value set: [TRACE, DEBUG, INFO, WARN, ERROR, FATAL]"},
		{"LoggingConfig", m{"SystemLogLevel": "TRACE"}, "at 'loggingConfig.systemLogLevel" + failed + "satisfy enum value set: [DEBUG, INFO, WARN]"},
		{"VpcConfig", m{"SecurityGroupIds": []any{"1", "2", "3", "4", "5", "6"}}, "Value '[1, 2, 3, 4, 5, 6]' at 'vpcConfig.securityGroupIds" + failed + "have length less than or equal to 5"},
		{"DeadLetterConfig", m{"TargetArn": "q"}, "at 'deadLetterConfig.targetArn" + failed + "satisfy regular expression pattern"},
		{"FileSystemConfigs", []any{m{}}, "Value null at 'fileSystemConfigs.1.member.arn" + failed + "not be null"},
		{"FileSystemConfigs", []any{m{"Arn": "x", "LocalMountPath": "/x"}, m{}}, "at 'fileSystemConfigs" + failed + "have length less than or equal to 1"},
		{"ImageConfig", m{"WorkingDirectory": strings.Repeat("w", 1001)}, "at 'imageConfig.workingDirectory" + failed + "have length less than or equal to 1000"},
		{"SnapStart", m{"ApplyOn": "All"}, "at 'snapStart.applyOn" + failed + "satisfy enum value set: [PublishedVersions, None]"},
		{"CapacityProviderConfig", m{}, "Value null at 'capacityProviderConfig.lambdaManagedInstancesCapacityProviderConfig" + failed + "not be null"},
		{"CapacityProviderConfig", m{"LambdaManagedInstancesCapacityProviderConfig": m{"ExecutionEnvironmentMemoryGiBPerVCpu": 9}}, "capacityProviderArn" + failed + "not be null"},
		{"DurableConfig", m{"RetentionPeriodInDays": 91}, "at 'durableConfig.retentionPeriodInDays" + failed + "have value less than or equal to 90"},
		{"TenancyConfig", m{}, "Value null at 'tenancyConfig.tenantIsolationMode" + failed + "not be null"},
		{"CodeSigningConfigArn", "csc", "at 'codeSigningConfigArn" + failed + "satisfy regular expression pattern"},
		{"PublishTo", "x", "at 'publishTo" + failed + "satisfy enum value set: [LATEST_PUBLISHED]"},
		{"Architectures", []any{}, "Value '[]' at 'architectures" + failed + "have length greater than or equal to 1"},
		{"Environment", m{"Variables": m{"AB": nil}}, "Value at 'environment.variables' failed to satisfy constraint: Map value must satisfy constraint: [Member must not be null]"},
		{"Code", m{"S3Bucket": "b.", "S3Key": ""}, "Value 'b.' at 'code.s3Bucket" + failed + `satisfy regular expression pattern: [0-9A-Za-z\.\-_]*(?<!\.); Value '' at 'code.s3Key` + failed + "have length greater than or equal to 1"},
		{"FunctionName", strings.Repeat("n", 141), "at 'functionName" + failed + "have length less than or equal to 140"},
	}
	for _, tt := range tests {
		t.Run(tt.field, func(t *testing.T) {
			if got := newDoor(t).create(t, "f", tt.field, tt.value).wantError(t, 400, "ValidationException"); !strings.Contains(got, tt.want) {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestTagsAreBounded(t *testing.T) {
	for _, tags := range []m{{"": "v"}, {strings.Repeat("k", 129): "v"}, {"AWS:x": "v"}, {"k": strings.Repeat("v", 257)}} {
		newDoor(t).create(t, "f", "Tags", tags).wantError(t, 400, "InvalidParameterValueException")
	}
}

func TestVariablesWithNULAreRefused(t *testing.T) {
	newDoor(t).create(t, "f", "Environment", m{"Variables": m{"AB": "x\x00y"}}).wantError(t, 400, "InvalidParameterValueException")
	newDoor(t).create(t, "f", "Handler", "x\x00y").wantError(t, 400, "InvalidParameterValueException")
}

func TestLongValuesAreCutInAnswers(t *testing.T) {
	got := newDoor(t).create(t, "f", "Description", strings.Repeat("d", 100_000))
	got.wantError(t, 400, "ValidationException")
	if len(got.raw) > 2*maxShown {
		t.Errorf("an answer of %d bytes", len(got.raw))
	}
	newDoor(t).create(t, "f", "Runtime", strings.Repeat("r", 100_000)).wantError(t, 400, "InvalidParameterValueException")
}

func TestMachineOfAnotherArchitecture(t *testing.T) {
	d := newDoor(t, func(o *Options) { o.Architecture, o.Region = "arm64", "eu-west-1" })
	got := d.create(t, "f", "Architectures", []any{"arm64"})
	if got.status != 201 || got.body["FunctionArn"] != "arn:aws:lambda:eu-west-1:000000000000:function:f" {
		t.Errorf("%d %s", got.status, got.raw)
	}
	d.create(t, "g", "Architectures", []any{"x86_64"}).wantError(t, 400, "InvalidParameterValueException")
}
