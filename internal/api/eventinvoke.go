package api

import (
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

// eventInvokeRequest is what Put and Update are sent.
type eventInvokeRequest struct {
	FunctionName             string
	Qualifier                *string
	MaximumRetryAttempts     *int
	MaximumEventAgeInSeconds *int
	DestinationConfig        *registry.Destinations
}

type eventInvokeAnswer struct {
	LastModified             float64
	FunctionArn              string
	MaximumRetryAttempts     *int `json:",omitempty"`
	MaximumEventAgeInSeconds *int `json:",omitempty"`
	DestinationConfig        destinationsAnswer
}

// destinationsAnswer always has both: AWS shows what is not set as empty.
type destinationsAnswer struct{ OnSuccess, OnFailure destinationAnswer }

type destinationAnswer struct {
	Destination string `json:",omitempty"`
}

func (a *API) eventInvokeConfig(key registry.ObjectKey, e *registry.EventInvokeConfig) eventInvokeAnswer {
	return eventInvokeAnswer{
		LastModified: seconds(e.LastModified), FunctionArn: a.keyARN(key, string(lambent.Latest)),
		MaximumRetryAttempts: e.MaximumRetryAttempts, MaximumEventAgeInSeconds: e.MaximumEventAgeInSeconds,
		DestinationConfig: destinationsAnswer{destinationAnswer{e.OnSuccess}, destinationAnswer{e.OnFailure}},
	}
}

// putFunctionEventInvokeConfig does PutFunctionEventInvokeConfig.
func (a *API) putFunctionEventInvokeConfig(c *call) error {
	return a.writeEventInvokeConfig(c, "PutFunctionEventInvokeConfig", func(*registry.EventInvokeConfig, error) (registry.EventInvokeConfig, error) {
		return registry.EventInvokeConfig{}, nil
	})
}

// updateFunctionEventInvokeConfig does UpdateFunctionEventInvokeConfig.
func (a *API) updateFunctionEventInvokeConfig(c *call) error {
	return a.writeEventInvokeConfig(c, "UpdateFunctionEventInvokeConfig", func(old *registry.EventInvokeConfig, missing error) (registry.EventInvokeConfig, error) {
		if old == nil {
			return registry.EventInvokeConfig{}, missing
		}
		return *old, nil
	})
}

// writeEventInvokeConfig sets what the caller sent in what from makes of the
// configuration there is.
func (a *API) writeEventInvokeConfig(c *call, operation string, from func(old *registry.EventInvokeConfig, missing error) (registry.EventInvokeConfig, error)) error {
	var q eventInvokeRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	if q.MaximumRetryAttempts == nil && q.MaximumEventAgeInSeconds == nil && q.DestinationConfig == nil {
		return invalid(operation, "You must specify at least one of error handling or destination setting.")
	}
	ref, f, err := a.functionOf(c, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return withMessage(err, "The function doesn't exist.")
	}
	if err := a.checkDestinations(operation, ref, f.Role, q.DestinationConfig); err != nil {
		return err
	}
	key := qualifiedKey(ref)
	e, err := a.objects.EventInvokeConfigs.Edit(c.r.Context(), operation, key, func(old *registry.EventInvokeConfig) (*registry.EventInvokeConfig, error) {
		next, err := from(old, a.noEventInvokeConfig(operation, key))
		if err != nil {
			return nil, err
		}
		if q.MaximumRetryAttempts != nil {
			next.MaximumRetryAttempts = q.MaximumRetryAttempts
		}
		if q.MaximumEventAgeInSeconds != nil {
			next.MaximumEventAgeInSeconds = q.MaximumEventAgeInSeconds
		}
		if d := q.DestinationConfig; d != nil {
			next.OnSuccess, next.OnFailure = deref(deref(d.OnSuccess).Destination), deref(deref(d.OnFailure).Destination)
		}
		next.LastModified = a.now()
		return &next, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, a.eventInvokeConfig(key, e))
}

func (a *API) noEventInvokeConfig(operation string, key registry.ObjectKey) error {
	return noResource(operation, "The function "+a.keyARN(key, string(lambent.Latest))+" doesn't have an EventInvokeConfig")
}

// getFunctionEventInvokeConfig does GetFunctionEventInvokeConfig.
func (a *API) getFunctionEventInvokeConfig(c *call) error {
	const operation = "GetFunctionEventInvokeConfig"
	key, err := a.eventInvokeKey(c, operation)
	if err != nil {
		return err
	}
	e := a.objects.EventInvokeConfigs.Get(key)
	if e == nil {
		return a.noEventInvokeConfig(operation, key)
	}
	return c.reply(http.StatusOK, a.eventInvokeConfig(key, e))
}

// deleteFunctionEventInvokeConfig does DeleteFunctionEventInvokeConfig.
func (a *API) deleteFunctionEventInvokeConfig(c *call) error {
	const operation = "DeleteFunctionEventInvokeConfig"
	key, err := a.eventInvokeKey(c, operation)
	if err != nil {
		return err
	}
	_, err = a.objects.EventInvokeConfigs.Edit(c.r.Context(), operation, key, func(old *registry.EventInvokeConfig) (*registry.EventInvokeConfig, error) {
		if old == nil {
			return nil, a.noEventInvokeConfig(operation, key)
		}
		return nil, nil
	})
	return c.done(err)
}

// eventInvokeKey is where the configuration the caller means is, or would be.
func (a *API) eventInvokeKey(c *call, operation string) (registry.ObjectKey, error) {
	var q struct {
		FunctionName string
		Qualifier    *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return registry.ObjectKey{}, err
	}
	ref, _, err := a.functionOf(c, operation, q.FunctionName, q.Qualifier)
	key := qualifiedKey(ref)
	if err != nil {
		return key, withMessage(err, "The function "+a.keyARN(key, string(lambent.Latest))+" doesn't have an EventInvokeConfig")
	}
	return key, nil
}

type listEventInvokeAnswer struct {
	FunctionEventInvokeConfigs []eventInvokeAnswer
	NextMarker                 *string `json:",omitempty"`
}

// listFunctionEventInvokeConfigs does ListFunctionEventInvokeConfigs.
func (a *API) listFunctionEventInvokeConfigs(c *call) error {
	const operation = "ListFunctionEventInvokeConfigs"
	page, next, err := pageOfFunction(a, c, operation, a.objects.EventInvokeConfigs, "The function doesn't exist.")
	if err != nil {
		return err
	}
	answer := listEventInvokeAnswer{FunctionEventInvokeConfigs: []eventInvokeAnswer{}, NextMarker: next}
	for _, o := range page {
		answer.FunctionEventInvokeConfigs = append(answer.FunctionEventInvokeConfigs, a.eventInvokeConfig(o.Key, o.Value))
	}
	return c.reply(http.StatusOK, answer)
}
