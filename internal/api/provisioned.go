package api

import (
	"net/http"

	"lambent"
	"lambent/internal/registry"
)

// Provisioner knows what became of provisioned concurrency. Safe for concurrent
// use.
type Provisioner interface {
	// Provisioned tells how many containers are initialised for the version or
	// alias of a function, how many of them are ready to take a call, and why
	// there are not as many as were asked for, where there is a reason to give up
	// on.
	Provisioned(account lambent.AccountID, name lambent.FunctionName, qualifier string) (allocated, available int, failure string)
}

type provisionedAnswer struct {
	FunctionArn                              string `json:",omitempty"` // of lists
	RequestedProvisionedConcurrentExecutions int
	AvailableProvisionedConcurrentExecutions int
	AllocatedProvisionedConcurrentExecutions int
	Status                                   string
	StatusReason                             string `json:",omitempty"`
	LastModified                             string
}

// provisionedState renders how far a configuration has come.
func (a *API) provisionedState(key registry.ObjectKey, p *registry.Provisioned) provisionedAnswer {
	out := provisionedAnswer{RequestedProvisionedConcurrentExecutions: p.Requested, Status: "IN_PROGRESS", LastModified: dated(p.LastModified)}
	if a.provisioner == nil {
		return out
	}
	allocated, available, failure := a.provisioner.Provisioned(key.Account, lambent.FunctionName(key.Parent), key.Name)
	out.AllocatedProvisionedConcurrentExecutions, out.AvailableProvisionedConcurrentExecutions = min(allocated, p.Requested), min(available, p.Requested)
	switch {
	case allocated >= p.Requested:
		out.Status = "READY"
	case failure != "":
		out.Status, out.StatusReason = "FAILED", failure
	}
	return out
}

// provisionable finds the version or alias that provisioned concurrency is for;
// latest is what is said of $LATEST.
func (a *API) provisionable(c *call, operation, name, qualifier, latest string) (lambent.FunctionRef, *lambent.Function, error) {
	ref, f, err := a.functionOf(c, operation, name, &qualifier)
	if lambent.Version(qualifier) == lambent.Latest {
		return ref, nil, invalid(operation, latest)
	}
	if err != nil && !lambent.Version(qualifier).IsNumbered() {
		err = withMessage(err, "Cannot find alias arn: "+lambent.FunctionARN(a.region, ref.Account, ref.Name, qualifier))
	}
	return ref, f, err
}

const notUnpublished = "The function resource provided must be an alias or a published version."

// putProvisionedConcurrencyConfig does PutProvisionedConcurrencyConfig.
func (a *API) putProvisionedConcurrencyConfig(c *call) error {
	const operation = "PutProvisionedConcurrencyConfig"
	var q struct {
		FunctionName, Qualifier         string
		ProvisionedConcurrentExecutions int
	}
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, f, err := a.provisionable(c, operation, q.FunctionName, q.Qualifier, "Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
	if err != nil {
		return err
	}
	if f.TenantIsolation != "" {
		return invalid(operation, "Provisioned concurrency is not supported for functions with tenant isolation.")
	}
	key := qualifiedKey(ref)
	if alias := a.objects.Aliases.Get(key); alias != nil && alias.Additional != "" {
		return invalid(operation, "Alias with weights can not be used with Provisioned Concurrency")
	}
	p, err := a.objects.Provision(c.r.Context(), operation, key, registry.Provisioned{Requested: q.ProvisionedConcurrentExecutions, LastModified: a.now()}, a.limits.Concurrency,
		func(others []registry.Object[registry.Provisioned]) error {
			return a.provisionedAlready(operation, key, f, others)
		})
	if err != nil {
		return err
	}
	out := a.provisionedState(key, p)
	out.Status, out.StatusReason = "IN_PROGRESS", "" // whatever there is already: AWS answers so
	return c.reply(http.StatusAccepted, out)
}

// provisionedAlready refuses a version that is provisioned for already by another
// name.
func (a *API) provisionedAlready(operation string, key registry.ObjectKey, f *lambent.Function, others []registry.Object[registry.Provisioned]) error {
	conflict := ""
	for _, o := range others {
		same, err := a.functions.Function(key.Account, f.Name, o.Key.Name)
		switch {
		case err != nil || same.Version != f.Version:
		case key.Name == string(f.Version):
			conflict = "Version is pointed by a Provisioned Concurrency alias"
		default: // by the version itself, or by another alias
			conflict = "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
		}
	}
	if conflict == "" {
		return nil
	}
	return &lambent.Error{Op: operation, Resource: key.Name, Kind: lambent.KindExists, Message: conflict}
}

// getProvisionedConcurrencyConfig does GetProvisionedConcurrencyConfig.
func (a *API) getProvisionedConcurrencyConfig(c *call) error {
	const operation = "GetProvisionedConcurrencyConfig"
	var q struct{ FunctionName, Qualifier string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.provisionable(c, operation, q.FunctionName, q.Qualifier, notUnpublished)
	if err != nil {
		return err
	}
	key := qualifiedKey(ref)
	p := a.objects.Provisioned.Get(key)
	if p == nil {
		return &lambent.Error{Op: operation, Resource: q.Qualifier, Kind: lambent.KindNotFound, Reason: "ProvisionedConcurrencyConfigNotFoundException",
			Message: "No Provisioned Concurrency Config found for this function"}
	}
	return c.reply(http.StatusOK, a.provisionedState(key, p))
}

// deleteProvisionedConcurrencyConfig does DeleteProvisionedConcurrencyConfig.
func (a *API) deleteProvisionedConcurrencyConfig(c *call) error {
	const operation = "DeleteProvisionedConcurrencyConfig"
	var q struct{ FunctionName, Qualifier string }
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	ref, _, err := a.provisionable(c, operation, q.FunctionName, q.Qualifier, notUnpublished)
	if err != nil {
		return err
	}
	_, err = a.objects.Provisioned.Edit(c.r.Context(), operation, qualifiedKey(ref), func(*registry.Provisioned) (*registry.Provisioned, error) { return nil, nil })
	return c.done(err)
}

type listProvisionedAnswer struct {
	ProvisionedConcurrencyConfigs []provisionedAnswer
	NextMarker                    *string `json:",omitempty"`
}

// listProvisionedConcurrencyConfigs does ListProvisionedConcurrencyConfigs.
func (a *API) listProvisionedConcurrencyConfigs(c *call) error {
	const operation = "ListProvisionedConcurrencyConfigs"
	page, next, err := pageOfFunction(a, c, operation, a.objects.Provisioned, "")
	if err != nil {
		return err
	}
	answer := listProvisionedAnswer{ProvisionedConcurrencyConfigs: []provisionedAnswer{}, NextMarker: next}
	for _, o := range page {
		out := a.provisionedState(o.Key, o.Value)
		out.FunctionArn = a.keyARN(o.Key, "")
		answer.ProvisionedConcurrencyConfigs = append(answer.ProvisionedConcurrencyConfigs, out)
	}
	return c.reply(http.StatusOK, answer)
}
