package identity

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"lambent"
	"lambent/internal/cluster"
	"lambent/internal/policy"
	"lambent/internal/sigv4"
)

var mayInvoke = json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"lambda:InvokeFunction","Resource":"*"}]}`)

func openNode(t testing.TB, dir string) *cluster.Node {
	t.Helper()
	node := cluster.New(cluster.Options{Dir: dir, Sync: cluster.SyncSometime})
	if err := node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return node
}

// fixture is a store on a folder of its own, which can be opened again.
type fixture struct {
	*Store
	t    testing.TB
	dir  string
	node *cluster.Node
	now  time.Time
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{t: t, dir: t.TempDir(), now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	f.open()
	t.Cleanup(func() { f.node.Close() })
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	f.node = openNode(f.t, f.dir)
	var err error
	if f.Store, err = Open(f.t.Context(), f.node, f.options()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) options() Options {
	return Options{Dir: f.dir, Now: func() time.Time { return f.now }, SessionTime: time.Hour}
}

func (f *fixture) reopen() {
	f.t.Helper()
	f.node.Close()
	f.open()
}

func (f *fixture) account() lambent.AccountID {
	f.t.Helper()
	a, err := f.CreateAccount(f.t.Context(), "", "someone")
	if err != nil {
		f.t.Fatal(err)
	}
	return a.ID
}

func (f *fixture) key(spec KeySpec) (*Key, string) {
	f.t.Helper()
	k, secret, err := f.CreateKey(f.t.Context(), spec)
	if err != nil {
		f.t.Fatal(err)
	}
	return k, secret
}

func reasonOf(err error) string {
	if e, ok := errors.AsType[*lambent.Error](err); ok {
		return e.Reason
	}
	return ""
}

func TestKeysAreFoundWithTheirPrincipalAlsoAfterARestart(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	root, rootSecret := f.key(KeySpec{Account: account})
	user, userSecret := f.key(KeySpec{Account: account, User: "ann", Policy: mayInvoke})
	operator, operatorSecret := f.key(KeySpec{Operator: true})
	for range 2 {
		for _, want := range []struct {
			id, secret, arn string
			kind            policy.PrincipalType
			account         lambent.AccountID
			operator        bool
			policies        int
		}{
			{root.ID, rootSecret, "arn:aws:iam::" + string(account) + ":root", policy.Root, account, false, 0},
			{user.ID, userSecret, "arn:aws:iam::" + string(account) + ":user/ann", policy.User, account, false, 1},
			{operator.ID, operatorSecret, "arn:aws:iam::000000000000:root", policy.Root, lambent.DefaultAccount, true, 0},
		} {
			c, err := f.Find(want.id, "")
			if err != nil {
				t.Fatal(err)
			}
			if c.Secret != want.secret || len(c.Secret) != 40 || c.Principal.ARN != want.arn || c.Principal.Type != want.kind || c.Account != want.account || c.Operator != want.operator || len(c.Policies) != want.policies {
				t.Errorf("found %+v, want %+v", c, want)
			}
			if len(want.id) != 20 || !strings.HasPrefix(want.id, "AKIA") {
				t.Errorf("key %s", want.id)
			}
		}
		if n := len(f.Keys(account)); n != 2 {
			t.Errorf("the account has %d keys", n)
		}
		if n := len(f.Keys("")); n != 3 {
			t.Errorf("there are %d keys", n)
		}
		if all := f.Accounts(); len(all) != 1 || all[0].ID != account || all[0].Name != "someone" {
			t.Errorf("accounts %+v", all)
		}
		f.reopen()
	}
}

func TestSecurityARevokedKeyIsRefusedAtOnceAndForGood(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	k, _ := f.key(KeySpec{Account: account})
	if err := f.RevokeKey(t.Context(), "999999999999", k.ID); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("another account revoked it: %v", err)
	}
	operator, _ := f.key(KeySpec{Operator: true})
	if err := f.RevokeKey(t.Context(), lambent.DefaultAccount, operator.ID); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("an account revoked an operator's: %v", err)
	}
	if err := f.RevokeKey(t.Context(), account, k.ID); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.Find(k.ID, ""); reasonOf(err) != sigv4.UnrecognizedClient {
			t.Errorf("found: %v", err)
		}
		f.reopen()
	}
}

func TestSecurityWithAnAccountGoAllItsKeysAndRoles(t *testing.T) {
	f := newFixture(t)
	account, other := f.account(), f.account()
	k, _ := f.key(KeySpec{Account: account})
	kept, _ := f.key(KeySpec{Account: other})
	role, err := f.CreateRole(t.Context(), account, "r", mayInvoke)
	if err != nil {
		t.Fatal(err)
	}
	session, err := f.Session(role, "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.DeleteAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := f.Find(k.ID, ""); err == nil {
			t.Error("a key is still there")
		}
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); err == nil {
			t.Error("a session is still there")
		}
		if _, err := f.Find(kept.ID, ""); err != nil {
			t.Error(err)
		}
		if len(f.Accounts()) != 1 || len(f.Roles("")) != 0 {
			t.Errorf("accounts %v, roles %v", f.Accounts(), f.Roles(""))
		}
		if _, err := f.CreateAccount(t.Context(), account, "another tenant"); lambent.KindOf(err) != lambent.KindExists {
			t.Errorf("the id was given again, with what the removed account left: %v", err)
		}
		f.reopen()
	}
	if _, _, err := f.CreateKey(t.Context(), KeySpec{Account: account}); lambent.KindOf(err) != lambent.KindNotFound {
		t.Errorf("a key of an account that is gone: %v", err)
	}
}

func TestSecurityASessionEndsWithItsTimeOrItsRole(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	role, err := f.CreateRole(t.Context(), account, "service/web", mayInvoke)
	if err != nil {
		t.Fatal(err)
	}
	session, err := f.Session(role, "my function")
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Find(session.AccessKeyID, session.SessionToken)
	if err != nil {
		t.Fatal(err)
	}
	if c.Secret != session.SecretAccessKey || c.Account != account || c.Principal.ARN != "arn:aws:sts::"+string(account)+":assumed-role/web/my-function" ||
		c.Principal.Role != "arn:aws:iam::"+string(account)+":role/service/web" || c.Principal.Type != policy.Session || len(c.Policies) != 1 || c.Operator {
		t.Errorf("found %+v", c)
	}
	if f.RoleByARN(role.ARN()) != role || f.RoleByARN("arn:aws:iam::"+string(account)+":role/web") != nil || f.RoleByARN("web") != nil {
		t.Error("roles are not found by their ARNs")
	}

	t.Run("others' or changed tokens", func(t *testing.T) {
		other, err := f.Session(role, "f")
		if err != nil {
			t.Fatal(err)
		}
		tokens := []string{"", "x", other.SessionToken, session.SessionToken + "AAAA", session.SessionToken[4:], base64.StdEncoding.EncodeToString([]byte{tokenVersion})}
		raw, err := base64.StdEncoding.DecodeString(session.SessionToken)
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			changed := append([]byte(nil), raw...)
			changed[i] ^= 1
			tokens = append(tokens, base64.StdEncoding.EncodeToString(changed))
		}
		for _, token := range tokens {
			if _, err := f.Find(session.AccessKeyID, token); reasonOf(err) != sigv4.UnrecognizedClient {
				t.Errorf("token %q: %v", token, err)
			}
		}
		k, _ := f.key(KeySpec{Account: account})
		if _, err := f.Find(k.ID, session.SessionToken); reasonOf(err) != sigv4.UnrecognizedClient {
			t.Errorf("a lasting key with a session's token: %v", err)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		f.reopen()
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); err != nil {
			t.Error(err)
		}
	})
	t.Run("its time", func(t *testing.T) {
		begin := f.now
		defer func() { f.now = begin }()
		f.now = session.Expires.Add(-time.Millisecond)
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); err != nil {
			t.Error(err)
		}
		f.now = session.Expires
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); reasonOf(err) != sigv4.ExpiredToken {
			t.Error(err)
		}
	})
	t.Run("its role's policy", func(t *testing.T) {
		if _, err := f.SetRolePolicy(t.Context(), account, "service/web", json.RawMessage(`{"Version":"2012-10-17","Statement":[]}`)); err == nil {
			t.Error("a policy without statements was taken")
		}
		deny := json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
		if _, err := f.SetRolePolicy(t.Context(), account, "service/web", deny); err != nil {
			t.Fatal(err)
		}
		c, err := f.Find(session.AccessKeyID, session.SessionToken)
		if err != nil {
			t.Fatal(err)
		}
		d := policy.Evaluate(&policy.Request{Principal: c.Principal, Action: "lambda:InvokeFunction", Resource: "*", Account: account, Now: f.now}, policy.Policies{Identity: c.Policies})
		if d.Allowed || !d.Explicit {
			t.Errorf("decision %+v", d)
		}
	})
	t.Run("its role", func(t *testing.T) {
		if err := f.DeleteRole(t.Context(), account, "service/web"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); reasonOf(err) != sigv4.UnrecognizedClient {
			t.Error(err)
		}
		if _, err := f.CreateRole(t.Context(), account, "service/web", mayInvoke); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); reasonOf(err) != sigv4.UnrecognizedClient {
			t.Errorf("a role of the same name: %v", err)
		}
	})
}

func TestSecuritySecretsAreOpenedOnlyByTheServersOwnKeyFile(t *testing.T) {
	f := newFixture(t)
	k, secret := f.key(KeySpec{Account: f.account()})
	f.node.Close()
	path := filepath.Join(f.dir, KeyFile)
	original, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("no secret is on the disk", func(t *testing.T) {
		err := filepath.WalkDir(f.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if strings.Contains(string(text), secret) {
				t.Errorf("%s has the secret", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	try := func() error {
		node := openNode(t, f.dir)
		defer node.Close()
		s, err := Open(t.Context(), node, f.options())
		if err == nil {
			_, err = s.Find(k.ID, "")
		}
		return err
	}
	restore := func() {
		if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, original, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func() error{
		"readable by the group":   func() error { return os.Chmod(path, 0o640) },
		"readable by all":         func() error { return os.Chmod(path, 0o604) },
		"writable by all":         func() error { return os.Chmod(path, 0o602) },
		"gone":                    func() error { return os.Remove(path) },
		"empty":                   func() error { return os.Truncate(path, 0) },
		"another":                 func() error { return os.WriteFile(path, []byte(strings.Repeat("ab", 32)), 0o600) },
		"a link":                  func() error { return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path)) },
		"a folder":                func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"not hexadecimal":         func() error { return os.WriteFile(path, []byte(strings.Repeat("xy", 32)), 0o600) },
		"with something after it": func() error { return os.WriteFile(path, append(original, "00"...), 0o600) },
	} {
		restore()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := try(); err == nil {
			t.Errorf("%s: the store opens", name)
		}
	}
	restore()
	if err := try(); err != nil {
		t.Error(err)
	}
}

func TestTheFirstOperatorsKeyIsWrittenForTheServersUserAlone(t *testing.T) {
	f := newFixture(t)
	path := filepath.Join(f.dir, OperatorFile)
	made, err := f.EnsureOperator(t.Context(), path)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			env[name] = value
		}
	}
	c, err := f.Find(env["AWS_ACCESS_KEY_ID"], "")
	if err != nil || c.Secret != env["AWS_SECRET_ACCESS_KEY"] || !c.Operator {
		t.Errorf("%+v, %v", c, err)
	}
	if made, err := f.EnsureOperator(t.Context(), path); err != nil || made {
		t.Error(made, err)
	}
	if err := f.RevokeKey(t.Context(), "", env["AWS_ACCESS_KEY_ID"]); err != nil {
		t.Fatal(err)
	}
	if made, err := f.EnsureOperator(t.Context(), path); err != nil || !made {
		t.Error("after the last was revoked:", made, err)
	}
}

func TestBadSpecsAreRefused(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	for name, spec := range map[string]KeySpec{
		"no account":             {},
		"no such account":        {Account: "999999999999"},
		"not an account":         {Account: "x"},
		"user without a policy":  {Account: account, User: "ann"},
		"policy without a user":  {Account: account, Policy: mayInvoke},
		"bad name":               {Account: account, User: "a/b", Policy: mayInvoke},
		"bad policy":             {Account: account, User: "ann", Policy: json.RawMessage(`{"Statement":{"Effect":"allow"}}`)},
		"large policy":           {Account: account, User: "ann", Policy: json.RawMessage(strings.Repeat(" ", maxPolicy) + string(mayInvoke))},
		"operator of an account": {Account: account, Operator: true},
		"operator with a policy": {Operator: true, Policy: mayInvoke},
	} {
		if _, _, err := f.CreateKey(t.Context(), spec); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, id := range []lambent.AccountID{"1", account, lambent.DefaultAccount} {
		if _, err := f.CreateAccount(t.Context(), id, "x"); err == nil {
			t.Errorf("account %q: taken", id)
		}
	}
	if _, err := f.CreateAccount(t.Context(), "", "a\nb"); err == nil {
		t.Error("a name of two lines was taken")
	}
	if a, err := f.CreateAccount(t.Context(), "123456789012", ""); err != nil || a.ID != "123456789012" {
		t.Error(a, err)
	}
	for _, name := range []string{"", "a b", "/r", "r/", strings.Repeat("r", 65)} {
		if _, err := f.CreateRole(t.Context(), account, name, mayInvoke); err == nil {
			t.Errorf("role %q: taken", name)
		}
	}
	if _, err := f.CreateRole(t.Context(), account, "r", nil); err == nil {
		t.Error("a role without a policy was taken")
	}
	if _, err := f.CreateRole(t.Context(), account, "r", mayInvoke); err != nil {
		t.Error(err)
	}
	if _, err := f.CreateRole(t.Context(), account, "r", mayInvoke); lambent.KindOf(err) != lambent.KindExists {
		t.Error(err)
	}
	if len(f.Keys("")) != 0 || len(f.Roles("")) != 1 {
		t.Errorf("keys %v, roles %v", f.Keys(""), f.Roles(""))
	}
}

func TestManyGoroutinesMayUseAStore(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 10 {
				k, _, err := f.CreateKey(context.Background(), KeySpec{Account: account})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := f.Find(k.ID, ""); err != nil {
					t.Error(err)
				}
				if err := f.RevokeKey(context.Background(), account, k.ID); err != nil {
					t.Error(err)
				}
				if _, err := f.Find(k.ID, ""); err == nil {
					t.Error("found after it was revoked")
				}
			}
		})
	}
	running.Wait()
}

func BenchmarkFindSession(b *testing.B) {
	f := newFixture(b)
	role, err := f.CreateRole(b.Context(), f.account(), "r", mayInvoke)
	if err != nil {
		b.Fatal(err)
	}
	session, err := f.Session(role, "f")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Find(session.AccessKeyID, session.SessionToken); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzSessionTokens sends anything as a session token: it is refused, and nothing
// panics.
func FuzzSessionTokens(f *testing.F) {
	fixture := newFixture(f)
	role, err := fixture.CreateRole(f.Context(), fixture.account(), "r", mayInvoke)
	if err != nil {
		f.Fatal(err)
	}
	session, err := fixture.Session(role, "f")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(session.AccessKeyID, session.SessionToken+"A")
	f.Add("ASIAAAAAAAAAAAAAAAAA", session.SessionToken)
	f.Add("AKIA", "")
	f.Add("", "AQ==")
	f.Fuzz(func(t *testing.T, id, token string) {
		c, err := fixture.Find(id, token)
		raw, _ := base64.StdEncoding.DecodeString(token)
		own, _ := base64.StdEncoding.DecodeString(session.SessionToken)
		if err == nil && (id != session.AccessKeyID || !bytes.Equal(raw, own)) {
			t.Errorf("found %+v", c)
		}
	})
}

func TestSecurityARoleMayWhatItsPolicySaysAndOneThatIsNotKnownNothing(t *testing.T) {
	f := newFixture(t)
	account := f.account()
	role, err := f.CreateRole(t.Context(), account, "service/send", json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:*:*:q"}}`))
	if err != nil {
		t.Fatal(err)
	}
	const q = "arn:aws:sqs:eu-west-1:111122223333:q"
	for _, tc := range []struct {
		account           lambent.AccountID
		role, action, arn string
		want              bool
	}{
		{account, role.ARN(), "sqs:SendMessage", q, true}, {account, role.ARN(), "sqs:SendMessage", q + "x", false}, {account, role.ARN(), "sns:Publish", q, false},
		{"999999999999", role.ARN(), "sqs:SendMessage", q, false}, {account, role.ARN() + "x", "sqs:SendMessage", q, false}, {account, "", "sqs:SendMessage", q, false},
	} {
		if got := f.RoleMay(tc.account, tc.role, tc.action, tc.arn); got != tc.want {
			t.Errorf("%s of %s: %s on %s: %v", tc.role, tc.account, tc.action, tc.arn, got)
		}
	}
}
