package lambent

import "strings"

// AccountID names a tenant: the owner of code and the unit of isolation. It is
// always 12 decimal digits, as in AWS ARNs.
type AccountID string

// DefaultAccount is the account of a caller that did not say who it is, which
// only `auth: open` allows.
const DefaultAccount AccountID = "000000000000"

// IsAccountID reports whether s has the shape of an account id: 12 digits.
func IsAccountID(s string) bool { return len(s) == 12 && allDigits(s) }

// FunctionName is the unqualified name of a function: 1 to 64 characters of
// [a-zA-Z0-9-_]. It is unique within an account.
type FunctionName string

// Version is a function's version: "$LATEST" or a positive decimal number.
type Version string

// Latest is the one version of a function that can change.
const Latest Version = "$LATEST"

// IsNumbered reports whether v is a published, immutable version.
func (v Version) IsNumbered() bool { return v != "" && allDigits(string(v)) }

// RequestID identifies one invocation: a lower-case UUID, the same in the
// answer's header, the logs and the function's context.
type RequestID string

// InstanceID identifies one sandbox for its life; it is never used again.
type InstanceID string

// ContainerID identifies one container for its life; it is never used again.
type ContainerID string

// CodeHash identifies a deployment package by content: the standard base64 of
// its SHA-256, as AWS's CodeSha256 shows it.
type CodeHash string

func allDigits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}
