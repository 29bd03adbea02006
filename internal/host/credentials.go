package host

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lambent"
	"lambent/internal/runtimeapi"
	"lambent/internal/runtimeapi/guest"
	"lambent/internal/sandbox"
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

// credentialsUID is whom the process runs as that serves credentials: not the
// function's user, who could stop it or look into it.
const credentialsUID = 65534

// serveCredentials has a process of ours in the container serve credentials to
// AWS's SDKs, as those of a runtime that is not lambent-init's are by nobody else,
// and names it in the environment. It ends with the container.
func (c *Container) serveCredentials(ctx context.Context, credentials *Credentials, env map[string]string) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("serve credentials: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "credentials"), os.NewFile(uintptr(pair[1]), "served credentials")
	defer theirs.Close()
	c.mu.Lock()
	if err := c.requireState("serve credentials in", lambent.ContainerStarting); err != nil { // it was stopped meanwhile
		c.mu.Unlock()
		_ = ours.Close() // nothing was written
		return err
	}
	c.served = ours // closed by close
	c.mu.Unlock()
	served := credentials.served()
	document, err := json.Marshal(served)
	if err != nil {
		return fmt.Errorf("serve credentials: %w", err)
	}
	_, err = c.box.Exec(ctx, sandbox.Command{
		Path: sandbox.InitPath, Args: []string{sandbox.InitPath, "credentials"}, Dir: "/", UID: credentialsUID, GID: credentialsUID,
		Files: []*os.File{nil, nil, nil, theirs},
	})
	if err != nil {
		return fmt.Errorf("serve credentials: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = ours.SetDeadline(time.Unix(1, 0)) })()
	if _, err := ours.Write(document); err != nil {
		return fmt.Errorf("serve credentials: %w", err)
	}
	address, err := bufio.NewReaderSize(ours, 64).ReadString('\n')
	if err != nil {
		return fmt.Errorf("serve credentials: wait for the address: %w", err)
	}
	env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://" + strings.TrimSpace(address) + guest.CredentialsPath
	env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = served.Authorization
	return nil
}

// CredentialsEnd is when those of the container's function end; zero: never. It
// is known from Load on.
func (c *Container) CredentialsEnd() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.credentialsEnd
}
