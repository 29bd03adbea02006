package invoke

import "lambent"

// ofTenant gives the function, and what may stand in for it, as they are for a
// call of one tenant, "" for none. A function that isolates its tenants is called
// for one of them, and no other is (developer guide, "Tenant isolation").
func ofTenant(fn *lambent.Function, standIns []*lambent.Function, tenant string) (*lambent.Function, []*lambent.Function, error) {
	refuse := func(message string) (*lambent.Function, []*lambent.Function, error) {
		return nil, nil, &lambent.Error{Op: "invoke", Resource: string(fn.Name), Kind: lambent.KindInvalid, Message: message}
	}
	switch isolates := fn.TenantIsolation != ""; {
	case isolates && tenant == "":
		return refuse("The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
	case !isolates && tenant != "":
		return refuse("The invoked function is not enabled with tenancy configuration. Remove the tenant ID from your request and try again.")
	case !isolates:
		return fn, standIns, nil
	}
	var others []*lambent.Function
	for _, by := range standIns {
		others = append(others, by.ForTenant(tenant))
	}
	return fn.ForTenant(tenant), others, nil
}
