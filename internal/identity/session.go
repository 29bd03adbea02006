package identity

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"time"

	"lambent"
	"lambent/internal/policy"
	"lambent/internal/sigv4"
)

// Credentials are those of a role, for a while.
type Credentials struct {
	AccessKeyID     string // ASIA…
	SecretAccessKey string
	SessionToken    string
	Expires         time.Time
}

// claims are what a session token holds, sealed for its access key.
type claims struct {
	Account string `json:"a"`
	Role    string `json:"r"`
	RoleID  string `json:"i"`
	Session string `json:"s"`
	Expires int64  `json:"e"` // Unix time in milliseconds
}

// tokenVersion is the first byte of a session token.
const tokenVersion = 1

// sessionUnfit are characters that the name of a session cannot have.
var sessionUnfit = regexp.MustCompile(`[^\w+=,.@-]`)

// Session makes credentials of a role for a session, which is named for what
// uses them.
func (s *Store) Session(r *Role, name string) (Credentials, error) {
	c := Credentials{AccessKeyID: newID(sessionPrefix, keyLength), Expires: s.opts.Now().Add(s.opts.SessionTime).Truncate(time.Millisecond)}
	name = sessionUnfit.ReplaceAllString(name, "-")
	text, err := json.Marshal(claims{Account: string(r.Account), Role: r.Name, RoleID: r.ID, Session: name[:min(len(name), 64)], Expires: c.Expires.UnixMilli()})
	if err != nil {
		return Credentials{}, err
	}
	c.SecretAccessKey = s.sealer.sessionSecret(c.AccessKeyID)
	c.SessionToken = base64.StdEncoding.EncodeToString(append([]byte{tokenVersion}, seal(s.sealer.tokens, text, c.AccessKeyID)...))
	return c, nil
}

// Caller is who a pair of access key and session token is.
type Caller struct {
	Account   lambent.AccountID
	Operator  bool
	Principal policy.Principal
	Policies  []*policy.Document
	Secret    string // which the caller has to know
}

var errNoToken = errors.New("the key has no session token, or one that is not its own")

// Find tells whose an access key is, with the session token that came with it.
// Its errors are those of a sigv4.Lookup. What it returns is nobody's until a
// signature by Secret was verified.
func (s *Store) Find(accessKeyID, sessionToken string) (*Caller, error) {
	if strings.HasPrefix(accessKeyID, sessionPrefix) {
		return s.findSession(accessKeyID, sessionToken)
	}
	s.mu.RLock()
	k, ok := s.keys[accessKeyID]
	s.mu.RUnlock()
	switch {
	case !ok:
		return nil, sigv4.Unrecognized(nil)
	case sessionToken != "":
		return nil, sigv4.Unrecognized(errNoToken)
	}
	c := &Caller{Account: k.Account, Operator: k.Operator, Principal: policy.RootOf(k.Account), Secret: k.secret}
	if k.User != "" {
		c.Principal = policy.Principal{Type: policy.User, Account: k.Account, ARN: "arn:aws:iam::" + string(k.Account) + ":user/" + k.User, Name: k.User, ID: k.UserID}
		c.Policies = []*policy.Document{k.document}
	}
	return c, nil
}

func (s *Store) findSession(accessKeyID, sessionToken string) (*Caller, error) {
	raw, err := base64.StdEncoding.DecodeString(sessionToken)
	if err != nil || len(raw) == 0 || raw[0] != tokenVersion {
		return nil, sigv4.Unrecognized(errNoToken)
	}
	text, err := open(s.sealer.tokens, raw[1:], accessKeyID)
	if err != nil {
		return nil, sigv4.Unrecognized(err)
	}
	var c claims
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, sigv4.Unrecognized(err)
	}
	if s.opts.Now().UnixMilli() >= c.Expires {
		return nil, sigv4.Expired()
	}
	r := s.Role(lambent.AccountID(c.Account), c.Role)
	if r == nil || r.ID != c.RoleID {
		return nil, sigv4.Unrecognized(errors.New("the role is gone"))
	}
	return &Caller{
		Account: r.Account, Secret: s.sealer.sessionSecret(accessKeyID), Policies: []*policy.Document{r.document},
		Principal: r.session(c.Session),
	}, nil
}

// session is who a role is in a session of a name.
func (r *Role) session(session string) policy.Principal {
	name := r.Name[strings.LastIndexByte(r.Name, '/')+1:]
	return policy.Principal{Type: policy.Session, Account: r.Account, Role: r.ARN(), ID: r.ID + ":" + session,
		ARN: "arn:aws:sts::" + string(r.Account) + ":assumed-role/" + name + "/" + session}
}
