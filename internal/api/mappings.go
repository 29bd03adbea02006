package api

import (
	"net/http"

	"github.com/google/uuid"

	"lambent"
	"lambent/internal/registry"
)

// The states of an event source mapping. Those that pass are only ever
// answered: to change what is stored takes no time that could be seen.
const (
	mappingCreating  = "Creating"
	mappingEnabled   = "Enabled"
	mappingEnabling  = "Enabling"
	mappingDisabled  = "Disabled"
	mappingDisabling = "Disabling"
	mappingUpdating  = "Updating"
	mappingDeleting  = "Deleting"
)

// mappingRequest is what Create and Update are sent.
type mappingRequest struct {
	registry.MappingSettings
	UUID         string
	FunctionName *string
	Enabled      *bool
	Tags         map[string]string
}

type mappingAnswer struct {
	registry.MappingSettings
	UUID                  string
	FunctionArn           string
	EventSourceMappingArn string
	LastModified          float64
	LastProcessingResult  string `json:",omitempty"`
	State                 string
	StateTransitionReason string
}

// mapping renders a mapping in the state it is said to be in.
func (a *API) mapping(key registry.ObjectKey, m *registry.EventSourceMapping, state string) mappingAnswer {
	reason := "USER_INITIATED"
	if sourceOf(&m.MappingSettings).streams() {
		reason = "User action"
	}
	return mappingAnswer{
		MappingSettings: m.MappingSettings, UUID: key.Name, State: state, StateTransitionReason: reason,
		FunctionArn:           lambent.FunctionARN(a.region, key.Account, lambent.FunctionName(m.Function), m.Qualifier),
		EventSourceMappingArn: "arn:" + partition + ":lambda:" + a.region + ":" + string(key.Account) + ":event-source-mapping:" + key.Name,
		LastModified:          seconds(m.LastModified), LastProcessingResult: m.LastProcessingResult,
	}
}

// createEventSourceMapping does CreateEventSourceMapping.
func (a *API) createEventSourceMapping(c *call) error {
	const operation = "CreateEventSourceMapping"
	var q mappingRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	if err := checkPlainTags(operation, q.Tags); err != nil {
		return err
	}
	if q.EventSourceArn == nil && q.SelfManagedEventSource == nil {
		return invalid(operation, "Unrecognized event source.")
	}
	ref, err := a.mapped(c, operation, *q.FunctionName)
	if err != nil {
		return err
	}
	m := &registry.EventSourceMapping{MappingSettings: q.MappingSettings, Function: string(ref.Name), Qualifier: ref.Qualifier, State: mappingEnabled, Tags: q.Tags, LastModified: a.now()}
	answered := mappingCreating
	if q.Enabled != nil && !*q.Enabled {
		m.State, answered = mappingDisabled, mappingDisabled
	}
	source := sourceOf(&m.MappingSettings)
	source.defaults(&m.MappingSettings)
	if err := source.check(operation, &m.MappingSettings); err != nil {
		return err
	}
	if source.streams() {
		m.LastProcessingResult = "No records processed"
	}
	key := registry.ObjectKey{Account: c.caller.Account, Name: uuid.NewString()}
	a.mappings.Lock() // one source is mapped to one function once
	defer a.mappings.Unlock()
	if err := a.requireUnmapped(operation, key, m); err != nil {
		return err
	}
	if err := a.objects.EventSourceMappings.Create(c.r.Context(), operation, key, m, ""); err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, a.mapping(key, m, answered))
}

// mapped finds the function a mapping is for.
func (a *API) mapped(c *call, operation, name string) (lambent.FunctionRef, error) {
	ref, _, err := a.functionOf(c, operation, name, nil)
	if lambent.KindOf(err) == lambent.KindNotFound {
		return ref, invalid(operation, "Function does not exist")
	}
	return ref, err
}

// requireUnmapped refuses a mapping where there is one of the same source to the
// same function already. Nobody else changes mappings meanwhile.
func (a *API) requireUnmapped(operation string, key registry.ObjectKey, m *registry.EventSourceMapping) error {
	if m.EventSourceArn == nil {
		return nil
	}
	same, _ := a.objects.EventSourceMappings.List(key.Account, "", registry.ObjectKey{}, 1, func(o registry.Object[registry.EventSourceMapping]) bool {
		return o.Key != key && o.Value.Function == m.Function && o.Value.Qualifier == m.Qualifier && deref(o.Value.EventSourceArn) == *m.EventSourceArn
	})
	if len(same) == 0 {
		return nil
	}
	function := lambent.FunctionARN(a.region, key.Account, lambent.FunctionName(m.Function), m.Qualifier)
	return &lambent.Error{Op: operation, Resource: key.Name, Kind: lambent.KindExists,
		Message: `An event source mapping with ` + sourceOf(&m.MappingSettings).title + ` arn (" ` + *m.EventSourceArn + ` ") and function (" ` + function +
			` ") already exists. Please update or delete the existing mapping with UUID ` + same[0].Key.Name}
}

