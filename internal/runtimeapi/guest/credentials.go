package guest

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"time"

	"lambent/internal/runtimeapi/frame"
)

// CredentialsPath is where AWS's SDKs ask for the function's credentials, as
// AWS_CONTAINER_CREDENTIALS_FULL_URI tells them (IAM's "container credential
// provider").
const CredentialsPath = "/2021-04-23/credentials"

// credentialsAnswer has the names that SDKs read.
type credentialsAnswer struct {
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	Token           string
	Expiration      *time.Time `json:",omitempty"`
}

// SetCredentials has the API serve credentials to who shows their token: other
// containers of the account may share the loopback, and have roles of their own.
// It must be called before the API serves.
func (a *API) SetCredentials(c *frame.Credentials) { a.credentials = c }

func (a *API) serveCredentials(w http.ResponseWriter, r *http.Request) {
	c := a.credentials
	if c == nil {
		http.NotFound(w, r)
		return
	}
	if !allow(w, r, http.MethodGet) {
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(c.Authorization)) != 1 {
		refuse(w, http.StatusForbidden, "InvalidAuthorizationToken", "The authorization token is not that of AWS_CONTAINER_AUTHORIZATION_TOKEN")
		return
	}
	body, err := json.Marshal(credentialsAnswer{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, Token: c.SessionToken, Expiration: c.Expires})
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalServerError", "Internal Server Error")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // a client that is gone needs no answer
}
