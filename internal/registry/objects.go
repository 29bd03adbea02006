package registry

import (
	"time"

	"lambent/internal/policy"
)

// Objects are the tables of what is not a function. A new kind gets a struct, a
// field here and a line in openTables.
//
// The zero Objects are empty, and nothing can be written to them.
//
// Where an object is little more than what a caller sent, the fields have the
// names AWS has for them, on the disk too.
type Objects struct {
	// Aliases are of functions; the name is the alias's.
	Aliases *Table[Alias]
	// numberings are of accounts, so that they outlive what they count: the parent
	// is a function's name, and the name is empty.
	numberings *Table[numbering]
	// FunctionPolicies are of qualifiers, "" being the function's own: see
	// EditFunctionPolicy.
	FunctionPolicies *Table[policy.Attached]
	// Layers and their versions; see PublishLayerVersion.
	layerSeries   *Table[layerSeries]
	layerVersions *Table[layerVersion]
	// platformSettings are of functions, without a name.
	platformSettings *Table[PlatformSettings]
	// Settings are of functions, one of each at most, without a name.
	Settings *Table[FunctionSettings]
	// The following are of qualifiers.
	EventInvokeConfigs *Table[EventInvokeConfig]
	Provisioned        *Table[Provisioned]
	RuntimeManagement  *Table[RuntimeManagement]
	Scaling            *Table[Scaling]
	URLs               *Table[FunctionURL]
	// The following are of accounts, without a parent, named by their id.
	CodeSigningConfigs  *Table[CodeSigningConfig]
	EventSourceMappings *Table[EventSourceMapping]
	CapacityProviders   *Table[CapacityProvider]

	reservations *reservations
}

// openTables makes the tables; loadObjects fills them.
func (r *Registry) openTables() {
	r.Aliases = newTable[Alias](r, "alias", ofFunction) // first: who is of an alias asks for it
	r.numberings = newTable[numbering](r, "numbering", ofAccount)
	r.FunctionPolicies = newTable[policy.Attached](r, "function-policy", ofQualifier)
	r.platformSettings = newTable[PlatformSettings](r, "platform-settings", ofFunction)
	r.Settings = newTable[FunctionSettings](r, "settings", ofFunction)
	r.EventInvokeConfigs = newTable[EventInvokeConfig](r, "event-invoke", ofQualifier)
	r.Provisioned = newTable[Provisioned](r, "provisioned", ofQualifier)
	r.RuntimeManagement = newTable[RuntimeManagement](r, "runtime-management", ofQualifier)
	r.Scaling = newTable[Scaling](r, "scaling", ofQualifier)
	r.URLs = newTable[FunctionURL](r, "url", ofQualifier)
	r.CodeSigningConfigs = newTable[CodeSigningConfig](r, "code-signing", ofAccount)
	r.EventSourceMappings = newTable[EventSourceMapping](r, "event-source-mapping", ofAccount)
	r.CapacityProviders = newTable[CapacityProvider](r, "capacity-provider", ofAccount)
	r.openLayers()
	r.reservations = &reservations{}
	r.reservations.follow(&r.Objects)
}

// FunctionSettings are what is set of a function as a whole, beside its record:
// to change them changes no revision and starts no update.
type FunctionSettings struct {
	ReservedConcurrency *int   `json:"reserved_concurrency,omitempty"` // nil: none is reserved
	CodeSigningConfig   string `json:"code_signing_config,omitempty"`  // ARN
	RecursiveLoop       string `json:"recursive_loop,omitempty"`       // Allow or Terminate; empty is Terminate
}

// EventInvokeConfig says how asynchronous invocations of a version or alias are
// handled. Nil is AWS's default.
type EventInvokeConfig struct {
	MaximumRetryAttempts     *int      `json:"maximum_retry_attempts,omitempty"`
	MaximumEventAgeInSeconds *int      `json:"maximum_event_age_secs,omitempty"`
	OnSuccess                string    `json:"on_success,omitempty"` // ARN of a destination; empty: none
	OnFailure                string    `json:"on_failure,omitempty"`
	LastModified             time.Time `json:"last_modified"`
}

// Provisioned is how many containers of a version, or of what an alias points
// to, are kept initialised.
type Provisioned struct {
	Requested    int       `json:"requested"`
	LastModified time.Time `json:"last_modified"`
}

