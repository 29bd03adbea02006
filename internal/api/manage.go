package api

import (
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

type runtimeManagementAnswer struct {
	UpdateRuntimeOn   string
	FunctionArn       string
	RuntimeVersionArn string `json:",omitempty"`
}

// putRuntimeManagementConfig does PutRuntimeManagementConfig.
func (a *API) putRuntimeManagementConfig(c *call) error {
	const operation = "PutRuntimeManagementConfig"
	var q struct {
		FunctionName      string
		Qualifier         *string
		UpdateRuntimeOn   string
		RuntimeVersionArn *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, f, err := a.functionOf(c, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return err
	}
	switch manual := q.UpdateRuntimeOn == "Manual"; {
	case manual && q.RuntimeVersionArn == nil:
		return invalid(operation, "RuntimeVersionArn is required when UpdateRuntimeOn is Manual.")
	case !manual && q.RuntimeVersionArn != nil:
		return invalid(operation, "RuntimeVersionArn can be given only when UpdateRuntimeOn is Manual.")
	case manual && *q.RuntimeVersionArn != a.runtimeVersionARN(f.Runtime):
		return invalid(operation, "lambent has one version of each runtime: the one of this function is "+a.runtimeVersionARN(f.Runtime)+".")
	}
	key := qualifiedKey(ref)
	m, err := a.objects.RuntimeManagement.Edit(c.r.Context(), operation, key, func(*registry.RuntimeManagement) (*registry.RuntimeManagement, error) {
		return &registry.RuntimeManagement{UpdateRuntimeOn: q.UpdateRuntimeOn, RuntimeVersionARN: deref(q.RuntimeVersionArn)}, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, runtimeManagementAnswer{m.UpdateRuntimeOn, a.keyARN(key, string(lambent.Latest)), m.RuntimeVersionARN})
}

// getRuntimeManagementConfig does GetRuntimeManagementConfig.
func (a *API) getRuntimeManagementConfig(c *call) error {
	const operation = "GetRuntimeManagementConfig"
	var q struct {
		FunctionName string
		Qualifier    *string
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.functionOf(c, operation, q.FunctionName, q.Qualifier)
	if err != nil {
		return err
	}
	key := qualifiedKey(ref)
	m := deref(a.objects.RuntimeManagement.Get(key))
	if m.UpdateRuntimeOn == "" {
		m.UpdateRuntimeOn = "Auto"
	}
	return c.reply(http.StatusOK, runtimeManagementAnswer{m.UpdateRuntimeOn, a.keyARN(key, string(lambent.Latest)), m.RuntimeVersionARN})
}

type recursionAnswer struct{ RecursiveLoop string }

// terminate is what AWS does with recursive loops unless it is told otherwise.
const terminate = "Terminate"

// putFunctionRecursionConfig does PutFunctionRecursionConfig.
func (a *API) putFunctionRecursionConfig(c *call) error {
	const operation = "PutFunctionRecursionConfig"
	var q struct{ FunctionName, RecursiveLoop string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.unqualified(c, operation, q.FunctionName)
	if err != nil {
		return err
	}
	stored := q.RecursiveLoop
	if stored == terminate {
		stored = ""
	}
	if err := a.editSettings(c, operation, settingsKey(ref), func(s *registry.FunctionSettings) { s.RecursiveLoop = stored }); err != nil {
		return err
	}
	return c.reply(http.StatusOK, recursionAnswer{q.RecursiveLoop})
}

// getFunctionRecursionConfig does GetFunctionRecursionConfig.
func (a *API) getFunctionRecursionConfig(c *call) error {
	const operation = "GetFunctionRecursionConfig"
	ref, err := a.wholeFunction(c, operation)
	if err != nil {
		return err
	}
	loop := a.settingsOf(ref).RecursiveLoop
	if loop == "" {
		loop = terminate
	}
	return c.reply(http.StatusOK, recursionAnswer{loop})
}

type scalingConfig struct {
	MinExecutionEnvironments *int `json:",omitempty"`
	MaxExecutionEnvironments *int `json:",omitempty"`
}

type putScalingAnswer struct{ FunctionState string }

// putFunctionScalingConfig does PutFunctionScalingConfig.
func (a *API) putFunctionScalingConfig(c *call) error {
	const operation = "PutFunctionScalingConfig"
	var q struct {
		FunctionName, Qualifier string
		FunctionScalingConfig   scalingConfig
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, f, err := a.functionOf(c, operation, q.FunctionName, &q.Qualifier)
	if err != nil {
		return err
	}
	s := q.FunctionScalingConfig
	if s.MinExecutionEnvironments != nil && s.MaxExecutionEnvironments != nil && *s.MinExecutionEnvironments > *s.MaxExecutionEnvironments {
		return invalid(operation, "MinExecutionEnvironments must be less than or equal to MaxExecutionEnvironments.")
	}
	_, err = a.objects.Scaling.Edit(c.r.Context(), operation, qualifiedKey(ref), func(*registry.Scaling) (*registry.Scaling, error) {
		return &registry.Scaling{Min: s.MinExecutionEnvironments, Max: s.MaxExecutionEnvironments}, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, putScalingAnswer{f.State})
}

type getScalingAnswer struct {
	FunctionArn                    string
	AppliedFunctionScalingConfig   *scalingConfig `json:",omitempty"` // none: it is for managed instances, of which there are none
	RequestedFunctionScalingConfig *scalingConfig `json:",omitempty"`
}

// getFunctionScalingConfig does GetFunctionScalingConfig.
func (a *API) getFunctionScalingConfig(c *call) error {
	const operation = "GetFunctionScalingConfig"
	var q struct{ FunctionName, Qualifier string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.functionOf(c, operation, q.FunctionName, &q.Qualifier)
	if err != nil {
		return err
	}
	key := qualifiedKey(ref)
	answer := getScalingAnswer{FunctionArn: a.keyARN(key, "")}
	if s := a.objects.Scaling.Get(key); s != nil {
		answer.RequestedFunctionScalingConfig = &scalingConfig{s.Min, s.Max}
	}
	return c.reply(http.StatusOK, answer)
}
