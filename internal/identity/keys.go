package identity

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"lambent"
)

// KeySpec is what a key is to be.
type KeySpec struct {
	Account  lambent.AccountID // "" for an operator's
	User     string            // a user's name, with Policy; "": the root of the account
	Policy   json.RawMessage   // AWS's JSON
	Operator bool
}

// namePattern is what IAM allows as the name of a user, and of a role.
var namePattern = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)

// CreateKey makes a key and tells its secret, this once.
func (s *Store) CreateKey(ctx context.Context, spec KeySpec) (k *Key, secret string, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if k, err = s.newKey(spec); err != nil {
		return nil, "", err
	}
	return k, k.secret, s.keep(ctx, k)
}

// newKey makes a key that nobody knows of yet.
func (s *Store) newKey(spec KeySpec) (*Key, error) {
	const op = "create key"
	k := &Key{ID: newID(keyPrefix, keyLength), Account: spec.Account, User: spec.User, Operator: spec.Operator, Policy: spec.Policy,
		Created: s.opts.Now().UTC(), secret: newSecret()}
	switch {
	case spec.Operator && (spec.Account != "" && spec.Account != lambent.DefaultAccount || spec.User != "" || len(spec.Policy) > 0):
		return nil, invalid(op, "An operator's key is of no account and has no policy: it may do everything.")
	case spec.Operator:
		k.Account = lambent.DefaultAccount
		return k, nil
	case !lambent.IsAccountID(string(spec.Account)):
		return nil, invalid(op, "A key needs an account, of 12 digits; %q is none.", spec.Account)
	case !s.hasAccount(spec.Account):
		return nil, notFound(op, "account "+string(spec.Account))
	case (spec.User == "") != (len(spec.Policy) == 0):
		return nil, invalid(op, "A user's key has a policy, and the root's has none: give both a user and a policy, or neither.")
	case spec.User == "":
		return k, nil
	case !namePattern.MatchString(spec.User):
		return nil, invalid(op, "A user's name has 1 to 64 letters, digits and characters of _+=,.@-.")
	}
	var err error
	if k.document, err = readPolicy(spec.Policy); err != nil {
		return nil, err
	}
	k.UserID = newID(userPrefix, idLength)
	return k, nil
}

// keep stores a key and lets it in.
func (s *Store) keep(ctx context.Context, k *Key) error {
	err := s.put(ctx, keyAt(k.ID), record{Account: string(k.Account), Name: k.User, ID: k.UserID, Operator: k.Operator, Policy: k.Policy, Created: k.Created,
		Secret: seal(s.sealer.secrets, []byte(k.secret), k.ID)})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[k.ID] = k
	return nil
}

// Keys lists an account's keys, "" all accounts' and the operator's, the oldest
// first.
func (s *Store) Keys(account lambent.AccountID) []*Key {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []*Key
	for _, k := range s.keys {
		if account == "" || k.Account == account && !k.Operator {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b *Key) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// RevokeKey removes a key of an account, "" for any: it is refused from now on.
func (s *Store) RevokeKey(ctx context.Context, account lambent.AccountID, id string) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	k, ok := s.keys[id]
	s.mu.RUnlock()
	if !ok || account != "" && (k.Account != account || k.Operator) {
		return notFound("revoke key", "key "+id)
	}
	return s.dropKey(ctx, k)
}

func (s *Store) dropKey(ctx context.Context, k *Key) error {
	if err := s.drop(ctx, keyAt(k.ID)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, k.ID)
	return nil
}

// OperatorFile is the name of the file in the data folder that holds the first
// operator's key.
const OperatorFile = "operator.env"

// EnsureOperator makes an operator's key where there is none, and writes it to a
// file that the server's user alone can read, as lines of AWS's environment
// variables. made tells whether it did.
func (s *Store) EnsureOperator(ctx context.Context, path string) (made bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	for _, k := range s.keys {
		made = made || k.Operator
	}
	s.mu.RUnlock()
	if made {
		return false, nil
	}
	k, err := s.newKey(KeySpec{Operator: true})
	if err != nil {
		return false, err
	}
	text := "# lambent's first operator key, made " + k.Created.Format("2006-01-02 15:04:05Z07:00") + ". Use it with: set -a; . " + path + "; set +a\n" +
		"AWS_ACCESS_KEY_ID=" + k.ID + "\nAWS_SECRET_ACCESS_KEY=" + k.secret + "\n"
	// The file comes first: a key whose secret nobody knows would keep others from
	// being made.
	if err := writePrivate(path, text); err != nil {
		return false, &lambent.Error{Op: "write the operator's key", Resource: path, Err: err}
	}
	return true, s.keep(ctx, k)
}
