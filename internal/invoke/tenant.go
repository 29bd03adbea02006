package invoke

import "lambent"

// ofTenant gives the function, and what may stand in for it, as they are for a
// call of one tenant, "" for none. A function that isolates its tenants is called
// for one of them, and no other is.
func ofTenant(fn *lambent.Function, standIns []*lambent.Function, tenant string) (*lambent.Function, []*lambent.Function, error) {
	if err := fn.RequireTenant(tenant); err != nil {
		return nil, nil, err
	}
	if fn.TenantIsolation == "" {
		return fn, standIns, nil
	}
	var others []*lambent.Function
	for _, by := range standIns {
		others = append(others, by.ForTenant(tenant))
	}
	return fn.ForTenant(tenant), others, nil
}
