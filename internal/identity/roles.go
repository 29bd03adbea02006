package identity

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"lambent"
	"lambent/internal/policy"
)

// rolePattern is the part of a role's ARN behind "role/": a path, perhaps, and a
// name.
var rolePattern = regexp.MustCompile(`^([\w+=,.@-]+/){0,8}[\w+=,.@-]{1,64}$`)

// CreateRole makes a role of an account that may do what a policy in AWS's JSON
// says.
func (s *Store) CreateRole(ctx context.Context, account lambent.AccountID, name string, text json.RawMessage) (*Role, error) {
	const op = "create role"
	s.writing.Lock()
	defer s.writing.Unlock()
	switch {
	case !lambent.IsAccountID(string(account)):
		return nil, invalid(op, "A role needs an account, of 12 digits; %q is none.", account)
	case !s.hasAccount(account):
		return nil, notFound(op, "account "+string(account))
	case !rolePattern.MatchString(name) || len(name) > 512:
		return nil, invalid(op, "A role's name has 1 to 64 letters, digits and characters of _+=,.@-, and may have a path before it, as in service/web.")
	case s.Role(account, name) != nil:
		return nil, exists(op, "role "+name)
	}
	r, err := s.keepRole(ctx, &Role{Account: account, Name: name, ID: newID(rolePrefix, idLength), Policy: text, Created: s.opts.Now().UTC()})
	if err == nil {
		s.opts.RoleChanged(r.ARN())
	}
	return r, err
}

// SetRolePolicy replaces what a role may do, for the credentials that are about,
// too.
func (s *Store) SetRolePolicy(ctx context.Context, account lambent.AccountID, name string, text json.RawMessage) (*Role, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.Role(account, name)
	if old == nil {
		return nil, notFound("set policy", "role "+name)
	}
	next := *old
	next.Policy = text
	return s.keepRole(ctx, &next)
}

// keepRole stores a role whose policy has not been looked at yet.
func (s *Store) keepRole(ctx context.Context, r *Role) (*Role, error) {
	var err error
	if r.document, err = readPolicy(r.Policy); err != nil {
		return nil, err
	}
	err = s.put(ctx, roleAt(r.Account, r.Name), record{Account: string(r.Account), Name: r.Name, ID: r.ID, Policy: r.Policy, Created: r.Created})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[roleKey{r.Account, r.Name}] = r
	return r, nil
}

// DeleteRole removes a role; its credentials are refused from now on.
func (s *Store) DeleteRole(ctx context.Context, account lambent.AccountID, name string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	r := s.Role(account, name)
	if r == nil {
		return notFound("delete role", "role "+name)
	}
	return s.dropRole(ctx, r)
}

func (s *Store) dropRole(ctx context.Context, r *Role) error {
	if err := s.drop(ctx, roleAt(r.Account, r.Name)); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.roles, roleKey{r.Account, r.Name})
	s.mu.Unlock()
	s.opts.RoleChanged(r.ARN())
	return nil
}

// Role finds a role by its name, nil where there is none.
func (s *Store) Role(account lambent.AccountID, name string) *Role {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.roles[roleKey{account, name}]
}

// RoleByARN finds a role by its ARN, nil where there is none.
func (s *Store) RoleByARN(arn string) *Role {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[0] != "arn" || parts[1] != "aws" || parts[2] != "iam" || parts[3] != "" {
		return nil
	}
	name, ok := strings.CutPrefix(parts[5], "role/")
	if !ok {
		return nil
	}
	return s.Role(lambent.AccountID(parts[4]), name)
}

// RoleMay tells whether a role of an account allows an action on a resource of an
// ARN. One that is not known allows nothing.
func (s *Store) RoleMay(account lambent.AccountID, arn, action, resource string) bool {
	r := s.RoleByARN(arn)
	if r == nil || r.Account != account {
		return false
	}
	request := &policy.Request{Action: action, Resource: resource, Account: r.Account, Now: s.opts.Now(), Principal: r.session("lambent")}
	return policy.Evaluate(request, policy.Policies{Identity: []*policy.Document{r.document}}).Allowed
}

// Roles lists an account's roles, "" all accounts', by account and name.
func (s *Store) Roles(account lambent.AccountID) []*Role {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []*Role
	for _, r := range s.roles {
		if account == "" || r.Account == account {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *Role) int { return strings.Compare(a.ARN(), b.ARN()) })
	return all
}
