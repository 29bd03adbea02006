package policy

import "lambent"

// Document is one policy, read and checked. It is immutable.
type Document struct {
	statements []statement
}

// Kind says where a policy is attached, which decides what it may hold.
type Kind uint8

const (
	Identity Kind = iota // to who asks: no Principal, and a Resource
	Resource             // to what is asked for: a Principal and a Resource
	Trust                // to a role, for who may take it: a Principal, no Resource
)

// statement is one of a policy's. Where it says Not…, the list is of what it
// does not apply to.
type statement struct {
	sid          string
	deny         bool
	principals   principals
	notPrincipal bool
	hasPrincipal bool
	actions      []string // compiled, in lower case
	notAction    bool
	resources    []resource
	notResource  bool
	hasResource  bool
	conditions   []condition
}

// resource is what a Resource element names.
type resource struct {
	all bool // "*"
	arn pattern
}

// principals are what a Principal element names.
type principals struct {
	everyone bool // "*"
	accounts []lambent.AccountID
	arns     []string
	services []string
}
