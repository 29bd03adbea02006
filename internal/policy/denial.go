package policy

import "lambent"

// Why tells why a request was denied, in AWS's words (IAM user guide,
// "Troubleshoot access denied error messages"); "" where it was allowed.
func (d Decision) Why(action string) string {
	switch {
	case d.Allowed:
		return ""
	case d.Explicit && d.Source == FromIdentity:
		return "with an explicit deny in an identity-based policy"
	case d.Explicit:
		return "with an explicit deny in a resource-based policy"
	case d.Source == FromIdentity:
		return "because no identity-based policy allows the " + action + " action"
	default:
		return "because no resource-based policy allows the " + action + " action"
	}
}

// Denial is the error for a request that was denied: AWS's AccessDeniedException
// in its words. op is what was tried.
func Denial(op string, r *Request, d Decision) error {
	who := r.Principal.ARN
	switch {
	case who != "":
	case r.Principal.Service != "":
		who = r.Principal.Service
	default:
		who = "anonymous"
	}
	return &lambent.Error{Op: op, Resource: r.Resource, Kind: lambent.KindDenied,
		Message: "User: " + who + " is not authorized to perform: " + r.Action + " on resource: " + r.Resource + " " + d.Why(r.Action)}
}
