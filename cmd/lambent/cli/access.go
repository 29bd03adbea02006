package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"lambent"
)

// Commands about who may call: accounts, keys, roles. They ask as the operator
// where no key with a secret is in the environment, which is enough with auth:
// open on the server's own machine.

type accountCommand struct {
	Create accountCreateCommand `cmd:"" help:"Make an account."`
	Ls     accountLsCommand     `cmd:"" help:"List accounts."`
	Rm     accountRmCommand     `cmd:"" help:"Remove an account with its keys and roles; it must have no functions."`
}

type keyCommand struct {
	Create keyCreateCommand `cmd:"" help:"Make an access key and print it, with its secret, this once."`
	Ls     keyLsCommand     `cmd:"" help:"List access keys."`
	Revoke keyRevokeCommand `cmd:"" help:"Revoke an access key: it is refused from then on."`
}

type roleCommand struct {
	Create roleCreateCommand `cmd:"" help:"Make a role that functions can have."`
	Policy rolePolicyCommand `cmd:"" help:"Replace what a role may do."`
	Ls     roleLsCommand     `cmd:"" help:"List roles."`
	Rm     roleRmCommand     `cmd:"" help:"Remove a role: its credentials are refused from then on."`
}

// access is part of all of them.
type access struct{ remote }

func (a access) client(s Streams) (*client, error) {
	c, err := a.remote.client(s)
	if err == nil && c.secret == "" {
		c.anonymous = true
	}
	return c, err
}

type accountDoc struct {
	Account   lambent.AccountID `json:"account,omitempty"`
	Name      string            `json:"name,omitempty"`
	CreatedAt *time.Time        `json:"created_at,omitempty"`
}

type keyDoc struct {
	AccessKeyID     string            `json:"access_key_id,omitempty"`
	SecretAccessKey string            `json:"secret_access_key,omitempty"`
	Account         lambent.AccountID `json:"account,omitempty"`
	User            string            `json:"user,omitempty"`
	Operator        bool              `json:"operator,omitempty"`
	Policy          json.RawMessage   `json:"policy,omitempty"`
	CreatedAt       *time.Time        `json:"created_at,omitempty"`
}

type roleDoc struct {
	Role      string            `json:"role,omitempty"`
	ARN       string            `json:"arn,omitempty"`
	Account   lambent.AccountID `json:"account,omitempty"`
	Policy    json.RawMessage   `json:"policy,omitempty"`
	CreatedAt *time.Time        `json:"created_at,omitempty"`
}

const adminPath = "/_lambent/v1/"

type accountCreateCommand struct {
	access
	Name string `arg:"" optional:"" help:"What the account is called, for people."`
	ID   string `placeholder:"DIGITS" help:"The account's id, 12 digits. Default: a random one."`
}

func (accountCreateCommand) Help() string {
	return `Prints the account's id.

Examples:
  lambent account create "the web team"
  lambent key create --account $(lambent account create web)`
}

// Run makes an account.
func (a *accountCreateCommand) Run(ctx context.Context, s Streams) error {
	c, err := a.client(s)
	if err != nil {
		return err
	}
	var out accountDoc
	if err := c.call(ctx, http.MethodPost, adminPath+"accounts", accountDoc{Account: lambent.AccountID(a.ID), Name: a.Name}, &out); err != nil {
		return fmt.Errorf("create account: %w", err)
	}
	_, err = fmt.Fprintln(s.Out, out.Account)
	return err
}

type accountLsCommand struct{ access }

// Run lists accounts.
func (a *accountLsCommand) Run(ctx context.Context, s Streams) error {
	c, err := a.client(s)
	if err != nil {
		return err
	}
	var all []accountDoc
	if err := c.call(ctx, http.MethodGet, adminPath+"accounts", nil, &all); err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	t := newTable(s.Out, "ACCOUNT", "NAME", "CREATED")
	for _, d := range all {
		t.row(string(d.Account), d.Name, when(d.CreatedAt))
	}
	return t.flush()
}

type accountRmCommand struct {
	access
	Account string `arg:"" help:"The account's id."`
}

// Run removes an account.
func (a *accountRmCommand) Run(ctx context.Context, s Streams) error {
	c, err := a.client(s)
	if err != nil {
		return err
	}
	return c.remove(ctx, "remove account", "accounts/"+url.PathEscape(a.Account), "")
}

type keyCreateCommand struct {
	access
	Account  string `placeholder:"ID" help:"Whose key it is; for the operator. Default: the account of who asks."`
	User     string `placeholder:"NAME" help:"Name of the user the key is for; needs --policy. Default: the account's root, who may do everything in it."`
	Policy   string `placeholder:"FILE" help:"What the user may do: a policy in AWS's JSON."`
	Operator bool   `help:"An operator's key: it sees everything and makes accounts."`
}

func (keyCreateCommand) Help() string {
	return `Prints the key as lines for a shell, or a file. The secret is shown this once and cannot be had again.

Examples:
  lambent key create --account 123456789012 > team.env
  lambent key create --account 123456789012 --user ci --policy ci.json > ci.env
  set -a; . ./ci.env; set +a; aws lambda list-functions
  lambent key create --operator`
}

