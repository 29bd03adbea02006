package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"lambent/internal/registry"
)

// eventSource is a kind of event source: what a mapping of it may say.
type eventSource struct {
	title     string // as AWS's texts call it
	batch     int    // its default BatchSize
	stream    bool   // ordered shards that are read from a place on
	kafka     bool
	queue     bool // SQS
	fifo      bool
	timestamp bool // may be read from a point in time on
}

// sourceOf tells the kind of source a mapping is of: the zero value for one
// that AWS does not have.
func sourceOf(s *registry.MappingSettings) eventSource {
	if s.EventSourceArn == nil {
		if s.SelfManagedEventSource == nil {
			return eventSource{}
		}
		return eventSource{title: "Kafka", batch: 100, kafka: true, timestamp: true}
	}
	arn := *s.EventSourceArn
	part := strings.SplitN(arn, ":", 6)
	if len(part) < 6 {
		return eventSource{}
	}
	switch part[2] {
	case "sqs":
		return eventSource{title: "SQS", batch: 10, queue: true, fifo: strings.HasSuffix(arn, ".fifo")}
	case "kinesis":
		return eventSource{title: "Kinesis", batch: 100, stream: true, timestamp: true}
	case "dynamodb":
		return eventSource{title: "DynamoDB", batch: 100, stream: true}
	case "kafka":
		return eventSource{title: "Kafka", batch: 100, kafka: true, timestamp: true}
	case "mq":
		return eventSource{title: "MQ", batch: 100}
	case "rds":
		return eventSource{title: "DocumentDB", batch: 100, stream: true, timestamp: true}
	}
	return eventSource{}
}

// streams reports whether a mapping reads records in order, from a place on.
func (s eventSource) streams() bool { return s.stream || s.kafka }

// defaults sets what AWS sets where nothing is said.
func (s eventSource) defaults(m *registry.MappingSettings) {
	or(&m.BatchSize, s.batch)
	or(&m.MaximumBatchingWindowInSeconds, 0)
	if len(m.FunctionResponseTypes) == 0 {
		m.FunctionResponseTypes = nil
	}
	if s.title != "Kinesis" && s.title != "DynamoDB" {
		return
	}
	or(&m.ParallelizationFactor, 1)
	or(&m.MaximumRecordAgeInSeconds, -1)
	or(&m.MaximumRetryAttempts, -1)
	or(&m.TumblingWindowInSeconds, 0)
	or(&m.BisectBatchOnFunctionError, false)
	if m.DestinationConfig == nil {
		m.DestinationConfig = &registry.Destinations{OnFailure: &registry.Destination{}}
	}
}

// or sets what is nil.
func or[T any](to **T, value T) {
	if *to == nil {
		*to = &value
	}
}

// maxFilters is how many filters a mapping may have (developer guide, "Lambda
// event filtering"; more are to be had from AWS by asking).
const maxFilters = 5

// check refuses what a mapping of the source cannot have.
func (s eventSource) check(operation string, m *registry.MappingSettings) error {
	if s.title == "" {
		return invalid(operation, "Unrecognized event source.")
	}
	if err := s.checkPosition(operation, m); err != nil {
		return err
	}
	batch, window := deref(m.BatchSize), deref(m.MaximumBatchingWindowInSeconds)
	switch {
	case s.fifo && batch > 10:
		return invalid(operation, "Batch size must be less than or equal to 10 for FIFO queues.")
	case s.fifo && window > 0:
		return invalid(operation, "Batching window is not supported for FIFO queues.")
	case s.queue && batch > 10 && window == 0:
		return invalid(operation, "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
	}
	for _, only := range []struct {
		name  string
		given bool
		may   bool
	}{
		{"ParallelizationFactor", m.ParallelizationFactor != nil, s.stream},
		{"TumblingWindowInSeconds", m.TumblingWindowInSeconds != nil, s.stream},
		{"MaximumRecordAgeInSeconds", m.MaximumRecordAgeInSeconds != nil, s.streams()},
		{"BisectBatchOnFunctionError", m.BisectBatchOnFunctionError != nil, s.streams()},
		{"MaximumRetryAttempts", m.MaximumRetryAttempts != nil, s.streams()},
		{"ScalingConfig", m.ScalingConfig != nil && m.ScalingConfig.MaximumConcurrency != nil, s.queue},
		{"Topics", len(m.Topics) > 0, s.kafka},
		{"Queues", len(m.Queues) > 0, s.title == "MQ"},
		{"DocumentDBEventSourceConfig", m.DocumentDBEventSourceConfig != nil, s.title == "DocumentDB"},
		{"AmazonManagedKafkaEventSourceConfig", m.AmazonManagedKafkaEventSourceConfig != nil, s.kafka && m.EventSourceArn != nil},
		{"SelfManagedKafkaEventSourceConfig", m.SelfManagedKafkaEventSourceConfig != nil, s.kafka && m.EventSourceArn == nil},
	} {
		if only.given && !only.may {
			return invalid(operation, "The parameter "+only.name+" is not supported for "+s.title+" event sources.")
		}
	}
	if age := m.MaximumRecordAgeInSeconds; age != nil && *age != -1 && *age < 60 {
		return invalid(operation, "MaximumRecordAgeInSeconds must be -1, or between 60 and 604800.")
	}
	return s.checkFilters(operation, m.FilterCriteria)
}

// checkPosition refuses a place in a stream that cannot be read from.
func (s eventSource) checkPosition(operation string, m *registry.MappingSettings) error {
	at := deref(m.StartingPosition)
	switch {
	case !s.streams() && at != "":
		return invalid(operation, "StartingPosition is not valid for "+s.title+" event sources.")
	case !s.streams():
	case at == "":
		return invalid(operation, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
	case at == "AT_TIMESTAMP" && !s.timestamp:
		return invalid(operation, "Unsupported starting position for arn type: "+deref(m.EventSourceArn))
	case at == "AT_TIMESTAMP" && m.StartingPositionTimestamp == nil:
		return invalid(operation, "StartingPositionTimestamp is required when StartingPosition is AT_TIMESTAMP.")
	case at != "AT_TIMESTAMP" && m.StartingPositionTimestamp != nil:
		return invalid(operation, "StartingPositionTimestamp is valid only when StartingPosition is AT_TIMESTAMP.")
	}
	return nil
}

// checkFilters refuses patterns that are no JSON objects.
func (s eventSource) checkFilters(operation string, f *registry.FilterCriteria) error {
	if f == nil {
		return nil
	}
	if len(f.Filters) > maxFilters {
		return invalid(operation, fmt.Sprintf("A mapping can have at most %d filters; there are %d.", maxFilters, len(f.Filters)))
	}
	for _, filter := range f.Filters {
		var pattern map[string]json.RawMessage
		if filter.Pattern != nil && (json.Unmarshal([]byte(*filter.Pattern), &pattern) != nil || pattern == nil) {
			return invalid(operation, "Invalid filter pattern definition.")
		}
	}
	return nil
}

// merge sets what an update says of a mapping. An empty structure takes back
// what was said by it.
func merge(to, from *registry.MappingSettings) {
	dst, src := reflect.ValueOf(to).Elem(), reflect.ValueOf(from).Elem()
	for k := range src.NumField() {
		if f := src.Field(k); !f.IsNil() {
			dst.Field(k).Set(f)
		}
	}
	if to.FilterCriteria != nil && len(to.FilterCriteria.Filters) == 0 {
		to.FilterCriteria = nil
	}
}
