package api

import "lambent"

// This file holds the constraints of the service model's shapes that more than
// one operation uses, named for the shapes (service model of AWS Lambda,
// 2015-03-31, as published with the SDKs). Patterns are shown to callers, so
// their text is AWS's.

const (
	functionNamePattern           = `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`
	namespacedFunctionNamePattern = `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`
	fileSystemArnPattern          = `arn:aws[a-zA-Z-]*:elasticfilesystem:[a-z]{2}((-gov)|(-iso(b?)))?-[a-z]+-\d{1}:\d{12}:access-point/fsap-[a-f0-9]{17}$|^arn:aws[-a-z]*:s3files:[0-9a-z-:]+:file-system/fs-[0-9a-f]{17,40}/access-point/fsap-[0-9a-f]{17,40}`
	layerVersionArnPattern        = `arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+`
)

// shapes is the compiled constraints. One is built by New and never changed.
type shapes struct {
	functionName, namespacedFunctionName, qualifier                          []rule
	roleArn, handler, description, kmsKeyArn, s3Bucket, s3Key                []rule
	packageType, tracingMode, architecture, applyOn                          []rule
	logFormat, applicationLogLevel, systemLogLevel, logGroup                 []rule
	layerArn, fileSystemArn, mountPath, workingDirectory                     []rule
	codeSigningArn, capacityProviderArn, publishTo, tenantIsolation          []rule
	variableName, resourceArn                                                []rule
	layerName, licenseInfo, storageMode, runtime                             []rule
	layerStatementID, layerAction, layerPrincipal, organizationID            []rule
	streamingInvocation                                                      []rule
	boolean                                                                  []rule
	invocationType, logType, durableExecutionName, tenantID, s3ObjectVersion []rule
}

func newShapes() *shapes {
	return &shapes{
		functionName:           []rule{maxLength(140), minLength(1), matching(functionNamePattern)},
		namespacedFunctionName: []rule{maxLength(256), minLength(1), matching(namespacedFunctionNamePattern)},
		qualifier:              []rule{maxLength(128), minLength(1), matching(`\$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+`)},
		roleArn:                []rule{matching(`arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`)},
		handler:                []rule{maxLength(128), matching(`[^\s]+`)},
		description:            []rule{maxLength(256)},
		kmsKeyArn:              []rule{matching(`(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()`)},
		resourceArn:            []rule{matching(`(arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*)|()`)},
		s3Bucket:               []rule{maxLength(63), minLength(3), matchingAs(`[0-9A-Za-z\.\-_]*(?<!\.)`, `[0-9A-Za-z\.\-_]*[0-9A-Za-z\-_]|`)},
		s3Key:                  []rule{maxLength(1024), minLength(1)},
		s3ObjectVersion:        []rule{maxLength(1024), minLength(1)},
		packageType:            []rule{oneOf("Image", "Zip")},
		tracingMode:            []rule{oneOf("Active", "PassThrough")},
		architecture:           []rule{oneOf("x86_64", "arm64")},
		applyOn:                []rule{oneOf("PublishedVersions", "None")},
		logFormat:              []rule{oneOf("JSON", "Text")},
		applicationLogLevel:    []rule{oneOf("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")},
		systemLogLevel:         []rule{oneOf("DEBUG", "INFO", "WARN")},
		logGroup:               []rule{maxLength(512), minLength(1), matching(`[\.\-_/#A-Za-z0-9]+`)},
		layerArn:               []rule{maxLength(140), minLength(1), matching(layerVersionArnPattern)},
		layerName:              []rule{maxLength(140), minLength(1), matching(`(arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:[a-zA-Z0-9-_]+)|[a-zA-Z0-9-_]+`)},
		storageMode:            []rule{oneOf("COPY", "REFERENCE")},
		licenseInfo:            []rule{maxLength(512)},
		runtime:                []rule{oneOf(runtimeNames()...)},
		layerStatementID:       []rule{maxLength(100), minLength(1), matching(`([a-zA-Z0-9-_]+)`)},
		layerAction:            []rule{maxLength(22), matching(`lambda:GetLayerVersion`)},
		layerPrincipal:         []rule{matching(`\d{12}|\*|arn:(aws[a-zA-Z-]*):iam::\d{12}:root`)},
		organizationID:         []rule{maxLength(34), matching(`o-[a-z0-9]{10,32}`)},
		fileSystemArn:          []rule{maxLength(256), matching(fileSystemArnPattern)},
		mountPath:              []rule{maxLength(160), matching(`/mnt/[a-zA-Z0-9-_.]+`)},
		workingDirectory:       []rule{maxLength(1000)},
		codeSigningArn:         []rule{maxLength(200), matching(`arn:(aws[a-zA-Z-]*)?:lambda:[a-z]{2}((-gov)|(-iso(b?)))?-[a-z]+-\d{1}:\d{12}:code-signing-config:csc-[a-z0-9]{17}`)},
		capacityProviderArn:    []rule{maxLength(140), minLength(1), matching(`arn:aws[a-zA-Z-]*:lambda:[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:\d{12}:capacity-provider:[a-zA-Z0-9-_]+`)},
		publishTo:              []rule{oneOf("LATEST_PUBLISHED")},
		tenantIsolation:        []rule{oneOf("PER_TENANT")},
		variableName:           []rule{matching(`[a-zA-Z]([a-zA-Z0-9_])+`)},
		boolean:                []rule{oneOf("true", "false")},
		invocationType:         []rule{oneOf("Event", "RequestResponse", "DryRun")},
		streamingInvocation:    []rule{oneOf("RequestResponse", "DryRun")},
		logType:                []rule{oneOf("None", "Tail")},
		durableExecutionName:   []rule{maxLength(64), minLength(1), matching(`[a-zA-Z0-9-_]+`)},
		tenantID:               []rule{maxLength(256), minLength(1), matching(`[a-zA-Z0-9\._:\/=+\-@ ]+`)},
	}
}

// runtimeNames are the values of the model's Runtime enum.
func runtimeNames() (names []string) {
	for _, r := range lambent.KnownRuntimes() {
		names = append(names, string(r))
	}
	return names
}
