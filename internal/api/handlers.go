package api

import "maps"

// handlers are the operations that lambent does, by name. docs/operations.md is
// made of this and of remarks; after a change run
//
//	go test ./internal/api -run TestTableOfOperations -update
func handlers() map[string]handler {
	all := map[string]handler{
		"CreateFunction":              (*API).createFunction,
		"GetFunction":                 (*API).getFunction,
		"GetFunctionConfiguration":    (*API).getFunctionConfiguration,
		"ListFunctions":               (*API).listFunctions,
		"UpdateFunctionCode":          (*API).updateFunctionCode,
		"UpdateFunctionConfiguration": (*API).updateFunctionConfiguration,
		"DeleteFunction":              (*API).deleteFunction,
		"Invoke":                      (*API).invoke,
		"InvokeAsync":                 (*API).invokeAsync,
		"InvokeWithResponseStream":    (*API).invokeWithResponseStream,
		"PublishVersion":              (*API).publishVersion,
		"ListVersionsByFunction":      (*API).listVersionsByFunction,
		"CreateAlias":                 (*API).createAlias,
		"GetAlias":                    (*API).getAlias,
		"ListAliases":                 (*API).listAliases,
		"UpdateAlias":                 (*API).updateAlias,
		"DeleteAlias":                 (*API).deleteAlias,
		"AddPermission":               (*API).addPermission,
		"GetPolicy":                   (*API).getPolicy,
		"RemovePermission":            (*API).removePermission,

		"TagResource":               (*API).tagResource,
		"UntagResource":             (*API).untagResource,
		"ListTags":                  (*API).listTags,
		"PutFunctionConcurrency":    (*API).putFunctionConcurrency,
		"GetFunctionConcurrency":    (*API).getFunctionConcurrency,
		"DeleteFunctionConcurrency": (*API).deleteFunctionConcurrency,
		"GetAccountSettings":        (*API).getAccountSettings,

		"PutProvisionedConcurrencyConfig":    (*API).putProvisionedConcurrencyConfig,
		"GetProvisionedConcurrencyConfig":    (*API).getProvisionedConcurrencyConfig,
		"ListProvisionedConcurrencyConfigs":  (*API).listProvisionedConcurrencyConfigs,
		"DeleteProvisionedConcurrencyConfig": (*API).deleteProvisionedConcurrencyConfig,

		"PutFunctionEventInvokeConfig":    (*API).putFunctionEventInvokeConfig,
		"UpdateFunctionEventInvokeConfig": (*API).updateFunctionEventInvokeConfig,
		"GetFunctionEventInvokeConfig":    (*API).getFunctionEventInvokeConfig,
		"ListFunctionEventInvokeConfigs":  (*API).listFunctionEventInvokeConfigs,
		"DeleteFunctionEventInvokeConfig": (*API).deleteFunctionEventInvokeConfig,

		"PutRuntimeManagementConfig": (*API).putRuntimeManagementConfig,
		"GetRuntimeManagementConfig": (*API).getRuntimeManagementConfig,
		"PutFunctionRecursionConfig": (*API).putFunctionRecursionConfig,
		"GetFunctionRecursionConfig": (*API).getFunctionRecursionConfig,
		"PutFunctionScalingConfig":   (*API).putFunctionScalingConfig,
		"GetFunctionScalingConfig":   (*API).getFunctionScalingConfig,

		"CreateFunctionUrlConfig": (*API).createFunctionURLConfig,
		"GetFunctionUrlConfig":    (*API).getFunctionURLConfig,
		"UpdateFunctionUrlConfig": (*API).updateFunctionURLConfig,
		"ListFunctionUrlConfigs":  (*API).listFunctionURLConfigs,
		"DeleteFunctionUrlConfig": (*API).deleteFunctionURLConfig,

		"CreateCodeSigningConfig":          (*API).createCodeSigningConfig,
		"GetCodeSigningConfig":             (*API).getCodeSigningConfig,
		"UpdateCodeSigningConfig":          (*API).updateCodeSigningConfig,
		"ListCodeSigningConfigs":           (*API).listCodeSigningConfigs,
		"DeleteCodeSigningConfig":          (*API).deleteCodeSigningConfig,
		"ListFunctionsByCodeSigningConfig": (*API).listFunctionsByCodeSigningConfig,

		"PutFunctionCodeSigningConfig":    (*API).putFunctionCodeSigningConfig,
		"GetFunctionCodeSigningConfig":    (*API).getFunctionCodeSigningConfig,
		"DeleteFunctionCodeSigningConfig": (*API).deleteFunctionCodeSigningConfig,

		"CreateEventSourceMapping": (*API).createEventSourceMapping,
		"GetEventSourceMapping":    (*API).getEventSourceMapping,
		"UpdateEventSourceMapping": (*API).updateEventSourceMapping,
		"ListEventSourceMappings":  (*API).listEventSourceMappings,
		"DeleteEventSourceMapping": (*API).deleteEventSourceMapping,

		"CreateCapacityProvider":                 (*API).createCapacityProvider,
		"GetCapacityProvider":                    (*API).getCapacityProvider,
		"UpdateCapacityProvider":                 (*API).updateCapacityProvider,
		"ListCapacityProviders":                  (*API).listCapacityProviders,
		"DeleteCapacityProvider":                 (*API).deleteCapacityProvider,
		"ListFunctionVersionsByCapacityProvider": (*API).listFunctionVersionsByCapacityProvider,
	}
	maps.Copy(all, layerHandlers())
	return all
}

// remarks are what callers should know of an operation beside that it works, or
// does not: one line each, without a full stop.
func remarks() map[string]string {
	const later = "remembered and shown; without effect yet"
	return map[string]string{
		"CreateFunction": "no VPC, no SnapStart, no file systems, no tracing: what is asked for and cannot be had is refused",
		"AddPermission":  "a principal is not looked up: a user or role of its ARN need not exist",
		"PublishVersion": "no PublishTo",

		"CreateFunctionUrlConfig":    later + ": nothing answers at a URL",
		"UpdateFunctionUrlConfig":    later + ": nothing answers at a URL",
		"CreateEventSourceMapping":   later + ": nothing polls",
		"UpdateEventSourceMapping":   later + ": nothing polls",
		"CreateCapacityProvider":     later,
		"UpdateCapacityProvider":     later,
		"PutFunctionScalingConfig":   later,
		"PutRuntimeManagementConfig": later,
		"PutFunctionRecursionConfig": later,
		"CreateCodeSigningConfig":    "signatures cannot be verified: a function whose config enforces them takes no code",
	}
}