// RuntimeManagement says when a function gets another build of its runtime.
type RuntimeManagement struct {
	UpdateRuntimeOn   string `json:"update_runtime_on"` // Auto, FunctionUpdate or Manual
	RuntimeVersionARN string `json:"runtime_version_arn,omitempty"`
}

// Scaling bounds the execution environments of a version on managed instances.
type Scaling struct {
	Min *int `json:"min,omitempty"`
	Max *int `json:"max,omitempty"`
}

// FunctionURL is the HTTP address of a function or alias.
type FunctionURL struct {
	ID           string    `json:"id"` // the first label of its host, unique in the region
	AuthType     string    `json:"auth_type"`
	InvokeMode   string    `json:"invoke_mode"`
	Cors         *Cors     `json:"cors,omitempty"`
	Created      time.Time `json:"created"`
	LastModified time.Time `json:"last_modified"`
}

// Cors is what web pages of other origins may do with a function URL.
type Cors struct {
	AllowCredentials *bool    `json:",omitempty"`
	AllowHeaders     []string `json:",omitempty"`
	AllowMethods     []string `json:",omitempty"`
	AllowOrigins     []string `json:",omitempty"`
	ExposeHeaders    []string `json:",omitempty"`
	MaxAge           *int     `json:",omitempty"`
}

// CodeSigningConfig says whose signatures code must have, and what happens to
// code without.
type CodeSigningConfig struct {
	Description  string            `json:"description,omitempty"`
	Publishers   []string          `json:"publishers"` // ARNs of signing profile versions
	Untrusted    string            `json:"untrusted"`  // Warn or Enforce
	Tags         map[string]string `json:"tags,omitempty"`
	LastModified time.Time         `json:"last_modified"`
}

// EventSourceMapping is where the events of a function come from, and how.
type EventSourceMapping struct {
	MappingSettings
	Function             string            `json:"function"` // its name; its account is the mapping's
	Qualifier            string            `json:"qualifier,omitempty"`
	State                string            `json:"state"` // one that stays: Enabled or Disabled
	LastProcessingResult string            `json:"last_processing_result,omitempty"`
	Tags                 map[string]string `json:"tags,omitempty"`
	LastModified         time.Time         `json:"last_modified"`
}

// MappingSettings are what a caller says of an event source mapping, in AWS's
// words. Nil and empty are what was not said.
type MappingSettings struct {
	EventSourceArn                      *string                 `json:",omitempty"`
	BatchSize                           *int                    `json:",omitempty"`
	MaximumBatchingWindowInSeconds      *int                    `json:",omitempty"`
	ParallelizationFactor               *int                    `json:",omitempty"`
	StartingPosition                    *string                 `json:",omitempty"`
	StartingPositionTimestamp           *float64                `json:",omitempty"` // Unix seconds
	MaximumRecordAgeInSeconds           *int                    `json:",omitempty"`
	BisectBatchOnFunctionError          *bool                   `json:",omitempty"`
	MaximumRetryAttempts                *int                    `json:",omitempty"`
	TumblingWindowInSeconds             *int                    `json:",omitempty"`
	Topics                              []string                `json:",omitempty"`
	Queues                              []string                `json:",omitempty"`
	FunctionResponseTypes               []string                `json:",omitempty"`
	SourceAccessConfigurations          []SourceAccess          `json:",omitempty"`
	SelfManagedEventSource              *SelfManagedEventSource `json:",omitempty"`
	FilterCriteria                      *FilterCriteria         `json:",omitempty"`
	DestinationConfig                   *Destinations           `json:",omitempty"`
	AmazonManagedKafkaEventSourceConfig *KafkaConfig            `json:",omitempty"`
	SelfManagedKafkaEventSourceConfig   *KafkaConfig            `json:",omitempty"`
	ScalingConfig                       *MappingScaling         `json:",omitempty"`
	DocumentDBEventSourceConfig         *DocumentDBConfig       `json:",omitempty"`
	KMSKeyArn                           *string                 `json:",omitempty"`
	MetricsConfig                       *MappingMetrics         `json:",omitempty"`
	LoggingConfig                       *MappingLogging         `json:",omitempty"`
	ProvisionedPollerConfig             *ProvisionedPollers     `json:",omitempty"`
}

