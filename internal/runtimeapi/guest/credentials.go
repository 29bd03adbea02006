package guest

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
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
	if a.credentials == nil {
		http.NotFound(w, r)
		return
	}
	writeCredentials(w, r, a.credentials)
}

// ServeCredentials serves a container's credentials where its runtime, which
// speaks to the host itself, does not: it reads them from the host, as JSON, tells
// it the address it serves them at, as a line, and serves until the host ends the
// connection.
func ServeCredentials(host io.ReadWriteCloser) error {
	defer host.Close()
	c := new(frame.Credentials)
	in := json.NewDecoder(host)
	if err := in.Decode(c); err != nil {
		return fmt.Errorf("serve credentials: read them: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve credentials: %w", err)
	}
	routes := http.NewServeMux()
	routes.HandleFunc(CredentialsPath, func(w http.ResponseWriter, r *http.Request) { writeCredentials(w, r, c) })
	server := &http.Server{Handler: routes, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: credentialsPatience, IdleTimeout: credentialsPatience}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer server.Close()
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Close
	if _, err := fmt.Fprintln(host, listener.Addr()); err != nil {
		return fmt.Errorf("serve credentials: tell the host where: %w", err)
	}
	_, _ = io.Copy(io.Discard, host) // it says nothing more
	return nil
}

// credentialsPatience is how long a caller of ServeCredentials may take to ask.
const credentialsPatience = 5 * time.Second

func writeCredentials(w http.ResponseWriter, r *http.Request, c *frame.Credentials) {
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
