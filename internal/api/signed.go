package api

import (
	"net/http"
	"time"

	"lambent/internal/identity"
	"lambent/internal/sigv4"
)

// AuthenticateSigned verifies who signed a request, for Options.Authenticate:
// `auth: required`. now may be nil.
func AuthenticateSigned(who *identity.Store, region string, now func() time.Time) func(*http.Request) (Caller, error) {
	if now == nil {
		now = time.Now
	}
	return func(r *http.Request) (Caller, error) {
		var found *identity.Caller
		v := sigv4.Verifier{Service: "lambda", Region: region, Now: now,
			Lookup: func(accessKeyID, sessionToken string) (secret string, err error) {
				if found, err = who.Find(accessKeyID, sessionToken); err != nil {
					return "", err
				}
				return found.Secret, nil
			}}
		proof, err := v.Verify(r)
		if err != nil {
			return Caller{}, err
		}
		c := Caller{Account: found.Account, Operator: found.Operator, Principal: found.Principal, Policies: found.Policies}
		if proof.NeedsBody() {
			c.Prove = proof.Body
		}
		return c, nil
	}
}
