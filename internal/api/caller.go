package api

import (
	"crypto/sha256"
	"net/http"
	"net/netip"
	"strings"

	"lambent"
	"lambent/internal/policy"
)

// Caller is who sent a request.
type Caller struct {
	Account  lambent.AccountID
	Operator bool // may see every account's instances, executions and the like
	// Principal is who that is to policies. One of type Anonymous may do nothing.
	Principal policy.Principal
	Policies  []*policy.Document // what it may do; the root of an account may do everything
	// Prove, where it is set, must be given the SHA-256 of the request's whole
	// body: until it has returned nil, the caller is only who it claims to be.
	Prove func(body [sha256.Size]byte) error

	granted lambent.AccountID // whose resource the operation was allowed on
}

// isRoot reports whether the caller may do everything in its account.
func (c *Caller) isRoot() bool { return c.Principal.Type == policy.Root && len(c.Policies) == 0 }

// openCaller is a caller that is taken at its word.
func openCaller(account lambent.AccountID, operator bool) Caller {
	return Caller{Account: account, Operator: operator, Principal: policy.RootOf(account)}
}

// AuthenticateOpen takes callers at their word: an access key of 12 digits is
// the account, anything else is lambent.DefaultAccount. Signatures, dates and
// the region of the credential's scope are not looked at. Whoever asks from
// this machine without naming an account is the operator. It is for
// `auth: open`, which is for loopback.
func AuthenticateOpen(r *http.Request) (Caller, error) {
	if key := accessKey(r); lambent.IsAccountID(key) {
		return openCaller(lambent.AccountID(key), false), nil
	}
	return openCaller(lambent.DefaultAccount, fromLoopback(r)), nil
}

// fromLoopback reports whether the connection comes from this machine.
func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// accessKey is the first part of a SigV4 credential
// (KEY/DATE/REGION/SERVICE/aws4_request), from the Authorization header or from
// the query of a presigned request; "" where there is none.
func accessKey(r *http.Request) string {
	credential := ""
	if auth := r.Header.Get("Authorization"); auth != "" {
		_, credential, _ = strings.Cut(auth, "Credential=")
	} else if strings.Contains(r.URL.RawQuery, "X-Amz-Credential") {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	key, _, ok := strings.Cut(credential, "/")
	if !ok {
		return ""
	}
	return key
}
