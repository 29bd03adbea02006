package policy

import (
	"slices"
	"strings"

	"lambent"
)

// PrincipalType is what kind of caller one is.
type PrincipalType uint8

// The types of caller.
const (
	Anonymous PrincipalType = iota // proved nothing
	Root                           // of an account: whoever has all of it
	User                           // a user, or a key of an account with policies of its own
	Session                        // of a role
	Service                        // a service of the platform, such as an event source
)

// Principal is who asks.
type Principal struct {
	Type    PrincipalType
	Account lambent.AccountID // "" for Anonymous and Service
	ARN     string            // as in error texts: …:root, …:user/NAME, …:assumed-role/ROLE/SESSION
	Role    string            // the role's ARN, of a Session
	Name    string            // a User's
	ID      string            // aws:userid: AIDA…, AROA…:SESSION, or the account's
	Service string            // a Service's name, such as events.amazonaws.com
}

// RootOf is the principal that has all of an account.
func RootOf(account lambent.AccountID) Principal {
	return Principal{Type: Root, Account: account, ARN: RootARN(account), ID: string(account)}
}

// RootARN is the ARN that stands for an account.
func RootARN(account lambent.AccountID) string { return "arn:aws:iam::" + string(account) + ":root" }

// typeName is aws:PrincipalType.
func (p *Principal) typeName() string {
	switch p.Type {
	case Root:
		return "Account"
	case User:
		return "User"
	case Session:
		return "AssumedRole"
	default:
		return "Anonymous"
	}
}

// reach is how a Principal element reaches a caller.
type reach uint8

const (
	missed    reach = iota
	byAccount       // it names his account, whose own policies decide for whom it holds
	byName          // it names him, or everyone
)

func (ps *principals) reach(p *Principal) reach {
	if ps.everyone {
		return byName
	}
	switch p.Type {
	case Service:
		if slices.Contains(ps.services, strings.ToLower(p.Service)) {
			return byName
		}
		return missed
	case Anonymous:
		return missed
	}
	if slices.Contains(ps.arns, p.ARN) || p.Type == Session && slices.Contains(ps.arns, p.Role) {
		return byName
	}
	if slices.Contains(ps.accounts, p.Account) {
		if p.Type == Root {
			return byName
		}
		return byAccount
	}
	return missed
}