// Run makes a key.
func (k *keyCreateCommand) Run(ctx context.Context, s Streams) error {
	c, err := k.client(s)
	if err != nil {
		return err
	}
	in := keyDoc{Account: lambent.AccountID(k.Account), User: k.User, Operator: k.Operator}
	if in.Policy, err = readPolicy(k.Policy); err != nil {
		return err
	}
	var out keyDoc
	if err := c.call(ctx, http.MethodPost, adminPath+"keys", in, &out); err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	_, err = fmt.Fprintf(s.Out, "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", out.AccessKeyID, out.SecretAccessKey)
	return err
}

// readPolicy reads the file of a policy, none where no file is named. Whether it
// is a policy the server says.
func readPolicy(file string) (json.RawMessage, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("read the policy: %s is not JSON", file)
	}
	return text, nil
}

type keyLsCommand struct {
	access
	Account string `placeholder:"ID" help:"Only this account's; for the operator."`
}

// Run lists keys.
func (k *keyLsCommand) Run(ctx context.Context, s Streams) error {
	c, err := k.client(s)
	if err != nil {
		return err
	}
	var all []keyDoc
	if err := c.call(ctx, http.MethodGet, adminPath+"keys"+ofAccount(k.Account), nil, &all); err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	t := newTable(s.Out, "KEY", "ACCOUNT", "WHO", "CREATED")
	for _, d := range all {
		who := "root"
		switch {
		case d.Operator:
			who = "operator"
		case d.User != "":
			who = "user " + d.User
		}
		t.row(d.AccessKeyID, string(d.Account), who, when(d.CreatedAt))
	}
	return t.flush()
}

type keyRevokeCommand struct {
	access
	Keys []string `arg:"" name:"key" help:"Access key ids."`
}

// Run revokes keys.
func (k *keyRevokeCommand) Run(ctx context.Context, s Streams) error {
	c, err := k.client(s)
	if err != nil {
		return err
	}
	for _, id := range k.Keys {
		if err := c.remove(ctx, "revoke key "+id, "keys/"+url.PathEscape(id), ""); err != nil {
			return err
		}
	}
	return nil
}

type roleCreateCommand struct {
	access
	Name    string `arg:"" help:"The role's name, with its path if it has one."`
	Policy  string `required:"" placeholder:"FILE" help:"What the role may do: a policy in AWS's JSON."`
	Account string `placeholder:"ID" help:"Whose role it is; for the operator. Default: the account of who asks."`
}

func (roleCreateCommand) Help() string {
	return `Prints the role's ARN, for --role of deploy. A function that has it gets credentials for it in its environment.

Examples:
  lambent role create orders --policy orders.json
  lambent deploy ./orders --name orders --role $(lambent role create orders --policy orders.json)`
}

// Run makes a role.
func (r *roleCreateCommand) Run(ctx context.Context, s Streams) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	in := roleDoc{Role: r.Name, Account: lambent.AccountID(r.Account)}
	if in.Policy, err = readPolicy(r.Policy); err != nil {
		return err
	}
	var out roleDoc
	if err := c.call(ctx, http.MethodPost, adminPath+"roles", in, &out); err != nil {
		return fmt.Errorf("create role: %w", err)
	}
	_, err = fmt.Fprintln(s.Out, out.ARN)
	return err
}

type rolePolicyCommand struct {
	access
	Name    string `arg:"" help:"The role's name, with its path if it has one."`
	Policy  string `required:"" placeholder:"FILE" help:"What the role may do from now on: a policy in AWS's JSON."`
	Account string `placeholder:"ID" help:"Whose role it is; for the operator."`
}

// Run replaces a role's policy.
func (r *rolePolicyCommand) Run(ctx context.Context, s Streams) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	var in roleDoc
	if in.Policy, err = readPolicy(r.Policy); err != nil {
		return err
	}
	if err := c.call(ctx, http.MethodPut, adminPath+"roles/"+(&url.URL{Path: r.Name}).EscapedPath()+ofAccount(r.Account), in, nil); err != nil {
		return fmt.Errorf("set the policy of role %s: %w", r.Name, err)
	}
	return nil
}

type roleLsCommand struct {
	access
	Account string `placeholder:"ID" help:"Only this account's; for the operator."`
}

// Run lists roles.
func (r *roleLsCommand) Run(ctx context.Context, s Streams) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	var all []roleDoc
	if err := c.call(ctx, http.MethodGet, adminPath+"roles"+ofAccount(r.Account), nil, &all); err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	t := newTable(s.Out, "ROLE", "ARN", "CREATED")
	for _, d := range all {
		t.row(d.Role, d.ARN, when(d.CreatedAt))
	}
	return t.flush()
}

type roleRmCommand struct {
	access
	Name    string `arg:"" help:"The role's name, with its path if it has one."`
	Account string `placeholder:"ID" help:"Whose role it is; for the operator."`
}

// Run removes a role.
func (r *roleRmCommand) Run(ctx context.Context, s Streams) error {
	c, err := r.client(s)
	if err != nil {
		return err
	}
	return c.remove(ctx, "remove role "+r.Name, "roles/"+(&url.URL{Path: r.Name}).EscapedPath(), r.Account)
}

func ofAccount(id string) string {
	if id == "" {
		return ""
	}
	return "?account=" + url.QueryEscape(id)
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// remove removes what is at a path below /_lambent/v1/.
func (c *client) remove(ctx context.Context, what, path, account string) error {
	resp, err := c.send(ctx, http.MethodDelete, adminPath+path+ofAccount(account), nil, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return &stranger{endpoint: c.endpoint}
	}
	return nil
}
