package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"lambent"
)

// MaxSize bounds a policy in bytes: it is Lambda's quota for the policy of a
// function, and above IAM's of 10,240 characters for those of a role.
const MaxSize = 20480

// The versions of the policy language. The older one has no variables.
const (
	versionNow = "2012-10-17"
	versionOld = "2008-10-17"
)

// Parse reads a policy of a kind. It takes what AWS documents as the grammar of
// policies and nothing else: a member it does not know, or one given twice, is
// an error, since a statement whose Condition was misspelt would let in
// everybody. Errors are *lambent.Error of KindInvalid and say where.
func Parse(text []byte, kind Kind) (*Document, error) {
	d, err := parse(text, kind)
	if err != nil {
		return nil, &lambent.Error{Op: "read policy", Kind: lambent.KindInvalid, Reason: "MalformedPolicyDocument",
			Message: "The policy is not valid: " + err.Error()}
	}
	return d, nil
}

func parse(text []byte, kind Kind) (*Document, error) {
	switch {
	case len(text) > MaxSize:
		return nil, fmt.Errorf("it has %d bytes, and may have at most %d", len(text), MaxSize)
	case !utf8.Valid(text):
		return nil, errors.New("it is not UTF-8")
	}
	tree, err := readTree(text)
	if err != nil {
		return nil, err
	}
	root, ok := tree.(object)
	if !ok {
		return nil, errors.New("a policy is a JSON object")
	}
	var statements []any
	variables := false
	for _, m := range root {
		switch m.name {
		case "Version":
			switch m.value {
			case versionNow:
				variables = true
			case versionOld:
			default:
				return nil, fmt.Errorf("its Version must be %q, or %q, which has no variables", versionNow, versionOld)
			}
		case "Id":
			if _, ok := m.value.(string); !ok {
				return nil, errors.New("its Id must be a string")
			}
		case "Statement":
			statements = oneOrMany(m.value)
		default:
			return nil, fmt.Errorf("a policy has no member %.100q: it has Version, Id and Statement", m.name)
		}
	}
	if len(statements) == 0 {
		return nil, errors.New("it has no Statement")
	}
	doc := &Document{statements: make([]statement, len(statements))}
	sids := map[string]bool{}
	for i, v := range statements {
		s := &doc.statements[i]
		err := s.parse(v, kind, variables)
		if err == nil && s.sid != "" && sids[s.sid] {
			err = errors.New("another statement has this Sid already")
		}
		if err != nil {
			label := ""
			if s.sid != "" {
				label = fmt.Sprintf(" (Sid %.100q)", s.sid)
			}
			return nil, fmt.Errorf("statement %d%s: %w", i+1, label, err)
		}
		sids[s.sid] = true
	}
	return doc, nil
}

