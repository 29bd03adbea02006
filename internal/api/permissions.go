package api

import (
	"context"
	"errors"
	"fmt"

	"lambent"
	"lambent/internal/policy"
)

// Policies is what the API needs of whoever remembers resource policies.
// qualifier is a version or an alias; "" and $LATEST are the function itself.
// Safe for concurrent use.
type Policies interface {
	// FunctionPolicy finds the policy of a function, version or alias; nil where
	// there is none. It is asked on calls of other accounts, so it must be quick.
	FunctionPolicy(account lambent.AccountID, name lambent.FunctionName, qualifier string) *policy.Attached
	// RevisionOf is the RevisionId of a function, version or alias, KindNotFound
	// where there is none. Its policy has the same.
	RevisionOf(account lambent.AccountID, name lambent.FunctionName, qualifier string) (string, error)
	// EditFunctionPolicy has change make the next policy of the present one and the
	// revision; nil is none. change's error is passed back as it is.
	EditFunctionPolicy(ctx context.Context, account lambent.AccountID, name lambent.FunctionName, qualifier string,
		change func(old *policy.Attached, revision string) (*policy.Attached, error)) error
}

// granted adds a permission to a policy and gives its statement. The errors are
// those AWS answers to AddPermission.
func granted(operation string, old *policy.Attached, g *policy.Grant) (*policy.Attached, string, error) {
	next, statement, err := old.With(g)
	if long, ok := errors.AsType[*policy.TooLongError](err); ok {
		return nil, "", policyTooLong(operation, g.Resource, long.Size)
	}
	switch {
	case errors.Is(err, policy.ErrSidTaken):
		return nil, "", &lambent.Error{Op: operation, Resource: g.Resource, Kind: lambent.KindExists,
			Message: "The statement id (" + g.Sid + ") provided already exists. Please provide a new statement id, or remove the existing statement."}
	case errors.Is(err, policy.ErrPrincipal):
		return nil, "", invalid(operation, "The provided principal was invalid. Please check the principal and try again.")
	}
	return next, string(statement), err
}

// policyTooLong refuses a policy that would have more bytes than AWS lets one
// have.
func policyTooLong(operation, resource string, size int) error {
	return &lambent.Error{Op: operation, Resource: resource, Kind: lambent.KindInvalid, Reason: "PolicyLengthExceededException",
		Message: fmt.Sprintf("The final policy size (%d) is bigger than the limit (%d).", size, policy.MaxSize)}
}

// revoked takes a permission from a policy.
func revoked(operation string, old *policy.Attached, resource, sid string) (*policy.Attached, error) {
	next, err := old.Without(sid)
	if errors.Is(err, policy.ErrNoSid) {
		return nil, &lambent.Error{Op: operation, Resource: resource, Kind: lambent.KindNotFound, Message: "Statement " + sid + " is not found in resource policy."}
	}
	return next, err
}

// requireRevision refuses a change by a caller who knows another revision of a
// policy. given is the one he knows, "" for any; ask is what AWS tells him to
// ask for the right one.
func requireRevision(operation, given, current, ask string) error {
	if given == "" || given == current {
		return nil
	}
	return &lambent.Error{Op: operation, Kind: lambent.KindPrecondition,
		Message: "The Revision Id provided does not match the latest Revision Id. Call the " + ask + " API to retrieve the latest Revision Id"}
}
