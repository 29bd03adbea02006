package api

import "net/http"

// operation is one of AWS's and where it is found. "{}" in a path stands for
// one segment the caller chooses. query, where there is one, must be in the
// request's query: it tells two operations on one path apart.
type operation struct {
	name   string
	method string
	path   string
	query  string
}

// operations are all 85 of the service model (2026-08), in its groups.
var operations = [...]operation{
	// Functions
	{"CreateFunction", http.MethodPost, "/2015-03-31/functions", ""},
	{"GetFunction", http.MethodGet, "/2015-03-31/functions/{}", ""},
	{"GetFunctionConfiguration", http.MethodGet, "/2015-03-31/functions/{}/configuration", ""},
	{"ListFunctions", http.MethodGet, "/2015-03-31/functions", ""},
	{"UpdateFunctionCode", http.MethodPut, "/2015-03-31/functions/{}/code", ""},
	{"UpdateFunctionConfiguration", http.MethodPut, "/2015-03-31/functions/{}/configuration", ""},
	{"DeleteFunction", http.MethodDelete, "/2015-03-31/functions/{}", ""},
	// Invocation
	{"Invoke", http.MethodPost, "/2015-03-31/functions/{}/invocations", ""},
	{"InvokeWithResponseStream", http.MethodPost, "/2021-11-15/functions/{}/response-streaming-invocations", ""},
	{"InvokeAsync", http.MethodPost, "/2014-11-13/functions/{}/invoke-async", ""},
	// Versions and aliases
	{"PublishVersion", http.MethodPost, "/2015-03-31/functions/{}/versions", ""},
	{"ListVersionsByFunction", http.MethodGet, "/2015-03-31/functions/{}/versions", ""},
	{"CreateAlias", http.MethodPost, "/2015-03-31/functions/{}/aliases", ""},
	{"GetAlias", http.MethodGet, "/2015-03-31/functions/{}/aliases/{}", ""},
	{"ListAliases", http.MethodGet, "/2015-03-31/functions/{}/aliases", ""},
	{"UpdateAlias", http.MethodPut, "/2015-03-31/functions/{}/aliases/{}", ""},
	{"DeleteAlias", http.MethodDelete, "/2015-03-31/functions/{}/aliases/{}", ""},
	// Layers
	{"PublishLayerVersion", http.MethodPost, "/2018-10-31/layers/{}/versions", ""},
	{"GetLayerVersion", http.MethodGet, "/2018-10-31/layers/{}/versions/{}", ""},
	{"GetLayerVersionByArn", http.MethodGet, "/2018-10-31/layers", "find=LayerVersion"},
	{"ListLayers", http.MethodGet, "/2018-10-31/layers", ""},
	{"ListLayerVersions", http.MethodGet, "/2018-10-31/layers/{}/versions", ""},
	{"DeleteLayerVersion", http.MethodDelete, "/2018-10-31/layers/{}/versions/{}", ""},
	{"AddLayerVersionPermission", http.MethodPost, "/2018-10-31/layers/{}/versions/{}/policy", ""},
	{"GetLayerVersionPolicy", http.MethodGet, "/2018-10-31/layers/{}/versions/{}/policy", ""},
	{"RemoveLayerVersionPermission", http.MethodDelete, "/2018-10-31/layers/{}/versions/{}/policy/{}", ""},
	// Resource policy
	{"AddPermission", http.MethodPost, "/2015-03-31/functions/{}/policy", ""},
	{"GetPolicy", http.MethodGet, "/2015-03-31/functions/{}/policy", ""},
	{"RemovePermission", http.MethodDelete, "/2015-03-31/functions/{}/policy/{}", ""},
	// Event source mappings
	{"CreateEventSourceMapping", http.MethodPost, "/2015-03-31/event-source-mappings", ""},
	{"GetEventSourceMapping", http.MethodGet, "/2015-03-31/event-source-mappings/{}", ""},
	{"ListEventSourceMappings", http.MethodGet, "/2015-03-31/event-source-mappings", ""},
	{"UpdateEventSourceMapping", http.MethodPut, "/2015-03-31/event-source-mappings/{}", ""},
	{"DeleteEventSourceMapping", http.MethodDelete, "/2015-03-31/event-source-mappings/{}", ""},
	// Asynchronous invocation
	{"PutFunctionEventInvokeConfig", http.MethodPut, "/2019-09-25/functions/{}/event-invoke-config", ""},
	{"UpdateFunctionEventInvokeConfig", http.MethodPost, "/2019-09-25/functions/{}/event-invoke-config", ""},
	{"GetFunctionEventInvokeConfig", http.MethodGet, "/2019-09-25/functions/{}/event-invoke-config", ""},
	{"ListFunctionEventInvokeConfigs", http.MethodGet, "/2019-09-25/functions/{}/event-invoke-config/list", ""},
	{"DeleteFunctionEventInvokeConfig", http.MethodDelete, "/2019-09-25/functions/{}/event-invoke-config", ""},
	// Concurrency
	{"PutFunctionConcurrency", http.MethodPut, "/2017-10-31/functions/{}/concurrency", ""},
	{"GetFunctionConcurrency", http.MethodGet, "/2019-09-30/functions/{}/concurrency", ""},
	{"DeleteFunctionConcurrency", http.MethodDelete, "/2017-10-31/functions/{}/concurrency", ""},
	{"PutProvisionedConcurrencyConfig", http.MethodPut, "/2019-09-30/functions/{}/provisioned-concurrency", ""},
	{"ListProvisionedConcurrencyConfigs", http.MethodGet, "/2019-09-30/functions/{}/provisioned-concurrency", "List=ALL"},
	{"GetProvisionedConcurrencyConfig", http.MethodGet, "/2019-09-30/functions/{}/provisioned-concurrency", ""},
	{"DeleteProvisionedConcurrencyConfig", http.MethodDelete, "/2019-09-30/functions/{}/provisioned-concurrency", ""},
	// Function URLs
	{"CreateFunctionUrlConfig", http.MethodPost, "/2021-10-31/functions/{}/url", ""},
	{"GetFunctionUrlConfig", http.MethodGet, "/2021-10-31/functions/{}/url", ""},
	{"UpdateFunctionUrlConfig", http.MethodPut, "/2021-10-31/functions/{}/url", ""},
	{"ListFunctionUrlConfigs", http.MethodGet, "/2021-10-31/functions/{}/urls", ""},
	{"DeleteFunctionUrlConfig", http.MethodDelete, "/2021-10-31/functions/{}/url", ""},
	// Tags
	{"TagResource", http.MethodPost, "/2017-03-31/tags/{}", ""},
	{"UntagResource", http.MethodDelete, "/2017-03-31/tags/{}", ""},
	{"ListTags", http.MethodGet, "/2017-03-31/tags/{}", ""},
	// Code signing
	{"CreateCodeSigningConfig", http.MethodPost, "/2020-04-22/code-signing-configs", ""},
	{"GetCodeSigningConfig", http.MethodGet, "/2020-04-22/code-signing-configs/{}", ""},
	{"UpdateCodeSigningConfig", http.MethodPut, "/2020-04-22/code-signing-configs/{}", ""},
	{"ListCodeSigningConfigs", http.MethodGet, "/2020-04-22/code-signing-configs", ""},
	{"DeleteCodeSigningConfig", http.MethodDelete, "/2020-04-22/code-signing-configs/{}", ""},
	{"PutFunctionCodeSigningConfig", http.MethodPut, "/2020-06-30/functions/{}/code-signing-config", ""},
	{"GetFunctionCodeSigningConfig", http.MethodGet, "/2020-06-30/functions/{}/code-signing-config", ""},
	{"DeleteFunctionCodeSigningConfig", http.MethodDelete, "/2020-06-30/functions/{}/code-signing-config", ""},
	{"ListFunctionsByCodeSigningConfig", http.MethodGet, "/2020-04-22/code-signing-configs/{}/functions", ""},
	// Runtime management and recursion
	{"PutRuntimeManagementConfig", http.MethodPut, "/2021-07-20/functions/{}/runtime-management-config", ""},
	{"GetRuntimeManagementConfig", http.MethodGet, "/2021-07-20/functions/{}/runtime-management-config", ""},
	{"PutFunctionRecursionConfig", http.MethodPut, "/2024-08-31/functions/{}/recursion-config", ""},
	{"GetFunctionRecursionConfig", http.MethodGet, "/2024-08-31/functions/{}/recursion-config", ""},
	// Account
	{"GetAccountSettings", http.MethodGet, "/2016-08-19/account-settings", ""},
	// Capacity providers and scaling
	{"CreateCapacityProvider", http.MethodPost, "/2025-11-30/capacity-providers", ""},
	{"GetCapacityProvider", http.MethodGet, "/2025-11-30/capacity-providers/{}", ""},
	{"UpdateCapacityProvider", http.MethodPut, "/2025-11-30/capacity-providers/{}", ""},
	{"ListCapacityProviders", http.MethodGet, "/2025-11-30/capacity-providers", ""},
	{"DeleteCapacityProvider", http.MethodDelete, "/2025-11-30/capacity-providers/{}", ""},
	{"ListFunctionVersionsByCapacityProvider", http.MethodGet, "/2025-11-30/capacity-providers/{}/function-versions", ""},
	{"PutFunctionScalingConfig", http.MethodPut, "/2025-11-30/functions/{}/function-scaling-config", ""},
	{"GetFunctionScalingConfig", http.MethodGet, "/2025-11-30/functions/{}/function-scaling-config", ""},
	// Durable executions
	{"GetDurableExecution", http.MethodGet, "/2025-12-01/durable-executions/{}", ""},
	{"GetDurableExecutionHistory", http.MethodGet, "/2025-12-01/durable-executions/{}/history", ""},
	{"GetDurableExecutionState", http.MethodGet, "/2025-12-01/durable-executions/{}/state", ""},
	{"CheckpointDurableExecution", http.MethodPost, "/2025-12-01/durable-executions/{}/checkpoint", ""},
	{"StopDurableExecution", http.MethodPost, "/2025-12-01/durable-executions/{}/stop", ""},
	{"ListDurableExecutionsByFunction", http.MethodGet, "/2025-12-01/functions/{}/durable-executions", ""},
	{"SendDurableExecutionCallbackSuccess", http.MethodPost, "/2025-12-01/durable-execution-callbacks/{}/succeed", ""},
	{"SendDurableExecutionCallbackFailure", http.MethodPost, "/2025-12-01/durable-execution-callbacks/{}/fail", ""},
	{"SendDurableExecutionCallbackHeartbeat", http.MethodPost, "/2025-12-01/durable-execution-callbacks/{}/heartbeat", ""},
}
