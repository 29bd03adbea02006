package policy

import (
	"strconv"
	"strings"
	"time"

	"lambent"
)

// Request is what is to be decided.
type Request struct {
	Principal Principal
	Action    string            // such as lambda:InvokeFunction
	Resource  string            // its ARN; "*" where the action has none
	Account   lambent.AccountID // the resource's owner
	Now       time.Time
	// Keys are the condition keys of this request, beside those that follow from
	// the fields above (aws:PrincipalArn, aws:PrincipalAccount,
	// aws:PrincipalType, aws:userid, aws:username, aws:PrincipalIsAWSService,
	// aws:PrincipalServiceName, aws:ResourceAccount, aws:CurrentTime and
	// aws:EpochTime), which they cannot replace.
	Keys []Key
}

// Key is a condition key of a request with its values. The case of its name
// does not matter.
type Key struct {
	Name   string
	Values []string
}

// Policies are all that bear on a request.
type Policies struct {
	Identity []*Document // of who asks; nil among them is none
	Resource *Document   // of what is asked for, nil for none
	// ResourceRules is set where the resource's policy must allow even its own
	// account, as that of a role must.
	ResourceRules bool
}

// Source is a kind of policy, as error texts tell of it.
type Source uint8

// The sources of a decision.
const (
	NoSource Source = iota // no policy was needed: the root of the owner's account
	FromIdentity
	FromResource
)

func (s Source) String() string {
	switch s {
	case FromIdentity:
		return "identity-based"
	case FromResource:
		return "resource-based"
	default:
		return "no"
	}
}

// Decision is the answer to a request, and which statement gave it.
type Decision struct {
	Allowed   bool
	Explicit  bool   // denied by a statement, not for want of one
	Source    Source // whose statement decided, or which kind of policy would have to allow
	Document  int    // its place among the identity policies; -1 where it is none of them
	Statement int    // its place in the policy; -1 where no statement decided
	Sid       string // its Sid, where it has one
}

// Evaluate decides a request.
func Evaluate(r *Request, p Policies) Decision {
	e := evaluation{request: r, action: strings.ToLower(r.Action)}
	identity, resource := undecided(FromIdentity), undecided(FromResource)
	for i, doc := range p.Identity {
		if d := e.look(doc, FromIdentity, i); d.effect == denies {
			return d.decision()
		} else if d.effect > identity.effect {
			identity = d
		}
	}
	if d := e.look(p.Resource, FromResource, -1); d.effect == denies {
		return d.decision()
	} else if d.effect > resource.effect {
		resource = d
	}
	who := &r.Principal
	if who.Type == Root && identity.effect == silent {
		identity = finding{effect: allows, source: NoSource, document: -1, statement: -1}
	}
	switch hasAccount := who.Type != Anonymous && who.Type != Service; {
	case !hasAccount:
		return resource.decision()
	case p.ResourceRules && who.Account == r.Account:
		if resource.effect == allows || resource.effect == silent {
			return resource.decision()
		}
		return identity.decision() // the resource leaves it to the account
	case who.Account == r.Account:
		if resource.effect == allows && identity.effect != allows {
			return resource.decision()
		}
		return identity.decision()
	case identity.effect != allows:
		return identity.decision()
	default:
		return resource.decision()
	}
}

// effect is what a policy says to a request, in the order of its weight.
type effect uint8

const (
	silent    effect = iota
	delegates        // allows it to the caller's account
	allows
	denies
)

// finding is the statement that speaks for a policy.
type finding struct {
	effect              effect
	source              Source
	document, statement int
	sid                 string
}

func undecided(s Source) finding { return finding{source: s, document: -1, statement: -1} }

func (f finding) decision() Decision {
	return Decision{Allowed: f.effect == allows || f.effect == delegates, Explicit: f.effect == denies,
		Source: f.source, Document: f.document, Statement: f.statement, Sid: f.sid}
}

// evaluation is one request on its way through policies.
type evaluation struct {
	request *Request
	action  string // in lower case
}

// look finds what a policy says: its first denial, or else its first of the
// strongest allowances.
func (e *evaluation) look(doc *Document, source Source, number int) finding {
	best := undecided(source)
	if doc == nil {
		return best
	}
	for i := range doc.statements {
		s := &doc.statements[i]
		if says := e.says(s); says > best.effect {
			best = finding{effect: says, source: source, document: number, statement: i, sid: s.sid}
			if says == denies {
				break
			}
		}
	}
	return best
}

// says tells what one statement says to the request.
func (e *evaluation) says(s *statement) effect {
	if e.acts(s) == s.notAction {
		return silent
	}
	says := allows
	if s.deny {
		says = denies
	}
	if s.hasPrincipal {
		switch reached := s.principals.reach(&e.request.Principal); {
		case (reached == missed) != s.notPrincipal:
			return silent
		case reached == byAccount && says == allows:
			says = delegates
		}
	}
	if s.hasResource && !e.concerns(s) {
		return silent
	}
	for i := range s.conditions {
		switch s.conditions[i].holds(e) {
		case no:
			return silent
		case unclear:
			if !s.deny {
				return silent
			}
		}
	}
	return says
}

func (e *evaluation) acts(s *statement) bool {
	for _, a := range s.actions {
		if glob(a, e.action) {
			return true
		}
	}
	return false
}

// concerns reports whether the statement is about the request's resource. A
// NotResource with a variable that has no value excludes nobody knows what: it
// allows nothing, and denies all else.
func (e *evaluation) concerns(s *statement) bool {
	matched, known := false, true
	for i := range s.resources {
		r := &s.resources[i]
		if r.all {
			matched = true
			break
		}
		p, ok := r.arn.expand(e)
		known = known && ok
		if ok && globARN(p, e.request.Resource) {
			matched = true
			break
		}
	}
	if !s.notResource {
		return matched
	}
	return !matched && (known || s.deny)
}

// values are those of a condition key, whose name is in lower case.
func (e *evaluation) values(key string) []string {
	if v, known := e.own(key); known {
		if v == "" {
			return nil
		}
		return []string{v}
	}
	for i := range e.request.Keys {
		if k := &e.request.Keys[i]; strings.EqualFold(k.Name, key) {
			return k.Values
		}
	}
	return nil
}

// own gives the value of a key that follows from the request's fields, ""
// where this request has none.
func (e *evaluation) own(key string) (value string, known bool) {
	who := &e.request.Principal
	switch key {
	case "aws:principalarn":
		if who.Type == Session {
			return who.Role, true
		}
		return who.ARN, true
	case "aws:principalaccount":
		return string(who.Account), true
	case "aws:principaltype":
		if who.Type == Service {
			return "", true
		}
		return who.typeName(), true
	case "aws:userid":
		return who.ID, true
	case "aws:username":
		return who.Name, true
	case "aws:principalisawsservice":
		return strconv.FormatBool(who.Type == Service), true
	case "aws:principalservicename":
		return who.Service, true
	case "aws:resourceaccount":
		return string(e.request.Account), true
	case "aws:currenttime":
		return e.request.Now.UTC().Format(time.RFC3339), true
	case "aws:epochtime":
		return strconv.FormatInt(e.request.Now.Unix(), 10), true
	}
	return "", false
}
