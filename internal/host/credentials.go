package host

import (
	"crypto/rand"
	"time"

	"lambent"
	"lambent/internal/runtimeapi"
)

// Credentials are those a function is given of its role.
type Credentials struct {
	AccessKeyID, SecretAccessKey, SessionToken string
	Expires                                    time.Time // zero: never
}

// credentials are what a container gets with its function; nil for none.
func (h *Host) credentials(fn *lambent.Function) *Credentials {
	if h.opts.Credentials == nil {
		return nil
	}
	c, ok := h.opts.Credentials(fn)
	if !ok {
		return nil
	}
	return &c
}

// environment adds the variables AWS's SDKs look for.
func (c *Credentials) environment(env map[string]string) {
	env["AWS_ACCESS_KEY_ID"] = c.AccessKeyID
	env["AWS_SECRET_ACCESS_KEY"] = c.SecretAccessKey
	env["AWS_SESSION_TOKEN"] = c.SessionToken
}

// served is what a supervisor serves of them inside the sandbox.
func (c *Credentials) served() *runtimeapi.Credentials {
	s := &runtimeapi.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken, Authorization: rand.Text()}
	if !c.Expires.IsZero() {
		s.Expires = &c.Expires
	}
	return s
}

// CredentialsEnd is when those of the container's function end; zero: never. It
// is known from Load on.
func (c *Container) CredentialsEnd() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.credentialsEnd
}
