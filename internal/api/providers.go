package api

import (
	"net/http"
	"strings"

	"lambent"
	"lambent/internal/registry"
)

// providerRequest is what the operations on one capacity provider are sent.
type providerRequest struct {
	registry.CapacityProviderSettings
	CapacityProviderName string
	Tags                 map[string]string
}

type providerAnswer struct{ CapacityProvider capacityProvider }

type capacityProvider struct {
	registry.CapacityProviderSettings
	CapacityProviderArn string
	State               string
	LastModified        string
}

// The states of a capacity provider. It is remembered and no more: no machine is
// started for it, and it is said to be active once it is stored.
const (
	providerPending  = "Pending"
	providerActive   = "Active"
	providerDeleting = "Deleting"
)

func (a *API) providerARN(key registry.ObjectKey) string {
	return "arn:" + partition + ":lambda:" + a.region + ":" + string(key.Account) + ":capacity-provider:" + key.Name
}

func (a *API) provider(key registry.ObjectKey, p *registry.CapacityProvider, state string) capacityProvider {
	return capacityProvider{CapacityProviderSettings: p.CapacityProviderSettings, CapacityProviderArn: a.providerARN(key), State: state, LastModified: dated(p.LastModified)}
}

// providerKey tells which provider a name or ARN means: one of the caller's.
func (a *API) providerKey(c *call, operation, name string) (registry.ObjectKey, error) {
	key := registry.ObjectKey{Account: c.caller.Account, Name: name[strings.LastIndexByte(name, ':')+1:]}
	if strings.Contains(name, ":") && name != a.providerARN(key) {
		if of := strings.Split(name, ":"); lambent.AccountID(of[4]) != c.caller.Account {
			return key, a.deniedARN(c.caller, operation, name)
		}
		return key, noProvider(operation, name)
	}
	return key, nil
}

func noProvider(operation, name string) error {
	return noResource(operation, "Capacity provider not found: "+name)
}

// providerOf reads a request that names a provider and finds it.
func (a *API) providerOf(c *call, operation string, q any, name *string) (registry.ObjectKey, *registry.CapacityProvider, error) {
	if err := a.input(c, operation, q); err != nil {
		return registry.ObjectKey{}, nil, err
	}
	key, err := a.providerKey(c, operation, *name)
	if err != nil {
		return key, nil, err
	}
	p := a.objects.CapacityProviders.Get(key)
	if p == nil {
		return key, nil, noProvider(operation, a.providerARN(key))
	}
	return key, p, nil
}

// createCapacityProvider does CreateCapacityProvider.
func (a *API) createCapacityProvider(c *call) error {
	const operation = "CreateCapacityProvider"
	var q providerRequest
	if err := a.input(c, operation, &q); err != nil {
		return err
	}
	if err := checkPlainTags(operation, q.Tags); err != nil {
		return err
	}
	key, err := a.providerKey(c, operation, q.CapacityProviderName)
	if err != nil {
		return err
	}
	if len(key.Name) > maxNameLength {
		return invalid(operation, "The name of a capacity provider has at most 64 characters.")
	}
	p := &registry.CapacityProvider{CapacityProviderSettings: q.CapacityProviderSettings, Tags: q.Tags, LastModified: a.now()}
	if err := a.objects.CapacityProviders.Create(c.r.Context(), operation, key, p, "Capacity provider already exists: "+a.providerARN(key)); err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, providerAnswer{a.provider(key, p, providerPending)})
}

// getCapacityProvider does GetCapacityProvider.
func (a *API) getCapacityProvider(c *call) error {
	var q providerRequest
	key, p, err := a.providerOf(c, "GetCapacityProvider", &q, &q.CapacityProviderName)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, providerAnswer{a.provider(key, p, providerActive)})
}

// updateCapacityProvider does UpdateCapacityProvider.
func (a *API) updateCapacityProvider(c *call) error {
	const operation = "UpdateCapacityProvider"
	var q providerRequest
	key, _, err := a.providerOf(c, operation, &q, &q.CapacityProviderName)
	if err != nil {
		return err
	}
	p, err := a.objects.CapacityProviders.Edit(c.r.Context(), operation, key, func(old *registry.CapacityProvider) (*registry.CapacityProvider, error) {
		if old == nil {
			return nil, noProvider(operation, a.providerARN(key))
		}
		next := *old
		if q.CapacityProviderScalingConfig != nil {
			next.CapacityProviderScalingConfig = q.CapacityProviderScalingConfig
		}
		next.LastModified = a.now()
		return &next, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, providerAnswer{a.provider(key, p, providerActive)})
}

// deleteCapacityProvider does DeleteCapacityProvider.
func (a *API) deleteCapacityProvider(c *call) error {
	const operation = "DeleteCapacityProvider"
	var q providerRequest
	key, p, err := a.providerOf(c, operation, &q, &q.CapacityProviderName)
	if err != nil {
		return err
	}
	_, err = a.objects.CapacityProviders.Edit(c.r.Context(), operation, key, func(old *registry.CapacityProvider) (*registry.CapacityProvider, error) {
		if old == nil {
			return nil, noProvider(operation, a.providerARN(key))
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	return c.reply(http.StatusAccepted, providerAnswer{a.provider(key, p, providerDeleting)})
}

type listProvidersAnswer struct {
	CapacityProviders []capacityProvider
	NextMarker        *string `json:",omitempty"`
}

// listCapacityProviders does ListCapacityProviders.
func (a *API) listCapacityProviders(c *call) error {
	var q struct {
		State    *string
		Marker   *string
		MaxItems *int
	}
	if err := a.input(c, "ListCapacityProviders", &q); err != nil {
		return err
	}
	page, next, err := pageOf(a.objects.CapacityProviders, c.caller.Account, "", q.Marker, q.MaxItems, func(registry.Object[registry.CapacityProvider]) bool {
		return q.State == nil || *q.State == providerActive
	})
	if err != nil {
		return err
	}
	answer := listProvidersAnswer{CapacityProviders: []capacityProvider{}, NextMarker: next}
	for _, o := range page {
		answer.CapacityProviders = append(answer.CapacityProviders, a.provider(o.Key, o.Value, providerActive))
	}
	return c.reply(http.StatusOK, answer)
}

type listProviderVersionsAnswer struct {
	CapacityProviderArn string
	FunctionVersions    []struct{} // there are none: no function can be given to a provider
}

// listFunctionVersionsByCapacityProvider does
// ListFunctionVersionsByCapacityProvider.
func (a *API) listFunctionVersionsByCapacityProvider(c *call) error {
	var q providerRequest
	key, _, err := a.providerOf(c, "ListFunctionVersionsByCapacityProvider", &q, &q.CapacityProviderName)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, listProviderVersionsAnswer{CapacityProviderArn: a.providerARN(key), FunctionVersions: []struct{}{}})
}