// The structures of MappingSettings and CapacityProviderSettings, in AWS's words.
type (
	// SourceAccess is how a source is reached, or who may.
	SourceAccess struct {
		Type *string `json:",omitempty"`
		URI  *string `json:",omitempty"`
	}
	// SelfManagedEventSource is a Kafka cluster of one's own.
	SelfManagedEventSource struct {
		Endpoints map[string][]string `json:",omitempty"`
	}
	// FilterCriteria say which events are wanted: those that match any.
	FilterCriteria struct {
		Filters []Filter `json:",omitempty"`
	}
	// Filter is one pattern, JSON.
	Filter struct {
		Pattern *string `json:",omitempty"`
	}
	// Destinations are where results go.
	Destinations struct {
		OnSuccess *Destination `json:",omitempty"`
		OnFailure *Destination `json:",omitempty"`
	}
	// Destination is one of them, an ARN.
	Destination struct {
		Destination *string `json:",omitempty"`
	}
	// KafkaConfig is of both kinds of Kafka sources.
	KafkaConfig struct {
		ConsumerGroupID      *string              `json:"ConsumerGroupId,omitempty"`
		SchemaRegistryConfig *KafkaSchemaRegistry `json:",omitempty"`
	}
	// KafkaSchemaRegistry is where the schemas of events are.
	KafkaSchemaRegistry struct {
		SchemaRegistryURI       *string                 `json:",omitempty"`
		EventRecordFormat       *string                 `json:",omitempty"`
		AccessConfigs           []SourceAccess          `json:",omitempty"`
		SchemaValidationConfigs []KafkaSchemaValidation `json:",omitempty"`
	}
	// KafkaSchemaValidation is what of an event is held against its schema.
	KafkaSchemaValidation struct {
		Attribute *string `json:",omitempty"`
	}
	// MappingScaling bounds the invocations of one mapping.
	MappingScaling struct {
		MaximumConcurrency *int `json:",omitempty"`
	}
	// DocumentDBConfig names what is watched.
	DocumentDBConfig struct {
		DatabaseName   *string `json:",omitempty"`
		CollectionName *string `json:",omitempty"`
		FullDocument   *string `json:",omitempty"`
	}
	// MappingMetrics are the metrics a mapping shall have.
	MappingMetrics struct {
		Metrics []string `json:",omitempty"`
	}
	// MappingLogging is how much a mapping logs.
	MappingLogging struct {
		SystemLogLevel *string `json:",omitempty"`
	}
	// ProvisionedPollers are how many pollers a mapping has.
	ProvisionedPollers struct {
		MinimumPollers  *int    `json:",omitempty"`
		MaximumPollers  *int    `json:",omitempty"`
		PollerGroupName *string `json:",omitempty"`
	}
)

// CapacityProvider is a set of machines that functions may be put on.
type CapacityProvider struct {
	CapacityProviderSettings
	Tags         map[string]string `json:"tags,omitempty"`
	LastModified time.Time         `json:"last_modified"`
}

// CapacityProviderSettings are what a caller says of one, in AWS's words.
type CapacityProviderSettings struct {
	VpcConfig                     *ProviderVPC          `json:",omitempty"`
	PermissionsConfig             *ProviderPermissions  `json:",omitempty"`
	InstanceRequirements          *InstanceRequirements `json:",omitempty"`
	CapacityProviderScalingConfig *ProviderScaling      `json:",omitempty"`
	KmsKeyArn                     *string               `json:",omitempty"`
}

// The structures of CapacityProviderSettings.
type (
	// ProviderVPC is the network the machines are in.
	ProviderVPC struct{ SubnetIds, SecurityGroupIds []string }
	// ProviderPermissions name the role that starts the machines.
	ProviderPermissions struct{ CapacityProviderOperatorRoleArn *string }
	// InstanceRequirements say which machines.
	InstanceRequirements struct {
		Architectures         []string `json:",omitempty"`
		AllowedInstanceTypes  []string `json:",omitempty"`
		ExcludedInstanceTypes []string `json:",omitempty"`
	}
	// ProviderScaling says how many.
	ProviderScaling struct {
		MaxVCpuCount    *int                    `json:",omitempty"`
		ScalingMode     *string                 `json:",omitempty"`
		ScalingPolicies []ProviderScalingPolicy `json:",omitempty"`
	}
	// ProviderScalingPolicy is one target of scaling.
	ProviderScalingPolicy struct {
		PredefinedMetricType *string  `json:",omitempty"`
		TargetValue          *float64 `json:",omitempty"`
	}
)