// mappingOf finds the mapping of a UUID.
func (a *API) mappingOf(c *call, operation, id string) (registry.ObjectKey, *registry.EventSourceMapping, error) {
	key := registry.ObjectKey{Account: c.caller.Account, Name: id}
	m := a.objects.EventSourceMappings.Get(key)
	if m == nil {
		return key, nil, noResource(operation, noSuchResource)
	}
	return key, m, nil
}

// getEventSourceMapping does GetEventSourceMapping.
func (a *API) getEventSourceMapping(c *call) error {
	const operation = "GetEventSourceMapping"
	var q struct{ UUID string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, m, err := a.mappingOf(c, operation, q.UUID)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.mapping(key, m, m.State))
}

// updateEventSourceMapping does UpdateEventSourceMapping.
func (a *API) updateEventSourceMapping(c *call) error {
	const operation = "UpdateEventSourceMapping"
	var q mappingRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, _, err := a.mappingOf(c, operation, q.UUID)
	if err != nil {
		return err
	}
	var ref *lambent.FunctionRef
	if q.FunctionName != nil {
		to, err := a.mapped(c, operation, *q.FunctionName)
		if err != nil {
			return err
		}
		ref = &to
	}
	answered := mappingUpdating
	a.mappings.Lock()
	defer a.mappings.Unlock()
	m, err := a.objects.EventSourceMappings.Edit(c.r.Context(), operation, key, func(old *registry.EventSourceMapping) (*registry.EventSourceMapping, error) {
		if old == nil {
			return nil, noResource(operation, noSuchResource)
		}
		next := *old
		merge(&next.MappingSettings, &q.MappingSettings)
		if ref != nil {
			next.Function, next.Qualifier = string(ref.Name), ref.Qualifier
		}
		switch {
		case q.Enabled == nil:
		case *q.Enabled && old.State != mappingEnabled:
			next.State, answered = mappingEnabled, mappingEnabling
		case !*q.Enabled && old.State != mappingDisabled:
			next.State, answered = mappingDisabled, mappingDisabling
		}
		next.LastModified = a.now()
		if err := sourceOf(&next.MappingSettings).check(operation, &next.MappingSettings); err != nil {
			return nil, err
		}
		return &next, a.requireUnmapped(operation, key, &next)
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, a.mapping(key, m, answered))
}

// deleteEventSourceMapping does DeleteEventSourceMapping.
func (a *API) deleteEventSourceMapping(c *call) error {
	const operation = "DeleteEventSourceMapping"
	var q struct{ UUID string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	key, m, err := a.mappingOf(c, operation, q.UUID)
	if err != nil {
		return err
	}
	_, err = a.objects.EventSourceMappings.Edit(c.r.Context(), operation, key, func(old *registry.EventSourceMapping) (*registry.EventSourceMapping, error) {
		if old == nil {
			return nil, noResource(operation, noSuchResource)
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, a.mapping(key, m, mappingDeleting))
}

type listMappingsAnswer struct {
	EventSourceMappings []mappingAnswer
	NextMarker          *string `json:",omitempty"`
}

// listEventSourceMappings does ListEventSourceMappings.
func (a *API) listEventSourceMappings(c *call) error {
	const operation = "ListEventSourceMappings"
	var q struct {
		EventSourceArn, FunctionName, Marker *string
		MaxItems                             *int
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	var ref lambent.FunctionRef
	if q.FunctionName != nil {
		var err error
		if ref, err = a.target(c.caller, operation, *q.FunctionName, nil); err != nil {
			return err
		}
	}
	page, next, err := pageOf(a.objects.EventSourceMappings, c.caller.Account, "", q.Marker, q.MaxItems, func(o registry.Object[registry.EventSourceMapping]) bool {
		m := o.Value
		return (q.EventSourceArn == nil || deref(m.EventSourceArn) == *q.EventSourceArn) &&
			(q.FunctionName == nil || m.Function == string(ref.Name) && (ref.Qualifier == "" || m.Qualifier == ref.Qualifier))
	})
	if err != nil {
		return err
	}
	answer := listMappingsAnswer{EventSourceMappings: []mappingAnswer{}, NextMarker: next}
	for _, o := range page {
		answer.EventSourceMappings = append(answer.EventSourceMappings, a.mapping(o.Key, o.Value, o.Value.State))
	}
	return c.reply(http.StatusOK, answer)
}
