package identity

import (
	"encoding/json"
	"fmt"
	"time"

	"lambent"
	"lambent/internal/cluster"
)

// bucketName is what the node stores all of this under. It stays.
const bucketName = "identity"

// formatVersion is the newest form of a record this version reads.
const formatVersion = 1

// record is an account, a key or a role as it is stored. The names stay.
type record struct {
	Format   int             `json:"format"`
	Account  string          `json:"account,omitempty"`
	Name     string          `json:"name,omitempty"` // an account's, a user's or a role's
	ID       string          `json:"id,omitempty"`   // a user's or a role's
	Operator bool            `json:"operator,omitempty"`
	Secret   []byte          `json:"secret,omitempty"` // sealed
	Policy   json.RawMessage `json:"policy,omitempty"`
	Created  time.Time       `json:"created"`
	Removed  *time.Time      `json:"removed,omitempty"` // of an account that is none any more
}

// The first part of a record's key in the bucket.
const (
	accountRecord = "account"
	keyRecord     = "key"
	roleRecord    = "role"
)

func accountAt(id lambent.AccountID) string { return cluster.Key(accountRecord, string(id)) }
func keyAt(accessKeyID string) string       { return cluster.Key(keyRecord, accessKeyID) }
func roleAt(account lambent.AccountID, name string) string {
	return cluster.Key(roleRecord, string(account), name)
}

func decodeRecord(text []byte) (record, error) {
	var rec record
	if err := json.Unmarshal(text, &rec); err != nil {
		return record{}, err
	}
	if rec.Format < 1 || rec.Format > formatVersion {
		return record{}, fmt.Errorf("it has format %d, and this version of lambent reads up to %d: use the version that wrote it, or a newer one", rec.Format, formatVersion)
	}
	return rec, nil
}