// parse reads one statement. sid is set also where another member is wrong.
func (s *statement) parse(v any, kind Kind, variables bool) error {
	o, ok := v.(object)
	if !ok {
		return errors.New("a statement is an object")
	}
	effect := ""
	given := map[string]bool{}
	for _, m := range o {
		if m.name == "Sid" {
			s.sid, _ = m.value.(string)
		}
	}
	for _, m := range o {
		given[m.name] = true
		var err error
		switch m.name {
		case "Sid":
			if _, ok := m.value.(string); !ok {
				err = errors.New("a string is expected")
			} else if kind != Resource && strings.ContainsFunc(s.sid, notAlphanumeric) {
				err = errors.New("it may have letters and digits only")
			}
		case "Effect":
			effect, _ = m.value.(string)
			s.deny = effect == "Deny"
			if effect != "Allow" && effect != "Deny" {
				err = errors.New(`it must be "Allow" or "Deny"`)
			}
		case "Principal", "NotPrincipal":
			s.hasPrincipal, s.notPrincipal = true, m.name == "NotPrincipal"
			s.principals, err = parsePrincipals(m.value)
		case "Action", "NotAction":
			s.notAction = m.name == "NotAction"
			s.actions, err = parseActions(m.value)
		case "Resource", "NotResource":
			s.hasResource, s.notResource = true, m.name == "NotResource"
			s.resources, err = parseResources(m.value, variables)
		case "Condition":
			s.conditions, err = parseConditions(m.value, variables)
		default:
			err = errors.New("a statement has no such member")
		}
		if err != nil {
			return fmt.Errorf("%.100s: %w", m.name, err)
		}
	}
	for _, pair := range [...][2]string{{"Principal", "NotPrincipal"}, {"Action", "NotAction"}, {"Resource", "NotResource"}} {
		if given[pair[0]] && given[pair[1]] {
			return fmt.Errorf("it has both %s and %s: one of them is left out", pair[0], pair[1])
		}
	}
	switch {
	case effect == "":
		return errors.New(`it has no Effect: "Allow" or "Deny"`)
	case s.actions == nil:
		return errors.New("it has no Action")
	case kind == Identity && s.hasPrincipal:
		return errors.New("it has a Principal, which is whoever the policy is attached to: leave it out")
	case kind != Identity && !s.hasPrincipal:
		return errors.New("it has no Principal")
	case kind == Trust && s.hasResource:
		return errors.New("it has a Resource, which is the role the policy is attached to: leave it out")
	case kind != Trust && !s.hasResource:
		return errors.New("it has no Resource")
	}
	return nil
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// parseActions reads actions such as lambda:Get*, whose case does not matter.
func parseActions(v any) ([]string, error) {
	list, err := strs(v)
	if err != nil {
		return nil, err
	}
	for i, a := range list {
		service, action, ok := strings.Cut(a, ":")
		wrong := func(r rune) bool { return notAlphanumeric(r) && !strings.ContainsRune("-_.*?", r) }
		if a != "*" && (!ok || service == "" || action == "" || strings.ContainsFunc(service, wrong) || strings.ContainsFunc(action, wrong)) {
			return nil, fmt.Errorf(`%.100q is no action: one is "*", or a service and a name, such as "lambda:InvokeFunction"`, a)
		}
		p, err := compile(strings.ToLower(a), dialect{wildcards: true})
		if err != nil {
			return nil, err
		}
		list[i] = p.text
	}
	return list, nil
}

func parseResources(v any, variables bool) ([]resource, error) {
	list, err := strs(v)
	if err != nil {
		return nil, err
	}
	out := make([]resource, len(list))
	for i, r := range list {
		if r == "*" {
			out[i].all = true
			continue
		}
		if err := checkARN(r); err != nil {
			return nil, err
		}
		if out[i].arn, err = compile(r, dialect{wildcards: true, variables: variables}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkARN refuses what no ARN, nor a pattern of ARNs, can be.
func checkARN(s string) error {
	if !strings.HasPrefix(s, "arn:") || strings.Count(s, ":") < arnParts-1 {
		return fmt.Errorf(`%.200q is neither "*" nor an ARN, which has six parts: arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`, s)
	}
	return nil
}

// parsePrincipals reads "*" or an object of lists by the kind of principal.
// Kinds that lambent never has (Federated, CanonicalUser) are read and match
// nobody.
func parsePrincipals(v any) (p principals, err error) {
	if v == "*" {
		return principals{everyone: true}, nil
	}
	o, ok := v.(object)
	if !ok || len(o) == 0 {
		return p, errors.New(`"*" or an object such as {"AWS": "123456789012"} is expected`)
	}
	for _, m := range o {
		list, err := strs(m.value)
		if err != nil {
			return p, fmt.Errorf("%.100s: %w", m.name, err)
		}
		for _, who := range list {
			switch m.name {
			case "AWS":
				err = p.add(who)
			case "Service":
				if strings.ContainsAny(who, "*?: ") || !strings.Contains(who, ".") {
					err = fmt.Errorf("%.100q is no service: one is written like events.amazonaws.com", who)
				}
				p.services = append(p.services, strings.ToLower(who))
			case "Federated", "CanonicalUser":
			default:
				err = errors.New("there is no such kind of principal: it is AWS, Service, Federated or CanonicalUser")
			}
			if err != nil {
				return p, fmt.Errorf("%.100s: %w", m.name, err)
			}
		}
	}
	return p, nil
}

// add takes one of the forms of an AWS principal: "*", an account's id or the
// ARN of its root, the ARN of a user, role or session.
func (p *principals) add(who string) error {
	parts := strings.SplitN(who, ":", arnParts)
	switch {
	case who == "*":
		p.everyone = true
	case lambent.IsAccountID(who):
		p.accounts = append(p.accounts, lambent.AccountID(who))
	case len(who) > maxPattern || len(parts) < arnParts || parts[0] != "arn" || parts[1] == "" || parts[2] != "iam" && parts[2] != "sts" ||
		parts[3] != "" || !lambent.IsAccountID(parts[4]) || parts[5] == "" || strings.ContainsAny(who, "*? "):
		return fmt.Errorf(`%.200q is no principal: one is "*", an account's 12 digits, or the whole ARN of an account's root, a user, a role or a session, without wildcards`, who)
	case parts[5] == "root":
		p.accounts = append(p.accounts, lambent.AccountID(parts[4]))
	default:
		p.arns = append(p.arns, who)
	}
	return nil
}
