package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"strconv"

	"lambent"
)

// Grant is one permission on a resource, as AddPermission and
// AddLayerVersionPermission are asked for it. Empty fields are left out of its
// statement.
type Grant struct {
	Sid       string
	Principal string // "*", an account, the ARN of an account's root, a user, a role or a session, or a service
	Action    string
	Resource  string // ARN

	// Conditions.
	FunctionURLAuthType   string
	PrincipalOrgID        string
	SourceAccount         string
	EventSourceToken      string
	SourceARN             string
	InvokedViaFunctionURL *bool
}

// grantStatement is a statement with its members in AWS's order.
type grantStatement struct {
	Sid       string
	Effect    string
	Principal any
	Action    string
	Resource  string
	Condition *grantCondition `json:",omitempty"`
}

type grantCondition struct {
	StringEquals *grantStrings     `json:",omitempty"`
	ArnLike      map[string]string `json:",omitempty"`
	Bool         map[string]string `json:",omitempty"`
}

type grantStrings struct {
	FunctionURLAuthType string `json:"lambda:FunctionUrlAuthType,omitempty"`
	PrincipalOrgID      string `json:"aws:PrincipalOrgID,omitempty"`
	SourceAccount       string `json:"AWS:SourceAccount,omitempty"`
	EventSourceToken    string `json:"lambda:EventSourceToken,omitempty"`
}

// ErrPrincipal is that a Grant's principal is none.
var ErrPrincipal = errors.New("the principal is neither *, nor an account, nor the ARN of a root, user, role or session, nor a service")

var (
	principalARN = regexp.MustCompile(`\Aarn:aws[a-zA-Z-]*:(iam::[0-9]{12}:(root|user/.+|role/.+)|sts::[0-9]{12}:(assumed-role/[^/]+/[^/]+|federated-user/.+))\z`)
	serviceName  = regexp.MustCompile(`\A[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com|amazonaws\.com\.cn|amazon\.com)\z`)
)

// Statement is the statement of the grant, as AWS writes it. The errors are
// ErrPrincipal, and those of Parse for what no statement can hold.
func (g *Grant) Statement() (json.RawMessage, error) {
	s := grantStatement{Sid: g.Sid, Effect: "Allow", Action: g.Action, Resource: g.Resource}
	switch {
	case g.Principal == "*":
		s.Principal = "*"
	case lambent.IsAccountID(g.Principal):
		s.Principal = map[string]string{"AWS": RootARN(lambent.AccountID(g.Principal))}
	case principalARN.MatchString(g.Principal):
		s.Principal = map[string]string{"AWS": g.Principal}
	case serviceName.MatchString(g.Principal):
		s.Principal = map[string]string{"Service": g.Principal}
	default:
		return nil, ErrPrincipal
	}
	var c grantCondition
	if equal := (grantStrings{g.FunctionURLAuthType, g.PrincipalOrgID, g.SourceAccount, g.EventSourceToken}); equal != (grantStrings{}) {
		c.StringEquals = &equal
	}
	if g.SourceARN != "" {
		c.ArnLike = map[string]string{"AWS:SourceArn": g.SourceARN}
	}
	if g.InvokedViaFunctionURL != nil {
		c.Bool = map[string]string{"lambda:InvokedViaFunctionUrl": strconv.FormatBool(*g.InvokedViaFunctionURL)}
	}
	if c.StringEquals != nil || c.ArnLike != nil || c.Bool != nil {
		s.Condition = &c
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return nil, err
	}
	text := json.RawMessage(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	if _, err := Parse(whole([]json.RawMessage{text}), Resource); err != nil {
		return nil, err
	}
	return text, nil
}

// whole is the policy of statements, as AWS shows it.
func whole(statements []json.RawMessage) []byte {
	var b bytes.Buffer
	b.WriteString(`{"Version":"` + versionNow + `","Id":"default","Statement":[`)
	for i, s := range statements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(s)
	}
	b.WriteString("]}")
	return b.Bytes()
}
