package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/policy"
)

// Options configure a Store.
type Options struct {
	Dir string           // folder of the key file
	Now func() time.Time // nil: time.Now
	Log *slog.Logger     // nil: discards
	// SessionTime is how long a role's credentials last; 0: 12 hours.
	SessionTime time.Duration
	// RoleChanged is told of roles that were made or removed, by their ARN; nil
	// tells nobody. It must not block.
	RoleChanged func(arn string)
}

// Account is a tenant that was made.
type Account struct {
	ID      lambent.AccountID
	Name    string // for people
	Created time.Time
}

// Key is an access key. One that has been handed out is never changed.
type Key struct {
	ID       string // AKIA…
	Account  lambent.AccountID
	User     string // "": it is the root's of its account
	UserID   string // AIDA…, of a user
	Operator bool
	Policy   json.RawMessage // of a user; AWS's JSON
	Created  time.Time

	document *policy.Document // nil where there is no policy, or none that can be read
	secret   string
}

// Role is what a function may be: its credentials may do what its policy says.
// One that has been handed out is never changed.
type Role struct {
	Account lambent.AccountID
	Name    string // with its path, if it has one, as in its ARN
	ID      string // AROA…: another one for another role of the same name
	Policy  json.RawMessage
	Created time.Time

	document *policy.Document
}

// ARN names the role.
func (r *Role) ARN() string { return "arn:aws:iam::" + string(r.Account) + ":role/" + r.Name }

type roleKey struct {
	account lambent.AccountID
	name    string
}

// Store remembers who may call. Make it with Open. Safe for concurrent use.
type Store struct {
	opts   Options
	bucket *cluster.Bucket
	sealer *sealer

	// writing serialises changes, which are rare; who holds it may wait for the
	// disk, so it is taken before mu, never within.
	writing sync.Mutex

	mu sync.RWMutex
	// +checklocks:mu
	accounts map[lambent.AccountID]*Account
	// +checklocks:mu
	removed map[lambent.AccountID]bool // accounts that were
	// +checklocks:mu
	keys map[string]*Key
	// +checklocks:mu
	roles map[roleKey]*Role
}

// writeLimit bounds one write to the node. It is finished even when the caller
// who wanted it is gone.
const writeLimit = 30 * time.Second

// Open reads who there is. It makes the key file where nothing was sealed yet,
// and refuses to go on without it otherwise, or where others can read it.
func Open(ctx context.Context, node *cluster.Node, o Options) (*Store, error) {
	const op = "open identities"
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.RoleChanged == nil {
		o.RoleChanged = func(string) {}
	}
	if o.SessionTime == 0 {
		o.SessionTime = 12 * time.Hour
	}
	bucket, err := node.Bucket(ctx, bucketName)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	path := filepath.Join(o.Dir, KeyFile)
	master, err := readMaster(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	s := &Store{opts: o, bucket: bucket, accounts: map[lambent.AccountID]*Account{}, removed: map[lambent.AccountID]bool{}, keys: map[string]*Key{}, roles: map[roleKey]*Role{}}
	if master != nil {
		if s.sealer, err = newSealer(master); err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
	err = bucket.All(ctx, func(e cluster.Entry) error {
		if err := s.load(e); err != nil {
			return &lambent.Error{Op: "read identity", Resource: e.Key, Kind: lambent.KindInternal, Reason: "Unreadable", Err: err}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if s.sealer == nil { // nothing is sealed yet
		if master, err = makeMaster(path); err == nil {
			s.sealer, err = newSealer(master)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
	}
	return s, nil
}

// load takes in one record.
func (s *Store) load(e cluster.Entry) error {
	parts, err := cluster.KeyParts(e.Key)
	if err != nil {
		return err
	}
	rec, err := decodeRecord(e.Value)
	if err != nil {
		return err
	}
	account := lambent.AccountID(rec.Account)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case parts[0] == accountRecord && len(parts) == 2 && rec.Removed != nil:
		s.removed[account] = true
	case parts[0] == accountRecord && len(parts) == 2:
		s.accounts[account] = &Account{ID: account, Name: rec.Name, Created: rec.Created}
	case parts[0] == keyRecord && len(parts) == 2:
		if s.sealer == nil {
			return fmt.Errorf("its secret was sealed with the key in %s, which is not there: restore that file from a backup", filepath.Join(s.opts.Dir, KeyFile))
		}
		secret, err := open(s.sealer.secrets, rec.Secret, parts[1])
		if err != nil {
			return fmt.Errorf("open its secret with the key in %s: %w: restore the file of the server that made it", filepath.Join(s.opts.Dir, KeyFile), err)
		}
		s.keys[parts[1]] = &Key{ID: parts[1], Account: account, User: rec.Name, UserID: rec.ID, Operator: rec.Operator, Policy: rec.Policy, Created: rec.Created,
			document: s.document(e.Key, rec.Policy), secret: string(secret)}
	case parts[0] == roleRecord && len(parts) == 3:
		s.roles[roleKey{account, rec.Name}] = &Role{Account: account, Name: rec.Name, ID: rec.ID, Policy: rec.Policy, Created: rec.Created, document: s.document(e.Key, rec.Policy)}
	default:
		return errors.New("this version of lambent knows no such record: use the version that wrote it, or a newer one")
	}
	return nil
}

// document reads a stored policy. One that cannot be read allows nothing.
func (s *Store) document(key string, text json.RawMessage) *policy.Document {
	if len(text) == 0 {
		return nil
	}
	d, err := policy.Parse(text, policy.Identity)
	if err != nil {
		s.opts.Log.Error("a stored policy cannot be read and allows nothing: replace it", "record", key, "error", err)
		return nil
	}
	return d
}

// maxPolicy is IAM's bound for the policies of a role (IAM quotas: 10,240
// characters).
const maxPolicy = 10240

// readPolicy checks a policy before it is stored.
func readPolicy(text json.RawMessage) (*policy.Document, error) {
	if len(text) > maxPolicy {
		return nil, &lambent.Error{Op: "read policy", Kind: lambent.KindInvalid, Reason: "LimitExceeded",
			Message: fmt.Sprintf("The policy has %d bytes, and may have at most %d.", len(text), maxPolicy)}
	}
	return policy.Parse(text, policy.Identity)
}

// put stores a record.
func (s *Store) put(ctx context.Context, key string, rec record) error {
	rec.Format = formatVersion
	text, err := json.Marshal(rec)
	if err != nil {
		return &lambent.Error{Op: "write identity", Resource: key, Err: err}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	if _, err := s.bucket.Put(ctx, key, text); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// drop removes a record.
func (s *Store) drop(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
	defer cancel()
	if err := s.bucket.Delete(ctx, key, 0); err != nil {
		return fmt.Errorf("remove identity: %w", err)
	}
	return nil
}

func invalid(op, format string, args ...any) error {
	return &lambent.Error{Op: op, Kind: lambent.KindInvalid, Message: fmt.Sprintf(format, args...)}
}

func notFound(op, what string) error {
	return &lambent.Error{Op: op, Resource: what, Kind: lambent.KindNotFound, Message: "There is no " + what + "."}
}

func exists(op, what string) error {
	return &lambent.Error{Op: op, Resource: what, Kind: lambent.KindExists, Message: "There is an " + what + " already."}
}
